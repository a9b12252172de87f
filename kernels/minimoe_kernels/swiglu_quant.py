"""SwiGLU that leaves as FP8: the product, its tile's scale and the rounding in one pass.

The down projection of an expert wants its input in FP8. Done in two kernels the product is written in 16 bits and read
again, 4 bytes of traffic for every number, only to lose half its bits. Here it never leaves the registers: 2 reads of
16 bits, 1 write of 8, and a scale for each 128.

The product is rounded to the input's type before the scale is taken, so that the result is, bit for bit, that of
`quantise_tiles(swiglu(gate, up))`: fused or not must not show in a loss curve. J counts tiles.

How the production version differs: V3 also stores the *input* of SwiGLU in FP8 and recomputes the product in the
backward pass; TileKernels' version multiplies the routed weight in.
"""

import torch

from minimoe_kernels.fp8_quant import TILE, quantise_tiles_reference, scale_of
from minimoe_kernels.kernel import cdiv, needs, tl, triton
from minimoe_kernels.sim import empty
from minimoe_kernels.swiglu import by_rows, swiglu_reference

__all__ = ["swiglu_quant", "swiglu_quant_reference"]


@needs(89)
@triton.jit
def swiglu_quant_kernel(
    gate_ptr, up_ptr, fp8_ptr, scale_ptr, M, F, gate_row, up_row,
    BLOCK_M: tl.constexpr, TILE_F: tl.constexpr, POWER: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * TILE_F + tl.arange(0, TILE_F)
    mask = (rows[:, None] < M) & (columns[None, :] < F)
    gate = tl.load(gate_ptr + rows[:, None] * gate_row + columns[None, :], mask=mask, other=0.0)
    up = tl.load(up_ptr + rows[:, None] * up_row + columns[None, :], mask=mask, other=0.0)
    wide = gate.to(tl.float32)
    product = (wide * tl.sigmoid(wide) * up.to(tl.float32)).to(gate.dtype).to(tl.float32)
    scale = scale_of(tl.max(tl.abs(product), axis=1), POWER)
    fp8 = tl.div_rn(product, tl.broadcast_to(scale[:, None], (BLOCK_M, TILE_F))).to(fp8_ptr.dtype.element_ty)
    tl.store(fp8_ptr + rows[:, None] * F + columns[None, :], fp8, mask=mask)
    tl.store(scale_ptr + rows * tl.num_programs(1) + tl.program_id(1), scale, mask=rows < M)


def swiglu_quant(gate_MF, up_MF, power_of_two: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """silu(gate) * up in FP8 with a scale for each 128 numbers of a row: (fp8_MF, scale_MJ).

    Takes what `swiglu` takes (not float64), gives what `quantise_tiles` gives. Raises `ValueError` for inputs that
    disagree. Source: arXiv 2412.19437 section 3.3.
    """
    gate_MF, up_MF = by_rows("gate", gate_MF), by_rows("up", up_MF)
    if gate_MF.shape != up_MF.shape or gate_MF.dtype != up_MF.dtype:
        ours, theirs = (f"{tuple(t.shape)} {t.dtype}" for t in (gate_MF, up_MF))
        raise ValueError(f"gate is {ours}, up is {theirs}: they must agree")
    M, F = gate_MF.shape
    fp8_MF = empty(M, F, dtype=torch.float8_e4m3fn, device=gate_MF.device)
    scale_MJ = empty(M, cdiv(F, TILE), device=gate_MF.device)
    swiglu_quant_kernel[(cdiv(M, 16), cdiv(F, TILE))](
        gate_MF, up_MF, fp8_MF, scale_MJ, M, F, gate_MF.stride(0), up_MF.stride(0),
        BLOCK_M=16, TILE_F=TILE, POWER=power_of_two,
    )  # fmt: skip
    return fp8_MF, scale_MJ


def swiglu_quant_reference(gate_MF, up_MF, power_of_two=False):
    """`swiglu_quant` in two steps, the product in float32 and rounded once."""
    product_MF = swiglu_reference(gate_MF.float(), up_MF.float()).to(gate_MF.dtype)
    return quantise_tiles_reference(product_MF, power_of_two)
