"""Broken checkpoints: each is refused with a message that names the thing, and no weight has changed.

Run as a program, this file prints the table of damages and messages: `python tests/minimoe/test_checkpoint_fit.py`.
"""

import json
import pickle
import shutil
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minimoe.checkpoint import CheckpointError, load, load_into, open_checkpoint, save
from minimoe.checkpoint_fit import check_counts
from minimoe.config import NANO
from minimoe.model.transformer import Transformer

CONFIG = replace(NANO, vocab_size=90, hidden_size=136, num_hidden_layers=2, n_routed_experts=8, q_lora_rank=None)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EXPERT = "model.layers.1.mlp.experts.5.up_proj.weight"
NORM = "model.norm.weight"


@dataclass
class Broken:
    """One way to break a checkpoint, and words that the message must contain."""

    damage: str
    do: Callable[[Path], None]
    words: tuple[str, ...]
    kind: str = "plain"  # which good checkpoint is broken: plain (one float32 file), shards, fp8
    load_only: bool = False  # no fault for load_into, which has the model's config and precision


def cut(to):
    def do(folder):
        file = folder / SINGLE
        raw = file.read_bytes()
        file.write_bytes(raw[: to(raw)])

    return do


def header_end(raw):
    return 8 + struct.unpack("<Q", raw[:8])[0]


def raw_header(change):
    """Replace the JSON header's bytes; the length before it is adjusted."""

    def do(folder):
        raw = (folder / SINGLE).read_bytes()
        end = header_end(raw)
        new = change(raw[8:end])
        (folder / SINGLE).write_bytes(struct.pack("<Q", len(new)) + new + raw[end:])

    return do


def header(change):
    def on_bytes(raw):
        values = json.loads(raw)
        return json.dumps(change(values) or values).encode()

    return raw_header(on_bytes)


def claim(name, **values):
    return header(lambda h: h[name].update(values))


def lie_about_length(change):
    def do(folder):
        raw = (folder / SINGLE).read_bytes()
        (folder / SINGLE).write_bytes(struct.pack("<Q", change(header_end(raw) - 8)) + raw[8:])

    return do


def tensors(change, file=SINGLE):
    def do(folder):
        values = load_file(folder / file)
        change(values)
        save_file(values, folder / file)

    return do


def set_tensor(name, make):
    return tensors(lambda t: t.update({name: make(t.get(name))}))


