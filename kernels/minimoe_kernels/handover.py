"""Kernels into a model: `use(model)` hands them over, `release(model)` takes them back.

The model knows nothing of kernels. Its MoE layers run whatever function stands in `dispatch`, and a module runs what
stands in its `forward`; both are set here, module by module, and nothing else changes: parameters, their names and the
checkpoint stay. What is handed over is what has a backward pass: RMSNorm, SwiGLU in dense blocks and shared experts,
the whole of the routed experts, and latent attention over a prompt, where the sizes of its heads are powers of two from
16 up. With a mask or a cache, attention stays PyTorch's; so does the router, because gradients flow through its scores.

A grouped product wants an expert layer's weights as one tensor. `use` moves them there once: each expert's `weight`
stays a parameter of its own and becomes a window on its part, so no step copies a weight.

How the production version differs: an engine is built around its kernels, and replaces whole layers, not functions.
"""

import types

import torch
from torch import nn

from minimoe.model.layers import MLP, RMSNorm
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe.model.moe import MoE, grouped
from minimoe_kernels.align import align
from minimoe_kernels.grouped_gemm import grouped_gemm
from minimoe_kernels.mla_prefill import mla_prefill
from minimoe_kernels.permute import permute, unpermute
from minimoe_kernels.rms_norm import rms_norm
from minimoe_kernels.swiglu import swiglu

__all__ = ["release", "routed_experts", "use"]

PARTS = ("gate_proj", "up_proj", "down_proj")


class _Stacked(torch.autograd.Function):
    """The experts' matrices as one tensor: the memory that they share, or a copy if they do not."""

    @staticmethod
    def forward(ctx, *weights):
        first, size = weights[0], (len(weights), *weights[0].shape)
        step = first.numel()
        in_a_row = all(
            w.is_contiguous() and w.data_ptr() == first.data_ptr() + i * step * first.itemsize
            for i, w in enumerate(weights)
        )
        if not in_a_row:
            return torch.stack(weights)
        whole = torch.empty(0, dtype=first.dtype, device=first.device)
        return whole.set_(first.untyped_storage(), first.storage_offset(), size, (step, *first.stride()))

    @staticmethod
    def backward(ctx, d_whole):
        return d_whole.unbind(0)


def routed_experts(experts, x_MD, chosen_MK, gates_MK):
    """What `minimoe.model.moe.grouped` computes, as kernels: align, permute, three grouped products, unpermute.

    Takes and gives what it does. Equal to it up to the order of sums, forward and backward.
    """
    gate_EFD, up_EFD, down_EDF = (_Stacked.apply(*(getattr(e, part).weight for e in experts)) for part in PARTS)
    alignment = align(chosen_MK, len(experts))
    x_AD = permute(x_MD, alignment)
    h_AF = swiglu(grouped_gemm(x_AD, gate_EFD, alignment), grouped_gemm(x_AD, up_EFD, alignment))
    return unpermute(grouped_gemm(h_AF, down_EDF, alignment), gates_MK.to(x_MD.dtype), alignment)


def _norm_forward(self, x):
    return rms_norm(x.reshape(-1, x.shape[-1]), self.weight, self.eps).view(x.shape)


def _mlp_forward(self, x):
    gate, up = self.gate_proj(x), self.up_proj(x)
    h = swiglu(gate.reshape(-1, gate.shape[-1]), up.reshape(-1, up.shape[-1]))
    return self.down_proj(h.view(gate.shape))


def _expand(self, q_nope_BTHN, q_rot_BTHR, entries, mask_BTS=None):
    if mask_BTS is not None:
        return MultiHeadLatentAttention.expand(self, q_nope_BTHN, q_rot_BTHR, entries, mask_BTS)
    latent_BSC, k_rot_BSR = entries.split([self.latent, self.rotary], dim=-1)
    kv = self.kv_b_proj(latent_BSC).unflatten(-1, (self.heads, self.nope + self.value))
    k_nope_BSHN, v_BSHW = kv.split([self.nope, self.value], dim=-1)
    return mla_prefill(q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW, self.scale)[0]


def _fits(attention) -> bool:
    """Whether `mla_prefill` has tiles for these heads."""
    sizes = attention.nope, attention.rotary, attention.value
    return all(size >= 16 and not size & (size - 1) for size in sizes)


def _side_by_side(experts):
    """Move the experts' weights into one tensor a part, each parameter a window on it."""
    for part in PARTS:
        weights = [getattr(expert, part).weight for expert in experts]
        whole = torch.stack([w.detach() for w in weights])
        for weight, window in zip(weights, whole, strict=True):
            weight.data = window


def use(model: nn.Module) -> nn.Module:
    """Let the model compute with kernels, on a GPU by Triton, on a CPU in the simulator; gives the model back.

    RMSNorm, SwiGLU, routed experts and attention over prompts, forward and backward. Logits and gradients are those of
    before up to rounding. Call it after the model is on its device: moving it takes the experts' weights apart again,
    which costs a copy a step and nothing else.
    """
    for module in model.modules():
        if isinstance(module, MoE):
            _side_by_side(module.experts)
            module.dispatch = routed_experts
        elif isinstance(module, RMSNorm):
            module.forward = types.MethodType(_norm_forward, module)
        elif isinstance(module, MLP):
            module.forward = types.MethodType(_mlp_forward, module)
        elif isinstance(module, MultiHeadLatentAttention) and _fits(module):
            module.expand = types.MethodType(_expand, module)
    return model


def release(model: nn.Module) -> nn.Module:
    """Undo `use`."""
    for module in model.modules():
        if isinstance(module, MoE):
            module.dispatch = grouped
        elif isinstance(module, RMSNorm | MLP):
            module.__dict__.pop("forward", None)
        elif isinstance(module, MultiHeadLatentAttention):
            module.__dict__.pop("expand", None)
    return model
