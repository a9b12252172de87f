"""A block: an array of numbers with one of Triton's types, and the operators that Python's signs stand for.

`pid * BLOCK + tl.arange(0, BLOCK)` makes blocks out of blocks. The values are a NumPy array in the type's computing
precision; after an operation they are rounded to the type. Integers wrap around as on the machine, `//` and `%` round
towards zero as in C, and comparisons give blocks of bools.

How the production version differs: a block is spread over the registers of a program's threads, and an operator
becomes one instruction for each register.
"""

import numpy as np

from minimoe_kernels.sim.dtypes import DTYPES, FLOAT32, of_number, promoted, with_number
from minimoe_kernels.sim.state import now

__all__ = ["Block", "block", "cast", "lane_by_lane"]

BOOL = DTYPES["int1"]


def cast(data, source, target):
    """Values of one type as values of another, in the target's computing precision."""
    if source is target:
        return data
    if target.kind == "b":
        return data != 0
    if source.kind == "f" and target.kind in "iu":
        data = np.trunc(data)
    out = np.asarray(data).astype(target.numpy, copy=False)
    if target.round is not None:
        out = target.round(out)
    return out


def block(x):
    """`x` as a block: blocks stay, Python numbers become blocks without axes."""
    if isinstance(x, Block):
        return x
    if isinstance(x, bool | int | float | np.generic):
        kind = of_number(x.item() if isinstance(x, np.generic) else x)
        return Block(kind.numpy(x), kind)
    raise TypeError(f"{now.where()}: {type(x).__name__} is neither a block nor a number")


def operands(a, b, dividing=False):
    """Two operands in one type: (values, values, type)."""
    if isinstance(a, Block):
        if isinstance(b, Block):
            if a.dtype is b.dtype and not dividing:
                return a.data, b.data, a.dtype
            kind = promoted(a.dtype, b.dtype, dividing)
            return cast(a.data, a.dtype, kind), cast(b.data, b.dtype, kind), kind
        b = _number(b)
        kind = with_number(a.dtype, of_number(b), dividing)
        return cast(a.data, a.dtype, kind), _as(b, kind), kind
    if isinstance(b, Block):
        y, x, kind = operands(b, a, dividing)
        return x, y, kind
    a, b = block(_number(a)), block(_number(b))
    return operands(a, b, dividing)


def _number(x):
    if isinstance(x, bool | int | float):
        return x
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(f"{now.where()}: an operation on a block and {type(x).__name__}; Triton knows numbers and blocks")


def _as(number, kind):
    value = kind.numpy(number)
    return kind.round(value) if kind.round is not None else value


def result(data, kind, flops=True):
    """The outcome of an operation as a block: rounded, and counted if it is a float's."""
    if kind.kind == "f":
        if kind.round is not None:
            data = kind.round(data)
        if flops:
            now.counts.other_flops += data.size
    return Block(data, kind)


def lane_by_lane(op, x, y):
    """`op` of two arrays; NumPy repeats axes of size 1, as Triton does. Raises ValueError if they do not fit."""
    try:
        return op(x, y)
    except ValueError:
        shapes = f"blocks of shapes {list(np.shape(x))} and {list(np.shape(y))}"
        raise ValueError(f"{now.where()}: {shapes}; on each axis sizes are equal, or one of them is 1") from None


def binary(op, a, b):
    x, y, kind = operands(a, b)
    return result(lane_by_lane(op, x, y), kind)


def compare(op, a, b):
    x, y, _ = operands(a, b)
    return Block(lane_by_lane(op, x, y), BOOL)


def power(a, b):
    raise TypeError(f"{now.where()}: ** ; Triton has no power: write x * x, or tl.exp2(y * tl.log2(x)) in float32")


def divide(a, b):
    x, y, kind = operands(a, b, dividing=True)
    if kind.kind != "f":
        kind, x, y = FLOAT32, np.asarray(x).astype(np.float32), np.asarray(y).astype(np.float32)
    return result(lane_by_lane(np.divide, x, y), kind)


def floor_divide(a, b):
    x, y, kind = operands(a, b, dividing=True)
    if kind.kind == "f":
        raise TypeError(f"{now.where()}: // of {kind}; Triton has it for integers only")
    if np.any(y == 0):
        raise ZeroDivisionError(f"{now.where()}: // by 0")
    down = lane_by_lane(np.floor_divide, x, y)
    return Block(down + ((x - down * y != 0) & ((x < 0) != (y < 0))).astype(kind.numpy), kind)


