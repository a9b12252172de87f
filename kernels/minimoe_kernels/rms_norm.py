"""RMSNorm, with the addition of the residual stream in front of it in the same pass, forward and backward.

    h = x + residual;  out = weight * h / sqrt(mean(h^2) + eps)

A row fits in one program's registers, so it is read once, squared, summed, scaled and written once. The arithmetic is
nothing; the bytes are all: 2 reads and 2 writes of M x D numbers. Done by PyTorch's separate operations the same rows
cross the memory bus five times or more.

The gradient of a row needs the row and one number, its scale, which the forward pass keeps. The gradient of the gain
is a sum over all rows: each program sums the rows that it owns in registers and writes one partial sum; those few are
added afterwards. No atomics, so the result is the same every time.

How the production version differs: engines pick the rows a program takes and the number of warps by the width D, and
fuse the quantisation of the output to FP8 as well.
"""

import torch

from minimoe.model import layers
from minimoe_kernels.kernel import next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["add_rms_norm", "add_rms_norm_reference", "rms_norm", "rms_norm_reference"]

PROGRAMS = 264  # of the backward pass: two for each multiprocessor of an H100


@triton.jit
def rms_norm_forward(
    x_ptr, residual_ptr, weight_ptr, out_ptr, sum_ptr, scale_ptr, D, eps,
    BLOCK: tl.constexpr, ACC: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < D
    x = tl.load(x_ptr + row * D + columns, mask=mask, other=0.0)
    if ADD:
        residual = tl.load(residual_ptr + row * D + columns, mask=mask, other=0.0)
        x = (x.to(ACC) + residual.to(ACC)).to(x.dtype)
        tl.store(sum_ptr + row * D + columns, x, mask=mask)
    wide = x.to(ACC)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / D + eps)
    tl.store(scale_ptr + row, scale)
    normed = (wide * scale).to(x.dtype)  # rounded before the gain, as the official code does
    weight = tl.load(weight_ptr + columns, mask=mask, other=0.0)
    tl.store(out_ptr + row * D + columns, normed.to(ACC) * weight.to(ACC), mask=mask)


@triton.jit
def rms_norm_backward(
    d_out_ptr, d_sum_ptr, x_ptr, weight_ptr, scale_ptr, d_x_ptr, partial_ptr, M, D,
    BLOCK: tl.constexpr, ACC: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK)
    mask = columns < D
    weight = tl.load(weight_ptr + columns, mask=mask, other=0.0).to(ACC)
    d_weight = tl.zeros((BLOCK,), dtype=ACC)
    for row in range(tl.program_id(0), M, tl.num_programs(0)):
        start = tl.cast(row, tl.int64) * D  # a counter is a plain number in the interpreter
        d_out = tl.load(d_out_ptr + start + columns, mask=mask, other=0.0).to(ACC)
        scale = tl.load(scale_ptr + row)
        unit = tl.load(x_ptr + start + columns, mask=mask, other=0.0).to(ACC) * scale
        d_weight += d_out * unit
        d_unit = d_out * weight
        d_x = (d_unit - unit * (tl.sum(d_unit * unit, axis=0) / D)) * scale
        if ADD:
            d_x += tl.load(d_sum_ptr + start + columns, mask=mask, other=0.0).to(ACC)
        tl.store(d_x_ptr + start + columns, d_x, mask=mask)
    tl.store(partial_ptr + tl.program_id(0) * D + columns, d_weight, mask=mask)


def accumulator(dtype: torch.dtype):
    """The type that sums are kept in: float32, or float64 when the inputs are (for gradcheck)."""
    return tl.float64 if dtype == torch.float64 else tl.float32


class _AddRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_MD, residual_MD, weight_D, eps):
        M, D = x_MD.shape
        block, wide = next_power_of_2(D), torch.promote_types(x_MD.dtype, torch.float32)
        out_MD, scale_M = (empty(n, dtype=t, device=x_MD.device) for n, t in (((M, D), x_MD.dtype), ((M,), wide)))
        add = residual_MD is not None
        sum_MD = empty(M, D, dtype=x_MD.dtype, device=x_MD.device) if add else x_MD
        rms_norm_forward[(M,)](
            x_MD, residual_MD, weight_D, out_MD, sum_MD if add else None, scale_M, D, eps,
            BLOCK=block, ACC=accumulator(x_MD.dtype), ADD=add, num_warps=warps(block),
        )  # fmt: skip
        ctx.save_for_backward(sum_MD, weight_D, scale_M)
        ctx.add = add
        return (out_MD, sum_MD) if add else out_MD

    @staticmethod
    def backward(ctx, d_out_MD, d_sum_MD=None):
        x_MD, weight_D, scale_M = ctx.saved_tensors
        M, D = x_MD.shape
        block, programs = next_power_of_2(D), min(M, PROGRAMS)
        d_x_MD = empty(M, D, dtype=x_MD.dtype, device=x_MD.device)
        partial_PD = empty(programs, D, dtype=scale_M.dtype, device=x_MD.device)
        rms_norm_backward[(programs,)](
            d_out_MD.contiguous(), d_sum_MD.contiguous() if ctx.add else None, x_MD, weight_D, scale_M, d_x_MD,
            partial_PD, M, D, BLOCK=block, ACC=accumulator(x_MD.dtype), ADD=ctx.add, num_warps=warps(block),
        )  # fmt: skip
        d_weight_D = partial_PD.sum(0).to(weight_D.dtype)
        return d_x_MD, d_x_MD if ctx.add else None, d_weight_D, None


def warps(block: int) -> int:
    """One warp for every 512 numbers of a row, at most 16."""
    return max(1, min(16, block // 512))


def rms_norm(x_MD: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
    """Every row scaled to root-mean-square 1, then by the gain; differentiable.

    out = weight * x / sqrt(mean(x^2) + eps), sums in float32. Takes contiguous rows and a gain, gives rows of x's type.
    Equal to `minimoe.model.layers.rms_norm` up to the order of the sum. Raises `ValueError` for shapes that disagree.
    Source: Zhang and Sennrich, arXiv 1910.07467.
    """
    check_rows(x_MD, weight_D)
    return _AddRMSNorm.apply(x_MD.contiguous(), None, weight_D.contiguous(), eps)


def add_rms_norm(x_MD, residual_MD, weight_D, eps):
    """`rms_norm` of x + residual, and that sum, which the next block adds to: (out_MD, sum_MD); differentiable.

    The sum is rounded to x's type before it is normalised, as two separate operations would have it.
    """
    check_rows(x_MD, weight_D)
    if residual_MD.shape != x_MD.shape or residual_MD.dtype != x_MD.dtype:
        ours, theirs = (f"{tuple(t.shape)} {t.dtype}" for t in (residual_MD, x_MD))
        raise ValueError(f"residual is {ours}, x is {theirs}: they must agree")
    return _AddRMSNorm.apply(x_MD.contiguous(), residual_MD.contiguous(), weight_D.contiguous(), eps)


def check_rows(x_MD, weight_D):
    if x_MD.ndim != 2 or weight_D.shape != x_MD.shape[1:]:
        raise ValueError(f"x has shape {tuple(x_MD.shape)} and the gain {tuple(weight_D.shape)}: want (M, D) and (D,)")


def rms_norm_reference(x_MD, weight_D, eps):
    """`rms_norm` as the library has it."""
    return layers.rms_norm(x_MD, weight_D, eps)


def add_rms_norm_reference(x_MD, residual_MD, weight_D, eps):
    """`add_rms_norm` in two operations."""
    sum_MD = x_MD + residual_MD
    return layers.rms_norm(sum_MD, weight_D, eps), sum_MD
