"""`tl`: the functions of Triton's language that kernels here and in the chapters use, on NumPy.

The names, arguments and restrictions are Triton's, those that its versions 3.6 to 3.9 share: `arange` wants a power of
two, `exp` wants float32, `dot` wants an inner size of at least 16 (32 for 8-bit numbers). A kernel that breaks one of
them fails here, not first on a GPU. Products of `dot` are summed in float32; float32 operands are read as tf32 unless
`input_precision="ieee"`, as on a tensor core. What takes blocks apart and together is in `shapes`, what runs along an
axis in `reductions`.

How the production version differs: the order of a sum is the hardware's, so the last bits of `dot` and `sum` differ
from any simulation; and a Hopper tensor core adds FP8 products with about 14 bits, not with 24.
"""

import builtins
import sys

import numpy as np

from minimoe_kernels.sim.block import Block, block, lane_by_lane, operands, result
from minimoe_kernels.sim.block import cast as converted
from minimoe_kernels.sim.dtypes import DTYPES, FLOAT32, dtype, of_number
from minimoe_kernels.sim.memory import atomic, load, store
from minimoe_kernels.sim.reductions import (
    argmax,
    argmin,
    cumprod,
    cumsum,
    histogram,
    max,
    min,
    softmax,
    sort,
    sum,
    xor_sum,
)
from minimoe_kernels.sim.rounding import to_tf32
from minimoe_kernels.sim.shapes import (
    arange,
    broadcast,
    broadcast_to,
    cat,
    expand_dims,
    flip,
    full,
    gather,
    interleave,
    join,
    permute,
    ravel,
    reshape,
    split,
    trans,
    view,
    zeros,
    zeros_like,
)
from minimoe_kernels.sim.state import now
from minimoe_kernels.sim.undefined import is_undefined

