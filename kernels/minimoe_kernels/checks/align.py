"""Checks of `minimoe_kernels.align`."""

import torch

from minimoe_kernels.checks.agreement import equal, guarded

# tokens, experts each, experts, tile
SIZES = [(7, 2, 5, 4), (1, 1, 1, 16), (20, 3, 6, 16), (5, 4, 4, 2), (700, 2, 3, 16)]  # the last is more than one chunk


def assignments(M, K, E, kind, seed=0):
    """Expert ids without repetition in a token: random, one expert taking all it can, or none for the last."""
    generator = torch.Generator().manual_seed(seed + M * 10 + E)
    scores = torch.rand(M, E, generator=generator)
    if kind == "one takes all":
        scores[:, E // 2] = 2
    if kind == "last is idle" and K < E:
        scores[:, -1] = -1
    return scores.argsort(1, descending=True)[:, :K].int()


def check(ops, device="cpu", sizes=SIZES):
    """The order of a stable sort, exactly, and every tile."""
    for M, K, E, tile in sizes:
        for kind in ("random", "one takes all", "last is idle"):
            chosen = assignments(M, K, E, kind)
            got, want = ops.align(guarded(chosen, device), E, tile), ops.align_reference(chosen, E, tile)
            for part in ("ends_E", "order_A", "where_MK", "tile_expert", "tile_start"):
                equal(f"align {M}x{K} of {E}, {kind}: {part}", getattr(got, part), getattr(want, part))
