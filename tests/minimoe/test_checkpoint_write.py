"""Writing: shards cut in order, everything or nothing, and what else lies in the folder stays."""

import json
import os
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from minimoe.checkpoint import load, save
from minimoe.checkpoint_layout import SCALE, layout
from minimoe.checkpoint_write import plan_shards
from minimoe.config import NANO
from minimoe.model.transformer import Transformer

CONFIG = replace(NANO, vocab_size=90, num_hidden_layers=2, n_routed_experts=8)
OURS = ("config.json", "model.safetensors", "model.safetensors.index.json")


@pytest.fixture(scope="module")
def model():
    return Transformer(CONFIG, seed=1)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(limit=st.integers(1, 400_000), fp8=st.booleans())
def test_shards_keep_the_order_and_the_limit_and_scales_with_their_weights(limit, fp8):
    entries = layout(CONFIG, "BF16", fp8)
    shards = plan_shards(entries, limit)
    assert [name for shard in shards for name in shard] == list(entries)
    for shard in shards:
        weights = [name for name in shard if not name.endswith(SCALE)]
        assert sum(entry.bytes for entry in shard.values()) <= limit or len(weights) == 1
        assert all(name + SCALE in shard for name in weights if name + SCALE in entries)
    for shard, following in zip(shards, shards[1:], strict=False):
        first = next(iter(following))
        group = following[first].bytes + (following[first + SCALE].bytes if first + SCALE in following else 0)
        assert sum(entry.bytes for entry in shard.values()) + group > limit


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(model, tmp_path, limit):
    with pytest.raises(ValueError, match=f"max_shard_bytes={limit}"):
        save(model, tmp_path / "it", max_shard_bytes=limit)
    assert not (tmp_path / "it").exists()


def test_the_index_lists_every_tensor_and_the_bytes_of_all(model, tmp_path):
    save(model, tmp_path, max_shard_bytes=100_000)
    index = json.loads((tmp_path / OURS[2]).read_text())
    assert index["weight_map"].keys() == layout(CONFIG).keys()
    sizes = 0
    for file in set(index["weight_map"].values()):
        with safe_open(tmp_path / file, "pt") as shard:
            assert shard.metadata() == {"format": "pt"}
            for name in shard.keys():
                assert index["weight_map"][name] == file
                sizes += shard.get_tensor(name).nbytes
    assert index["metadata"]["total_size"] == sizes


def test_one_file_needs_no_index(model, tmp_path):
    save(model, tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(OURS[:2])


def test_saving_again_replaces_shards_of_another_cut_and_leaves_other_files(model, tmp_path):
    (tmp_path / "tokenizer.json").write_text("mine")
    (tmp_path / "model-card.md").write_text("mine too")
    save(model, tmp_path, max_shard_bytes=100_000)
    many = set(os.listdir(tmp_path))
    save(model, tmp_path, max_shard_bytes=400_000)
    fewer = set(os.listdir(tmp_path))
    assert len(fewer) < len(many)
    assert torch.equal(load(tmp_path).lm_head.weight, model.lm_head.weight)
    save(model, tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*OURS[:2], "tokenizer.json", "model-card.md"])
    assert (tmp_path / "tokenizer.json").read_text() == "mine"


def test_others_may_read_the_files_as_the_umask_says(model, tmp_path):
    before = os.umask(0o022)
    try:
        save(model, tmp_path / "it")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "it").iterdir()}
    assert modes == {0o644}


@pytest.mark.skipif(os.name != "posix", reason="limits a process's file size; un-skip when Windows has such a limit")
@pytest.mark.parametrize("limit_bytes", [10, 20_000, 150_000], ids=["config", "first shard", "later shard"])
def test_a_full_disk_costs_the_new_checkpoint_and_not_the_old_one(model, tmp_path, limit_bytes):
    import resource  # POSIX only

    save(Transformer(CONFIG, seed=2), tmp_path, max_shard_bytes=100_000)
    before = content(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(OSError, match="could not save a checkpoint to .* as it was: .*too large"):
            save(model, tmp_path, max_shard_bytes=100_000 if limit_bytes < 150_000 else 160_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(tmp_path) == before


@pytest.mark.parametrize("failing", range(8))
def test_a_move_that_fails_is_undone(model, tmp_path, monkeypatch, failing):
    save(Transformer(CONFIG, seed=2), tmp_path, max_shard_bytes=1_600_000)
    before = content(tmp_path)
    assert len(before) == 4
    calls, move = [], os.replace

    def refuse_once(source, target):
        calls.append(target)
        if len(calls) == failing + 1:
            raise PermissionError("the disk went read-only")
        move(source, target)

    monkeypatch.setattr(os, "replace", refuse_once)
    with pytest.raises(OSError, match="as it was: the disk went read-only"):
        save(model, tmp_path, max_shard_bytes=1_600_000)
    assert content(tmp_path) == before


def test_old_files_that_cannot_be_moved_back_are_not_deleted(model, tmp_path, monkeypatch):
    save(Transformer(CONFIG, seed=2), tmp_path)
    old, calls, move = content(tmp_path), [], os.replace

    def refuse_from_the_third_on(source, target):
        calls.append(target)
        if len(calls) > 2:
            raise PermissionError("the disk went read-only")
        move(source, target)

    monkeypatch.setattr(os, "replace", refuse_from_the_third_on)
    with pytest.raises(OSError, match="its old files are in .*replaced: the disk went read-only"):
        save(model, tmp_path)
    (kept,) = tmp_path.glob(".saving-*/replaced")
    assert content(kept) == old
    with pytest.raises(FileNotFoundError):
        load(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(model, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="could not save a checkpoint to .*file"):
            save(model, folder)
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's; un-skip when Windows refuses a folder so")
def test_an_unwritable_folder_is_said_and_nothing_changes(model):
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        save(Transformer(CONFIG, seed=2), folder)
        before = content(Path(folder))
        os.chmod(folder, 0o555)
        if user == 0:
            os.seteuid(65534)  # root may write anywhere: become nobody for a moment
        try:
            for target in (folder, os.path.join(folder, "new")):
                with pytest.raises(OSError, match="could not save a checkpoint to .*[Dd]enied"):
                    save(model, target)
        finally:
            os.seteuid(user)
        os.chmod(folder, 0o755)
        assert content(Path(folder)) == before


def test_a_weight_that_fp8_cannot_hold_is_named_and_nothing_is_written(tmp_path):
    model = Transformer(CONFIG, seed=1)
    with torch.no_grad():
        model.model.layers[1].mlp.experts[3].up_proj.weight[0, 0] = float("nan")
    with pytest.raises(
        ValueError, match=r"'model.layers.1.mlp.experts.3.up_proj.weight' cannot be stored in FP8: 1 of"
    ):
        save(model, tmp_path / "it", fp8=True)
    assert not (tmp_path / "it").exists()
