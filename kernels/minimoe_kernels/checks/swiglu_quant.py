"""Checks of `minimoe_kernels.swiglu_quant`."""

import torch

from minimoe_kernels.checks.agreement import Disagreement, equal, guarded
from minimoe_kernels.checks.fp8_quant import outliers

SIZES = [(5, 24), (20, 300), (1, 128)]
DTYPES = [torch.bfloat16, torch.float32]


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Equal to the two steps, but for the few numbers that `exp` puts on the other side of a midpoint."""
    for rows, columns in sizes:
        for dtype in dtypes:
            gate, up = outliers(rows, columns, dtype), outliers(rows, columns, dtype, seed=7)
            for power in (False, True):
                name = f"swiglu_quant {rows}x{columns} {dtype} power={power}"
                fp8, scale = ops.swiglu_quant(guarded(gate, device), guarded(up, device), power)
                want_fp8, want_scale = ops.swiglu_quant_reference(gate, up, power)
                step = 2.0**-7 if dtype == torch.bfloat16 else 2.0**-21
                _nearly(f"{name}: scales", scale.cpu(), want_scale, 0.0 if power else step, share=1.0)
                _nearly(f"{name}: FP8", fp8.float().cpu(), want_fp8.float(), 1 / 8, share=0.01)
                equal(f"{name}: zeros", fp8.cpu().float() == 0, want_fp8.float() == 0)


def _nearly(name, got, want, step, share):
    """No larger a share differs, and by no more than one step of the format."""
    differs = got != want
    if differs.float().mean() > share or ((got - want).abs() > step * want.abs()).any():
        most = float((got - want).abs().max())
        raise Disagreement(f"{name}: {int(differs.sum())} of {got.numel()} differ, by up to {most:g}")
