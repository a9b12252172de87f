"""Checks of `minimoe_kernels.fp8_gemm`."""

from itertools import product

import torch

from minimoe_kernels.checks.agreement import agree, guarded
from minimoe_kernels.checks.fp8_quant import outliers
from minimoe_kernels.fp8_quant import quantise_blocks_reference, quantise_tiles_reference

SIZES = [(5, 40, 300), (32, 32, 128), (3, 200, 256), (1, 16, 64)]  # rows, outputs, summed


def exactly(fp8, scale, rows):
    """What FP8 numbers and scales stand for, in float64."""
    spread = scale.double().repeat_interleave(rows, 0)[: len(fp8)].repeat_interleave(128, 1)
    return fp8.double() * spread[:, : fp8.shape[1]]


def check(ops, device="cpu", sizes=SIZES, dtypes=(torch.bfloat16, torch.float32)):
    """Against the float64 product of what the FP8 numbers and scales stand for, the weight in blocks and in tiles."""
    for (M, F, D), rows in product(sizes, (128, 1)):
        quantise = quantise_tiles_reference if rows == 1 else quantise_blocks_reference
        x_MD, x_scale_MJ = quantise_tiles_reference(outliers(M, D, torch.float32))
        weight_FD, w_scale_IJ = quantise(outliers(F, D, torch.float32, seed=3))
        operands = x_MD, x_scale_MJ, weight_FD, w_scale_IJ
        exact = exactly(x_MD, x_scale_MJ, 1) @ exactly(weight_FD, w_scale_IJ, rows).t()
        for dtype in dtypes:
            got = ops.fp8_gemm(*(guarded(t, device) for t in operands), dtype)
            usual = ops.fp8_gemm_reference(*operands, dtype)
            # the product of the scales, and with it the sum, are rounded to float32: outliers decide the mean square
            floor = 2 * 2.0**-24 * float(exact.abs().max())
            agree(f"fp8_gemm {M}x{F}x{D} {dtype}, {rows} rows a weight scale", got, exact, usual, floor=floor)
