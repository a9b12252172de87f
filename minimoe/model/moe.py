"""DeepSeekMoE: a few shared experts that serve every token, and many small routed ones of which a token uses K.

output = shared(x) + sum over the K chosen of gate_i * expert_i(x)

`loop` is the definition: expert by expert, gather its tokens, run it, add the result back. `grouped` computes the same
for training and prefill: assignments are sorted by expert once, each expert runs on one contiguous block, and the
weighted sum over K is a single gather. It writes its own backward pass, because autograd's would allocate a zeroed
M x D gradient for every expert and visit the assignments E times.

How the production version differs: experts live on many GPUs. Dispatch and combine become all-to-all exchanges
(DeepEP), and the E matrix products become one grouped GEMM launch (DeepGEMM).
"""

import torch
import torch.nn.functional as F
from torch import nn

from minimoe.config import ModelConfig
from minimoe.model.layers import MLP
from minimoe.model.router import Router, Routing

__all__ = ["MoE", "grouped", "loop"]


def loop(experts, x_MD, chosen_MK, gates_MK):
    """sum_k gates[m, k] * experts[chosen[m, k]](x[m]), one expert after the other: the definition.

    Takes a list of modules, rows of hidden states, expert ids (int64) and gates; gives rows like `x_MD`.
    An expert without tokens gets a gradient of zeros. Source: arXiv 2401.06066 equation 9. Chapter 03.
    """
    out_MD = torch.zeros_like(x_MD)
    for expert in range(len(experts)):
        rows, slots = (chosen_MK == expert).nonzero(as_tuple=True)
        weighted = experts[expert](x_MD[rows]) * gates_MK[rows, slots, None].to(x_MD.dtype)
        out_MD = out_MD.index_add(0, rows, weighted)
    return out_MD


def grouped(experts, x_MD, chosen_MK, gates_MK):
    """`loop`, with the assignments sorted by expert so that every expert runs once on one block.

    Equal to `loop` up to the order of the additions, forward and backward.
    Takes and gives what `loop` does. Chapter 03.
    """
    weights = [w for e in experts for w in (e.gate_proj.weight, e.up_proj.weight, e.down_proj.weight)]
    return _GroupedExperts.apply(x_MD, gates_MK.to(x_MD.dtype), chosen_MK, *weights)


def sum_of_rows(rows_AD, where_MK, gates_MK=None):
    """out[m] = sum_k gates[m, k] * rows[where[m, k]], without building the M x K x D tensor in between."""
    return F.embedding_bag(where_MK, rows_AD, mode="sum", per_sample_weights=gates_MK)


class _GroupedExperts(torch.autograd.Function):
    """Forward and backward of the routed experts over blocks of sorted assignments."""

    @staticmethod
    def forward(ctx, x_MD, gates_MK, chosen_MK, *weights):
        M, K = chosen_MK.shape
        order = chosen_MK.flatten().argsort(stable=True)
        where_MK = torch.empty_like(order).scatter_(0, order, torch.arange(M * K, device=order.device)).view(M, K)
        ends = chosen_MK.flatten().bincount(minlength=len(weights) // 3).cumsum(0).tolist()
        x_AD = x_MD.index_select(0, order // K)
        blocks, y_AD = [], torch.empty_like(x_AD)
        for e, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if start == end:
                continue
            both = torch.cat(weights[3 * e : 3 * e + 2])  # gate and up in one product
            gate_up = x_AD[start:end] @ both.t()
            gate, up = gate_up.chunk(2, dim=1)
            torch.mm(F.silu(gate).mul_(up), weights[3 * e + 2].t(), out=y_AD[start:end])
            blocks.append((e, start, end, both, gate_up))
        ctx.blocks = blocks
        ctx.save_for_backward(x_AD, gates_MK, order, where_MK, *weights)
        return sum_of_rows(y_AD, where_MK, gates_MK)

    @staticmethod
    def backward(ctx, d_out_MD):
        x_AD, gates_MK, order, where_MK, *weights = ctx.saved_tensors
        K = gates_MK.shape[1]
        d_y_AD = d_out_MD.index_select(0, order // K)  # of the unweighted outputs: gates enter at the narrower width F
        gates_A, d_gates_A = gates_MK.flatten().index_select(0, order), torch.empty_like(order, dtype=x_AD.dtype)
        d_x_AD, d_weights = torch.empty_like(x_AD), [None] * len(weights)
        for e, start, end, both, gate_up in ctx.blocks:
            (gate, up), d_gate_up = gate_up.chunk(2, dim=1), torch.empty_like(gate_up)
            d_gate, d_up = d_gate_up.chunk(2, dim=1)
            weight = gates_A[start:end, None]
            d_y, silu = d_y_AD[start:end], F.silu(gate)
            h, d_h = silu * up, d_y @ weights[3 * e + 2]
            torch.sum(d_h * h, 1, out=d_gates_A[start:end])
            torch.mul(d_h.mul_(weight), silu, out=d_up)
            torch.ops.aten.silu_backward(d_h.mul_(up), gate, grad_input=d_gate)
            torch.mm(d_gate_up, both, out=d_x_AD[start:end])
            d_weights[3 * e : 3 * e + 3] = *(d_gate_up.t() @ x_AD[start:end]).chunk(2), d_y.t() @ h.mul_(weight)
        d_weights = [torch.zeros_like(w) if d is None else d for d, w in zip(d_weights, weights, strict=True)]
        return sum_of_rows(d_x_AD, where_MK), d_gates_A[where_MK], None, *d_weights


class MoE(nn.Module):
    """Router, routed experts, shared experts. `n_shared_experts` shared experts are one block of their joint width.

    `dispatch` is the function that runs the routed experts: `grouped` or `loop`, or a kernel handed over from outside.
    Source: arXiv 2412.19437 equations 12-16. Chapter 03.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, F_ = config.hidden_size, config.moe_intermediate_size
        self.gate = Router(config)
        self.experts = nn.ModuleList(MLP(D, F_) for _ in range(config.n_routed_experts))
        if config.n_shared_experts:
            self.shared_experts = MLP(D, F_ * config.n_shared_experts)
        self.dispatch = grouped

    def forward(self, x_BTD: torch.Tensor) -> tuple[torch.Tensor, Routing]:
        """The layer's output, shaped like `x_BTD`, and what its router decided."""
        x_MD = x_BTD.flatten(0, 1)
        routing = self.gate(x_MD)
        out_MD = self.dispatch(self.experts, x_MD, routing.chosen_MK, routing.gates_MK)
        if hasattr(self, "shared_experts"):
            out_MD = out_MD + self.shared_experts(x_MD)
        return out_MD.view_as(x_BTD), routing
