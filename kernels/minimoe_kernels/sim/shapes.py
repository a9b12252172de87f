"""Making blocks, and changing their shape without changing a number.

Every size is a power of two, as registers are shared out among threads in halves. That is why kernels round their
widths up and mask the rest.

How the production version differs: a change of shape may move every number to another thread, through shared memory;
here it is a view.
"""

import numpy as np

from minimoe_kernels.sim.block import Block, block, cast, operands
from minimoe_kernels.sim.dtypes import INT32
from minimoe_kernels.sim.state import now

__all__ = [
    "arange", "broadcast", "broadcast_to", "cat", "expand_dims", "flip", "full", "gather", "interleave", "join",
    "permute", "ravel", "reshape", "split", "trans", "view", "zeros", "zeros_like",
]  # fmt: skip

LARGEST = 2**20  # numbers in one block


def _sizes(shape):
    shape = tuple(int(n) for n in (shape[0] if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape))
    for n in shape:
        if n < 1 or n & (n - 1):
            raise ValueError(f"{now.where()}: a block of shape {list(shape)}; {n} is not a power of two")
    if np.prod(shape, dtype=np.int64) > LARGEST:
        raise ValueError(f"{now.where()}: a block of shape {list(shape)} has more than {LARGEST} numbers")
    return shape


_ramps = {}


def arange(start, end):
    """start, start + 1, ..., end - 1 in int32."""
    if isinstance(start, Block) or isinstance(end, Block):
        raise TypeError(f"{now.where()}: tl.arange over an argument; its ends must be known when compiled")
    found = _ramps.get((start, end))
    if found is None:
        _sizes([end - start])
        found = _ramps[start, end] = np.arange(start, end, dtype=np.int32)
        found.flags.writeable = False
    return Block(found, INT32)


def full(shape, value, dtype):
    value = block(value)
    return Block(np.full(_sizes([shape]), cast(value.data, value.dtype, dtype), dtype=dtype.numpy), dtype)


def zeros(shape, dtype):
    return Block(np.zeros(_sizes([shape]), dtype=dtype.numpy), dtype)


def zeros_like(input):
    return zeros(input.shape, input.dtype)


def reshape(input, *shape, can_reorder=False):
    sizes = _sizes(shape)
    if np.prod(sizes, dtype=np.int64) != input.data.size:
        raise ValueError(f"{now.where()}: reshape of {input.shape} to {list(sizes)}")
    return Block(np.reshape(input.data, sizes), input.dtype)


view = reshape


def ravel(x, can_reorder=False):
    return Block(np.ravel(x.data), x.dtype)


def trans(input, *dims):
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], list | tuple) else dims
    return Block(np.transpose(input.data, order) if order else np.swapaxes(input.data, -1, -2), input.dtype)


permute = trans


def expand_dims(input, axis):
    return Block(np.expand_dims(np.asarray(input.data), axis), input.dtype)


def broadcast_to(input, *shape):
    return Block(np.broadcast_to(input.data, _sizes(shape)), input.dtype)


def broadcast(input, other):
    a, b = np.broadcast_arrays(input.data, other.data)
    return Block(a, input.dtype), Block(b, other.dtype)


def join(a, b):
    """Two blocks side by side along a new last axis of size 2."""
    x, y, kind = operands(a, b)
    return Block(np.stack(np.broadcast_arrays(x, y), axis=-1), kind)


def split(a):
    """A last axis of size 2 taken apart."""
    if not a.data.ndim or a.data.shape[-1] != 2:
        raise ValueError(f"{now.where()}: tl.split of {a.shape}; the last axis must have size 2")
    return Block(a.data[..., 0], a.dtype), Block(a.data[..., 1], a.dtype)


def interleave(a, b):
    """a0, b0, a1, b1, ... along the last axis."""
    both = join(a, b)
    return Block(both.data.reshape(*both.data.shape[:-2], -1), both.dtype)


def cat(input, other, can_reorder=False):
    x, y, kind = operands(input, other)
    return Block(np.concatenate([x, y], axis=-1), kind)


def flip(x, dim=None):
    return Block(np.flip(x.data, -1 if dim is None else dim), x.dtype)


def gather(src, index, axis):
    return Block(np.take_along_axis(src.data, np.asarray(index.data, dtype=np.int64), axis), src.dtype)
