"""Training in FP8 as DeepSeek-V3 does it, emulated on any processor: same numbers, none of the speed.

Three products make a linear layer's step: forward y = x W^T, the input's gradient dx = dy W, the weight's dW = dy^T x.
V3 computes all three from FP8 (e4m3) and keeps the weights themselves in float32. What is multiplied is scaled first,
by its own largest value, found there and then: activations and gradients 128 numbers at a time, along the axis that is
summed (so dW, summed over tokens, cuts both its operands down the other way), weights in blocks of 128 x 128.

The products themselves, and what a tensor core's short sums cost them, are in `fp8_product`.

Where a tensor has to change from tiles along one axis to tiles along the other after it was stored, V3 rounds the
scales up to powers of two: changing a power of two moves no mantissa. That is so for what goes to the experts and to
the projection after attention, and for the gradients that come back to the experts. Two more things are kept small:
the input of the projection after attention in 12 bits (e5m6), the inputs of the experts' SwiGLU in FP8, its output
computed again. Embedding, head, router, norms, the attention core, optimizer and master weights stay as they were, and
so does `eh_proj` of an MTP module, which the released checkpoint has in bfloat16.

How the production version differs: it is fast. It quantises in the epilogue of the kernel before, multiplies on tensor
cores (DeepGEMM), stores activations between forward and backward in one byte, and gives outputs in bfloat16.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from minimoe.model.attention import GroupedQueryAttention
from minimoe.model.layers import MLP
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe.model.moe import MoE, grouped, loop
from minimoe.training import fp8_product
from minimoe.training.fp8_product import BLOCKS, TILES, e5m6

__all__ = ["release_fp8", "use_fp8"]


class _Arithmetic(NamedTuple):
    """Who computes: `fp8_product`'s functions or others in their place."""

    multiply: Callable
    quantise: Callable

    def weight_gradient(self, d_y, x, rounded_d_y=False, rounded_x=False):
        """d_y^T x, both in tiles along the tokens."""
        return self.multiply(self.quantise(d_y.t(), TILES, rounded_d_y), self.quantise(x.t(), TILES, rounded_x))


class _Linear(torch.autograd.Function):
    """x W^T. `after_attention`: the input is kept in e5m6 and has scales that are powers of two."""

    @staticmethod
    def forward(ctx, x_MD, weight_FD, after_attention, by):
        x, weight = by.quantise(x_MD, TILES, after_attention), by.quantise(weight_FD, BLOCKS)
        ctx.kept = e5m6(x_MD) if after_attention else x, weight, after_attention, by
        return by.multiply(x, weight)

    @staticmethod
    def backward(ctx, d_y_MF):
        x, weight, after_attention, by = ctx.kept
        x_MD = x if after_attention else x.dequantise()
        d_x_MD = by.multiply(by.quantise(d_y_MF), weight.transposed())
        return d_x_MD, by.weight_gradient(d_y_MF, x_MD, rounded_x=after_attention), None, None


class _Expert(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)): what comes in, x and the output's gradient, was sent in FP8 with scales 2^n."""

    @staticmethod
    def forward(ctx, x_MD, gate_FD, up_FD, down_DF, by):
        x = by.quantise(x_MD, TILES, power_of_two=True)
        weights = [by.quantise(weight, BLOCKS) for weight in (gate_FD, up_FD, down_DF)]
        gate_MF, up_MF = by.multiply(x, weights[0]), by.multiply(x, weights[1])
        ctx.kept = x, weights, by.quantise(gate_MF), by.quantise(up_MF), by
        return by.multiply(by.quantise(F.silu(gate_MF) * up_MF), weights[2])

    @staticmethod
    def backward(ctx, d_y_MD):
        x, (gate_w, up_w, down_w), gate, up, by = ctx.kept
        d_y, x_MD, gate_MF, up_MF = by.quantise(d_y_MD, TILES, True), x.dequantise(), gate.dequantise(), up.dequantise()
        silu_MF = F.silu(gate_MF)
        d_down_DF = by.weight_gradient(d_y.dequantise(), silu_MF * up_MF, rounded_d_y=True)
        d_h_MF = by.multiply(d_y, down_w.transposed())
        d_gate_MF, d_up_MF = torch.ops.aten.silu_backward(d_h_MF * up_MF, gate_MF), d_h_MF * silu_MF
        d_gate, d_up = by.quantise(d_gate_MF), by.quantise(d_up_MF)
        d_x_MD = by.multiply(d_gate, gate_w.transposed()) + by.multiply(d_up, up_w.transposed())
        d_gate_FD, d_up_FD = (by.weight_gradient(d, x_MD, rounded_x=True) for d in (d_gate_MF, d_up_MF))
        return d_x_MD, d_gate_FD, d_up_FD, d_down_DF, None


def _linear_forward(linear, after_attention, by, x):
    rows = x.reshape(-1, x.shape[-1])
    return _Linear.apply(rows, linear.weight, after_attention, by).to(x.dtype).unflatten(0, x.shape[:-1])


def _expert_forward(mlp, by, x):
    weights = mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight
    return _Expert.apply(x.reshape(-1, x.shape[-1]), *weights, by).to(x.dtype).unflatten(0, x.shape[:-1])


def use_fp8(
    model: nn.Module, multiply: Callable = fp8_product.product, quantise: Callable = fp8_product.quantise
) -> nn.Module:
    """Let the model compute the products of attention's and feed-forward blocks' matrices in FP8; gives the model back.

    Nothing else changes: parameters, their names and the checkpoint stay, and the optimizer steps the float32 weights.
    `multiply` takes two `Quantised` and gives a b^T in float32: `partial(product, inner=limited_sum)`, or a kernel.
    `quantise` makes them. `minimoe_kernels.fp8_training` has both as kernels.
    Experts run one after the other (`loop`); routed and shared ones are treated alike. Absorbed decoding multiplies by
    `kv_b_proj` itself, and stays as it was.

    Raises `ValueError` if there is nothing in the model to be computed in FP8, or if its weights are not float32.
    Source: arXiv 2412.19437 section 3.3, figure 6. Chapter 17.
    """
    blocks = [m for m in model.modules() if isinstance(m, MultiHeadLatentAttention | GroupedQueryAttention | MLP | MoE)]
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no attention and no feed-forward block to compute in FP8")
    wrong = {p.dtype for p in model.parameters()} - {torch.float32}
    if wrong:
        raise ValueError(f"weights in {wrong.pop()}: FP8 training keeps master weights in torch.float32")
    release_fp8(model)
    by = _Arithmetic(multiply, quantise)
    experts = [e for m in blocks if isinstance(m, MoE) for e in m.modules() if isinstance(e, MLP)]
    for block in blocks:
        if isinstance(block, MoE):
            block.dispatch = loop
        elif block in experts:
            block.forward = partial(_expert_forward, block, by)
        else:
            for name, part in block.named_children():
                if isinstance(part, nn.Linear):
                    part.forward = partial(_linear_forward, part, name == "o_proj", by)
    return model


def release_fp8(model: nn.Module) -> nn.Module:
    """Undo `use_fp8`: the library's own functions, in float32, again."""
    for module in model.modules():
        if isinstance(module, nn.Linear | MLP):
            module.__dict__.pop("forward", None)
        elif isinstance(module, MoE) and module.dispatch is loop:
            module.dispatch = grouped
    return model
