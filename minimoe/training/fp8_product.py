"""Products of FP8 matrices: each operand scaled tile by tile, the sum taken in two levels.

    product[x, y] = sum_j  a_scale[x, j] * b_scale[y, j] * (sum over the 128 z of tile j:  a[x, z] * b[y, z])

Operands are in e4m3 with a scale for each tile of 1 x 128 or block of 128 x 128, both with the summed axis last. The
sum has two levels: 128 products at a time where they are made, on a tensor core, and these sums, scaled, in float32. A
Hopper tensor core keeps 13 fraction bits where float32 has 23; `limited_sum` shows what that costs, and that 128
products are few enough. `exact_sum` is the tensor core that one would like: it rounds once, to float32.

X and Y are the rows of two operands, Z the axis that is summed, I and J count blocks. A last tile that is not full is
filled up with zeros, which changes neither scale nor sum.

How the production version differs: DeepGEMM does it on tensor cores, and may fuse the multiplication by the scales with
the addition that follows, which rounds once where this rounds twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from minimoe.fp8_blocks import FP8_MAX

__all__ = ["BLOCKS", "TILES", "Quantised", "e5m6", "exact_sum", "limited_sum", "product", "quantise"]

TILES, BLOCKS = (1, 128), (128, 128)
STEP = 32  # products that a tensor core adds at once (the k of an FP8 WGMMA)
FRACTION = 13  # bits behind the point that it keeps
E5M6_MAX = 65024.0  # 2^15 * (2 - 2^-6)


@dataclass(frozen=True)
class Quantised:
    """A matrix in FP8: `fp8_XZ` times the scale that stands in `scale_IJ` for the tile or block of that place."""

    fp8_XZ: torch.Tensor
    scale_IJ: torch.Tensor
    block: tuple[int, int]

    def scales(self, j: int) -> torch.Tensor:
        """Every row's scale in the j-th tile of the summed axis."""
        return self.scale_IJ[:, j].repeat_interleave(self.block[0])[: len(self.fp8_XZ)]

    def dequantise(self) -> torch.Tensor:
        """The float32 matrix that this stands for."""
        rows, columns = self.fp8_XZ.shape
        across_XJ = self.scale_IJ.repeat_interleave(self.block[0], 0)[:rows]
        return self.fp8_XZ.float() * across_XJ.repeat_interleave(self.block[1], 1)[:, :columns]

    def transposed(self) -> "Quantised":
        """The same numbers as the transposed matrix. Raises `ValueError` for tiles, which would stand upright."""
        if self.block[0] != self.block[1]:
            raise ValueError(f"tiles of {self.block} cannot be transposed: quantise the transposed matrix")
        return Quantised(self.fp8_XZ.t(), self.scale_IJ.t(), self.block)


