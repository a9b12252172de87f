"""Memory as a kernel sees it: tensors behind pointers, and every access checked.

A pointer is a tensor and a distance, in elements, from its first one; `ptr + offsets` makes a block of them. An access
is good if it falls on an element of *that tensor*: the gap between the rows of a strided view belongs to another one,
whatever the allocation holds there. A mask switches lanes off. What a switched-off lane loads without `other` is
undefined in Triton; see `undefined` for what becomes of it here.

A tensor made by `empty` remembers which of its elements have been written, and loading another one is an error.

How the production version differs: on a GPU a lane that is on reads whatever lies there, and a masked one usually gets
zero, until it does not.
"""

import contextlib
import contextvars
import weakref

import numpy as np
import torch

from minimoe_kernels.sim.block import Block, block, cast, lane_by_lane
from minimoe_kernels.sim.dtypes import DTYPES
from minimoe_kernels.sim.errors import OutOfBounds, StoreConflict, Uninitialised
from minimoe_kernels.sim.state import now
from minimoe_kernels.sim.undefined import refuse_undefined, undefined

__all__ = ["Buffer", "Pointer", "empty", "load", "red_zones", "store"]

OF_TORCH = {
    torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16",
    torch.float8_e4m3fn: "float8e4nv", torch.float8_e5m2: "float8e5", torch.int64: "int64", torch.int32: "int32",
    torch.int16: "int16", torch.int8: "int8", torch.uint8: "uint8", torch.bool: "int1",
}  # fmt: skip
RAW = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_zones = contextvars.ContextVar("zones", default=None)
_unwritten = {}  # address of a storage -> which of its bytes a kernel has written; see `empty`


def empty(*shape, dtype=torch.float32, device="cpu") -> torch.Tensor:
    """A tensor that only kernels write: `torch.empty`, and in the simulator an error to load before it is stored."""
    zones = _zones.get()
    tensor = torch.empty(*shape, dtype=dtype, device=device) if zones is None else zones.tensor(shape, dtype, device)
    if tensor.device.type == "cpu" and tensor.numel():
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        tensor.view(-1).view(torch.uint8).fill_(0xFF)  # NaN in every float type
        _unwritten[address] = np.zeros(storage.nbytes(), dtype=bool)
        weakref.finalize(tensor, _unwritten.pop, address, None)
    return tensor


