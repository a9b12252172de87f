"""One matrix in FP8 with three choices of who shares a scale, and what each costs: counted, not estimated.

`minimoe.training.fp8_product.quantise` gives the scales. A stale scale is that of the matrix before its outlier grew:
"delayed" quantisation, which saves a pass over the data and clamps what is new.

e5m2's largest number is exactly 128 times that of e4m3, so its scales are those of e4m3 over 128.

How the production version differs: nothing is measured there. A kernel divides and stores, and an error would be seen
in the loss.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from minimoe.fp8_blocks import FP8_MAX
from minimoe.training.fp8_product import BLOCKS, TILES, Quantised, quantise
from minimoe_widgets.fp8_bits import ROUNDING, Format, Pattern

__all__ = ["CHOICES", "KINDS", "Scaled", "activations", "checked", "scale_all", "with_outlier"]

CHOICES = {"One scale for the tensor": None, "Blocks of 128 x 128": BLOCKS, "Tiles of 1 x 128": TILES}
KINDS = {
    "float32": "largest magnitude / 448 (e5m2: / 57,344)",
    "powers of two": "the same, rounded up to a power of two",
    "float32, stale": "made before the outlier grew, which saves a pass over the data; what is too large is clamped",
}
MOST_ROWS, MOST_COLUMNS, MOST_FACTOR = 256, 1024, 2.0**20


@dataclass(frozen=True)
class Scaled:
    """`exact_XZ` (float32) and what it became: `numbers`, in `format`, under the name of a choice."""

    name: str
    format: Format
    exact_XZ: torch.Tensor
    numbers: Quantised

    @cached_property
    def _scale_XZ(self) -> torch.Tensor:
        """Every element's scale."""
        return _everywhere(self.numbers.scale_IJ, self.numbers.block, self.exact_XZ)

    @cached_property
    def error_XZ(self) -> torch.Tensor:
        """|back - exact| / |exact| in float64; NaN for a zero."""
        exact_XZ = self.exact_XZ.double()
        return (self.numbers.dequantise().double() - exact_XZ).abs() / exact_XZ.abs()

    @cached_property
    def flushed_XZ(self) -> torch.Tensor:
        """True where a number that is not zero became zero."""
        return (self.numbers.fp8_XZ.float() == 0) & (self.exact_XZ != 0)

    @property
    def zero_share(self) -> float:
        """Of the numbers that are not zero: became zero."""
        return self._share(self.flushed_XZ)

    @property
    def subnormal_share(self) -> float:
        """Of the numbers that are not zero: became subnormal."""
        size_XZ = self.numbers.fp8_XZ.float().abs()
        return self._share((size_XZ > 0) & (size_XZ < self.format.smallest_normal))

    @property
    def clamped(self) -> int:
        """How many lie beyond the largest number: none, where the scale is made of these very numbers."""
        return int(((self.exact_XZ / self._scale_XZ).abs() > self.format.largest * (1 + ROUNDING)).sum())

    @property
    def rms_error(self) -> float:
        """Root of the mean squared relative error of the numbers that are not zero."""
        shown = self.error_XZ[self.exact_XZ != 0]
        return float(shown.square().mean().sqrt()) if len(shown) else 0.0

    def _share(self, mask_XZ) -> float:
        return int(mask_XZ.sum()) / max(1, int((self.exact_XZ != 0).sum()))

    def pattern(self, row: int, column: int) -> Pattern:
        """One element's byte."""
        exact, scale = self.exact_XZ[row, column], self._scale_XZ[row, column]
        byte = int(self.numbers.fp8_XZ[row, column].view(torch.uint8))
        return Pattern(self.format, float(exact), float(scale), float(exact / scale), byte)


def activations(rows: int = 16, columns: int = 384) -> torch.Tensor:
    """Numbers like activations: bell-shaped, each channel (a column) of its own size, three of them 12 times as large.

    A seeded draw, not of a model.
    """
    g = torch.Generator().manual_seed(0)
    x_XZ = torch.randn(rows, columns, generator=g) * torch.exp(0.5 * torch.randn(columns, generator=g))
    x_XZ[:, [37, 166, 300]] *= 12
    return x_XZ


def checked(x_XZ) -> torch.Tensor:
    """`x_XZ` as a float32 tensor of its own. Raises ValueError for what cannot be shown, with what was found."""
    if not isinstance(x_XZ, (torch.Tensor, np.ndarray)):
        raise ValueError(f"a {type(x_XZ).__name__} is no matrix: give a float32 tensor or array")
    x_XZ = torch.as_tensor(x_XZ).detach().cpu()
    if x_XZ.dim() != 2 or not (1 <= x_XZ.shape[0] <= MOST_ROWS and 1 <= x_XZ.shape[1] <= MOST_COLUMNS):
        most = f"1 to {MOST_ROWS} rows, 1 to {MOST_COLUMNS:,} columns"
        raise ValueError(f"shape {tuple(x_XZ.shape)}: a matrix with two axes is shown, of {most}")
    if x_XZ.dtype != torch.float32:
        raise ValueError(f"dtype {x_XZ.dtype}: give float32, for instance x.float()")
    if not x_XZ.isfinite().all():
        wrong = int((~x_XZ.isfinite()).sum())
        raise ValueError(f"{wrong} of {x_XZ.numel()} numbers are NaN or infinite: no scale brings them into FP8")
    if not (x_XZ.abs().max() * MOST_FACTOR).isfinite():
        raise ValueError(f"largest magnitude {float(x_XZ.abs().max()):.3g}: 2^20 times as much is beyond float32")
    return x_XZ.clone()


def with_outlier(x_XZ: torch.Tensor, at: tuple[int, int], factor: float) -> torch.Tensor:
    """A copy in which the element at `at` is multiplied by `factor`."""
    out_XZ = x_XZ.clone()
    out_XZ[at] *= factor
    return out_XZ


def scale_all(before_XZ: torch.Tensor, x_XZ: torch.Tensor, format: Format, kind: str) -> list[Scaled]:
    """`x_XZ` with each of `CHOICES`; `kind` is one of `KINDS`, a stale scale is that of `before_XZ`."""
    found = []
    for name, block in CHOICES.items():
        source_XZ = before_XZ if kind == "float32, stale" else x_XZ
        online = quantise(source_XZ, block or tuple(x_XZ.shape), power_of_two=kind == "powers of two")
        scale_IJ = online.scale_IJ * (FP8_MAX / format.largest)
        scale_IJ = torch.where(scale_IJ > 0, scale_IJ, torch.ones_like(scale_IJ))  # too small for float32
        quotient_XZ = x_XZ / _everywhere(scale_IJ, online.block, x_XZ)
        scaled_XZ = quotient_XZ.clamp(-format.largest, format.largest).to(format.dtype)
        found.append(Scaled(name, format, x_XZ, Quantised(scaled_XZ, scale_IJ, online.block)))
    return found


def _everywhere(scale_IJ, block, x_XZ):
    """Every element's scale."""
    return Quantised(torch.ones_like(x_XZ), scale_IJ, block).dequantise()
