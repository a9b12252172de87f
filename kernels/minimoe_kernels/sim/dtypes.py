"""Triton's number types, and what two of them make.

A type says three things: how its numbers lie in memory (`stored`), which NumPy type the simulator computes in
(`numpy`), and how a result is rounded (`round`, nothing for types that NumPy has). The rules of promotion are Triton's,
and differ from NumPy's in one respect that matters: a Python number next to a block takes the block's type. `x * 2.0`
with x in bfloat16 is a bfloat16 product.

How the production version differs: Triton decides all this while compiling, and refuses there what is refused here at
the operation.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from minimoe_kernels.sim import rounding

__all__ = ["DTYPES", "dtype", "promoted"]


def _same(x):
    return x


@dataclass(frozen=True, eq=False)
class dtype:
    """One of Triton's scalar types; `tl.bfloat16` and its kind are instances."""

    name: str
    kind: str  # "f" float, "i" signed, "u" unsigned, "b" bool
    primitive_bitwidth: int
    numpy: type
    stored: type
    round: object = field(default=None, repr=False)
    encode: object = field(default=_same, repr=False)
    decode: object = field(default=_same, repr=False)

    def is_floating(self) -> bool:
        return self.kind == "f"

    def is_fp8(self) -> bool:
        return self.kind == "f" and self.primitive_bitwidth == 8

    def is_int(self) -> bool:
        return self.kind != "f"

    @property
    def scalar(self):
        return self

    @property
    def itemsize(self) -> int:
        return max(1, self.primitive_bitwidth // 8)

    def __str__(self) -> str:
        return self.name

    def __reduce__(self):
        return _by_name, (self.name,)


def _by_name(name):
    return DTYPES[name]


def _plain(name, kind, bits, numpy):
    return dtype(name, kind, bits, numpy, numpy)


_FP8 = {
    format.name: dtype(
        format.name, "f", 8, np.float32, np.uint8, lambda x, f=format: f.round(x), format.encode, format.decode
    )
    for format in (rounding.E4M3, rounding.E5M2)
}
DTYPES = {
    "int1": _plain("int1", "b", 1, np.bool_),
    "int8": _plain("int8", "i", 8, np.int8),
    "int16": _plain("int16", "i", 16, np.int16),
    "int32": _plain("int32", "i", 32, np.int32),
    "int64": _plain("int64", "i", 64, np.int64),
    "uint8": _plain("uint8", "u", 8, np.uint8),
    "uint16": _plain("uint16", "u", 16, np.uint16),
    "uint32": _plain("uint32", "u", 32, np.uint32),
    "uint64": _plain("uint64", "u", 64, np.uint64),
    "float16": dtype(
        "float16", "f", 16, np.float32, np.float16, rounding.to_fp16,
        lambda x: np.asarray(x).astype(np.float16), lambda x: x.astype(np.float32),
    ),
    "bfloat16": dtype(
        "bfloat16", "f", 16, np.float32, np.uint16, rounding.to_bf16, rounding.encode_bf16, rounding.decode_bf16
    ),
    "float32": _plain("float32", "f", 32, np.float32),
    "float64": _plain("float64", "f", 64, np.float64),
    "float8e4nv": _FP8["fp8e4nv"],
    "float8e5": _FP8["fp8e5"],
    "fp8e4nv": _FP8["fp8e4nv"],
    "fp8e5": _FP8["fp8e5"],
}  # fmt: skip

_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}
INT32, INT64, FLOAT32, FLOAT64 = (DTYPES[name] for name in ("int32", "int64", "float32", "float64"))
HALF, BF16 = DTYPES["float16"], DTYPES["bfloat16"]


def of_number(x) -> dtype:
    """The type that a lone Python number gets."""
    if isinstance(x, bool | np.bool_):
        return DTYPES["int1"]
    if isinstance(x, int):
        return INT32 if -(2**31) <= x < 2**31 else INT64
    return FLOAT32


@cache
def promoted(a: dtype, b: dtype, dividing: bool = False) -> dtype:
    """The type of an operation on two blocks. Division and remainder of 16-bit floats are done in float32."""
    if a.kind == "f" or b.kind == "f":
        for wide in (FLOAT64, FLOAT32):
            if wide in (a, b):
                return wide
        if HALF in (a, b):
            return FLOAT32 if dividing else HALF
        if BF16 in (a, b):
            return BF16 if a is b and not dividing else FLOAT32
        return a if a is b else HALF
    if dividing and a.kind != b.kind:
        raise TypeError(f"{a} and {b} divided by one another: their signedness differs, cast one of them")
    if a.primitive_bitwidth != b.primitive_bitwidth:
        return max(a, b, key=lambda t: t.primitive_bitwidth)
    return a if a.kind == "u" else b


@cache
def with_number(block: dtype, number: dtype, dividing: bool = False) -> dtype:
    """The type of an operation on a block and a Python number: the block's, unless the number is of a higher kind."""
    if _RANK[number.kind] <= _RANK[block.kind]:
        return FLOAT32 if dividing and block in (HALF, BF16) else block
    return promoted(block, number, dividing)
