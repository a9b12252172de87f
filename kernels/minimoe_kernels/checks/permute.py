"""Checks of `minimoe_kernels.permute`."""

import torch

from minimoe_kernels.align import Alignment, align_reference
from minimoe_kernels.checks.agreement import agree, equal, guarded
from minimoe_kernels.checks.align import assignments
from minimoe_kernels.checks.gradients import gradients

# tokens, experts each, experts, width, tile
SIZES = [(7, 2, 5, 24, 4), (1, 1, 1, 3, 16), (20, 3, 6, 130, 16), (5, 4, 4, 16, 2)]


def check(ops, device="cpu", sizes=SIZES, dtypes=(torch.bfloat16, torch.float32)):
    """Rows moved exactly; weighted sums and gradients against float64."""
    for M, K, E, D, tile in sizes:
        for kind in ("random", "one takes all", "last is idle"):
            want = align_reference(assignments(M, K, E, kind), E, tile)
            there = [guarded(t, device) if isinstance(t, torch.Tensor) else t for t in vars(want).values()]
            got = Alignment(*there)
            name = f"{M}x{K} of {E}, {kind}"
            for dtype in dtypes if kind == "random" else dtypes[:1]:
                _check_rows(ops, f"{name} D={D} {dtype}", got, want, D, dtype, device)


def _check_rows(ops, name, alignment, reference, D, dtype, device):
    M, K = reference.where_MK.shape
    generator = torch.Generator().manual_seed(D)
    x, d_out = (torch.randn(M, D, generator=generator).to(dtype) for _ in range(2))
    y, d_rows = (torch.randn(M * K, D, generator=generator).to(dtype) for _ in range(2))
    gates = torch.rand(M, K, generator=generator)
    (rows,), (d_x,) = gradients(lambda t: ops.permute(t, alignment), [guarded(x, device)], [guarded(d_rows, device)])
    equal(f"permute {name}", rows, ops.permute_reference(x, reference))

    def plain(function, *inputs):
        return gradients(lambda *t: function(*t, reference), inputs[:-1], inputs[-1:])

    _, (usual,) = plain(ops.permute_reference, x, d_rows)
    _, (exact,) = plain(ops.permute_reference, x.double(), d_rows.double())
    agree(f"permute {name}: gradient", d_x, exact, usual)

    inputs = [guarded(y, device), guarded(gates, device)]
    (out,), grads = gradients(lambda *t: ops.unpermute(*t, alignment), inputs, [guarded(d_out, device)])
    (usual,), usual_grads = plain(ops.unpermute_reference, y, gates, d_out)
    (exact,), exact_grads = plain(ops.unpermute_reference, y.double(), gates.double(), d_out.double())
    agree(f"unpermute {name}", out, exact, usual)
    # a gate's gradient is a sum of D float32 products, which may cancel
    reach = 2.0**-24 * D**0.5 * float(d_out.abs().max() * y.abs().max())
    for which, ours, want, theirs in zip("yg", grads, exact_grads, usual_grads, strict=True):
        agree(f"unpermute {name}: gradient {which}", ours, want, theirs, floor=reach if which == "g" else 0.0)
