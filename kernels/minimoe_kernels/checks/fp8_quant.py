"""Checks of `minimoe_kernels.fp8_quant`."""

import torch

from minimoe_kernels.checks.agreement import equal, guarded

SIZES = [(5, 24), (20, 300), (130, 140), (1, 128)]
DTYPES = [torch.bfloat16, torch.float32]


def outliers(rows, columns, dtype, seed=0):
    """Numbers of very different sizes, a row and a tile of zeros, and one outlier."""
    generator = torch.Generator().manual_seed(seed + rows * 1000 + columns)
    x = torch.randn(rows, columns, generator=generator) * torch.exp(2 * torch.randn(rows, 1, generator=generator))
    x[rows // 2] = 0
    x[-1, : columns // 2] *= 1e-3
    x[0, -1] = 1e4
    return x.to(dtype)


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Every bit of the FP8 numbers and of the scales, and back."""
    for rows, columns in sizes:
        for dtype in dtypes:
            x = outliers(rows, columns, dtype)
            for power in (False, True):
                for kind in ("tiles", "blocks"):
                    name = f"quantise_{kind} {rows}x{columns} {dtype} power={power}"
                    fp8, scale = getattr(ops, f"quantise_{kind}")(guarded(x, device), power)
                    want_fp8, want_scale = getattr(ops, f"quantise_{kind}_reference")(x, power)
                    equal(f"{name}: scales", scale, want_scale)
                    equal(f"{name}: FP8", fp8, want_fp8)
                    back = ops.dequantise(guarded(want_fp8, device), guarded(want_scale, device), dtype)
                    equal(f"{name}: back", back, ops.dequantise_reference(want_fp8, want_scale, dtype))
