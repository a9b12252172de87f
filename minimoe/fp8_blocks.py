"""Weights in FP8, 128 x 128 numbers to a scale: how the official DeepSeek-V3 checkpoint stores its matrices.

An FP8 number (e4m3: four bits of exponent, three of mantissa, largest value 448) cannot span a whole matrix, so every
block of 128 x 128 weights is divided by its own float32 scale first. The file holds the quotients as `weight` and the
scales as `weight_scale_inv`; despite the name the scale is a *multiplier*: weight = fp8 * scale. A matrix of 576 rows
has five rows of blocks, the last of them 64 rows high.

Letters: X rows and Y columns of a matrix, I x J blocks.

How the production version differs: engines never write the dequantised matrix down. A DeepGEMM kernel multiplies in
FP8 and applies the scales to the sums of every 128 products; V3.1 rounds the scales up to powers of two (`scale_fmt:
"ue8m0"`).
"""

import torch

__all__ = ["BLOCK", "FP8_MAX", "blocks", "dequantise", "quantise"]

BLOCK = (128, 128)
FP8_MAX = 448.0  # torch.finfo(torch.float8_e4m3fn).max


def blocks(rows: int, columns: int, block: tuple[int, int] = BLOCK) -> tuple[int, int]:
    """How many blocks cover a matrix, down and across: (ceil(rows / 128), ceil(columns / 128))."""
    return -(-rows // block[0]), -(-columns // block[1])


def _spread(scale_IJ: torch.Tensor, rows: int, columns: int, block: tuple[int, int]) -> torch.Tensor:
    """Every weight's scale; the last row and column of blocks are cut to the matrix."""
    tall = scale_IJ.repeat_interleave(block[0], dim=0)[:rows]
    return tall.repeat_interleave(block[1], dim=1)[:, :columns]


def dequantise(
    fp8_XY: torch.Tensor,
    scale_IJ: torch.Tensor,
    block: tuple[int, int] = BLOCK,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """The matrix that an FP8 matrix and its scales stand for.

    weight_xy = fp8_xy * scale_ij with i = x // 128, j = y // 128: one multiplication in float32 a weight, so the result
    is the same to the last bit wherever it is computed, then rounded to `dtype`. Rows of blocks are worked on one after
    the other: nothing larger than the result is ever in memory.

    Takes float8_e4m3fn and float32. Raises `ValueError` if the scales do not cover the matrix.
    Source: `weight_dequant` of DeepSeek-V3's inference/kernel.py @9b4e9788; arXiv 2412.19437 section 3.3. Chapter 17.
    """
    rows, columns = fp8_XY.shape
    if tuple(scale_IJ.shape) != blocks(rows, columns, block):
        want = list(blocks(rows, columns, block))
        found = f"scales {list(scale_IJ.shape)} do not cover a weight {[rows, columns]}"
        raise ValueError(f"{found}: {want} blocks of {list(block)}")
    weight_XY = torch.empty(rows, columns, dtype=dtype, device=fp8_XY.device)
    for i, scale_J in enumerate(scale_IJ):
        strip = slice(i * block[0], (i + 1) * block[0])
        weight_XY[strip] = fp8_XY[strip].float() * scale_J.repeat_interleave(block[1])[:columns]
    return weight_XY


def quantise(weight_XY: torch.Tensor, block: tuple[int, int] = BLOCK) -> tuple[torch.Tensor, torch.Tensor]:
    """An FP8 matrix and its float32 scales: each block's largest magnitude becomes 448.

    scale_ij = max |block| / 448, fp8_xy = round(weight_xy / scale_ij) to the nearest FP8 number, ties to even; a
    block of zeros has scale 1. A weight of at least 2^-6/448 of its block's largest (about 1/28,700) is off by at
    most 1/16 of itself; below that the spacing of FP8 stays fixed, and the smallest weights become 0.

    Takes a float matrix; raises `ValueError` if it holds NaN or infinity, which a scale cannot carry.
    Source: arXiv 2412.19437 section 3.3.2. Chapter 17.
    """
    if not torch.isfinite(weight_XY).all():
        raise ValueError(
            f"{int((~torch.isfinite(weight_XY)).sum())} of {weight_XY.numel()} weights are NaN or infinite"
        )
    rows, columns = weight_XY.shape
    down, across = blocks(rows, columns, block)
    wide_XY = weight_XY.float()
    padded = wide_XY.new_zeros(down * block[0], across * block[1])
    padded[:rows, :columns] = wide_XY.abs()
    amax_IJ = padded.view(down, block[0], across, block[1]).amax(dim=(1, 3))
    scale_IJ = torch.where(amax_IJ > 0, amax_IJ / FP8_MAX, torch.ones_like(amax_IJ))
    scaled_XY = wide_XY / _spread(scale_IJ, rows, columns, block)
    return scaled_XY.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale_IJ
