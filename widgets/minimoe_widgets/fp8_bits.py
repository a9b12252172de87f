"""One number in FP8, bit by bit: which byte it became, what the byte stands for, between which two it had to choose.

    e4m3: value = (-1)^sign * 2^(exponent - 7) * (1 + mantissa / 8), and 2^-6 * mantissa / 8 where the exponent is 0

e5m2 gives one bit of the mantissa to the exponent: twice the spacing, and 57,344 in place of 448 as the largest number.

How the production version differs: the conversion is one instruction for two numbers (`cvt.rn.satfinite.e4m3x2.f32`).
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import torch

__all__ = ["FORMATS", "Format", "Pattern", "bfloat16"]

ROUNDING = 2.0**-22  # of x / scale in float32: the largest of a tile may come out this much above 448


@dataclass(frozen=True)
class Format:
    """An FP8 format: a sign, `exponent_bits`, and the rest for the mantissa."""

    name: str
    dtype: torch.dtype
    exponent_bits: int

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return torch.finfo(self.dtype).max

    @property
    def smallest_normal(self) -> float:
        """Below it the spacing stays what it is: subnormal numbers."""
        return torch.finfo(self.dtype).smallest_normal

    @property
    def mantissa_bits(self) -> int:
        """Bits behind the binary point."""
        return 7 - self.exponent_bits

    @property
    def bias(self) -> int:
        """What is taken from the exponent's bits."""
        return 2 ** (self.exponent_bits - 1) - 1

    @cached_property
    def magnitudes(self) -> tuple[float, ...]:
        """Every finite number from zero up."""
        values = torch.arange(128, dtype=torch.uint8).view(self.dtype).float()
        return tuple(values[values.isfinite()].tolist())


FORMATS = {
    "e4m3": Format("e4m3", torch.float8_e4m3fn, 4),
    "e5m2": Format("e5m2", torch.float8_e5m2, 5),
}


@dataclass(frozen=True)
class Pattern:
    """What became of `exact`: divided by `scale` (`quotient`, in float32), stored as `byte`."""

    format: Format
    exact: float
    scale: float
    quotient: float
    byte: int

    @property
    def fields(self) -> tuple[str, str, str]:
        """The bits of sign, exponent and mantissa."""
        bits, end = f"{self.byte:08b}", 1 + self.format.exponent_bits
        return bits[:1], bits[1:end], bits[end:]

    @property
    def power(self) -> int:
        """The exponent of 2 that the byte stands for; subnormal numbers have the smallest normal one's."""
        return max(int(self.fields[1], 2), 1) - self.format.bias

    @property
    def significand(self) -> float:
        """What 2^power is multiplied by: 1 to 2, below 1 for subnormal numbers."""
        hidden = 1 if int(self.fields[1], 2) else 0
        return hidden + int(self.fields[2], 2) / 2**self.format.mantissa_bits

    @property
    def value(self) -> float:
        """The FP8 number, before the scale."""
        return (-1) ** int(self.fields[0]) * 2.0**self.power * self.significand

    @property
    def back(self) -> float:
        """The FP8 number times its scale, in float32: what `exact` became."""
        return float(torch.tensor(self.value) * torch.tensor(self.scale))

    @property
    def error(self) -> float:
        """|back - exact| / |exact|; 0 for zero."""
        return abs(self.back - self.exact) / abs(self.exact) if self.exact else 0.0

    @property
    def neighbours(self) -> tuple[float, ...]:
        """The FP8 numbers around the quotient, nearer to zero first: two, or one if it is one or lies beyond all."""
        sign, magnitudes = (-1.0 if self.quotient < 0 else 1.0), self.format.magnitudes
        at = bisect_right(magnitudes, abs(self.quotient))
        if magnitudes[at - 1] == abs(self.quotient) or at == len(magnitudes):
            return (sign * magnitudes[at - 1],)
        return sign * magnitudes[at - 1], sign * magnitudes[at]

    @property
    def kind(self) -> str:
        """Normal, subnormal, clamped at the largest number, flushed to zero, or zero from the start."""
        if self.value == 0:
            return "flushed to zero" if self.exact else "zero"
        if abs(self.quotient) > self.format.largest * (1 + ROUNDING):
            return f"clamped at {self.format.largest:,.0f}"
        return "normal" if abs(self.value) >= self.format.smallest_normal else "subnormal"


def bfloat16(exact: float) -> tuple[tuple[str, str, str], float]:
    """The bits of sign, exponent and mantissa of a number in bfloat16, and its value there."""
    number = torch.tensor([exact]).to(torch.bfloat16)
    bits = f"{int(number.view(torch.int16)) & 0xFFFF:016b}"
    return (bits[:1], bits[1:9], bits[9:]), float(number)
