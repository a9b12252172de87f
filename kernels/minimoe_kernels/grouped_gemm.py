"""Every expert's product in one launch: forward, the gradient of the rows, and the gradient of the weights.

    out[a] = x[a] @ weight[e]^T     for the rows a of expert e, which stand together (`minimoe_kernels.align`)

A loop over 256 experts is 256 launches of small products, and most of the GPU idles in each. Here one grid covers all:
a program looks up its tile, learns from it which expert it works for and where its rows begin, and multiplies. Rows
beyond the end of the block belong to the next expert; the mask keeps off them.

The gradient of x is the same product with the weight read the other way round: only two strides change. The gradient
of a weight sums over rows, d_weight[e] = d_out^T x over e's block, so there a program owns an expert and a piece of its
matrix, and loops over the rows. An expert without rows gets zeros.

How the production version differs: a persistent kernel keeps its programs alive over many tiles and orders them so that
neighbours share a weight in L2; DeepGEMM loads through TMA.
"""

import torch

from minimoe_kernels.align import Alignment
from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["grouped_gemm", "grouped_gemm_reference"]


@triton.jit
def rows_kernel(
    x_ptr, weight_ptr, out_ptr, ends_ptr, tile_expert_ptr, tile_start_ptr, N, D, w_expert, w_n, w_d,
    TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out[a, n] = sum over d of x[a, d] * weight[e, n, d]: the rows of one tile, BLOCK_N columns."""
    expert = tl.load(tile_expert_ptr + tl.program_id(0)).to(tl.int64)
    if expert >= 0:
        rows = (tl.load(tile_start_ptr + tl.program_id(0)) + tl.arange(0, TILE)).to(tl.int64)
        end = tl.load(ends_ptr + expert)
        columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        inner = tl.arange(0, BLOCK_D)
        acc = tl.zeros((TILE, BLOCK_N), dtype=ACC)
        for start in range(0, D, BLOCK_D):
            d = start + inner
            x_at = x_ptr + rows[:, None] * D + d[None, :]
            x = tl.load(x_at, mask=(rows[:, None] < end) & (d[None, :] < D), other=0.0)
            w_at = weight_ptr + expert * w_expert + columns[None, :] * w_n + d[:, None] * w_d
            weight = tl.load(w_at, mask=(columns[None, :] < N) & (d[:, None] < D), other=0.0)
            acc = tl.dot(x, weight, acc, input_precision=PRECISION, out_dtype=ACC)
        out_at = out_ptr + rows[:, None] * N + columns[None, :]
        tl.store(out_at, acc, mask=(rows[:, None] < end) & (columns[None, :] < N))


@triton.jit
def weight_gradient_kernel(
    d_out_ptr, x_ptr, d_weight_ptr, ends_ptr, F, D, BLOCK_A: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """d_weight[e, f, d] = sum over the rows a of e of d_out[a, f] * x[a, d]."""
    expert = tl.program_id(2)
    end = tl.load(ends_ptr + expert)
    first = tl.load(ends_ptr + expert - 1, mask=expert > 0, other=0)
    f = tl.program_id(0) * BLOCK_F + tl.arange(0, BLOCK_F)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    acc = tl.zeros((BLOCK_F, BLOCK_D), dtype=ACC)
    for start in range(first, end, BLOCK_A):
        a = (start + tl.arange(0, BLOCK_A)).to(tl.int64)
        d_at = d_out_ptr + a[None, :] * F + f[:, None]
        d_out = tl.load(d_at, mask=(a[None, :] < end) & (f[:, None] < F), other=0.0)
        x = tl.load(x_ptr + a[:, None] * D + d[None, :], mask=(a[:, None] < end) & (d[None, :] < D), other=0.0)
        acc = tl.dot(d_out, x, acc, input_precision=PRECISION, out_dtype=ACC)
    out_at = d_weight_ptr + expert.to(tl.int64) * F * D + f[:, None] * D + d[None, :]
    tl.store(out_at, acc, mask=(f[:, None] < F) & (d[None, :] < D))


def settings(dtype: torch.dtype) -> dict:
    """Accumulator and reading of a product: float32 operands are taken in full, not as tf32."""
    if dtype == torch.float64:
        return {"ACC": tl.float64, "PRECISION": "ieee"}
    return {"ACC": tl.float32, "PRECISION": "ieee" if dtype == torch.float32 else "tf32"}


def _block(size: int, most: int = 128) -> int:
    return min(most, max(16, next_power_of_2(size)))


def _rows(x_AD, weight, alignment, transposed):
    """The rows times each expert's matrix, or its transpose."""
    D, N = x_AD.shape[1], weight.shape[2 if transposed else 1]
    w_n, w_d = (weight.stride(2), weight.stride(1)) if transposed else (weight.stride(1), weight.stride(2))
    out_AN = empty(len(x_AD), N, dtype=x_AD.dtype, device=x_AD.device)
    block_n = _block(N)
    rows_kernel[(len(alignment.tile_expert), cdiv(N, block_n))](
        x_AD, weight, out_AN, alignment.ends_E, alignment.tile_expert, alignment.tile_start, N, D, weight.stride(0),
        w_n, w_d, TILE=alignment.tile, BLOCK_N=block_n, BLOCK_D=_block(D, 64), num_warps=8 if block_n >= 128 else 4,
        **settings(x_AD.dtype),
    )  # fmt: skip
    return out_AN


class _GroupedGEMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_AD, weight_EFD, alignment):
        ctx.alignment = alignment
        ctx.save_for_backward(x_AD, weight_EFD)
        return _rows(x_AD, weight_EFD, alignment, transposed=False)

    @staticmethod
    def backward(ctx, d_out_AF):
        x_AD, weight_EFD = ctx.saved_tensors
        d_out_AF, ends_E = d_out_AF.contiguous(), ctx.alignment.ends_E
        d_x_AD = _rows(d_out_AF, weight_EFD, ctx.alignment, transposed=True)
        E, F, D = weight_EFD.shape
        d_weight_EFD = empty(E, F, D, dtype=weight_EFD.dtype, device=weight_EFD.device)
        block_f, block_d = _block(F), _block(D)
        weight_gradient_kernel[(cdiv(F, block_f), cdiv(D, block_d), E)](
            d_out_AF, x_AD, d_weight_EFD, ends_E, F, D, BLOCK_A=32, BLOCK_F=block_f, BLOCK_D=block_d,
            num_warps=8 if block_f * block_d >= 128 * 128 else 4, **settings(x_AD.dtype),
        )  # fmt: skip
        return d_x_AD, d_weight_EFD, None