def config(**values):
    def do(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return do


def index(change):
    def do(folder):
        values = json.loads((folder / INDEX).read_text())
        change(values)
        (folder / INDEX).write_text(json.dumps(values))

    return do


def point(name, file):
    return index(lambda values: values["weight_map"].update({name: file}))


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def first_shard(folder):
    return sorted(folder.glob("model-*.safetensors"))[0]


def list_twice(folder):
    text = (folder / INDEX).read_text()
    file = json.loads(text)["weight_map"][NORM]
    (folder / INDEX).write_text(text.replace('"weight_map": {', f'"weight_map": {{"{NORM}": "{file}",', 1))


def into_two_shards(folder):
    file = first_shard(folder).name
    tensors(lambda t: t.update({NORM: torch.ones(CONFIG.hidden_size)}), file)(folder)


def unlisted(folder):
    index(lambda values: values["weight_map"].pop(NORM))(folder)


def dangling_link(folder):
    shard = first_shard(folder)
    shard.unlink()
    shard.symlink_to(folder / "gone.safetensors")


def only_pickle(folder):
    (folder / SINGLE).unlink()
    torch.save({}, folder / "pytorch_model.bin")


class Trap:
    """A pickle that creates a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def pickled(folder):
    (folder / SINGLE).write_bytes(pickle.dumps(Trap(folder / "sprung")))


def torch_saved(folder):
    torch.save({"weight": Trap(folder / "sprung")}, folder / SINGLE)


def swap_first_offsets(values):
    names = [n for n in values if n != "__metadata__"]
    values[names[1]]["data_offsets"] = [n - 4 for n in values[names[1]]["data_offsets"]]


def name_twice(raw):
    text = raw.decode().strip()
    values = json.loads(text)
    return (text[:-1] + f', "{NORM}": {json.dumps(values[NORM])}}}').encode()


def fp8_tensor(name):
    return set_tensor(name, lambda t: t.to(torch.float8_e4m3fn))


MTP = f"model.layers.{CONFIG.num_hidden_layers}"
WRONG_SCALE = torch.ones(1, 1)
TABLE = [
    # the file
    Broken("empty file", cut(lambda raw: 0), (SINGLE, "cut off", "0 bytes")),
    Broken("cut inside the header's length", cut(lambda raw: 5), (SINGLE, "cut off", "5 bytes")),
    Broken("cut inside the header", cut(lambda raw: 8 + 100), (SINGLE, "cut off", "100")),
    Broken("cut where the data start", cut(header_end), (SINGLE, "cut off", "the file holds 0")),
    Broken("cut in the middle of the data", cut(lambda raw: (header_end(raw) + len(raw)) // 2), ("tensor", "cut off")),
    Broken("last byte lost", cut(lambda raw: len(raw) - 1), ("tensor", "cut off")),
    Broken("bytes appended", lambda f: (f / SINGLE).open("ab").write(b"12345"), (SINGLE, "5 bytes behind")),
    Broken("header length too large", lie_about_length(lambda n: 2**40), (SINGLE, str(2**40))),
    Broken("header length too small", lie_about_length(lambda n: n - 60), (SINGLE, "not valid JSON")),
    Broken("header not JSON", raw_header(lambda h: b"{" + b"\xff" * 50), (SINGLE, "not valid JSON")),
    Broken("header nested 100,000 deep", raw_header(lambda h: b'{"a":' + b"[" * 100_000), (SINGLE, "not valid JSON")),
    Broken("header a list", raw_header(lambda h: b"[1, 2]"), (SINGLE, "no safetensors file")),
    Broken(
        "header entry without offsets", header(lambda h: h[NORM].pop("data_offsets") and None), (NORM, "data_offsets")
    ),
    Broken("tensors overlap", header(swap_first_offsets), ("tensor", "overlaps")),
    Broken("gap between tensors", header(lambda h: h.pop(EXPERT) and None), ("leaves a gap",)),
    Broken("offsets behind the end", claim(NORM, data_offsets=[0, 10**15]), (NORM, str(10**15))),
    Broken("offsets backwards", claim(NORM, data_offsets=[8, 4]), (NORM, "[8, 4]")),
    Broken("negative size", claim(NORM, shape=[-136]), (NORM, "[-136]")),
    Broken("shape that overflows 64 bits", claim(NORM, shape=[2**40, 2**40]), (NORM, str(2**40))),
    Broken("shape not of the bytes' size", claim(NORM, shape=[135]), (NORM, "540 bytes", "544")),
    Broken("dtype unknown", claim(NORM, dtype="F99"), (NORM, "'F99'")),
    Broken("dtype not of the bytes' size", claim(NORM, dtype="F64"), (NORM, "1088 bytes", "544")),
    Broken("tensor twice in the header", raw_header(name_twice), (SINGLE, NORM, "twice")),
    Broken("pickle renamed", pickled, (SINGLE, "a Python pickle", "never unpickles")),
    Broken("torch.save renamed", torch_saved, (SINGLE, "a zip archive", "never unpickles")),
    Broken("Git LFS pointer", write(SINGLE, b"version https://git-lfs.github.com/spec/v1\n"), (SINGLE, "Git LFS")),
    Broken("GGUF renamed", write(SINGLE, b"GGUF" + bytes(60)), (SINGLE, "GGUF")),
    # the folder
    Broken("only pytorch_model.bin", only_pickle, (SINGLE, "pytorch_model.bin")),
    Broken("nothing in the folder", lambda f: [p.unlink() for p in f.iterdir()], (SINGLE, INDEX)),
    Broken("no folder", shutil.rmtree, ("no checkpoint folder",)),
    Broken("one file and an index", write(INDEX, b"{}"), (SINGLE, INDEX, "both")),
    # the index
    Broken("shard missing", lambda f: first_shard(f).unlink(), ("model-00001", "missing"), "shards"),
    Broken("shard a dangling link", dangling_link, ("model-00001", "missing"), "shards"),
    Broken("shard cut", lambda f: first_shard(f).write_bytes(first_shard(f).read_bytes()[:-7]), ("cut off",), "shards"),
    Broken("index leaves the folder", point(NORM, "../x.safetensors"), (INDEX, NORM, "../x.safetensors"), "shards"),
    Broken("index with an absolute path", point(NORM, "/tmp/x.safetensors"), (NORM, "/tmp/x.safetensors"), "shards"),
    Broken("index with a Windows path", point(NORM, "C:\\x.safetensors"), (NORM, "x.safetensors"), "shards"),
    Broken("index names a pickle", point(NORM, "pytorch_model.bin"), (NORM, "pytorch_model.bin"), "shards"),
    Broken("index names a number", point(NORM, 7), (NORM, "7"), "shards"),
    Broken(
        "index names another shard",
        point(NORM, "model-00001-of-00009.safetensors"),
        ("00001-of-00009", "missing"),
        "shards",
    ),
    Broken(
        "index lists what no file holds", lambda f: point("model.x", first_shard(f).name)(f), ("model.x",), "shards"
    ),
    Broken("index not JSON", write(INDEX, b"{,}"), (INDEX, "not valid JSON"), "shards"),
    Broken("index without weight_map", write(INDEX, b'{"metadata": {}}'), (INDEX, "weight_map"), "shards"),
    Broken("index lists a tensor twice", list_twice, (INDEX, NORM, "twice"), "shards"),
    Broken("tensor in two shards", into_two_shards, (NORM, "puts it in"), "shards"),
    Broken("tensor in a shard, not in the index", unlisted, (NORM, "does not list it"), "shards"),
    # the tensors
    Broken("norm missing", tensors(lambda t: t.pop(NORM)), (NORM, "missing", "[136]")),
    Broken("expert missing", tensors(lambda t: t.pop(EXPERT)), (EXPERT, "missing")),
    Broken("bias missing", tensors(lambda t: t.pop("model.layers.1.mlp.gate.e_score_correction_bias")), ("missing",)),
    Broken("MTP copy missing", tensors(lambda t: t.pop(f"{MTP}.embed_tokens.weight")), ("embed_tokens", "missing")),
    Broken("MTP module half there", tensors(lambda t: t.pop(f"{MTP}.eh_proj.weight")), ("eh_proj", "missing")),
    Broken(
        "unknown tensor", set_tensor("model.extra.weight", lambda t: torch.ones(2)), ("model.extra.weight", "unknown")
    ),
    Broken("inv_freq of nothing", set_tensor("inv_freq", lambda t: torch.ones(2)), ("inv_freq", "unknown")),
    Broken("transposed", set_tensor(EXPERT, lambda t: t.t().contiguous()), (EXPERT, "[136, 48]", "[48, 136]")),
    Broken("one row too many", set_tensor("lm_head.weight", lambda t: torch.ones(91, 136)), ("[91, 136]", "[90, 136]")),
    Broken("whole numbers", set_tensor(EXPERT, lambda t: t.to(torch.int32)), (EXPERT, "I32", "F32")),
    Broken(
        "one tensor in bfloat16", set_tensor(EXPERT, lambda t: t.bfloat16()), (EXPERT, "BF16", "F32"), load_only=True
    ),
    Broken("MTP embedding differs", set_tensor(f"{MTP}.embed_tokens.weight", lambda t: t + 1), (MTP, "differs")),
    Broken("MTP head differs", set_tensor(f"{MTP}.shared_head.head.weight", lambda t: -t), (MTP, "lm_head.weight")),
    # the config
    Broken("no config.json", lambda f: (f / "config.json").unlink(), ("config.json",)),
    Broken("config not JSON", write("config.json", b"{"), ("config.json", "JSON")),
    Broken(
        "config contradicts itself", config(topk_group=9), ("config.json", "topk_group=9", "n_group=4"), load_only=True
    ),
    Broken("config of another width", config(hidden_size=128), ("[90, 136]", "[90, 128]"), load_only=True),
    Broken("config with more layers", config(num_hidden_layers=7), ("3 layers", "num_hidden_layers=7"), load_only=True),
    Broken(
        "config with a billion layers", config(num_hidden_layers=10**9), (f"num_hidden_layers={10**9}",), load_only=True
    ),
    Broken(
        "config with fewer layers", config(num_hidden_layers=1), ("3 layers", "num_hidden_layers=1"), load_only=True
    ),
    Broken(
        "config with more experts", config(n_routed_experts=16), ("8 routed", "n_routed_experts=16"), load_only=True
    ),
    Broken(
        "config tied, heads differ", config(tie_word_embeddings=True), ("lm_head.weight", "differs"), load_only=True
    ),
    Broken(
        "config announces FP8", config(quantization_config={"quant_method": "fp8"}), ("quantization_config", "F8_E4M3")
    ),
    # FP8
    Broken("no scales", tensors(lambda t: t.pop(EXPERT + "_scale_inv")), (EXPERT, "no scales"), "fp8"),
    Broken(
        "scales of another shape", set_tensor(EXPERT + "_scale_inv", lambda t: WRONG_SCALE), ("[1, 1]", "[1, 2]"), "fp8"
    ),
    Broken("scales in bfloat16", set_tensor(EXPERT + "_scale_inv", lambda t: t.bfloat16()), ("BF16", "F32"), "fp8"),
    Broken("scales without FP8", set_tensor(EXPERT, lambda t: t.bfloat16()), (EXPERT, "scales", "BF16"), "fp8"),
    Broken("scales of nothing", set_tensor("model.x_scale_inv", lambda t: WRONG_SCALE), ("model.x_scale_inv",), "fp8"),
    Broken("FP8 norm", fp8_tensor(NORM), (NORM, "F8_E4M3", "high precision"), "fp8"),
    Broken("FP8 router", fp8_tensor("model.layers.1.mlp.gate.weight"), ("mlp.gate", "F8_E4M3"), "fp8"),
    Broken("FP8 not announced", config(quantization_config=None), ("69 weights", "no quantization_config"), "fp8"),
    Broken("other FP8", config(quantization_config={"quant_method": "awq"}), ("'awq'", "'fp8'"), "fp8"),
    Broken(
        "block size of zero",
        config(quantization_config={"quant_method": "fp8", "weight_block_size": [0, 128]}),
        ("config.json", "[0, 128]"),
        "fp8",
    ),
    Broken(
        "block size not of the scales",
        config(quantization_config={"quant_method": "fp8", "weight_block_size": [64, 64]}),
        ("scale_inv", "[64, 64]"),
        "fp8",
    ),
]


def good_checkpoints(folder):
    torch.manual_seed(1)
    model = Transformer(CONFIG, seed=1)
    save(model, folder / "plain")
    save(model, folder / "shards", max_shard_bytes=150_000)
    save(model, folder / "fp8", dtype=torch.bfloat16, fp8=True)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_checkpoints(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def model():
    return Transformer(CONFIG, seed=2)


def break_it(broken, good, folder):
    shutil.copytree(good / broken.kind, folder)
    broken.do(folder)
    return folder


def test_the_checkpoints_that_will_be_broken_are_good(good):
    for kind in ("plain", "shards", "fp8"):
        assert load(good / kind).config.hidden_size == CONFIG.hidden_size
    assert len(list((good / "shards").glob("*.safetensors"))) > 5


@pytest.mark.no_axis_check
@pytest.mark.parametrize("broken", TABLE, ids=[broken.damage for broken in TABLE])
def test_a_broken_checkpoint_is_refused_by_name_and_changes_nothing(broken, good, model, tmp_path):
    folder = break_it(broken, good, tmp_path / "it")
    with pytest.raises((CheckpointError, FileNotFoundError)) as caught:
        load(folder)
    for word in broken.words:
        assert word in str(caught.value)
    assert not (folder / "sprung").exists()

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if not broken.load_only:
        with pytest.raises((CheckpointError, FileNotFoundError)):
            load_into(model, folder)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_every_damage_is_another_one():
    assert len({broken.damage for broken in TABLE}) == len(TABLE) >= 25


def test_all_problems_come_in_one_message(good, tmp_path):
    folder = tmp_path / "it"
    shutil.copytree(good / "plain", folder)
    names = [f"model.layers.1.mlp.experts.{e}.up_proj.weight" for e in range(8)]
    tensors(lambda t: [t.pop(name) for name in names])(folder)
    with pytest.raises(CheckpointError, match=r"8 problems:[\s\S]*experts.0.[\s\S]*and 2 more"):
        load(folder)


def test_leftover_rotary_tables_are_ignored(good, tmp_path):
    folder = tmp_path / "it"
    shutil.copytree(good / "plain", folder)
    set_tensor("model.layers.1.self_attn.rotary_emb.inv_freq", lambda t: torch.ones(56))(folder)
    assert torch.equal(load(folder).lm_head.weight, load(good / "plain").lm_head.weight)


def test_mixed_precision_loads_when_a_dtype_is_asked_for(good, tmp_path):
    folder = tmp_path / "it"
    shutil.copytree(good / "plain", folder)
    set_tensor(EXPERT, lambda t: t.bfloat16())(folder)
    assert load(folder, dtype=torch.float32).dtype == torch.float32


def test_a_link_to_a_file_elsewhere_is_followed_as_in_the_hub_cache(good, tmp_path):
    folder = tmp_path / "it"
    shutil.copytree(good / "plain", folder)
    shutil.move(folder / SINGLE, tmp_path / "blob")
    (folder / SINGLE).symlink_to("../blob")
    assert load(folder).dtype == torch.float32


def test_counts_are_compared_before_anything_of_that_size_is_made(good):
    source = open_checkpoint(good / "plain")
    with pytest.raises(CheckpointError, match="8 routed experts, n_routed_experts=16"):
        check_counts(source, replace(CONFIG, n_routed_experts=16))


def print_table(out):
    """The table of damages and what the reader is told, in Markdown."""
    out.write("| damage | message |\n|---|---|\n")
    with tempfile.TemporaryDirectory() as scratch:
        good = good_checkpoints(Path(scratch))
        for i, broken in enumerate(TABLE):
            folder = break_it(broken, good, Path(scratch) / str(i))
            try:
                load(folder)
                raise AssertionError(f"{broken.damage} was not noticed")
            except (CheckpointError, FileNotFoundError) as error:
                message = " ".join(str(error).replace(str(folder), "FOLDER").replace("|", "\\|").split())
                out.write(f"| {broken.damage} | {message} |\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print_table(sys.stdout)