def quantise(x_XZ: torch.Tensor, block: tuple[int, int] = TILES, power_of_two: bool = False) -> Quantised:
    """A matrix in FP8, each tile of 1 x 128 or block of 128 x 128 divided by its largest magnitude / 448.

    `power_of_two` rounds the scale up to one. Otherwise bit for bit what `minimoe.fp8_blocks.quantise` gives; a tile of
    zeros has scale 1. Raises `ValueError` for NaN, infinity, or another number of axes than two.
    Source: arXiv 2412.19437 section 3.3.2. Chapter 17.
    """
    if x_XZ.dim() != 2:
        raise ValueError(f"shape {tuple(x_XZ.shape)}: FP8 products take matrices, two axes")
    rows, columns = x_XZ.shape
    tiles = _cut(x_XZ.float(), block)
    scale_IJ = _scale(x_XZ, tiles, FP8_MAX, power_of_two)
    scaled = (tiles / scale_IJ[:, None, :, None]).clamp_(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
    return Quantised(scaled.flatten(0, 1).flatten(1)[:rows, :columns], scale_IJ, block)


def _cut(x_XZ, block):
    """Padded to whole tiles: tile row, row, tile column, column."""
    rows, columns = x_XZ.shape
    padded = F.pad(x_XZ, (0, -columns % block[1], 0, -rows % block[0]))
    return padded.view(len(padded) // block[0], block[0], padded.shape[1] // block[1], block[1])


def _scale(x_XZ, tiles, largest, power_of_two):
    amax_IJ = tiles.abs().amax(dim=(1, 3))
    if not torch.isfinite(amax_IJ).all():
        wrong = int((~torch.isfinite(x_XZ)).sum())
        raise ValueError(f"{wrong} of {x_XZ.numel()} numbers are NaN or infinite: no scale brings them into FP8")
    scale_IJ = amax_IJ / largest
    scale_IJ = torch.where(scale_IJ > 0, scale_IJ, torch.ones_like(scale_IJ))
    if not power_of_two:
        return scale_IJ
    mantissa, exponent = torch.frexp(scale_IJ)
    return torch.ldexp(torch.ones_like(scale_IJ), exponent - (mantissa == 0.5).int())


def e5m6(x_XZ: torch.Tensor) -> torch.Tensor:
    """`x_XZ` (float32) after a stay in e5m6: 12 bits, tiles of 1 x 128, scales that are powers of two.

    V3 names the format and not its range; this one is IEEE's (exponents -14 to 15, subnormals below).
    Source: arXiv 2412.19437 section 3.3.3. Chapter 17.
    """
    rows, columns = x_XZ.shape
    tiles = _cut(x_XZ.float(), TILES)
    scale = _scale(x_XZ, tiles, E5M6_MAX, power_of_two=True)[:, None, :, None]
    scaled = tiles / scale
    exponent = torch.frexp(scaled)[1].clamp_(min=-13)  # frexp's mantissa lies in [0.5, 1)
    spacing = torch.ldexp(torch.ones_like(scaled), exponent - 7)
    return ((scaled / spacing).round() * spacing * scale).flatten(0, 1).flatten(1)[:rows, :columns]


def exact_sum(a_XZ: torch.Tensor, b_YZ: torch.Tensor) -> torch.Tensor:
    """a b^T of FP8 matrices, exact and then rounded to float32 once: 128 products of FP8 fit into float64."""
    return (a_XZ.double() @ b_YZ.double().t()).float()


def limited_sum(a_XZ: torch.Tensor, b_YZ: torch.Tensor, joint: bool = True) -> torch.Tensor:
    """a b^T of FP8 matrices as a Hopper tensor core adds: 32 products at a time, 13 fraction bits, the rest cut off.

    The 32 exact products are aligned to the largest exponent among them (that of a product: the sum of its factors'),
    what lies below 2^-13 of it is cut off, the rest is added exactly, and what results is cut to 13 fraction bits
    (FP22: 1, 8 and 13 bits). `joint`: the sum so far is one of those that are aligned, so that a large sum costs small
    products their bits. The source leaves open whether it is; without `joint` it is added unaligned.
    Slow: M x N x 32 numbers a step. Source: arXiv 2505.09343 section 3.1.1; arXiv 2412.19437 section 3.3.2. Chapter 17.
    """
    a_XZ, b_YZ = a_XZ.float(), b_YZ.float()
    sum_XY = torch.zeros(len(a_XZ), len(b_YZ), dtype=torch.float64, device=a_XZ.device)
    for z in range(0, a_XZ.shape[1], STEP):
        a, b = a_XZ[:, None, z : z + STEP], b_YZ[None, :, z : z + STEP]
        products = (a * b).double()  # eight bits: exact
        exponents = torch.where(products == 0, -1000, _exponent(a) + _exponent(b))
        top_XY = exponents.amax(-1)
        if joint:
            top_XY = torch.maximum(top_XY, torch.where(sum_XY == 0, -1000, torch.frexp(sum_XY)[1] - 1))
        unit_XY = torch.ldexp(torch.ones_like(sum_XY), top_XY - FRACTION)
        added_XY = (products / unit_XY[..., None]).trunc().sum(-1) * unit_XY
        before_XY = (sum_XY / unit_XY).trunc() * unit_XY if joint else sum_XY
        sum_XY = _cut_mantissa(before_XY + added_XY)
    return sum_XY.float()


def _exponent(x):
    """Of an FP8 number; subnormals have that of the smallest normal one."""
    return (torch.frexp(x)[1] - 1).clamp(min=-6)


def _cut_mantissa(x):
    unit = torch.ldexp(torch.ones_like(x), torch.frexp(x)[1] - 1 - FRACTION)
    return (x / unit).trunc() * unit


def product(a: Quantised, b: Quantised, inner: Callable = exact_sum) -> torch.Tensor:
    """a b^T in float32: `inner` over each 128 of the summed axis, times both scales, these added in float32 in order.

    Raises `ValueError` if the summed axes differ. Source: arXiv 2412.19437 section 3.3.2, figure 7. Chapter 17.
    """
    if a.fp8_XZ.shape[1] != b.fp8_XZ.shape[1]:
        raise ValueError(f"summed axes of {a.fp8_XZ.shape[1]} and {b.fp8_XZ.shape[1]} do not match")
    out_XY = torch.zeros(len(a.fp8_XZ), len(b.fp8_XZ), device=a.fp8_XZ.device)
    for j in range(a.scale_IJ.shape[1]):
        tile = slice(j * TILES[1], (j + 1) * TILES[1])
        sum_XY = inner(a.fp8_XZ[:, tile], b.fp8_XZ[:, tile])
        out_XY += sum_XY * (a.scales(j)[:, None] * b.scales(j)[None, :])
    return out_XY