_builtin_range = builtins.range
int1, int8, int16, int32, int64 = (DTYPES[f"int{n}"] for n in (1, 8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (DTYPES[f"uint{n}"] for n in (8, 16, 32, 64))
float16, bfloat16, float32, float64 = (DTYPES[n] for n in ("float16", "bfloat16", "float32", "float64"))
float8e4nv, float8e5 = DTYPES["float8e4nv"], DTYPES["float8e5"]

__all__ = [
    "abs", "arange", "argmax", "argmin", "assume", "atomic_add", "atomic_cas", "atomic_max", "atomic_min",
    "atomic_xchg", "bfloat16", "broadcast", "broadcast_to", "cast", "cat", "cdiv", "clamp", "constexpr", "cos",
    "cumprod", "cumsum", "debug_barrier", "device_assert", "device_print", "div_rn", "dot", "dtype", "exp", "exp2",
    "expand_dims", "fdiv", "flip", "float16", "float32", "float64", "float8e4nv", "float8e5", "floor", "fma", "full",
    "gather", "histogram", "int1", "int16", "int32", "int64", "int8", "interleave", "join", "load", "log", "log2",
    "max", "max_contiguous", "maximum", "min", "minimum", "multiple_of", "num_programs", "permute", "program_id",
    "range", "ravel", "reshape", "rsqrt", "sigmoid", "sin", "softmax", "sort", "split", "sqrt", "static_assert",
    "static_range", "store", "sum", "trans", "uint16", "uint32", "uint64", "uint8", "view", "where", "xor_sum",
    "zeros", "zeros_like",
]  # fmt: skip


def __getattr__(name):
    raise AttributeError(f"tl.{name}: Triton has no such function, or none that the simulator knows")


class constexpr:
    """A value known when the kernel is compiled. In the simulator every value is, so the value itself serves."""

    def __new__(cls, value):
        return value


# --- the grid and its loops -------------------------------------------------------------------------------------------


def program_id(axis):
    return Block(np.int32(now.program[axis]), int32)


def num_programs(axis):
    return Block(np.int32(now.grid[axis]), int32)


def range(start, stop=None, step=None, **_hints):
    """Python's `range` whose counters are int32 blocks, as they are in a compiled loop.

    A loop is compiled once, so what was assigned before it keeps its type and shape: TypeError names what does not.
    """
    start, stop = (0, start) if stop is None else (start, stop)
    before = _types(sys._getframe(1).f_locals)
    for i in _builtin_range(int(start), int(stop), 1 if step is None else int(step)):
        yield Block(np.int32(i), int32)
        if before is not None:  # after the first round: the second begins with the same types, and ends with them
            _check_types(before, _types(sys._getframe(1).f_locals))
            before = None


def _check_types(before: dict, after: dict):
    for name, kind in after.items():
        if before.get(name, kind) != kind:
            was, now_is = (f"{t}{list(shape) or ''}" for t, shape in (before[name], kind))
            raise TypeError(
                f"{now.where()}: the loop turns `{name}` from {was} into {now_is}; Triton compiles a loop once, so "
                "what is assigned before it keeps its type and shape: begin with tl.zeros or tl.full of that type"
            )


def _types(variables) -> dict:
    """The type and shape of every variable of a kernel that is a number or a block."""
    found = {}
    for name, value in variables.items():
        if isinstance(value, Block):
            found[name] = value.dtype.name, np.shape(value.data)
        elif isinstance(value, bool | int | float):
            found[name] = of_number(value).name, ()
    return found


def static_range(start, stop=None, step=1, **_hints):
    """An unrolled loop: its counters are plain numbers."""
    return _builtin_range(start) if stop is None else _builtin_range(start, stop, step)


# --- numbers ----------------------------------------------------------------------------------------------------------


def _passed_on(out, *operands):
    """`out`, undefined where an operand is: NumPy's functions may give another NaN, or none."""
    for x in operands:
        marked = is_undefined(block(x).data)
        if marked is not None:
            out = Block(np.where(marked, x.data, out.data).astype(out.data.dtype), out.dtype)
    return out


def _unary(name, op, only=("float32", "float64")):
    def apply(x):
        x = block(x)
        if x.dtype.name not in only:
            has = " and ".join(only)
            raise TypeError(f"{now.where()}: tl.{name} of {x.dtype}; Triton has it for {has}: cast first")
        return _passed_on(result(op(x.data), x.dtype), x)

    apply.__name__ = name
    return apply


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


exp, exp2, log, log2 = (_unary(op.__name__, op) for op in (np.exp, np.exp2, np.log, np.log2))
sqrt, sin, cos, floor = (_unary(op.__name__, op) for op in (np.sqrt, np.sin, np.cos, np.floor))
rsqrt, sigmoid = _unary("rsqrt", lambda x: 1 / np.sqrt(x)), _unary("sigmoid", _sigmoid)


def abs(x):
    x = block(x)
    return result(np.abs(x.data), x.dtype)


def _pair(op, x, y):
    a, b, kind = operands(x, y)
    return result(lane_by_lane(op, a, b), kind)


def maximum(x, y, propagate_nan=None):
    """The larger one; of a number and NaN the number, as the hardware has it, but not of a lane that loaded nothing."""
    return _passed_on(_pair(np.fmax, x, y), x, y)


def minimum(x, y, propagate_nan=None):
    return _passed_on(_pair(np.fmin, x, y), x, y)


def clamp(x, low, high):
    return minimum(maximum(x, low), high)


def fma(x, y, z):
    return x * y + z


def fdiv(x, y, ieee_rounding=False):
    return x / y


def div_rn(x, y):
    """x / y rounded correctly, as the simulator's `/` is anyway; a GPU's `/` may be off by two in the last place."""
    return x / y


def cdiv(x, div):
    return (x + div - 1) // div


def where(condition, x, y):
    """x where the condition holds, else y: both are evaluated."""
    a, b, kind = operands(x, y)
    return Block(np.where(block(condition).data, a, b), kind)


def cast(input, dtype, fp_downcast_rounding=None, bitcast=False):
    return block(input).to(dtype, fp_downcast_rounding, bitcast)


def dot(a, b, acc=None, input_precision=None, allow_tf32=None, max_num_imprecise_acc=None, out_dtype=FLOAT32):
    """a @ b (+ acc), the sum in float32 (float64 of float64, int32 of int8)."""
    if a.data.ndim not in (2, 3) or a.data.ndim != b.data.ndim or a.data.shape[-1] != b.data.shape[-2]:
        raise ValueError(f"{now.where()}: tl.dot of {a.shape} and {b.shape}")
    if a.dtype is not b.dtype and not (a.dtype.is_fp8() and b.dtype.is_fp8()):
        raise TypeError(f"{now.where()}: tl.dot of {a.dtype} and {b.dtype}; both operands have one type")
    inner, least = a.data.shape[-1], 32 if a.dtype.primitive_bitwidth == 8 else 16
    if inner < least:
        raise ValueError(f"{now.where()}: tl.dot over {inner} {a.dtype} numbers; a tensor core takes at least {least}")
    kind = int32 if a.dtype.kind != "f" else float64 if a.dtype is float64 else out_dtype
    x, y = a.data, b.data
    if a.dtype is float32 and input_precision != "ieee" and allow_tf32 is not False:
        x, y = to_tf32(np.ascontiguousarray(x)), to_tf32(np.ascontiguousarray(y))
    out = np.matmul(x, y, dtype=np.int32) if kind is int32 else np.matmul(x, y)
    now.counts.dot_flops += 2 * inner * out.size
    if kind.round is not None:
        out = kind.round(out)
    if acc is None:
        return Block(out, kind)
    if acc.data.shape != out.shape:
        raise ValueError(f"{now.where()}: tl.dot gives {list(out.shape)}, its accumulator has {acc.shape}")
    total = out + converted(acc.data, acc.dtype, kind)
    return Block(total if kind.round is None else kind.round(total), kind)


# --- memory that several programs update ------------------------------------------------------------------------------


def atomic_add(pointer, val, mask=None, sem=None, scope=None):
    return atomic(np.add, pointer, val, mask)


def atomic_max(pointer, val, mask=None, sem=None, scope=None):
    return atomic(np.fmax, pointer, val, mask)


def atomic_min(pointer, val, mask=None, sem=None, scope=None):
    return atomic(np.fmin, pointer, val, mask)


def atomic_xchg(pointer, val, mask=None, sem=None, scope=None):
    return atomic(lambda _, new: new, pointer, val, mask)


def atomic_cas(pointer, cmp, val, sem=None, scope=None):
    """Write `val` where `cmp` stands; gives what stood there. A lock is free at once here: programs run alone."""
    wanted = block(cmp)
    return atomic(lambda old, new: new if old == wanted.data else old, pointer, val)


# --- words to the compiler, and to the reader -------------------------------------------------------------------------


def _hint(x, *_values):
    return x


multiple_of = max_contiguous = _hint


def debug_barrier():
    """Programs run alone here: there is nobody to wait for."""


def assume(condition):
    if not np.all(block(condition).data):
        raise AssertionError(f"{now.where()}: tl.assume of something that is false")


def static_assert(condition, message=""):
    if not condition:
        raise AssertionError(message or f"{now.kernel}: tl.static_assert failed")


def device_assert(condition, message="", mask=None):
    holds = np.asarray(block(condition).data)
    if mask is not None:
        holds = holds | ~np.asarray(block(mask).data)
    if not holds.all():
        raise AssertionError(f"{now.where()}: {message or 'tl.device_assert failed'}")


def device_print(prefix, *values, hex=False):
    print(now.program, prefix, *(value.data if isinstance(value, Block) else value for value in values))
