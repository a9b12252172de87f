"""To FP8 and back: activations by tiles of 1 x 128, weights by blocks of 128 x 128, each with a scale of its own.

    scale = max |x| / 448;  fp8 = round(x / scale);  x ~ fp8 * scale

A tile's scale is one row's business: an outlier in one token does not cost its neighbours their precision. A weight's
scale serves 128 rows, which makes the scales of a matrix 128 times fewer; weights have few outliers. The scale may be
rounded up to a power of two: dividing by it is then exact, it fits in 8 bits (`ue8m0`), and the largest quotient lies
between 224 and 448 instead of at 448.

Division is `div_rn`: a GPU's `/` may be off by two units in the last place, and then the bits in the file would depend
on where they were written. No quotient needs clamping: the largest is 448 but for a rounding, which the conversion
rounds away, and a clamp would turn NaN into a number. I and J count blocks down and across, X and Y rows and columns
of a weight.

How the production version differs: DeepGEMM wants the scales transposed and padded for its loads, and quantises the
transposed matrix, which the weight gradient needs, in the same pass.
"""

import torch

from minimoe import fp8_blocks
from minimoe_kernels.kernel import cdiv, needs, tl, triton
from minimoe_kernels.sim import empty

__all__ = [
    "dequantise", "dequantise_reference", "quantise_blocks", "quantise_blocks_reference", "quantise_tiles",
    "quantise_tiles_reference",
]  # fmt: skip

FP8_MAX = tl.constexpr(448.0)
TILE = 128


@triton.jit
def scale_of(amax, POWER: tl.constexpr):
    """max / 448, 1 for zeros; with POWER the next power of two that is not smaller."""
    scale = tl.where(amax > 0, tl.div_rn(amax, FP8_MAX), 1.0)
    if POWER:
        bits = scale.to(tl.int32, bitcast=True)  # all mantissa bits added carry into the exponent unless all are zero
        scale = ((bits + 0x7FFFFF) & 0x7F800000).to(tl.float32, bitcast=True)
    return scale


