"""Checks of `minimoe_kernels.swiglu`."""

import torch

from minimoe_kernels.checks.agreement import agree, guarded
from minimoe_kernels.checks.gradients import gradients

SIZES = [(5, 24), (3, 130), (1, 1), (2, 2300), (0, 8)]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Forward and backward, on matrices of their own and on the two halves of one."""
    for M, F in sizes:
        for dtype in dtypes:
            generator = torch.Generator().manual_seed(M * 1000 + F)
            gate, up, d_out = (2 * torch.randn(M, F, generator=generator).to(dtype) for _ in range(3))
            if M > 1:
                gate[0, 0], gate[1, 0] = 30, -30
            exact, exact_grads = gradients(_formula, [gate.double(), up.double()], [d_out.double()])
            usual, usual_grads = gradients(ops.swiglu_reference, [gate, up], [d_out])
            both = guarded(torch.cat([gate, up], dim=1), device)
            for inputs in ([guarded(gate, device), guarded(up, device)], [both[:, :F], both[:, F:]]):
                got, grads = gradients(ops.swiglu, inputs, [guarded(d_out, device)])
                name = f"swiglu {M}x{F} {dtype}"
                agree(f"{name}: out", got[0], exact[0], usual[0])
                for which, ours, want, plain in zip("gu", grads, exact_grads, usual_grads, strict=True):
                    agree(f"{name}: gradient {which}", ours, want, plain)


def _formula(gate, up):
    return gate / (1 + torch.exp(-gate)) * up
