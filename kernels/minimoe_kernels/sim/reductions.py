"""What runs along an axis of a block: sums, largest values, scans, histograms, sorting.

`axis=None` takes the whole block. Sums of integers narrower than 32 bits are int32. The largest of a number and NaN is
the number, unless the NaN is a lane's that loaded nothing, which is an error. Of equal largest values `argmax` names
the first.

How the production version differs: a reduction is a tree over threads, so floats are added in another order and the
last bits differ.
"""

import numpy as np

from minimoe_kernels.sim.block import Block, block, cast, result
from minimoe_kernels.sim.dtypes import DTYPES, FLOAT32, INT32
from minimoe_kernels.sim.state import now
from minimoe_kernels.sim.undefined import refuse_undefined

__all__ = ["argmax", "argmin", "cumprod", "cumsum", "histogram", "max", "min", "softmax", "sort", "sum", "xor_sum"]


def _along(x, axis, what):
    """The numbers of a block, if it has such an axis."""
    x, axes = block(x), np.ndim(x.data)
    if axis is not None and not -axes <= axis < axes:
        raise ValueError(f"{now.where()}: {what} along axis {axis} of a block of shape {x.shape}: it has {axes} axes")
    return x


def _compared(x, axis, what):
    """`_along`, for what would pass over a NaN."""
    x = _along(x, axis, what)
    refuse_undefined(x.data, f"takes {what} of")
    return x


def _reduced(op, x, axis, keep_dims, kind, what):
    x = _along(x, axis, what)
    data = cast(np.asarray(x.data), x.dtype, kind)
    out = op(data, axis=axis, keepdims=keep_dims)
    if kind.kind == "f":
        now.counts.other_flops += data.size - np.size(out)
    return Block(np.asarray(out, dtype=kind.numpy) if kind.round is None else kind.round(out), kind)


def _sum_type(x, dtype):
    if dtype is not None:
        return dtype
    return INT32 if x.dtype.kind in "bi" and x.dtype.primitive_bitwidth < 32 else x.dtype


def sum(input, axis=None, keep_dims=False, dtype=None):
    op = np.add.reduce if axis is not None else np.sum
    return _reduced(op, input, axis, keep_dims, _sum_type(input, dtype), "tl.sum")


def xor_sum(input, axis=None, keep_dims=False):
    return _reduced(np.bitwise_xor.reduce, input, axis, keep_dims, input.dtype, "tl.xor_sum")


def max(input, axis=None, return_indices=False, return_indices_tie_break_left=True, keep_dims=False):
    _compared(input, axis, "tl.max")
    best = _reduced(np.fmax.reduce, input, axis, keep_dims, input.dtype, "tl.max")
    return (best, argmax(input, axis, keep_dims=keep_dims)) if return_indices else best


def min(input, axis=None, return_indices=False, return_indices_tie_break_left=True, keep_dims=False):
    _compared(input, axis, "tl.min")
    best = _reduced(np.fmin.reduce, input, axis, keep_dims, input.dtype, "tl.min")
    return (best, argmin(input, axis, keep_dims=keep_dims)) if return_indices else best


def argmax(input, axis, tie_break_left=True, keep_dims=False):
    input = _compared(input, axis, "tl.argmax")
    return Block(np.asarray(np.argmax(input.data, axis=axis, keepdims=keep_dims), dtype=np.int32), INT32)


def argmin(input, axis, tie_break_left=True, keep_dims=False):
    input = _compared(input, axis, "tl.argmin")
    return Block(np.asarray(np.argmin(input.data, axis=axis, keepdims=keep_dims), dtype=np.int32), INT32)


def _scanned(op, x, axis, reverse, kind, what):
    x = _along(x, axis, what)
    data = cast(np.asarray(x.data), x.dtype, kind)
    if reverse:
        data = np.flip(data, axis)
    out = op(data, axis=axis, dtype=kind.numpy)
    return result(np.flip(out, axis) if reverse else out, kind)


def cumsum(input, axis=0, reverse=False, dtype=None):
    return _scanned(np.cumsum, input, axis, reverse, _sum_type(input, dtype), "tl.cumsum")


def cumprod(input, axis=0, reverse=False):
    return _scanned(np.cumprod, input, axis, reverse, _sum_type(input, None), "tl.cumprod")


def histogram(input, num_bins, mask=None):
    """How many of the numbers 0 .. num_bins-1 there are of each."""
    data = np.asarray(input.data)
    data = data[np.asarray(block(mask).data)] if mask is not None else data
    inside = data[(data >= 0) & (data < num_bins)]
    return Block(np.bincount(inside, minlength=num_bins).astype(np.int32), INT32)


def sort(x, dim=None, descending=False):
    x = _compared(x, dim, "tl.sort")
    out = np.sort(x.data, axis=-1 if dim is None else dim)
    return Block(np.flip(out, -1 if dim is None else dim) if descending else out, x.dtype)


def softmax(x, dim=None, keep_dims=False, ieee_rounding=False):
    if x.dtype not in (FLOAT32, DTYPES["float64"]):
        raise TypeError(f"{now.where()}: tl.softmax of {x.dtype}; Triton has it for float32 and float64: cast first")
    axis = 0 if dim is None else dim
    x = _compared(x, axis, "tl.softmax")
    weights = np.exp(x.data - x.data.max(axis, keepdims=True))
    return result(weights / weights.sum(axis, keepdims=True), x.dtype)