@needs(89)
@triton.jit
def quantise_tiles_kernel(
    x_ptr, fp8_ptr, scale_ptr, M, D, x_row, BLOCK_M: tl.constexpr, TILE_D: tl.constexpr, POWER: tl.constexpr
):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * TILE_D + tl.arange(0, TILE_D)
    mask = (rows[:, None] < M) & (columns[None, :] < D)
    x = tl.load(x_ptr + rows[:, None] * x_row + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    scale = scale_of(tl.max(tl.abs(x), axis=1), POWER)
    fp8 = tl.div_rn(x, tl.broadcast_to(scale[:, None], (BLOCK_M, TILE_D))).to(fp8_ptr.dtype.element_ty)
    tl.store(fp8_ptr + rows[:, None] * D + columns[None, :], fp8, mask=mask)
    tl.store(scale_ptr + rows * tl.num_programs(1) + tl.program_id(1), scale, mask=rows < M)


@needs(89)
@triton.jit
def quantise_blocks_kernel(x_ptr, fp8_ptr, scale_ptr, X, Y, x_row, BLOCK: tl.constexpr, POWER: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = (rows[:, None] < X) & (columns[None, :] < Y)
    x = tl.load(x_ptr + rows[:, None] * x_row + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    scale = scale_of(tl.max(tl.max(tl.abs(x), axis=1), axis=0), POWER)
    fp8 = tl.div_rn(x, tl.zeros_like(x) + scale).to(fp8_ptr.dtype.element_ty)
    tl.store(fp8_ptr + rows[:, None] * Y + columns[None, :], fp8, mask=mask)
    tl.store(scale_ptr + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), scale)


@needs(89)
@triton.jit
def dequantise_kernel(
    fp8_ptr, scale_ptr, out_ptr, X, Y, fp8_row, BLOCK_X: tl.constexpr, TILE_X: tl.constexpr, TILE_Y: tl.constexpr
):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_X + tl.arange(0, BLOCK_X)
    columns = tl.program_id(1) * TILE_Y + tl.arange(0, TILE_Y)
    mask = (rows[:, None] < X) & (columns[None, :] < Y)
    fp8 = tl.load(fp8_ptr + rows[:, None] * fp8_row + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    scale = tl.load(scale_ptr + (rows // TILE_X) * tl.num_programs(1) + tl.program_id(1), mask=rows < X, other=0.0)
    tl.store(out_ptr + rows[:, None] * Y + columns[None, :], fp8 * scale[:, None], mask=mask)


def quantise_tiles(x_MD: torch.Tensor, power_of_two: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations in FP8 with a scale for each 128 numbers of a row: (fp8_MD, scale_MJ).

    A tile of zeros has scale 1; the last tile of a row may be narrower. `power_of_two` rounds scales up. Takes rows of
    which the last axis is contiguous. NaN stays NaN and does not touch the scale of its tile; infinity makes it NaN.
    Source: arXiv 2412.19437 section 3.3.2; `act_quant` of DeepSeek-V3's inference/kernel.py @9b4e9788.
    """
    x_MD = matrix(x_MD)
    M, D = x_MD.shape
    fp8_MD = empty(M, D, dtype=torch.float8_e4m3fn, device=x_MD.device)
    scale_MJ = empty(M, cdiv(D, TILE), device=x_MD.device)
    quantise_tiles_kernel[(cdiv(M, 16), cdiv(D, TILE))](
        x_MD, fp8_MD, scale_MJ, M, D, x_MD.stride(0), BLOCK_M=16, TILE_D=TILE, POWER=power_of_two
    )
    return fp8_MD, scale_MJ


def quantise_blocks(weight_XY: torch.Tensor, power_of_two: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight in FP8 with a scale for each block of 128 x 128: (fp8_XY, scale_IJ). Bit for bit what
    `minimoe.fp8_blocks.quantise` gives, except that NaN and infinity are not refused (see `quantise_tiles`).
    """
    weight_XY = matrix(weight_XY)
    X, Y = weight_XY.shape
    fp8_XY = empty(X, Y, dtype=torch.float8_e4m3fn, device=weight_XY.device)
    scale_IJ = empty(cdiv(X, TILE), cdiv(Y, TILE), device=weight_XY.device)
    quantise_blocks_kernel[tuple(scale_IJ.shape)](
        weight_XY, fp8_XY, scale_IJ, X, Y, weight_XY.stride(0), BLOCK=TILE, POWER=power_of_two, num_warps=8
    )
    return fp8_XY, scale_IJ


def dequantise(fp8_XY, scale, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The numbers that FP8 and scales stand for, in `dtype`; tiles or blocks, as the shape of the scales says.

    Raises `ValueError` if the scales fit neither tiles of 1 x 128 nor blocks of 128 x 128.
    """
    fp8_XY = matrix(fp8_XY)
    X, Y = fp8_XY.shape
    out_XY = empty(X, Y, dtype=dtype, device=fp8_XY.device)
    dequantise_kernel[(cdiv(X, 32), cdiv(Y, TILE))](
        fp8_XY, scale.contiguous(), out_XY, X, Y, fp8_XY.stride(0),
        BLOCK_X=32, TILE_X=rows_a_scale(fp8_XY, scale), TILE_Y=TILE,
    )  # fmt: skip
    return out_XY


def matrix(x):
    """`x` with its last axis contiguous; raises unless it has two."""
    if x.ndim != 2:
        raise ValueError(f"shape {tuple(x.shape)}: want two axes")
    return x if x.stride(1) == 1 else x.contiguous()


def rows_a_scale(fp8_XY, scale) -> int:
    """1 for tiles, 128 for blocks; of one row the two are the same, and it is 1."""
    X, Y = fp8_XY.shape
    across = cdiv(Y, TILE)
    found = {(cdiv(X, TILE), across): TILE, (X, across): 1}.get(tuple(scale.shape))
    if found is None:
        want = f"({X}, {across}) for tiles or ({cdiv(X, TILE)}, {across}) for blocks"
        raise ValueError(f"scales of shape {tuple(scale.shape)} for FP8 of shape {(X, Y)}: want {want}")
    return found


def up_to_power_of_two(scale):
    """The next power of two that is not smaller."""
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())


def quantise_tiles_reference(x_MD, power_of_two=False):
    """`quantise_tiles` in PyTorch."""
    return _quantised(x_MD, (1, TILE), power_of_two)


def quantise_blocks_reference(weight_XY, power_of_two=False):
    """`quantise_blocks` in PyTorch; without powers of two the library's own."""
    return _quantised(weight_XY, (TILE, TILE), power_of_two)


def _quantised(x_XY, block, power_of_two):
    fp8_XY, scale_IJ = fp8_blocks.quantise(x_XY, block)
    if not power_of_two:
        return fp8_XY, scale_IJ
    scale_IJ = up_to_power_of_two(scale_IJ)
    spread = scale_IJ.repeat_interleave(block[0], 0)[: len(x_XY)].repeat_interleave(block[1], 1)[:, : x_XY.shape[1]]
    return (x_XY.float() / spread).to(torch.float8_e4m3fn), scale_IJ


def dequantise_reference(fp8_XY, scale, dtype=torch.float32):
    """`dequantise` as the library has it."""
    return fp8_blocks.dequantise(fp8_XY, scale, (rows_a_scale(fp8_XY, scale), TILE), dtype)