class Zones:
    """Allocations with a strip of known bytes before and after each."""

    STRIP, BYTE = 512, 0xA5

    def __init__(self):
        self.allocations = []

    def tensor(self, shape, dtype, device):
        shape = torch.Size(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        n_bytes = shape.numel() * torch.empty((), dtype=dtype).element_size()
        whole = torch.full((n_bytes + 2 * self.STRIP,), self.BYTE, dtype=torch.uint8, device=device)
        self.allocations.append((whole, n_bytes, shape, dtype))
        return whole[self.STRIP : self.STRIP + n_bytes].view(dtype).view(shape)

    def check(self):
        for whole, n_bytes, shape, dtype in self.allocations:
            for side, strip in (("before", whole[: self.STRIP]), ("after", whole[self.STRIP + n_bytes :])):
                touched = int((strip != self.BYTE).sum())
                if touched:
                    raise OutOfBounds(f"{touched} bytes written {side} a tensor of shape {tuple(shape)}, {dtype}")


@contextlib.contextmanager
def red_zones():
    """Within it `empty` leaves a strip of known bytes around each tensor; on leaving, a changed one is an error.

    For the runners that check no address: the interpreter and the GPU.
    """
    token = _zones.set(zones := Zones())
    try:
        yield
        zones.check()
    finally:
        _zones.reset(token)


class Buffer:
    """One tensor argument: its elements as a flat array of raw bits, from its first to its last in memory."""

    def __init__(self, name: str, tensor: torch.Tensor):
        if tensor.dtype not in OF_TORCH:
            raise TypeError(f"{name}: {tensor.dtype} is not one of {', '.join(map(str, OF_TORCH))}")
        self.name, self.shape = name, tuple(tensor.shape)
        self.dtype = DTYPES[OF_TORCH[tensor.dtype]]
        size, stride = tensor.shape, tensor.stride()
        span = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if tensor.numel() else 0
        raw = tensor.detach().as_strided((span,), (1,)).view(RAW[tensor.itemsize])
        self.raw = raw.numpy().view(self.dtype.stored)
        self.size, self.itemsize = span, tensor.itemsize
        self.holes = self._holes(size, stride, span) if tensor.numel() < span else None
        written = _unwritten.get(tensor.untyped_storage().data_ptr())
        if written is not None:
            first = tensor.storage_offset() * tensor.itemsize
            written = written[first : first + span * tensor.itemsize : tensor.itemsize]
        self.written = written
        self.loaded_bytes = self.stored_bytes = 0

    @staticmethod
    def _holes(size, stride, span):
        holes = torch.ones(span, dtype=torch.bool)
        holes.as_strided(size, stride).fill_(False)
        return holes.numpy()

    def check(self, offsets, verb, mask):
        """Raise unless every element exists."""
        if offsets.view(np.uint64).max() >= self.size:  # a negative one is very large there
            self._refuse(offsets[(offsets < 0) | (offsets >= self.size)].flat[0], verb, mask)
        if self.holes is not None and self.holes[offsets].any():
            self._refuse(offsets[self.holes[offsets]].flat[0], verb, mask)

    def _refuse(self, offset, verb, mask):
        lets = "without a mask" if mask is None else f"where the mask is True ({int(mask.sum())} of {mask.size} lanes)"
        gap = " and those between its rows are not its own" if self.holes is not None else ""
        raise OutOfBounds(
            f"{now.where()} {verb} element {int(offset)} of {self.name} {lets}; "
            f"{self.name} has shape {self.shape}, elements 0 to {self.size - 1} of {self.dtype}{gap}"
        )

    def check_written(self, offsets):
        fresh = ~self.written[offsets]
        if fresh.any():
            raise Uninitialised(
                f"{now.where()} loads element {int(np.asarray(offsets)[fresh].flat[0])} of {self.name}, "
                f"which nothing has written (shape {self.shape}, {self.dtype})"
            )


class Pointer:
    """A block of pointers into one tensor."""

    __slots__ = ("buffer", "offsets")
    __array_ufunc__ = None

    def __init__(self, buffer, offsets):
        self.buffer, self.offsets = buffer, offsets

    @property
    def dtype(self):
        return PointerType(self.buffer.dtype)

    @property
    def shape(self):
        return list(self.offsets.shape)

    def _moved(self, other, sign):
        step = other.data if isinstance(other, Block) else other
        if isinstance(step, float) or (isinstance(other, Block) and other.dtype.kind == "f"):
            raise TypeError(f"{now.where()}: {self.buffer.name} + a float; pointers move by whole elements")
        return Pointer(self.buffer, lane_by_lane(_plus if sign > 0 else np.subtract, self.offsets, step))

    def __add__(self, other):
        return self._moved(other, 1)

    __radd__ = __add__

    def __sub__(self, other):
        return self._moved(other, -1)

    def __getitem__(self, key):
        return Pointer(self.buffer, Block(self.offsets, None)[key].data)


def _plus(offsets, step):
    return np.add(offsets, step, dtype=np.int64)


class PointerType:
    """`ptr.dtype`: what it points to is `ptr.dtype.element_ty`."""

    def __init__(self, element_ty):
        self.element_ty = element_ty

    def is_ptr(self):
        return True


def spread(data, shape):
    """`data` repeated along missing axes and those of size 1."""
    return data if data.shape == shape else np.broadcast_to(data, shape)


def lanes(pointer, mask, verb):
    """(which lanes are on, or None for all; their offsets): checked, the mask spread to the pointers' shape."""
    if not isinstance(pointer, Pointer):
        raise TypeError(f"{now.where()} {verb} through {type(pointer).__name__}; a pointer is a tensor + offsets")
    offsets, on = np.asarray(pointer.offsets), None
    if mask is not None:
        on = _fitting(np.asarray(block(mask).data), offsets.shape, f"{verb} with a mask")
        if on.all():
            on = None
        else:
            offsets = offsets[on]
    if offsets.size:
        pointer.buffer.check(offsets, verb, None if mask is None else np.asarray(block(mask).data))
    return on, offsets


def load(pointer, mask=None, other=None, **_hints):
    """The numbers behind a block of pointers; `other` where the mask is False."""
    on, offsets = lanes(pointer, mask, "loads")
    buffer = pointer.buffer
    if buffer.written is not None and offsets.size:
        buffer.check_written(offsets)
    moved = offsets.size * buffer.itemsize
    now.counts.loaded_bytes += moved
    buffer.loaded_bytes += moved
    values = buffer.dtype.decode(buffer.raw[offsets])
    if on is None:
        return Block(values, buffer.dtype)
    if other is None:
        out = undefined(on.shape, buffer.dtype, buffer.name)
    else:
        other = block(other)
        out = np.broadcast_to(cast(other.data, other.dtype, buffer.dtype), on.shape).copy()
    out[on] = values
    return Block(out, buffer.dtype)


def store(pointer, value, mask=None, **_hints):
    """Write a block of numbers, each to its pointer; converted to the tensor's type."""
    on, offsets = lanes(pointer, mask, "stores")
    if not offsets.size:
        return
    buffer, value = pointer.buffer, block(value)
    data = _fitting(cast(value.data, value.dtype, buffer.dtype), np.shape(pointer.offsets), "stores a block")
    wide = "has no mask and writes" if mask is None else "has a mask that lets through"
    stored = value.data if on is None else spread(value.data, on.shape)[on]
    refuse_undefined(stored, f"stores to {buffer.name}", f"this tl.store {wide} what the load's mask left out")
    raw = np.asarray(buffer.dtype.encode(data if on is None else data[on])).astype(buffer.dtype.stored, copy=False)
    buffer.raw[offsets] = raw
    if raw.size > 1 and not np.array_equal(_as_bits(buffer.raw[offsets]), _as_bits(raw)):
        raise StoreConflict(f"{now.where()} stores different values to one element of {buffer.name} in one `tl.store`")
    _count_store(buffer, offsets)


def _fitting(data, shape, verb):
    try:
        return spread(data, shape)
    except ValueError:
        raise ValueError(
            f"{now.where()} {verb} of shape {list(np.shape(data))} through pointers of shape {list(shape)}; "
            "each number needs a pointer of its own: pointer + offsets of the block's shape"
        ) from None


def _as_bits(raw):
    return np.ascontiguousarray(raw).view(np.uint8)


def _count_store(buffer, offsets):
    moved = offsets.size * buffer.itemsize
    now.counts.stored_bytes += moved
    buffer.stored_bytes += moved
    if buffer.written is not None:
        buffer.written[offsets] = True


def atomic(combine, pointer, value, mask=None, **_hints):
    """Read, combine, write back, lane after lane; gives what each lane found. Counts as a load and a store."""
    on, offsets = lanes(pointer, mask, "updates")
    buffer, value = pointer.buffer, block(value)
    shape = np.shape(pointer.offsets)
    if buffer.written is not None and offsets.size:
        buffer.check_written(offsets)
    data = np.broadcast_to(cast(value.data, value.dtype, buffer.dtype), shape)
    data = np.asarray(data if on is None else data[on])
    found, kind = np.empty(offsets.shape, dtype=buffer.dtype.numpy), buffer.dtype
    for lane in np.ndindex(*offsets.shape):
        old = kind.decode(buffer.raw[offsets[lane]])
        new = np.asarray(combine(old, data[lane]), dtype=kind.numpy)
        buffer.raw[offsets[lane]] = kind.encode(new if kind.round is None else kind.round(new))
        found[lane] = old
    now.counts.loaded_bytes += offsets.size * buffer.itemsize
    buffer.loaded_bytes += offsets.size * buffer.itemsize
    _count_store(buffer, offsets)
    if on is None:
        return Block(found, kind)
    out = undefined(shape, kind, buffer.name)
    out[on] = found
    return Block(out, kind)
