"""Checks of `minimoe_kernels.mla_prefill`."""

import torch

from minimoe_kernels.checks.agreement import agree, guarded
from minimoe_kernels.checks.gradients import gradients

# sequences, queries, keys, heads, no-position, rotary, value
SIZES = [(2, 35, 35, 3, 32, 16, 16), (1, 5, 40, 2, 16, 16, 32), (1, 1, 1, 1, 16, 16, 16), (1, 33, 65, 1, 32, 16, 16)]
DTYPES = [torch.bfloat16, torch.float32]


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Whole prompts and later chunks, lengths that no tile divides."""
    for B, T, S, H, N, R, W in sizes:
        for dtype in dtypes:
            generator = torch.Generator().manual_seed(T * 100 + S)
            shapes = (B, T, H, N), (B, T, H, R), (B, S, H, N), (B, S, R), (B, S, H, W)
            inputs = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
            scale = 2 * (N + R) ** -0.5
            d_outs = [torch.randn(B, T, H, W, generator=generator).to(dtype), torch.randn(B, T, H, generator=generator)]
            there = [[guarded(t, device) for t in tensors] for tensors in (inputs, d_outs)]
            (out, log_sum), grads = gradients(ops.mla_prefill, *there, scale)
            wide = [[t.double() for t in tensors] for tensors in (inputs, d_outs)]
            (exact, exact_log), exact_grads = gradients(ops.mla_prefill_reference, *wide, scale)
            (usual, usual_log), usual_grads = gradients(ops.mla_prefill_reference, inputs, d_outs, scale)
            name = f"mla_prefill B={B} T={T} S={S} H={H} {N}+{R}/{W} {dtype}"
            # the probabilities are rounded to 16 bits before the second product, see checks.mla_decode
            rounding = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-22
            agree(name, out, exact, usual, floor=rounding * float(exact.abs().max()) / 2)
            # a score is a sum of N + R float32 products
            reach = (N + R) ** 0.5 * 2.0**-24 * float(exact_log.abs().max())
            agree(f"{name}: log sum", log_sum, exact_log, usual_log, floor=reach)
            for which, got, want, plain in zip(("q_nope", "q_rot", "k_nope", "k_rot", "v"), grads, exact_grads,
                                               usual_grads, strict=True):  # fmt: skip
                # probabilities and slopes are rounded to the inputs' type too, and delta comes from the rounded output
                floor = rounding * float(want.abs().max())
                agree(f"{name}: gradient of {which}", got, want, plain, floor=floor)
