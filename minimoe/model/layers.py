"""The two small layers that everything else is made of: RMSNorm and the SwiGLU feed-forward block.

RMSNorm divides a vector by its root-mean-square and multiplies by a learned gain; unlike LayerNorm it subtracts no
mean. SwiGLU multiplies two projections of its input, one of them passed through SiLU, and projects the product back.

How the production version differs: on a GPU both are memory-bound, so engines fuse the norm with the residual addition
before it and the product `silu(gate) * up` with the quantisation to FP8 after it.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["MLP", "RMSNorm", "at_least_float32", "rms_norm", "swiglu"]


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """`x` in float32 if it is narrower, unchanged otherwise (float64 stays: the parity tests run in it)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Scale every vector of the last axis to root-mean-square 1, then by `weight`.

    y = weight * x / sqrt(mean(x^2) + eps). The mean is taken in float32 at least, whatever the input's dtype.

    Takes any float tensor and a gain as wide as its last axis; gives a tensor like `x`. A zero vector stays zero.
    Source: Zhang and Sennrich, arXiv 1910.07467; `RMSNorm` of DeepSeek-V3's inference/model.py @9b4e9788. Chapter 01.
    """
    if x.dtype in (torch.float32, torch.float64):
        return _RMSNorm.apply(x, weight, eps)
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    """Keeps the input and one number a row; torch's own, on a CPU, is a chain of small operations both ways."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        scale = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx, d_out):
        x, weight, scale = ctx.saved_tensors
        unit = x * scale
        along = d_out * unit
        d_weight = along.flatten(0, -2).sum(0)
        along = (along @ weight)[..., None]
        return torch.addcmul(d_out * weight, unit, along, value=-1 / x.shape[-1]).mul_(scale), d_weight, None


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain of `width` numbers, one at the start."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last axis of `x`; shape and dtype stay."""
        return rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}"


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up that keeps its two inputs and nothing else: the sigmoid is cheaper to redo than to store."""

    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, d_out):
        gate, up = ctx.saved_tensors
        d_gate = torch.ops.aten.silu_backward(d_out * up, gate)
        return d_gate, F.silu(gate).mul_(d_out)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, with silu(z) = z * sigmoid(z).

    Takes two float tensors of one shape, gives one like them.
    Source: Shazeer, arXiv 2002.05202; `MLP.forward` of DeepSeek-V3's inference/model.py @9b4e9788. Chapter 01.
    """
    return _SwiGLU.apply(gate, up)


class MLP(nn.Module):
    """The SwiGLU feed-forward block: a dense layer's FFN, a routed expert and the shared experts are all this."""

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """down(silu(gate(x)) * up(x)) on the last axis."""
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))
