"""Checks of `minimoe_kernels.rms_norm`."""

import torch

from minimoe_kernels.checks.agreement import agree, equal, guarded
from minimoe_kernels.checks.gradients import gradients

SIZES = [(5, 24), (3, 128), (1, 1), (2, 300), (7, 64), (0, 16)]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
EPS = 1e-6


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Forward and backward, with and without residual, against float64."""
    for M, D in sizes:
        for dtype in dtypes:
            generator = torch.Generator().manual_seed(M * 1000 + D)
            x, residual, d_out, d_sum = (torch.randn(M, D, generator=generator).to(dtype) for _ in range(4))
            weight = (1 + 0.3 * torch.randn(D, generator=generator)).to(dtype)
            if M > 1:
                x[1] = 0  # a row of zeros stays zeros
            what = f"{M}x{D} {dtype}"
            pair = ops.rms_norm, ops.rms_norm_reference
            _forward_and_backward(f"rms_norm {what}", *pair, [x, weight], [d_out], device)
            pair = ops.add_rms_norm, ops.add_rms_norm_reference
            _forward_and_backward(f"add_rms_norm {what}", *pair, [x, residual, weight], [d_out, d_sum], device)


def _forward_and_backward(name, kernel, reference, inputs, d_outs, device):
    there = [[guarded(t, device) for t in tensors] for tensors in (inputs, d_outs)]
    ours, our_grads = gradients(kernel, *there, EPS)
    usual, usual_grads = gradients(reference, inputs, d_outs, EPS)
    exact, exact_grads = gradients(reference, [t.double() for t in inputs], [t.double() for t in d_outs], EPS)
    if len(ours) == 2:
        equal(f"{name}: sum", ours[1], usual[1])
        # the rounded sum is what is normalised
        rounded = [usual[1].double(), inputs[-1].double()]
        exact_out, exact_grads = gradients(lambda s, w: w * s * scale_of(s, EPS), rounded, [d_outs[0].double()])
        d_sum = exact_grads[0] + d_outs[1].double()
        exact, exact_grads = [exact_out[0], exact[1]], [d_sum, d_sum, exact_grads[1]]
    agree(f"{name}: out", ours[0], exact[0], usual[0], unbiased=False)
    # d_x is a difference of two terms, which at D = 1 cancel: each is known to a few float32 roundings
    scale = scale_of(exact[-1] if len(ours) == 2 else inputs[0].double(), EPS)
    terms = d_outs[0].double() * inputs[-1].double() * scale
    floor = 4 * 2.0**-24 * float(terms.abs().sum()) if terms.shape[1] == 1 else 0.0
    for which, got, want, plain in zip("xrw", our_grads, exact_grads, usual_grads, strict=False):
        agree(f"{name}: gradient {which}", got, want, plain, unbiased=False, floor=floor)


def scale_of(x, eps):
    """One number a row: what it is multiplied by."""
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