def remainder(a, b):
    x, y, kind = operands(a, b, dividing=True)
    if kind.kind != "f" and np.any(y == 0):
        raise ZeroDivisionError(f"{now.where()}: % by 0")
    return result(lane_by_lane(np.fmod, x, y), kind)


def bitwise(op, a, b):
    x, y, kind = operands(a, b)
    if kind.kind == "f":
        raise TypeError(f"{now.where()}: a bitwise operation on {kind}; Triton has it for integers only")
    return Block(lane_by_lane(op, x, y), kind)


class Block:
    """Numbers of one type in an array: what every value in a kernel is."""

    __slots__ = ("data", "dtype")
    __array_ufunc__ = None  # NumPy must not take over `array * block`
    __hash__ = None

    def __init__(self, data, dtype):
        self.data, self.dtype = data, dtype

    @property
    def shape(self):
        return list(self.data.shape)

    @property
    def numel(self):
        return self.data.size

    @property
    def T(self):
        return Block(np.swapaxes(self.data, -1, -2), self.dtype)

    def to(self, dtype, fp_downcast_rounding=None, bitcast=False):
        """These values in another type; `bitcast` keeps the bits instead."""
        if not hasattr(dtype, "primitive_bitwidth"):
            raise TypeError(f"{now.where()}: .to({dtype}); the types of a kernel are Triton's own, such as tl.float32")
        if bitcast:
            raw = self.dtype.encode(np.array(self.data, order="C"))
            return Block(dtype.decode(raw.view(dtype.stored)), dtype)
        return Block(cast(self.data, self.dtype, dtype), dtype)

    def item(self):
        if self.data.size != 1:
            raise TypeError(
                f"{now.where()}: a block of shape {self.shape} where Python needs one number. `if`, `and`, `or` and "
                "a < b < c ask for one; lanes take masks, joined by & and |, with brackets around each comparison"
            )
        return self.data.item()

    def __bool__(self):
        return bool(self.item())

    def __index__(self):
        if self.dtype.kind == "f":
            raise TypeError(f"{now.where()}: {self.dtype} where an integer is needed")
        return int(self.item())

    __int__ = __index__

    def __float__(self):
        raise TypeError(f"{now.where()}: float and math.* take no block; tl has functions of its own, such as tl.sqrt")

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        for part in key:
            if not (part is None or (isinstance(part, slice) and part == slice(None))):
                raise TypeError(
                    f"{now.where()}: [...] of a block or pointer takes None and `:` only, to add an axis. "
                    "To read from memory: tl.load(pointer + offsets)"
                )
        try:
            return Block(np.asarray(self.data)[key], self.dtype)
        except IndexError:
            raise IndexError(
                f"{now.where()}: `:` in the brackets of a block of shape {self.shape} stands {key.count(slice(None))} "
                f"times, once for each axis, and it has {np.ndim(self.data)}; a number + tl.arange(0, n) has one"
            ) from None

    def __neg__(self):
        return result(-self.data, self.dtype)

    def __invert__(self):
        return Block(~self.data, self.dtype)

    def __add__(self, other):
        return NotImplemented if is_pointer(other) else binary(np.add, self, other)

    def __repr__(self):
        return f"{self.dtype}{self.shape}: {self.data}"


def is_pointer(x):
    """Whether `block + x` is the pointer's affair."""
    return hasattr(x, "offsets")


def _install(name, function):
    setattr(Block, f"__{name}__", lambda self, other: function(self, other))
    setattr(Block, f"__r{name}__", lambda self, other: function(other, self))


for _name, _op in {"sub": np.subtract, "mul": np.multiply}.items():
    _install(_name, lambda a, b, op=_op: binary(op, a, b))
for _name, _op in {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}.items():
    _install(_name, lambda a, b, op=_op: bitwise(op, a, b))
for _name, _op in {"lshift": np.left_shift, "rshift": np.right_shift}.items():
    _install(_name, lambda a, b, op=_op: bitwise(op, a, b))
_install("truediv", divide)
_install("floordiv", floor_divide)
_install("mod", remainder)
_install("pow", power)
Block.__radd__ = lambda self, other: binary(np.add, other, self)
for _name, _op in {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    setattr(Block, f"__{_name}__", lambda self, other, op=_op: compare(op, self, other))
