"""A matrix product in FP8, every 128 products summed by the tensor core and every such sum scaled and added in float32.

    out[m, f] = sum_j  x_scale[m, j] * w_scale[i, j] * (sum over the 128 d of tile j:  x[m, d] * w[f, d])

The scales of tile j belong to tile j, so they must be applied before its sum meets the others': the accumulator has two
levels for that reason alone. There is a second one. A Hopper tensor core adds FP8 products with about 14 bits, and over
thousands of them that costs up to 2%; 128 at a time it does not matter, since the long sum runs in float32.

x comes in tiles of 1 x 128, w in blocks of 128 x 128 (`minimoe_kernels.fp8_quant`), both with the summed axis last. One
program makes BLOCK_M x 128 outputs, so it needs one weight scale a step. A weight gradient multiplies two activations,
and then w comes in tiles too, with a scale for each of its rows. I and J count blocks.

How the production version differs: DeepGEMM overlaps the scaling with the next tensor-core instruction by hand, loads
through TMA, and reaches more than twice the speed of any Triton kernel.
"""

import torch

from minimoe import fp8_blocks
from minimoe_kernels.fp8_quant import TILE, matrix, rows_a_scale
from minimoe_kernels.kernel import cdiv, needs, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["fp8_gemm", "fp8_gemm_reference"]


@needs(89)
@triton.jit
def fp8_gemm_kernel(
    x_ptr, x_scale_ptr, weight_ptr, w_scale_ptr, out_ptr, M, F, D, x_row, weight_row,
    BLOCK_M: tl.constexpr, BLOCK_F: tl.constexpr, TILE_D: tl.constexpr, W_ROWS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    inner = tl.arange(0, TILE_D)
    tiles = tl.cdiv(D, TILE_D)
    acc = tl.zeros((BLOCK_M, BLOCK_F), dtype=tl.float32)
    for j in range(0, tiles):
        d = j * TILE_D + inner
        x_at = x_ptr + rows[:, None] * x_row + d[None, :]
        x = tl.load(x_at, mask=(rows[:, None] < M) & (d[None, :] < D), other=0.0)
        w_at = weight_ptr + columns[None, :].to(tl.int64) * weight_row + d[:, None]
        weight = tl.load(w_at, mask=(columns[None, :] < F) & (d[:, None] < D), other=0.0)
        x_scale = tl.load(x_scale_ptr + rows * tiles + j, mask=rows < M, other=0.0)
        if W_ROWS == 1:
            w_scale = tl.load(w_scale_ptr + columns.to(tl.int64) * tiles + j, mask=columns < F, other=0.0)
            acc += tl.dot(x, weight) * (x_scale[:, None] * w_scale[None, :])
        else:
            w_scale = tl.load(w_scale_ptr + (tl.program_id(1) * BLOCK_F // W_ROWS) * tiles + j)
            acc += tl.dot(x, weight) * (x_scale * w_scale)[:, None]
    out_at = out_ptr + rows[:, None] * F + columns[None, :]
    tl.store(out_at, acc, mask=(rows[:, None] < M) & (columns[None, :] < F))


def fp8_gemm(x_MD, x_scale_MJ, weight_FD, w_scale_IJ, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """x @ weight^T for FP8 operands with scales, in `dtype`.

    Takes x as `quantise_tiles` gives it, the weight as `quantise_blocks` does or, scale_FJ in place of scale_IJ, as
    `quantise_tiles` does. Raises `ValueError` if the inner sizes differ or the scales do not cover the operands.
    Source: arXiv 2412.19437 section 3.3.2, figure 7; `fp8_gemm` of DeepSeek-V3's inference/kernel.py @9b4e9788.
    """
    x_MD, weight_FD = matrix(x_MD), matrix(weight_FD)
    (M, D), (F, inner) = x_MD.shape, weight_FD.shape
    if D != inner:
        raise ValueError(f"x has inner size {D}, the weight {inner}")
    if rows_a_scale(x_MD, x_scale_MJ) != 1:
        raise ValueError(f"x of shape {(M, D)} in blocks, scales {tuple(x_scale_MJ.shape)}: want tiles, (M, D / 128)")
    w_rows = rows_a_scale(weight_FD, w_scale_IJ)
    out_MF = empty(M, F, dtype=dtype, device=x_MD.device)
    most = 64 if w_rows == 1 else 128  # a scale for every column: with 128 rows the registers would spill
    block_m = min(most, max(16, next_power_of_2(M)))
    block_f = min(TILE, max(16, next_power_of_2(F)))
    fp8_gemm_kernel[(cdiv(M, block_m), cdiv(F, block_f))](
        x_MD, x_scale_MJ.contiguous(), weight_FD, w_scale_IJ.contiguous(), out_MF, M, F, D, x_MD.stride(0),
        weight_FD.stride(0), BLOCK_M=block_m, BLOCK_F=block_f, TILE_D=TILE, W_ROWS=w_rows,
        num_warps=8 if block_m >= 128 else 4, num_stages=3,
    )  # fmt: skip
    return out_MF


def fp8_gemm_reference(x_MD, x_scale_MJ, weight_FD, w_scale_IJ, dtype=torch.bfloat16):
    """`fp8_gemm` on the dequantised operands."""
    wide = dtype if dtype == torch.float64 else torch.float32
    x = fp8_blocks.dequantise(x_MD, x_scale_MJ, (1, TILE), wide)
    weight = fp8_blocks.dequantise(weight_FD, w_scale_IJ, (rows_a_scale(weight_FD, w_scale_IJ), TILE), wide)
    return (x @ weight.t()).to(dtype)
