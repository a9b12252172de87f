"""Checks of `minimoe_kernels.grouped_gemm`."""

import torch

from minimoe_kernels.align import align_reference
from minimoe_kernels.checks.agreement import agree, guarded
from minimoe_kernels.checks.align import assignments
from minimoe_kernels.checks.gradients import gradients

# tokens, experts each, experts, outputs, summed, tile
SIZES = [(9, 2, 4, 24, 40, 16), (3, 1, 5, 16, 16, 16), (20, 2, 3, 32, 70, 32), (2, 2, 2, 130, 8, 16)]


def check(ops, device="cpu", sizes=SIZES, dtypes=(torch.bfloat16, torch.float32)):
    """Forward, gradient of the rows, gradient of the weights; balanced, one expert with all, an idle one."""
    for M, K, E, F, D, tile in sizes:
        for kind in ("random", "one takes all", "last is idle"):
            alignment = align_reference(assignments(M, K, E, kind), E, tile)
            there = type(alignment)(*(
                guarded(t, device) if isinstance(t, torch.Tensor) else t for t in vars(alignment).values()
            ))  # fmt: skip
            for dtype in dtypes:
                _check_one(ops, f"{M}x{K} of {E}, {F}x{D}, {kind}, {dtype}", alignment, there, (F, D, dtype), device)


def _check_one(ops, name, alignment, there, sizes, device):
    F, D, dtype = sizes
    A, E = len(alignment.order_A), len(alignment.ends_E)
    generator = torch.Generator().manual_seed(A * 100 + F)
    x, d_out = (torch.randn(A, width, generator=generator).to(dtype) for width in (D, F))
    weight = torch.randn(E, F, D, generator=generator).to(dtype)
    guards = [guarded(t, device) for t in (x, weight, d_out)]
    (out,), grads = gradients(lambda *t: ops.grouped_gemm(*t, there), guards[:2], guards[2:])
    (usual,), usual_grads = gradients(lambda *t: ops.grouped_gemm_reference(*t, alignment), [x, weight], [d_out])
    wide = [t.double() for t in (x, weight, d_out)]
    (exact,), exact_grads = gradients(lambda *t: ops.grouped_gemm_reference(*t, alignment), wide[:2], wide[2:])
    agree(f"grouped_gemm {name}", out, exact, usual)
    for which, ours, want, theirs in zip(("rows", "weights"), grads, exact_grads, usual_grads, strict=True):
        agree(f"grouped_gemm {name}: gradient of {which}", ours, want, theirs)
