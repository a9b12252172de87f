"""SwiGLU, silu(gate) * up, forward and backward.

Three numbers cross the memory bus for every one that is computed, and that is the whole cost: 2 reads, 1 write. The
gate and the up projection are usually one matrix product of width 2F, so both inputs may be halves of one tensor: the
kernel goes by row strides and copies nothing.

The backward pass recomputes the sigmoid instead of storing it, 3 reads and 2 writes:

    d_gate = d_out * up * s * (1 + gate * (1 - s)),  d_up = d_out * gate * s,  s = sigmoid(gate)

How the production version differs: for routed experts the gate of the router is multiplied in here too, where the
width is F instead of D, and the output leaves as FP8 (`minimoe_kernels.swiglu_quant`).
"""

import torch

from minimoe.model import layers
from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["swiglu", "swiglu_reference"]


@triton.jit
def swiglu_forward(gate_ptr, up_ptr, out_ptr, F, gate_row, up_row, BLOCK: tl.constexpr, ACC: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < F
    gate = tl.load(gate_ptr + row * gate_row + columns, mask=mask, other=0.0).to(ACC)
    up = tl.load(up_ptr + row * up_row + columns, mask=mask, other=0.0).to(ACC)
    tl.store(out_ptr + row * F + columns, gate * tl.sigmoid(gate) * up, mask=mask)


@triton.jit
def swiglu_backward(
    d_out_ptr, gate_ptr, up_ptr, d_gate_ptr, d_up_ptr, F, gate_row, up_row, BLOCK: tl.constexpr, ACC: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < F
    d_out = tl.load(d_out_ptr + row * F + columns, mask=mask, other=0.0).to(ACC)
    gate = tl.load(gate_ptr + row * gate_row + columns, mask=mask, other=0.0).to(ACC)
    up = tl.load(up_ptr + row * up_row + columns, mask=mask, other=0.0).to(ACC)
    s = tl.sigmoid(gate)
    tl.store(d_gate_ptr + row * F + columns, d_out * up * s * (1 + gate * (1 - s)), mask=mask)
    tl.store(d_up_ptr + row * F + columns, d_out * gate * s, mask=mask)


def _settings(gate_MF):
    M, F = gate_MF.shape
    block = min(2048, next_power_of_2(F))
    acc = tl.float64 if gate_MF.dtype == torch.float64 else tl.float32
    return (M, cdiv(F, block)), {"BLOCK": block, "ACC": acc, "num_warps": 8 if block >= 1024 else 4}


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate_MF, up_MF):
        ctx.save_for_backward(gate_MF, up_MF)
        M, F = gate_MF.shape
        out_MF = empty(M, F, dtype=gate_MF.dtype, device=gate_MF.device)
        grid, settings = _settings(gate_MF)
        swiglu_forward[grid](gate_MF, up_MF, out_MF, F, gate_MF.stride(0), up_MF.stride(0), **settings)
        return out_MF

    @staticmethod
    def backward(ctx, d_out_MF):
        gate_MF, up_MF = ctx.saved_tensors
        M, F = gate_MF.shape
        d_gate_MF, d_up_MF = (empty(M, F, dtype=gate_MF.dtype, device=gate_MF.device) for _ in range(2))
        grid, settings = _settings(gate_MF)
        swiglu_backward[grid](
            d_out_MF.contiguous(), gate_MF, up_MF, d_gate_MF, d_up_MF, F, gate_MF.stride(0), up_MF.stride(0), **settings
        )
        return d_gate_MF, d_up_MF


def by_rows(name, x):
    """`x` with its last axis contiguous; raises unless it is a matrix."""
    if x.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: want (M, F)")
    return x if x.stride(1) == 1 else x.contiguous()


def swiglu(gate_MF: torch.Tensor, up_MF: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, computed in float32 and rounded once; differentiable.

    Takes two matrices of one shape and type, of which only the last axis must be contiguous; gives a contiguous one.
    Raises `ValueError` if they disagree. Source: Shazeer, arXiv 2002.05202.
    """
    gate_MF, up_MF = by_rows("gate", gate_MF), by_rows("up", up_MF)
    if gate_MF.shape != up_MF.shape or gate_MF.dtype != up_MF.dtype:
        ours, theirs = (f"{tuple(t.shape)} {t.dtype}" for t in (gate_MF, up_MF))
        raise ValueError(f"gate is {ours}, up is {theirs}: they must agree")
    return _SwiGLU.apply(gate_MF, up_MF)


def swiglu_reference(gate_MF, up_MF):
    """`swiglu` as the library has it."""
    return layers.swiglu(gate_MF, up_MF)
