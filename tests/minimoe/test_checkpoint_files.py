"""The lazy reader: names and shapes without data, one tensor without the rest, FP8 as torch's own reader has it."""

import json
import os
import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from minimoe.checkpoint import load_layer
from minimoe.checkpoint_files import INDEX_NAME, SINGLE_NAME, CheckpointError, open_checkpoint, read_header
from minimoe.checkpoint_layout import layout
from minimoe.checkpoint_write import plan_shards
from minimoe.config import V3
from minimoe.fp8_blocks import quantise

EXPERT = "model.layers.7.mlp.experts.200.down_proj.weight"


def some_tensors():
    torch.manual_seed(0)
    return {
        "b": torch.randn(3, 5),
        "a": torch.randn(7).bfloat16(),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(2.5),
        "fp8": torch.randn(4, 4).to(torch.float8_e4m3fn),
    }


@pytest.fixture
def folder(tmp_path):
    save_file(some_tensors(), tmp_path / SINGLE_NAME, metadata={"format": "pt"})
    return tmp_path


def test_names_shapes_and_dtypes_are_those_that_safetensors_finds(folder):
    source = open_checkpoint(folder)
    with safe_open(folder / SINGLE_NAME, "pt") as file:
        assert sorted(source.names()) == sorted(file.keys())
        for name in file.keys():
            assert list(source.entry(name).shape) == file.get_slice(name).get_shape()
            assert source.entry(name).dtype == file.get_slice(name).get_dtype()


def test_a_tensor_is_read_as_it_was_written(folder):
    source = open_checkpoint(folder)
    for name, tensor in some_tensors().items():
        found = source.read(name, raw=True)
        assert found.dtype == tensor.dtype and found.shape == tensor.shape
        assert torch.equal(found.float(), tensor.float())
    assert source.read("a", dtype=torch.float64).dtype == torch.float64


def test_what_was_read_is_the_callers_own(folder):
    source = open_checkpoint(folder)
    source.read("b").zero_()
    assert torch.equal(source.read("b"), some_tensors()["b"])


def test_an_unknown_name_is_said(folder):
    with pytest.raises(CheckpointError, match="no tensor 'lm_head.weight' in .* holds 5 others"):
        open_checkpoint(folder).read("lm_head.weight")
    assert "b" in open_checkpoint(folder) and "lm_head.weight" not in open_checkpoint(folder)


@pytest.mark.no_axis_check
@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_header_is_refused_or_read_as_safetensors_reads_it(tmp_path_factory, data):
    raw = bytearray(save_bytes())
    header_bytes = 8 + struct.unpack("<Q", raw[:8])[0]
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(raw)
    try:
        found = {name: (entry.dtype, list(entry.shape)) for name, entry in read_header(path).items()}
    except CheckpointError:
        return
    with safe_open(path, "pt") as file:
        expected = {n: (file.get_slice(n).get_dtype(), file.get_slice(n).get_shape()) for n in file.keys()}
    assert found == expected


def save_bytes():
    from safetensors.torch import save

    return save({"b": torch.ones(3, 5), "a": torch.ones(7).bfloat16()}, metadata={"format": "pt"})


@pytest.mark.parametrize("rows, columns", [(128, 128), (1, 1), (130, 257), (576, 200), (127, 129)])
def test_fp8_is_dequantised_as_torchs_quantised_reader_does(tmp_path, rows, columns):
    from torch.distributed.checkpoint import load as dcp_load
    from torch.distributed.checkpoint.quantized_hf_storage import QuantizedHuggingFaceStorageReader

    torch.manual_seed(rows)
    fp8, scale = quantise(torch.randn(rows, columns) * torch.logspace(-4, 3, rows)[:, None])
    stored = {"m.weight": fp8, "m.weight_scale_inv": scale, "norm.weight": torch.randn(9)}
    save_file(stored, tmp_path / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(stored, "model-00001-of-00001.safetensors")}
    (tmp_path / INDEX_NAME).write_text(json.dumps(index))

    theirs = {"m.weight": torch.empty(rows, columns), "norm.weight": torch.empty(9)}
    dcp_load(theirs, storage_reader=QuantizedHuggingFaceStorageReader(str(tmp_path)))
    source = open_checkpoint(tmp_path)
    assert torch.equal(source.read("m.weight"), theirs["m.weight"])
    assert torch.equal(source.read("norm.weight"), theirs["norm.weight"])
    assert source.read("m.weight", raw=True).dtype == torch.float8_e4m3fn


