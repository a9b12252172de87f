"""Rounding to the narrow formats, bit by bit: bfloat16, float16, tf32 and the two kinds of FP8.

NumPy knows none of them but float16. The simulator keeps such a number as the float32 that has its value, and rounds
after every operation; only memory holds the narrow bits. Rounding is to nearest, ties to even: add half of the last
kept bit, a little less if that bit is 0, and cut. Below a format's smallest normal number the spacing stops shrinking,
so there a float32 addition does the rounding: next to a number 2^23 times as large as the spacing, float32 has no
finer bits.

| | exponent | mantissa | largest | infinity |
|---|---|---|---|---|
| bfloat16 | 8 | 7 | 3.4e38 | yes |
| float16 | 5 | 10 | 65504 | yes |
| e4m3 | 4 | 3 | 448 | no |
| e5m2 | 5 | 2 | 57344 | yes |

What is too large for e4m3 becomes 448, on a GPU and in PyTorch (2.13; in older ones NaN). For e5m2 the two differ: a
GPU gives the largest number, PyTorch infinity; `saturate` chooses.

How the production version differs: a GPU has an instruction that converts two numbers at once
(`cvt.rn.satfinite.e4m3x2.f32`); Ampere has none, and no FP8 at all.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["E4M3", "E5M2", "FP8", "decode_bf16", "encode_bf16", "to_bf16", "to_fp16", "to_tf32"]

SIGN, MAGNITUDE = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)


def _bits(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=np.float32).view(np.uint32)


def to_bf16(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of every float32, as float32. NaN stays NaN, what overflows becomes infinite."""
    bits = _bits(x)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    out = rounded.view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), out) if np.isnan(x).any() else out


def encode_bf16(x: np.ndarray) -> np.ndarray:
    """The 16 bits of numbers that are bfloat16 already."""
    return (_bits(x) >> 16).astype(np.uint16)


def decode_bf16(bits: np.ndarray) -> np.ndarray:
    """The float32 value of 16 bits."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def to_fp16(x: np.ndarray) -> np.ndarray:
    """The nearest float16, as float32."""
    with np.errstate(over="ignore"):
        return np.asarray(x, dtype=np.float32).astype(np.float16).astype(np.float32)


def to_tf32(x: np.ndarray) -> np.ndarray:
    """float32 as a tensor core reads it: the last 13 of 23 bits are ignored."""
    return (_bits(x) & np.uint32(0xFFFFE000)).view(np.float32)


@dataclass(frozen=True)
class FP8:
    """One 8-bit format: its bits of mantissa, its bias, its largest number, and whether it has infinities."""

    name: str
    mantissa: int
    bias: int
    largest: float
    infinite: bool

    @property
    def spacing(self) -> float:
        """The distance of two neighbours below the smallest normal number."""
        return 2.0 ** (1 - self.bias - self.mantissa)

    def round(self, x: np.ndarray, saturate: bool = True) -> np.ndarray:
        """The nearest number of the format, as float32; NaN stays NaN.

        What is too large, infinity too, becomes the largest number; with `saturate=False` infinity, if there is one.
        """
        bits = _bits(x)
        magnitude = bits & MAGNITUDE
        shift = np.uint32(23 - self.mantissa)
        half = np.uint32((1 << (23 - self.mantissa - 1)) - 1)
        normal = ((magnitude + half + ((magnitude >> shift) & np.uint32(1))) >> shift << shift).view(np.float32)
        magic = np.float32(2.0**23 * self.spacing)
        size = magnitude.view(np.float32)
        with np.errstate(invalid="ignore"):
            out = np.where(size < np.float32(2.0 ** (1 - self.bias)), (size + magic) - magic, normal)
        beyond = np.inf if self.infinite and not saturate else self.largest
        out = np.where(out > np.float32(self.largest), np.float32(beyond), out)
        out = np.where(np.isnan(size), np.float32(np.nan), out)
        return (_bits(out) | (bits & SIGN)).view(np.float32)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """The 8 bits of numbers that are in the format already."""
        bits = _bits(x)
        size = np.abs(np.asarray(x, dtype=np.float32))
        exponent_up = np.uint32((127 - self.bias) << self.mantissa)
        with np.errstate(invalid="ignore"):
            small = (np.where(np.isfinite(size), size, 0) / np.float32(self.spacing)).astype(np.uint32)
        normal = ((bits & MAGNITUDE) >> np.uint32(23 - self.mantissa)) - exponent_up
        code = np.where(size < np.float32(2.0 ** (1 - self.bias)), small, normal)
        code = np.where(np.isinf(size), np.uint32(0x7C), code)
        code = np.where(np.isnan(size), np.uint32(0x7F), code)
        return (code | ((bits & SIGN) >> np.uint32(24))).astype(np.uint8)

    def table(self) -> np.ndarray:
        """What each of the 256 patterns is worth."""
        code = np.arange(256)
        exponent, fraction = (code & 0x7F) >> self.mantissa, code & ((1 << self.mantissa) - 1)
        steps = np.where(exponent > 0, fraction + (1 << self.mantissa), fraction)
        size = steps * self.spacing * 2.0 ** np.maximum(exponent - 1, 0)
        top = exponent == exponent.max()
        if self.infinite:
            size = np.where(top, np.where(fraction == 0, np.inf, np.nan), size)
        else:
            size = np.where((code & 0x7F) == 0x7F, np.nan, size)
        return np.where(code & 0x80, -size, size).astype(np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The float32 value of 8 bits."""
        return _TABLES[self.name][codes]


E4M3 = FP8("fp8e4nv", mantissa=3, bias=7, largest=448.0, infinite=False)
E5M2 = FP8("fp8e5", mantissa=2, bias=15, largest=57344.0, infinite=True)
_TABLES = {format.name: format.table() for format in (E4M3, E5M2)}
