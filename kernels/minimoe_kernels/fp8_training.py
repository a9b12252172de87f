"""FP8 training with kernels: what `minimoe.training.fp8` needs, tiles and blocks and their product, each a launch.

    use_fp8(model, multiply, quantise)   # instead of use_fp8(model), which computes with PyTorch

All three products of a linear layer end in one kernel. Forward and input gradient multiply tiles by blocks, the weight
gradient tiles by tiles. Three conversions stay PyTorch's: the transposition before a weight gradient, the stay in e5m6,
and the way back to float32.

How the production version differs: nothing is transposed or converted by itself; each conversion happens in the kernel
that made the numbers.
"""

import torch

from minimoe.training.fp8_product import TILES, Quantised
from minimoe_kernels.fp8_gemm import fp8_gemm
from minimoe_kernels.fp8_quant import quantise_blocks, quantise_tiles

__all__ = ["multiply", "quantise"]


def quantise(x_XZ: torch.Tensor, block: tuple[int, int] = TILES, power_of_two: bool = False) -> Quantised:
    """`minimoe.training.fp8_product.quantise` by a kernel: the same bits, but NaN and infinity are not refused."""
    made = quantise_tiles if block == TILES else quantise_blocks
    return Quantised(*made(x_XZ.float(), power_of_two), block)


def multiply(a: Quantised, b: Quantised) -> torch.Tensor:
    """a b^T in float32, a in tiles, b in tiles or blocks; raises `ValueError` if they do not fit.

    Equal to `minimoe.training.fp8_product.product` up to the roundings of float32 in its sums of 128 products.
    """
    return fp8_gemm(a.fp8_XZ, a.scale_IJ, b.fp8_XZ, b.scale_IJ, torch.float32)