def grouped_gemm(x_AD: torch.Tensor, weight_EFD: torch.Tensor, alignment: Alignment) -> torch.Tensor:
    """Each row times the matrix of its expert, out[a] = x[a] @ weight[e(a)]^T; differentiable in both.

    Takes rows sorted by expert as `permute` gives them, and one matrix an expert as `nn.Linear` holds it. Sums run in
    float32 (float64 of float64); the result has x's type.

    Raises `ValueError` for sizes or types that disagree. Source: arXiv 2401.06066 equation 9.
    """
    A, E = len(alignment.order_A), len(alignment.ends_E)
    if (len(x_AD), len(weight_EFD)) != (A, E) or x_AD.shape[1] != weight_EFD.shape[2]:
        shapes = f"rows {tuple(x_AD.shape)} and weights {tuple(weight_EFD.shape)}"
        raise ValueError(f"{shapes} for {A} assignments to {E} experts: want (A, D) and (E, F, D)")
    if x_AD.dtype != weight_EFD.dtype:
        raise ValueError(f"rows are {x_AD.dtype}, weights {weight_EFD.dtype}: they must agree")
    return _GroupedGEMM.apply(x_AD.contiguous(), weight_EFD.contiguous(), alignment)


def grouped_gemm_reference(x_AD, weight_EFD, alignment):
    """`grouped_gemm`, expert by expert."""
    ends = alignment.ends_E.tolist()
    blocks = [x_AD[start:end] @ w.t() for start, end, w in zip([0, *ends[:-1]], ends, weight_EFD, strict=True)]
    return torch.cat(blocks)
