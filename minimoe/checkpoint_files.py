"""Reading a checkpoint's files: what they hold without reading it, and then only what is asked for.

A safetensors file is eight bytes of length, a JSON header of that length (name -> dtype, shape, where the bytes are)
and the bytes. Nothing in it is ever executed, which is why minimoe reads this format and no other: a pickle runs code
when opened. Because the header says where everything lies, one tensor of a 688 GB checkpoint costs one small read. A
checkpoint of several files has an index, `model.safetensors.index.json`, which says which file holds which tensor.

Files come from strangers, so every claim of a header or an index is checked against the file before it is believed:
lengths, offsets, overlaps, gaps, shapes, names that leave the folder.

How the production version differs: loaders of engines stream the shards to many GPUs at once, each rank reading its
slices.
"""

import json
import struct
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from minimoe.checkpoint_layout import DTYPE_BYTES, SCALE
from minimoe.config import ModelConfig
from minimoe.fp8_blocks import BLOCK, blocks, dequantise

__all__ = ["INDEX_NAME", "SINGLE_NAME", "Checkpoint", "CheckpointError", "Stored", "open_checkpoint", "read_header"]

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
SIGNATURES = {
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"\x80": "a Python pickle",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for",
}


class CheckpointError(ValueError):
    """The files of a checkpoint are broken, or do not fit the model. The message names the file or tensor."""


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies: its file, its dtype in safetensors' spelling, its shape and its place in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path) -> dict[str, Stored]:
    """The tensors that a safetensors file claims to hold, every claim checked against the file's size; no data is read.

    Raises `CheckpointError` for anything else than a whole safetensors file. Source: the format's description in
    github huggingface/safetensors, README "Format". Chapter 00.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(24)
        if first[8:9] not in (b"{", b""):  # the length of a true header may begin like any other file
            kind = next((what for mark, what in SIGNATURES.items() if first.startswith(mark)), "no safetensors file")
            raise CheckpointError(f"{path} is {kind}; minimoe reads safetensors files only and never unpickles")
        if size < 8:
            raise CheckpointError(f"{path} is cut off: {size} bytes, a safetensors file starts with 8 bytes of length")
        (length,) = struct.unpack("<Q", first[:8])
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{path} is cut off: its header takes {length} bytes, the file has {size - 8} after 8"
            )
        file.seek(8)
        raw = file.read(length)
    header = _json(raw, f"the header of {path}")
    header.pop("__metadata__", None)
    data_bytes = size - 8 - length
    stored = {name: _checked(path, name, claim, data_bytes) for name, claim in header.items()}
    _check_no_gap(path, stored, data_bytes)
    return stored


def _json(raw: bytes, what: str) -> dict:
    """A JSON object in which no key stands twice."""

    def unique(pairs):
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            raise CheckpointError(f"{what} lists {next(n for n in names if names.count(n) > 1)!r} twice")
        return values

    try:
        values = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{what} holds a JSON {type(values).__name__}, not an object")
    return values


def _checked(path: Path, name: str, claim, data_bytes: int) -> Stored:
    """One entry of a header, as far as it can be judged alone."""

    def naturals(values) -> bool:
        return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)

    where = f"tensor {name!r} in {path}"
    if not isinstance(claim, dict) or not {"dtype", "shape", "data_offsets"} <= set(claim):
        raise CheckpointError(f"{where}: found {claim!r}, expected dtype, shape and data_offsets")
    dtype, shape, offsets = claim["dtype"], claim["shape"], claim["data_offsets"]
    if dtype not in DTYPE_BYTES:
        raise CheckpointError(f"{where}: dtype {dtype!r} is none of {', '.join(DTYPE_BYTES)}")
    if not naturals(shape):
        raise CheckpointError(f"{where}: shape {shape!r} is not a list of whole numbers")
    if not naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets {offsets!r} are not [start, end] with start <= end")
    if offsets[1] > data_bytes:
        raise CheckpointError(
            f"{where} is cut off: it ends at byte {offsets[1]} of the data, the file holds {data_bytes}"
        )
    want, found = prod(shape) * DTYPE_BYTES[dtype], offsets[1] - offsets[0]
    if want != found:
        raise CheckpointError(f"{where}: {dtype} {shape} takes {want} bytes, data_offsets {offsets} give it {found}")
    return Stored(path, dtype, tuple(shape), *offsets)


def _check_no_gap(path: Path, stored: dict[str, Stored], data_bytes: int) -> None:
    """The tensors lie one behind the other and fill the file: nothing hides, and no byte is two tensors'."""
    end, before = 0, "the start of the data"
    for name, entry in sorted(stored.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            fault = "overlaps" if entry.start < end else "leaves a gap after"
            raise CheckpointError(
                f"tensor {name!r} in {path} starts at byte {entry.start} and {fault} {before}, up to {end}"
            )
        end, before = entry.end, repr(name)
    if end != data_bytes:
        raise CheckpointError(
            f"{path} has {data_bytes - end} bytes behind its last tensor: {data_bytes} of data, {end} used"
        )


def open_checkpoint(folder) -> "Checkpoint":
    """Open a checkpoint folder for reading single tensors. Reads the index, or the one header, and no weights.

    Shards that are not there matter only when one of their tensors is asked for. Raises `FileNotFoundError` for a
    folder without safetensors files, `CheckpointError` for a broken index. Chapter 00.
    """
    return Checkpoint(folder)


class Checkpoint:
    """A checkpoint folder, opened lazily: names at once, shapes from the headers, data tensor by tensor."""

    def __init__(self, folder):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no checkpoint folder at {self.folder}")
        self._headers: dict[Path, dict[str, Stored]] = {}
        self._open: dict[Path, safe_open] = {}
        index, single = self.folder / INDEX_NAME, self.folder / SINGLE_NAME
        if index.is_file() and single.is_file():
            raise CheckpointError(
                f"{self.folder} holds both {SINGLE_NAME} and {INDEX_NAME}: it is unclear which one counts"
            )
        if index.is_file():
            self._files = self._read_index(index)
        elif single.is_file():
            self._files = dict.fromkeys(self._header(single), single)
        else:
            others = sorted(
                p.name for p in self.folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".safetensors")
            )
            note = f"; found {', '.join(others)}, which minimoe does not open" if others else ""
            raise FileNotFoundError(f"no {SINGLE_NAME} and no {INDEX_NAME} in {self.folder}{note}")

    def _read_index(self, path: Path) -> dict[str, Path]:
        weight_map = _json(path.read_bytes(), str(path)).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{path} has no weight_map from tensor names to files, found {weight_map!r}")
        for name, file in weight_map.items():
            plain = isinstance(file, str) and file.endswith(".safetensors") and not set("/\\:\0") & set(file)
            if not plain:
                raise CheckpointError(
                    f"{path} puts tensor {name!r} in {file!r}, expected a .safetensors file in the folder"
                )
        return {name: self.folder / file for name, file in weight_map.items()}

    def _header(self, file: Path) -> dict[str, Stored]:
        if file not in self._headers:
            if not file.is_file():
                raise CheckpointError(f"{file} is missing; {INDEX_NAME} names it")
            self._headers[file] = read_header(file)
        return self._headers[file]

    @cached_property
    def config(self) -> ModelConfig:
        """The folder's `config.json`; a bad value in it is a `CheckpointError` that names the file."""
        path = self.folder / "config.json"
        try:
            return ModelConfig.from_json(path)
        except ValueError as error:
            raise CheckpointError(str(error) if str(path) in str(error) else f"{path}: {error}") from None

    def names(self, prefix: str = "") -> list[str]:
        """The tensors' names that start with `prefix`, in the order of the index or header. Reads nothing."""
        return [name for name in self._files if name.startswith(prefix)]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def entry(self, name: str) -> Stored:
        """Where tensor `name` lies, its dtype and shape: from the header of its file, without reading data."""
        if name not in self._files:
            raise CheckpointError(f"no tensor {name!r} in {self.folder}, which holds {len(self._files)} others")
        header = self._header(self._files[name])
        if name not in header:
            raise CheckpointError(f"{INDEX_NAME} puts tensor {name!r} in {self._files[name]}, which does not hold it")
        return header[name]

    def check_files(self) -> None:
        """Read every header and compare them with the index, both ways."""
        for name in self._files:
            self.entry(name)
        for file, header in self._headers.items():
            for name in header:
                if self._files.get(name) != file:
                    found = f"puts it in {self._files[name].name}" if name in self._files else "does not list it"
                    raise CheckpointError(f"{file} holds tensor {name!r}, but {INDEX_NAME} {found}")

    def scale_of(self, name: str) -> Stored:
        """The entry of an FP8 weight's scales, checked: there, float32, one for every block."""
        entry = self.entry(name)
        if name + SCALE not in self:
            raise CheckpointError(f"FP8 tensor {name!r} in {entry.file} has no scales: {name + SCALE!r} is missing")
        scale, want = self.entry(name + SCALE), None
        if len(entry.shape) == 2:
            want = blocks(*entry.shape, self.block)
        if scale.dtype != "F32" or scale.shape != want:
            found = f"tensor {name + SCALE!r} in {scale.file}: found {scale.dtype} {list(scale.shape)}"
            expected = f"F32 {list(want)}" if want else "a matrix"
            blocked = f"a weight of {list(entry.shape)} in blocks of {list(self.block)}"
            raise CheckpointError(f"{found}, expected {expected} for {blocked}")
        return scale

    @cached_property
    def block(self) -> tuple[int, int]:
        """The FP8 block size that config.json names; DeepSeek's 128 x 128 if it names none."""
        quantised = self.config.quantization_config if (self.folder / "config.json").is_file() else None
        return tuple((quantised or {}).get("weight_block_size") or BLOCK)

    def read(self, name: str, dtype: torch.dtype | None = None, raw: bool = False) -> torch.Tensor:
        """One tensor, in memory of its own. FP8 weights come dequantised in float32, or as stored if `raw`.

        `dtype=None` keeps the stored precision. Raises `CheckpointError` for a missing tensor and for missing scales.
        """
        stored = self.entry(name)
        if stored.dtype == "F8_E4M3" and not raw:
            self.scale_of(name)
            return dequantise(self._data(name), self._data(name + SCALE), self.block, dtype or torch.float32)
        value = self._data(name).clone()
        return value if dtype is None else value.to(dtype)

    def _data(self, name: str) -> torch.Tensor:
        stored = self.entry(name)
        try:
            if stored.file not in self._open:
                self._open[stored.file] = safe_open(stored.file, framework="pt")
            return self._open[stored.file].get_tensor(name)
        except (SafetensorError, RuntimeError, OSError) as error:
            raise CheckpointError(f"tensor {name!r} in {stored.file} cannot be read: {error}") from None
