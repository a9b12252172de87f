"""Writing a checkpoint's files so that a failure costs nothing.

Everything is written into a hidden folder inside the target first: same disk, so that moving is renaming. Only when
all files are complete do the old ones step aside and the new ones take their names, config.json last. If the machine
dies in that instant, the folder has no config.json and cannot be mistaken for a model, and the old files are in the
hidden folder.

How the production version differs: each rank writes its part, and a coordinator publishes the index when all have
reported.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from minimoe.checkpoint_files import INDEX_NAME, SINGLE_NAME
from minimoe.checkpoint_layout import SCALE, Entry
from minimoe.fp8_blocks import quantise

__all__ = ["plan_shards", "write_folder"]

OURS = re.compile(r"config\.json|model\.safetensors(\.index\.json)?|model-\d+-of-\d+\.safetensors")
ASIDE = "replaced"
TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def plan_shards(entries: dict[str, Entry], max_shard_bytes: float) -> list[dict[str, Entry]]:
    """Cut the list of tensors, in order, into files of at most `max_shard_bytes`; a larger tensor gets its own file.

    An FP8 weight and its scales stay together. Raises `ValueError` for a limit that is not positive.
    """
    if not max_shard_bytes > 0:
        raise ValueError(f"max_shard_bytes={max_shard_bytes} must be greater than 0")
    shards, room = [], 0
    for name in entries:
        if name.endswith(SCALE):
            continue
        group = {n: entries[n] for n in (name, name + SCALE) if n in entries}
        size = sum(e.bytes for e in group.values())
        if not shards or size > room:
            shards.append({})
            room = max_shard_bytes
        shards[-1] |= group
        room -= size
    return shards


def write_folder(
    folder, config: dict, entries: dict[str, Entry], tensor_of: Callable[[str], torch.Tensor], max_shard_bytes: float
) -> None:
    """Write config.json and the tensors of `entries` into `folder`; all files appear at the end or none does.

    `tensor_of` gives a weight by its name in the file; it is converted to the entry's dtype, into FP8 and scales if
    that is what `entries` says. Memory: one shard at a time. Raises `OSError` with the reason and the folder as it
    was.
    """
    folder, shards = Path(folder), plan_shards(entries, max_shard_bytes)
    temporary = []
    try:
        temporary = [p for p in (folder, *folder.parents) if not p.exists()][-1:]  # what mkdir is about to make
        folder.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
        temporary.insert(0, staged)
        _write_text(staged / "config.json", config)
        _write_shards(staged, shards, tensor_of)
        _move_in(staged, folder)
    except BaseException as error:
        stranded = [p for p in temporary if any(p.glob(f"{ASIDE}/*"))]  # old files that could not be moved back
        for leftover in temporary if not stranded else []:
            shutil.rmtree(leftover, ignore_errors=True)
        state = f"its old files are in {stranded[0] / ASIDE}" if stranded else "which is as it was"
        if isinstance(error, OSError | SafetensorError):
            raise OSError(f"could not save a checkpoint to {folder}, {state}: {error}") from error
        raise
    shutil.rmtree(staged, ignore_errors=True)


def _write_shards(staged: Path, shards: list[dict[str, Entry]], tensor_of) -> None:
    names = [SINGLE_NAME]
    if len(shards) > 1:
        names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for file, shard in zip(names, shards, strict=True):
        save_file(_tensors(shard, tensor_of), staged / file, metadata={"format": "pt"})
        shutil.copymode(staged / "config.json", staged / file)  # safetensors would let only the owner read
        _flush(staged / file)
    if len(shards) > 1:
        total = sum(entry.bytes for shard in shards for entry in shard.values())
        weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        _write_text(staged / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _tensors(shard: dict[str, Entry], tensor_of) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, entry in shard.items():
        if name.endswith(SCALE):
            continue
        tensor = tensor_of(name).detach().cpu()
        if entry.dtype == "F8_E4M3":
            try:
                tensors[name], tensors[name + SCALE] = quantise(tensor)
            except ValueError as error:
                raise ValueError(f"tensor {name!r} cannot be stored in FP8: {error}") from None
        else:
            tensors[name] = tensor.to(TORCH_DTYPES[entry.dtype]).contiguous()
    seen = set()
    for name, tensor in tensors.items():  # the format stores no aliases: a copy of the embedding is written out
        if tensor.data_ptr() in seen:
            tensors[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    return tensors


def _write_text(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    _flush(path)


def _flush(path: Path) -> None:
    """Make sure the bytes are on the disk before the file gets its name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _move_in(staged: Path, folder: Path) -> None:
    """Old files aside, new files in, config.json out first and in last; undone if a move fails."""
    aside = staged / ASIDE
    aside.mkdir()
    new = sorted((p for p in staged.iterdir() if p.is_file()), key=lambda p: p.name == "config.json")
    old = sorted((p for p in folder.iterdir() if OURS.fullmatch(p.name)), key=lambda p: p.name != "config.json")
    done = []
    try:
        for source, target in [(p, aside / p.name) for p in old] + [(p, folder / p.name) for p in new]:
            os.replace(source, target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            os.replace(target, source)
        raise
