"""Checks of `minimoe_kernels.mla_decode`."""

import torch

from minimoe_kernels.checks.agreement import agree, equal, guarded

# sequences' lengths, heads, latent, rotary, page, splits
SIZES = [
    ((19, 0, 1), 3, 32, 16, 4, 2),
    ((40, 33), 16, 16, 16, 16, 3),
    ((64,), 20, 64, 32, 64, 1),
    ((5, 70, 16), 2, 32, 16, 8, 5),
]
DTYPES = [torch.bfloat16, torch.float32]


def paged(lengths, width, page, dtype, seed=0):
    """A cache whose unused entries are NaN and whose unused slots name no page: (cache, table)."""
    generator = torch.Generator().manual_seed(seed)
    slots = max(1, max(-(-n // page) for n in lengths)) + 1
    used = sum(-(-n // page) for n in lengths)
    order = torch.randperm(used + 2, generator=generator).tolist()
    cache = torch.full((used + 2, page, width), float("nan"))
    table = torch.full((len(lengths), slots), 2**30, dtype=torch.int32)
    for b, length in enumerate(lengths):
        for j in range(-(-length // page)):
            table[b, j] = order.pop()
            n = min(page, length - j * page)
            cache[table[b, j], :n] = torch.randn(n, width, generator=generator)
    return cache.to(dtype), table


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Ragged lengths, an empty sequence, foreign pages full of NaN; splits that do not change the result's meaning."""
    for lengths, H, C, R, page, splits in sizes:
        for dtype in dtypes:
            cache, table = paged(lengths, C + R, page, dtype)
            q = torch.randn(len(lengths), H, C + R, generator=torch.Generator().manual_seed(H)).to(dtype)
            count, scale = torch.tensor(lengths, dtype=torch.int32), (C + R) ** -0.5
            there = [guarded(t, device) for t in (q, cache, table, count)]
            exact = ops.mla_decode_reference(q.double(), cache.double(), table, count, C, scale)
            usual = ops.mla_decode_reference(q, cache, table, count, C, scale)
            for n in {1, splits}:
                got = ops.mla_decode(*there, C, scale, splits=n)
                name = f"mla_decode lengths={lengths} H={H} C={C} R={R} page={page} splits={n} {dtype}"
                # the probabilities are rounded to 16 bits before the second product: an error of one unit of each,
                # averaged over the entries, on top of what the reference in float32 has
                rounding = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-22
                floor = rounding * float(exact.abs().max()) / 2
                agree(name, got, exact, usual, floor=floor)
                for b, length in enumerate(lengths):
                    if length == 0:
                        equal(f"{name}: an empty sequence", got[b].cpu(), torch.zeros(H, C, dtype=dtype))
