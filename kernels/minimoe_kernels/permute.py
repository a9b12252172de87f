"""Rows into the experts' order, and back with the weighted sum.

`permute` gathers the tokens' rows into the order that `minimoe_kernels.align` found, `unpermute` gathers each token's K
rows back and adds them with its gates. Both move M * K rows of D numbers, and that is their whole cost. Each is nearly
the other's gradient, so the same kernels serve both ways; only the gates have one of their own, a dot product a row.

How the production version differs: with experts on many GPUs the gather becomes an all-to-all exchange (DeepEP).
"""

import torch

from minimoe.model.moe import sum_of_rows
from minimoe_kernels.align import Alignment
from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["permute", "permute_reference", "unpermute", "unpermute_reference"]


@triton.jit
def gather_kernel(
    x_ptr, order_ptr, gates_ptr, out_ptr, D, K: tl.constexpr, BLOCK: tl.constexpr, WEIGHTED: tl.constexpr
):
    """out[a] = x[order[a] // K], times the gate of assignment order[a] if WEIGHTED."""
    place = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    assignment = tl.load(order_ptr + place).to(tl.int64)
    x = tl.load(x_ptr + (assignment // K) * D + columns, mask=columns < D, other=0.0)
    if WEIGHTED:
        gate = tl.load(gates_ptr + assignment)
        x = (x.to(gate.dtype) * gate).to(x.dtype)
    tl.store(out_ptr + place * D + columns, x, mask=columns < D)


@triton.jit
def sum_kernel(
    y_ptr, where_ptr, gates_ptr, out_ptr, D,
    K: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """out[m] = sum over k of gates[m, k] * y[where[m, k]]."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), dtype=ACC)
    for k in range(0, K):
        place = tl.load(where_ptr + token * K + k).to(tl.int64)
        y = tl.load(y_ptr + place * D + columns, mask=columns < D, other=0.0).to(ACC)
        if WEIGHTED:
            y = y * tl.load(gates_ptr + token * K + k).to(ACC)
        acc += y
    tl.store(out_ptr + token * D + columns, acc, mask=columns < D)


@triton.jit
def gate_gradient_kernel(
    d_out_ptr, y_ptr, where_ptr, d_gates_ptr, D, K: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr
):
    """d_gates[m, k] = d_out[m] . y[where[m, k]]."""
    token, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.load(where_ptr + token * K + k).to(tl.int64)
    acc = tl.zeros((BLOCK,), dtype=ACC)
    for i in range(0, D, BLOCK):
        columns = i + tl.arange(0, BLOCK)
        d_out = tl.load(d_out_ptr + token * D + columns, mask=columns < D, other=0.0).to(ACC)
        acc += d_out * tl.load(y_ptr + place * D + columns, mask=columns < D, other=0.0).to(ACC)
    tl.store(d_gates_ptr + token * K + k, tl.sum(acc, axis=0))


def _columns(D):
    block = min(1024, next_power_of_2(D))
    return block, cdiv(D, block)


def _acc(dtype):
    return tl.float64 if dtype == torch.float64 else tl.float32


def _gathered(x_MD, order_A, gates_MK, K):
    block, across = _columns(x_MD.shape[1])
    out_AD = empty(len(order_A), x_MD.shape[1], dtype=x_MD.dtype, device=x_MD.device)
    gather_kernel[(len(order_A), across)](
        x_MD.contiguous(), order_A, gates_MK, out_AD, x_MD.shape[1], K=K, BLOCK=block, WEIGHTED=gates_MK is not None
    )
    return out_AD


def _summed(y_AD, where_MK, gates_MK):
    (M, K), D = where_MK.shape, y_AD.shape[1]
    block, across = _columns(D)
    out_MD = empty(M, D, dtype=y_AD.dtype, device=y_AD.device)
    sum_kernel[(M, across)](
        y_AD.contiguous(), where_MK, gates_MK, out_MD, D,
        K=K, BLOCK=block, ACC=_acc(y_AD.dtype), WEIGHTED=gates_MK is not None,
    )  # fmt: skip
    return out_MD


class _Permute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_MD, order_A, where_MK):
        ctx.save_for_backward(where_MK)
        return _gathered(x_MD, order_A, None, where_MK.shape[1])

    @staticmethod
    def backward(ctx, d_out_AD):
        return _summed(d_out_AD, ctx.saved_tensors[0], None), None, None


class _Unpermute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y_AD, gates_MK, order_A, where_MK):
        ctx.save_for_backward(y_AD, gates_MK, order_A, where_MK)
        return _summed(y_AD, where_MK, gates_MK)

    @staticmethod
    def backward(ctx, d_out_MD):
        y_AD, gates_MK, order_A, where_MK = ctx.saved_tensors
        (M, K), D = where_MK.shape, y_AD.shape[1]
        d_out_MD = d_out_MD.contiguous()
        d_y_AD = _gathered(d_out_MD, order_A, gates_MK, K)
        d_gates_MK = empty(M, K, dtype=gates_MK.dtype, device=gates_MK.device)
        gate_gradient_kernel[(M, K)](
            d_out_MD, y_AD, where_MK, d_gates_MK, D, K=K, BLOCK=_columns(D)[0], ACC=_acc(y_AD.dtype)
        )
        return d_y_AD, d_gates_MK, None, None


def permute(x_MD: torch.Tensor, alignment: Alignment) -> torch.Tensor:
    """Every token's row once for each of its experts, sorted by expert: out[a] = x[order[a] // K]; differentiable."""
    if alignment.where_MK.shape[0] != len(x_MD):
        raise ValueError(f"an alignment of {alignment.where_MK.shape[0]} tokens for {len(x_MD)} rows")
    return _Permute.apply(x_MD, alignment.order_A, alignment.where_MK)


def unpermute(y_AD: torch.Tensor, gates_MK: torch.Tensor, alignment: Alignment) -> torch.Tensor:
    """Each token's sum over its experts, out[m] = sum_k gates[m, k] * y[where[m, k]]; differentiable in both.

    The sum runs in float32 in the order of k, and is rounded once to y's type.
    """
    if y_AD.shape[0] != gates_MK.numel() or gates_MK.shape != alignment.where_MK.shape:
        at = tuple(alignment.where_MK.shape)
        raise ValueError(f"{y_AD.shape[0]} rows and gates {tuple(gates_MK.shape)} for assignments {at}")
    return _Unpermute.apply(y_AD.contiguous(), gates_MK.contiguous(), alignment.order_A, alignment.where_MK)


def permute_reference(x_MD, alignment):
    """`permute` by indexing."""
    return x_MD[alignment.order_A.long() // alignment.where_MK.shape[1]]


def unpermute_reference(y_AD, gates_MK, alignment):
    """`unpermute` as the library has it."""
    return sum_of_rows(y_AD, alignment.where_MK.long(), gates_MK.to(y_AD.dtype))
