"""Outputs and gradients of a function in one go, for a kernel and for its reference alike."""

import torch

__all__ = ["gradients"]


def gradients(function, inputs, d_outs, *rest):
    """(outputs, gradients of the float inputs): `function(*inputs, *rest)`, pulled back along `d_outs`."""
    leaves = [t.detach().requires_grad_(True) if t.is_floating_point() else t for t in inputs]
    outs = function(*leaves, *rest)
    outs = list(outs) if isinstance(outs, tuple) else [outs]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    pairs = [(out, d) for out, d in zip(outs, d_outs, strict=True) if out.requires_grad]
    got = torch.autograd.grad([o for o, _ in pairs], wanted, [d for _, d in pairs])
    return [out.detach() for out in outs], list(got)