@pytest.mark.parametrize(
    "scale, said",
    [
        (None, "'m.weight' .* has no scales: 'm.weight_scale_inv' is missing"),
        (torch.ones(2, 1), r"found F32 \[2, 1\], expected F32 \[1, 2\] for a weight of \[3, 200\]"),
        (torch.ones(1, 2).bfloat16(), r"found BF16 \[1, 2\], expected F32"),
    ],
    ids=["missing", "mis-shaped", "of another dtype"],
)
def test_an_fp8_weight_is_not_read_without_its_scales(tmp_path, scale, said):
    stored = {"m.weight": torch.ones(3, 200).to(torch.float8_e4m3fn)}
    save_file(stored | ({} if scale is None else {"m.weight_scale_inv": scale}), tmp_path / SINGLE_NAME)
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(tmp_path).read("m.weight")
    assert open_checkpoint(tmp_path).read("m.weight", raw=True).shape == (3, 200)


def test_only_the_shard_that_is_asked_for_must_be_there(folder):
    here, gone = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    (folder / SINGLE_NAME).rename(folder / here)
    weight_map = dict.fromkeys(load_file(folder / here), here) | {"far": gone}
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))
    source = open_checkpoint(folder)
    assert torch.equal(source.read("b"), some_tensors()["b"])
    with pytest.raises(CheckpointError, match=f"{gone} is missing"):
        source.read("far")
    with pytest.raises(CheckpointError, match=f"{gone} is missing"):
        source.check_files()


def write_sparse(folder, entries, values):
    """A checkpoint whose headers claim everything and whose files hold nothing but `values`: holes take no disk."""
    shards, weight_map = plan_shards(entries, 5e9), {}
    for i, shard in enumerate(shards, 1):
        header, end = {}, 0
        for name, entry in shard.items():
            header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [end, end + entry.bytes]}
            end += entry.bytes
        raw = json.dumps(header).encode()
        path = folder / f"model-{i:05}-of-{len(shards):06}.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(raw)) + raw)
            file.truncate(8 + len(raw) + end)
            for name in values.keys() & shard.keys():
                file.seek(8 + len(raw) + header[name]["data_offsets"][0])
                file.write(values[name].view(torch.uint8).numpy().tobytes())
        weight_map |= dict.fromkeys(shard, path.name)
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.no_axis_check
@pytest.mark.skipif(os.name != "posix", reason="needs sparse files; un-skip when Windows makes them by truncate")
def test_a_checkpoint_of_671_billion_parameters_opens_on_a_laptop(tmp_path):
    import resource  # POSIX only

    torch.manual_seed(0)
    fp8, scale = quantise(torch.randn(7168, 2048) * 0.02)
    norm = torch.randn(7168).bfloat16()
    router, bias = "model.layers.7.mlp.gate.weight", "model.layers.7.mlp.gate.e_score_correction_bias"
    values = {EXPERT: fp8, EXPERT + "_scale_inv": scale, "model.layers.60.input_layernorm.weight": norm}
    write_sparse(tmp_path, layout(V3, fp8=True), values | {bias: torch.arange(256.0)})
    replace(V3).to_json(tmp_path)
    claimed = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert claimed > 688_574_839_360

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = open_checkpoint(tmp_path)
    source.check_files()
    assert len(source.names()) == 91_991
    assert source.entry(EXPERT).shape == (7168, 2048)
    assert torch.equal(source.read("model.layers.60.input_layernorm.weight"), norm)
    expert = load_layer(tmp_path, 7, part="mlp.experts.200", dtype=torch.float32)
    assert torch.equal(expert.down_proj.weight, source.read(EXPERT))
    gate = load_layer(tmp_path, 7, part="mlp.gate")
    assert gate.weight.shape == (256, 7168) and gate.weight.dtype == torch.bfloat16 and router in source
    assert torch.equal(gate.e_score_correction_bias, torch.arange(256.0))
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    # 91,991 names and one expert in float32: 0.2 to 0.5 GiB measured. One shard is 4.7 GiB, all of them 641.
    assert grown_mib < 1024
