"""Checks of `minimoe_kernels.router`."""

import torch

from minimoe_kernels.checks.agreement import agree, equal, guarded

# experts, chosen, groups, groups kept
SIZES = [(16, 3, 4, 2), (10, 4, 1, 1), (20, 6, 5, 3), (8, 8, 1, 1), (4, 2, 4, 2), (64, 8, 8, 4), (1, 1, 1, 1)]


def check(ops, device="cpu", sizes=SIZES, tokens=7):
    """The chosen experts exactly, with ties; the gates against float64."""
    for E, K, G, kept in sizes:
        generator = torch.Generator().manual_seed(E * 10 + K)
        logits = torch.randn(tokens, E, generator=generator)
        logits[0], logits[-1] = 0.0, logits[-1].round()  # all equal; some equal
        bias = torch.randn(E, generator=generator) * 0.1
        for what, b in (("", bias), (" tied", torch.zeros(E)), (" all negative", bias - 3)):
            for normalise, factor in ((True, 2.5), (False, 1.0)):
                options = (K, G, kept, factor, normalise)
                chosen, gates = ops.route(guarded(logits, device), guarded(b, device), *options)
                want, usual = ops.route_reference(logits, b, *options)
                _, exact = ops.route_reference(logits.double(), b.double(), *options)
                name = f"route E={E} K={K} G={G}{what} {normalise=}"
                equal(f"{name}: chosen", chosen, want)
                agree(f"{name}: gates", gates, exact, usual)
