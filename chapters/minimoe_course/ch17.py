"""Exercises of chapter 17, FP8: a byte, a rounding, a tile in a kernel, a product, a gradient, and a lost update."""

import math

import torch

from minimoe import fp8_blocks
from minimoe.training import fp8, fp8_product
from minimoe_course.exercise import Exercise, Law, Wrong
from minimoe_course.first_kernels import Launched
from minimoe_course.fp8_numbers import as_fp8
from minimoe_kernels import fp8_quant as fp8_quant_module
from minimoe_kernels.kernel import load
from minimoe_kernels.sim import rounding

__all__ = ["EXERCISES", "slipped"]

BY_HAND = Law(
    "you let PyTorch convert. Take the number apart yourself.",
    lambda fn, case: not {"float8_e4m3fn", "float8_e5m2"} & set(getattr(getattr(fn, "__code__", None), "co_names", ())),
)


# --- one byte ---------------------------------------------------------------------------------------------------------


def decode(byte):
    """What PyTorch says that the byte is worth."""
    return torch.tensor([byte], dtype=torch.uint8).view(torch.float8_e4m3fn).float().item()


def _decode_inputs(g: torch.Generator):
    for bits in ("00111000", "01000100", "11000100", "00000011", "00001000", "10000111", "01111110", "11111111", "00000000", "01111000"):
        yield {"byte": int(bits, 2)}


def _decoded(sign=lambda b: -1.0 if b >= 128 else 1.0, bias=7, hidden=1.0, small=lambda m: m / 8 * 2.0**-6, nan=lambda e, m: e == 15 and m == 7):
    def answer(byte):
        exponent, mantissa = byte // 8 % 16, byte % 8
        if nan(exponent, mantissa):
            return math.nan
        if exponent == 0:
            return sign(byte) * small(mantissa)
        return sign(byte) * (hidden + mantissa / 8) * 2.0 ** (exponent - bias)

    return answer


def _infinite(byte):
    right = decode(byte)
    return math.copysign(math.inf, 127.5 - byte) if math.isnan(right) else right


def _ieee(byte):
    if byte // 8 % 16 < 15:
        return decode(byte)
    return math.nan if byte % 8 else math.copysign(math.inf, 127.5 - byte)


def _sign_in_exponent(byte):
    exponent, mantissa = byte // 8, byte % 8
    if exponent in (0, 15) and (exponent == 0 or mantissa == 7):
        return decode(byte)
    return (-1.0 if byte >= 128 else 1.0) * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


DECODE = Exercise(
    key="17.decode",
    reference=decode,
    source=rounding.FP8.table,
    inputs=_decode_inputs,
    tolerance=0.0, because="every number of the format is exact in float32",
    wrong=(
        Wrong("bias of 8", _decoded(bias=8), "normal numbers are half as large as they should be: the bias is 7."),
        Wrong("no bias", _decoded(bias=0), "the exponent's bits are stored with 7 added. Subtract it: 0111 means 2 to the 0."),
        Wrong("no hidden one", _decoded(hidden=0.0), "a normal number is 1 + mantissa / 8; the 1 is not stored."),
        Wrong("no subnormals", _decoded(small=lambda m: (1 + m / 8) * 2.0**-7), "exponent 0000 is special: no hidden 1, and the exponent stays at -6. Byte 0 must be 0."),
        Wrong("subnormals flushed", _decoded(small=lambda m: 0.0), "exponent 0000 with a mantissa is not 0: it is mantissa / 8 times 2 to the -6."),
        Wrong("subnormal exponent", _decoded(small=lambda m: m / 8 * 2.0**-7), "below the smallest normal number the exponent stays at -6; you let it fall to -7, and there is a hole."),
        Wrong("mantissa whole", _decoded(small=lambda m: m * 2.0**-6), "a subnormal number is mantissa / 8 times 2 to the -6; you left out the eighth."),
        Wrong("480", _decoded(nan=lambda e, m: False), "1111 with mantissa 111 is NaN, not 480: the largest number is 448."),
        Wrong("all ones are special", _decoded(nan=lambda e, m: e == 15), "you take exponent 1111 for NaN altogether, as IEEE formats do. e4m3 spends one pattern on NaN and seven on numbers up to 448."),
        Wrong("IEEE's infinity", _ieee, "you read exponent 1111 as IEEE formats do, as infinity and NaN. e4m3 spends one pattern on NaN and seven on numbers up to 448."),
        Wrong("sign in the exponent", _sign_in_exponent, "the sign's bit is still in your exponent: keep four bits, byte // 8 % 16."),
        Wrong("always negative", lambda byte: -abs(decode(byte)), "every number is negative: -1 ** s is -(1 ** s) in Python. Write (-1) ** s."),
        Wrong("infinity", _infinite, "e4m3 has no infinity: the pattern 1111 111 is NaN."),
        Wrong("sign ignored", _decoded(sign=lambda b: 1.0), "the first bit is the sign: bytes from 128 on are negative."),
        Wrong("two's complement", lambda byte: decode(byte if byte < 128 else 256 - byte) * (-1 if byte >= 128 else 1), "you read the byte as a negative whole number. The sign is a bit of its own; the other seven mean the same with it."),
        Wrong("e5m2", lambda byte: torch.tensor([byte], dtype=torch.uint8).view(torch.float8_e5m2).float().item(), "you read five bits of exponent and two of mantissa: that is e5m2."),
    ),
    hints=(
        "Cut the byte into 1 + 4 + 3 bits with // and %. Which two patterns of the exponent are special, and is the second one special for every mantissa?",
        "```text\nsign = -1 if the byte is at least 128\nexponent = byte // 8 % 16, mantissa = byte % 8\nif exponent is 15 and mantissa is 7: NaN\n"
        "if exponent is 0: sign * mantissa / 8 * 2^-6\notherwise: sign * (1 + mantissa / 8) * 2^(exponent - 7)\n```",
    ),
    laws=(BY_HAND,),
    solution=(
        "def decode(byte):\n"
        "    sign, exponent, mantissa = -1 if byte >= 128 else 1, byte // 8 % 16, byte % 8\n"
        "    if exponent == 15 and mantissa == 7:\n"
        '        return float("nan")\n'
        "    if exponent == 0:\n"
        "        return sign * mantissa / 8 * 2.0**-6\n"
        "    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)\n"
    ),
    differs="The answer key asks PyTorch; the simulator makes a table of all 256 patterns, of either format.",
)  # fmt: skip


# --- the nearest number -----------------------------------------------------------------------------------------------


def round_e4m3(x_A):
    """The simulator's rounding."""
    return torch.from_numpy(rounding.E4M3.round(x_A.numpy()))


def _round_inputs(g: torch.Generator):
    yield {"x_A": torch.tensor([1.94, 17.0, 19.0, -0.3, 1.1])}
    yield {"x_A": torch.tensor([500.0, 464.0, -1e9, 448.0, 0.0])}
    yield {"x_A": torch.tensor([2.5, 3.5, 0.4, -7.7, 8.4, 15.6]) * 2.0**-9}
    yield {"x_A": torch.randn(40, generator=g) * torch.exp2(torch.randint(-11, 9, (40,), generator=g).float())}


def _rounded(nearest=torch.round, low=-6, bits=3, largest=448.0, exponent=lambda e: e):
    def answer(x_A):
        size_A = x_A.abs()
        exponent_A = exponent(torch.frexp(size_A)[1] - 1)
        exponent_A = exponent_A if low is None else exponent_A.clamp(min=low)
        spacing_A = 2.0 ** (exponent_A - bits).float()
        return (nearest(size_A / spacing_A) * spacing_A).clamp(max=largest) * x_A.sign()

    return answer


def _lost_carry(x_A):
    size_A = x_A.abs()
    exponent_A = (torch.frexp(size_A)[1] - 1).clamp(min=-6)
    steps_A = (size_A * 2.0 ** (3 - exponent_A).float()).round()
    normal_A = size_A >= 2.0**-6
    steps_A = torch.where(normal_A & (steps_A == 16), 8, steps_A)
    return (steps_A * 2.0 ** (exponent_A - 3).float()).clamp(max=448) * x_A.sign()


def _flushed(x_A):
    return torch.where(x_A.abs() < 2.0**-6, 0.0, round_e4m3(x_A))


def _nan_beyond(x_A):
    return torch.where(x_A.abs() > 464, torch.nan, round_e4m3(x_A))


ROUND = Exercise(
    key="17.round_e4m3",
    reference=round_e4m3,
    source=rounding.FP8.round,
    inputs=_round_inputs,
    tolerance=1e-7, because="every step is exact in float32: the spacing is a power of two",
    wrong=(
        Wrong("cut off", _rounded(nearest=torch.floor), "you cut off what is too fine, towards zero. Go to the nearest neighbour: 1.94 becomes 2."),
        Wrong("half away from zero", _rounded(nearest=lambda q: (q + 0.5).floor()), "you take a tie away from zero: 17 lies in the middle of 16 and 18 and must become 16, whose mantissa is even."),
        Wrong("rounded up", _rounded(nearest=torch.ceil), "you round away from zero every time."),
        Wrong("lost carry", _lost_carry, "1.94 becomes 1: its mantissa is rounded up to 8 eighths, and the carry into the exponent gets lost. It must become 2."),
        Wrong("subnormals flushed", _flushed, "what is below 2 to the -6 becomes 0. There are seven more numbers down there, 2 to the -9 apart."),
        Wrong("spacing keeps shrinking", _rounded(low=None), "below 2 to the -6 your spacing keeps shrinking: the exponent is at least -6."),
        Wrong("exponent to -7", _rounded(low=-7), "your exponent may fall to -7, which makes the lowest numbers 2 to the -10 apart. It ends at -6."),
        Wrong("not saturated", _rounded(largest=torch.inf), "beyond 448 you go on: there is nothing there, and 448 is the result."),
        Wrong("480", _rounded(largest=480.0), "your largest number is 480; that pattern is NaN, and 448 is the largest."),
        Wrong("NaN beyond", _nan_beyond, "what is too large becomes NaN. On a GPU, and here, it becomes 448."),
        Wrong("two bits", _rounded(bits=2), "you keep two bits of mantissa: that is e5m2. Between two powers of two there are 8 steps, not 4."),
        Wrong("four bits", _rounded(bits=4), "you keep four bits of mantissa; e4m3 has three, 8 steps between two powers of two."),
        Wrong("whole numbers", lambda x_A: x_A.round().clamp(-448, 448), "you round to whole numbers. FP8 is a floating-point format: its spacing follows the size of the number."),
        Wrong("exponent too high", _rounded(exponent=lambda e: e + 1), "your spacing is twice too wide: take the power of two that is not larger than the number."),
        Wrong("sign lost", lambda x_A: round_e4m3(x_A).abs(), "negative numbers become positive."),
        Wrong("logarithm of zero", lambda x_A: torch.where(x_A == 0, torch.nan, _rounded(low=None)(x_A)), "0 becomes NaN: log2(0) is minus infinity, and your spacing 0. The exponent is at least -6."),
        Wrong("logarithm of the negative", lambda x_A: torch.where(x_A < 0, torch.nan, round_e4m3(x_A)), "negative numbers become NaN: they have no logarithm. The exponent is that of |x|."),
    ),
    forbid=(rounding.E4M3.round,),
    laws=(BY_HAND,),
    hints=(
        "How far apart are the neighbours of x? Between 1 and 2 it is 1/8. Once you have the spacing, whole multiples of it are all there is, and `torch.round` goes to the nearest one, ties to even.",
        "```text\nexponent = the whole number e with 2^e <= |x| < 2^(e+1), but at least -6\n   (torch.frexp(x)[1] - 1, or torch.log2(...).floor())\nspacing = 2^(exponent - 3)\n"
        "rounded = round(x / spacing) * spacing\nno farther from zero than 448\n```",
    ),
    solution=(
        "def round_e4m3(x_A):\n"
        "    exponent_A = (torch.frexp(x_A)[1] - 1).clamp(min=-6)\n"
        "    spacing_A = 2.0 ** (exponent_A - 3)\n"
        "    return ((x_A / spacing_A).round() * spacing_A).clamp(-448, 448)\n"
    ),
    differs="It works on the bits of float32: add half of the last kept bit, a little less if that bit is 0, and cut. The carry runs into the exponent by itself.",
)  # fmt: skip


# --- a tile in a kernel -----------------------------------------------------------------------------------------------

QUANTISE_SOLUTION = '''from minimoe_course.fp8_numbers import launched
from minimoe_kernels.kernel import tl, triton


@launched
@triton.jit
def quantise(x_ptr, fp8_ptr, scale_ptr, D, TILE: tl.constexpr):
    m, j = tl.program_id(0), tl.program_id(1)
    columns = j * TILE + tl.arange(0, TILE)
    mask = columns < D
    x = tl.load(x_ptr + m * D + columns, mask=mask, other=0.0)
    amax = tl.max(tl.abs(x), axis=0)
    scale = tl.where(amax > 0, amax / 448.0, 1.0)
    tl.store(fp8_ptr + m * D + columns, (x / scale).to(tl.float8e4nv), mask=mask)
    tl.store(scale_ptr + m * tl.num_programs(1) + j, scale)
'''


def slipped(*changes: tuple[str, str]) -> Launched:
    """The solution of the kernel exercise with a few characters changed: (what stands there, what it becomes), ..."""
    text = QUANTISE_SOLUTION
    for old, new in changes:
        if old not in text:
            raise ValueError(f"quantise: {old!r} does not stand in the solution")
        text = text.replace(old, new)
    return load(text, "quantise_slip").quantise


def quantise(x_MD, tile):
    """The library's quantisation, in tiles of 1 x `tile`."""
    fp8_MD, scale_MJ = fp8_blocks.quantise(x_MD, (1, tile))
    return fp8_MD.float(), scale_MJ


def _quantise_inputs(g: torch.Generator):
    yield {"x_MD": torch.tensor([[448.0, -2.0, 3.0, 0.3, 7.0]]), "tile": 4}
    yield {"x_MD": torch.tensor([[-8.0, 4.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]]), "tile": 2}
    yield {"x_MD": torch.randn(5, 21, generator=g) * torch.tensor([[1.0], [1e-3], [50.0], [3.0], [0.2]]), "tile": 8}


SCALED, STORE_X = "(x / scale)", "tl.store(fp8_ptr + m * D + columns, (x / scale).to(tl.float8e4nv), mask=mask)"
STORE_SCALE = "tl.store(scale_ptr + m * tl.num_programs(1) + j, scale)"
QUANTISE = Exercise(
    key="17.quantise",
    reference=quantise,
    source=fp8_quant_module.quantise_tiles_kernel,
    inputs=_quantise_inputs,
    tolerance=1e-6, because="a maximum and two divisions in float32, and one rounding that must be the same",
    returns=("fp8_MD", "scale_MJ"),
    wrong=(
        Wrong("signed maximum", slipped(("tl.abs(x)", "x")), "a tile whose largest number is negative gets the wrong scale: the maximum is that of the magnitudes."),
        Wrong("no 448", slipped(("amax / 448.0", "amax")), "your scales are 448 times too large: the largest number of a tile becomes 1, and three quarters of the format's range is not used."),
        Wrong("240", slipped(("448.0", "240.0")), "you divide by 240, the largest number of another e4m3. Here 448 fits."),
        Wrong("127", slipped(("448.0", "127.0")), "you divide by 127; that is int8's largest number. e4m3 reaches 448."),
        Wrong("scale turned over", slipped(("+ j, scale)", "+ j, 1.0 / scale)")), "you store 448 / max. What is stored is what FP8 numbers are multiplied by: max / 448."),
        Wrong("multiplied", slipped((SCALED, "(x * scale)")), "you multiply by the scale; x is divided by it, so that the largest becomes 448."),
        Wrong("not scaled", slipped((SCALED, "x")), "your FP8 numbers are x itself, rounded: divide by the scale first."),
        Wrong("zeros become NaN", slipped(("tl.where(amax > 0, amax / 448.0, 1.0)", "amax / 448.0")), "a tile of zeros becomes NaN: 0 / 0. Give it the scale 1."),
        Wrong("zeros get a scale of 0", slipped(("(x / scale).to", "tl.where(amax > 0, x / scale, 0.0).to"), ("tl.where(amax > 0, amax / 448.0, 1.0)", "amax / 448.0")), "a tile of zeros has the scale 0. Give it 1, so that nobody divides by it."),
        Wrong("sum for maximum", slipped(("tl.max(", "tl.sum(")), "you scale by the sum of the magnitudes; take their maximum."),
        Wrong("whole numbers", slipped((SCALED, "tl.floor(x / scale + 0.5)")), "you round to whole numbers before the conversion. FP8 has a finer spacing near zero: convert x / scale as it is."),
        Wrong("e5m2", slipped(("tl.float8e4nv", "tl.float8e5")), "you convert to float8e5, which keeps two bits of mantissa: e4m3 is tl.float8e4nv."),
        Wrong("powers of two", slipped(("amax / 448.0", "tl.exp2(-tl.floor(-tl.log2(amax / 448.0)))")), "your scales are rounded up to powers of two. That comes later in the chapter."),
        Wrong("scales not stored", slipped((STORE_SCALE, "pass")), "your scales are NaN because nothing was ever stored in scale_ptr: one number a program."),
        Wrong("FP8 not stored", slipped((STORE_X, "pass")), "your FP8 numbers are NaN because nothing was ever stored in fp8_ptr."),
        Wrong("tile forgotten", slipped(("j * TILE + tl.arange", "tl.arange")), "every program works on the first tile of its row, and the rest is NaN because nothing was ever stored there: the columns begin at j * TILE."),
        Wrong("divided by 448", slipped((SCALED, "(x / 448.0)")), "you divide x by 448; divide it by the scale, max / 448."),
        Wrong("scales turned", slipped(("m * tl.num_programs(1) + j", "j * tl.num_programs(0) + m")), "your scales lie column by column: a row of x has its scales side by side, at m * (tiles in a row) + j."),
        Wrong("lanes beyond the end count", slipped(("other=0.0", "other=1.0")), "what you load beyond the end of the row takes part in the maximum. Load 0 there: no magnitude is smaller."),
        Wrong("448 / max", slipped(("amax / 448.0", "448.0 / amax")), "your scale is 448 / max, and you divide by it. The scale is max / 448."),
        Wrong("rows TILE apart", slipped(("x_ptr + m * D", "x_ptr + m * TILE")), "your rows begin TILE numbers apart; a row of x has D numbers, and row m begins at m * D."),
        Wrong("first row read", slipped(("x_ptr + m * D", "x_ptr")), "every row is quantised from row 0: move x_ptr by m * D."),
        Wrong("first tile read", slipped(("x_ptr + m * D + columns, mask=mask", "x_ptr + m * D + tl.arange(0, TILE), mask=tl.arange(0, TILE) < D")), "every tile is quantised from the first one: the columns begin at j * TILE."),
    ),
    may_use=(Launched.__call__,),
    forbid=(fp8_quant_module.quantise_tiles,),
    hints=(
        "A program has one tile: load it, find its largest magnitude, divide, store twice. What may a lane beyond the row's end hold, if the maximum must not see it? What if all numbers are 0?",
        "```text\nm, j = numbers of this program; columns = j * TILE + (0 .. TILE-1); mask = columns that exist\nx = load the tile, 0 where it does not exist\n"
        "amax = largest |x|\nscale = amax / 448, or 1 where amax is 0   (tl.where)\nstore (x / scale) as FP8 where it exists\nstore scale at m * (tiles in a row) + j   (tl.num_programs(1) tiles)\n```",
    ),
    solution=QUANTISE_SOLUTION,
    differs="It takes 16 rows a program, reads bfloat16, and divides with `tl.div_rn`: a GPU's `/` may be off by two units in the last place, and then the bits would depend on where they were made.",
)  # fmt: skip


# --- the product ------------------------------------------------------------------------------------------------------


def scaled_product(x_MD, x_scale_MJ, weight_FD, w_scale_IJ, tile):
    """The product of what the FP8 numbers stand for, in float64."""
    x = fp8_blocks.dequantise(x_MD, x_scale_MJ, (1, tile), torch.float64)
    return (x @ fp8_blocks.dequantise(weight_FD, w_scale_IJ, (tile, tile), torch.float64).t()).float()


def _product_inputs(g: torch.Generator):
    def fp8_of(*shape):
        return round_e4m3(torch.randn(*shape, generator=g))

    def scales(*shape):
        return 0.5 + torch.rand(*shape, generator=g)

    yield {"x_MD": torch.tensor([[1.0, 2.0, 3.0, 4.0]]), "x_scale_MJ": torch.tensor([[1.0, 10.0]]), "weight_FD": torch.ones(1, 4), "w_scale_IJ": torch.tensor([[1.0, 0.5]]), "tile": 2}
    yield {"x_MD": fp8_of(2, 4), "x_scale_MJ": scales(2, 1), "weight_FD": fp8_of(3, 4), "w_scale_IJ": scales(1, 1), "tile": 4}
    yield {"x_MD": fp8_of(5, 11), "x_scale_MJ": scales(5, 3), "weight_FD": fp8_of(7, 11), "w_scale_IJ": scales(2, 3), "tile": 4}


def _product(x_at=lambda s, j: s[:, j], w_at=lambda s, j, f, tile: s[f // tile, j], join=torch.mul, tiles=lambda J, D, t: J):
    def answer(x_MD, x_scale_MJ, weight_FD, w_scale_IJ, tile):
        f, D, out_MF = torch.arange(len(weight_FD)), x_MD.shape[1], torch.zeros(len(x_MD), len(weight_FD))
        for j in range(tiles(x_scale_MJ.shape[1], D, tile)):
            cut = slice(j * tile, (j + 1) * tile)
            out_MF += x_MD[:, cut] @ weight_FD[:, cut].t() * join(x_at(x_scale_MJ, j)[:, None], w_at(w_scale_IJ, j, f, tile)[None, :])
        return out_MF

    return answer


def _one(scale, *_):
    return torch.ones(1)


def _in_turn(x_MD, x_scale_MJ, weight_FD, w_scale_IJ, tile):
    (F, D), w_scale_FD = weight_FD.shape, w_scale_IJ.repeat(tile, tile)
    return (x_MD * x_scale_MJ.repeat(1, tile)[:, :D]) @ (weight_FD * w_scale_FD[:F, :D]).t()


PRODUCT = Exercise(
    key="17.scaled_product",
    reference=scaled_product,
    source=fp8_product.product,
    inputs=_product_inputs,
    tolerance=1e-5, because="float32 rounds at 6e-8; a dozen products and three scaled sums",
    wrong=(
        Wrong("no scales", _product(x_at=_one, w_at=_one), "your product is that of the FP8 numbers; no scale reaches it."),
        Wrong("no weight scales", _product(w_at=_one), "the weight's scales do not reach your result."),
        Wrong("no activation scales", _product(x_at=_one), "x's scales do not reach your result."),
        Wrong("divided", _product(x_at=lambda s, j: 1 / s[:, j], w_at=lambda s, j, f, tile: 1 / s[f // tile, j]), "you divide by the scales. Quantising divided; now multiply."),
        Wrong("added", _product(join=torch.add), "you add the two scales; each tile's sum is multiplied by both."),
        Wrong("first tile's scales", _product(x_at=lambda s, j: s[:, 0], w_at=lambda s, j, f, tile: s[f // tile, 0]), "you scale every tile's sum by the scales of the first tile."),
        Wrong("scaled after the sum", _product(x_at=lambda s, j: s.mean(1), w_at=lambda s, j, f, tile: s.mean(1)[f // tile]), "you sum over all tiles and scale at the end, by a mean. Each tile has its own scales: apply them before its sum meets the others'."),
        Wrong("scale of a row", _product(w_at=lambda s, j, f, tile: s[f % len(s), j]), "you take the weight's scales row by row, in turn. A block is `tile` rows high: row f belongs to block f // tile."),
        Wrong("scales in turn", _in_turn, "you repeat the scales in turn, a b a b. The numbers of a tile lie side by side, a a b b: that is repeat_interleave."),
        Wrong("first block of rows", _product(w_at=lambda s, j, f, tile: s[f * 0, j]), "all rows of the weight get the scale of the first block of rows: row f belongs to block f // tile."),
        Wrong("last tile dropped", _product(tiles=lambda J, D, t: D // t), "the last tile of a row, which is not full, does not reach your result."),
        Wrong("only the last tile", lambda x, xs, w, ws, t: _product(tiles=lambda J, D, t: J)(x, xs, w, ws, t) - _product(tiles=lambda J, D, t: J - 1)(x, xs, w, ws, t), "your result holds the last tile alone: add the tiles up."),
        Wrong("neighbour's scale", _product(x_at=lambda s, j: s[:, j - 1]), "tile j of x is scaled by the scale of its neighbour."),
        Wrong("turned", lambda *a: scaled_product(*a).t(), "your result is turned over: its rows are x's rows, its columns the weight's."),
    ),
    hints=(
        "Within a tile both scales are constants and can be pulled out of the sum. Between tiles they are not. How many sums are there?",
        "```text\nout = zeros (rows of x, rows of weight)\nfor each tile j of the summed axis:\n    part = x[:, tile j] times weight[:, tile j] turned\n"
        "    a = x_scale[:, j], one for each row of x\n    b = w_scale[:, j] repeated `tile` times, cut to the rows of the weight\n    out += part * a[:, None] * b[None, :]\n```",
    ),
    solution=(
        "def scaled_product(x_MD, x_scale_MJ, weight_FD, w_scale_IJ, tile):\n"
        "    out_MF = torch.zeros(len(x_MD), len(weight_FD))\n"
        "    for j in range(x_scale_MJ.shape[1]):\n"
        "        cut = slice(j * tile, (j + 1) * tile)\n"
        "        w_scale_F = w_scale_IJ[:, j].repeat_interleave(tile)[: len(weight_FD)]\n"
        "        out_MF += x_MD[:, cut] @ weight_FD[:, cut].t() * x_scale_MJ[:, j, None] * w_scale_F\n"
        "    return out_MF\n"
    ),
    differs="Its operands are real FP8, and `inner` may be a sum with as few bits as a tensor core's.",
)  # fmt: skip


# --- the weight's gradient --------------------------------------------------------------------------------------------


def weight_gradient(d_y_MF, x_MD):
    """The library's product of the turned matrices, in tiles along the tokens."""
    return fp8_product.product(fp8_product.quantise(d_y_MF.t()), fp8_product.quantise(x_MD.t()))


def _gradient_inputs(g: torch.Generator):
    yield {"d_y_MF": torch.tensor([[1.0], [2.0]]), "x_MD": torch.tensor([[4.0, 8.0], [1.0, 2.0]])}
    yield {"d_y_MF": torch.randn(40, 7, generator=g), "x_MD": torch.randn(40, 6, generator=g)}
    size_M1 = torch.exp(2 * torch.randn(150, 1, generator=g))
    yield {"d_y_MF": torch.randn(150, 3, generator=g) * size_M1, "x_MD": torch.randn(150, 5, generator=g) / size_M1}


WEIGHT_GRADIENT = Exercise(
    key="17.weight_gradient",
    reference=weight_gradient,
    source=fp8._Linear,
    inputs=_gradient_inputs,
    tolerance=1e-5, because="float32 rounds at 6e-8; a sum over at most 150 tokens",
    wrong=(
        Wrong("along the features", lambda d, x: as_fp8(d).t() @ as_fp8(x), "your tiles run along the features. This sum runs over tokens, and so must the tiles: turn the matrix before it is quantised, not after."),
        Wrong("d_y along the features", lambda d, x: as_fp8(d).t() @ as_fp8(x.t()).t(), "d_y has its tiles along the features; only x has them along the tokens."),
        Wrong("x along the features", lambda d, x: as_fp8(d.t()) @ as_fp8(x), "x has its tiles along the features; only d_y has them along the tokens."),
        Wrong("not quantised", lambda d, x: d.t() @ x, "your product is float32's: nothing has gone through FP8."),
        Wrong("only d_y", lambda d, x: as_fp8(d.t()) @ x, "x has not gone through FP8."),
        Wrong("only x", lambda d, x: d.t() @ as_fp8(x.t()).t(), "d_y has not gone through FP8."),
        Wrong("twice", lambda d, x: as_fp8(as_fp8(d).t()) @ as_fp8(as_fp8(x).t()).t(), "you round along the features first and along the tokens then. Here the operands come unrounded: once is enough."),
        Wrong("rounded after", lambda d, x: as_fp8(d.t() @ x), "you multiply in float32 and round the gradient. The operands go through FP8, the result stays float32."),
        Wrong("rounded before and after", lambda d, x: as_fp8(as_fp8(d.t()) @ as_fp8(x.t()).t()), "your operands are right, and then you round the gradient, too. The result stays float32."),
        Wrong("turned", lambda d, x: as_fp8(x.t()) @ as_fp8(d.t()).t(), "your result is the gradient of the transposed matrix: W has a row for each output."),
        Wrong("mean", lambda d, x: as_fp8(d.t()) @ as_fp8(x.t()).t() / len(x), "you take the mean over the tokens; a gradient is their sum."),
    ),
    may_use=(as_fp8,),
    hints=(
        "`as_fp8` cuts rows. Which matrix has rows that run over the tokens?",
        "```text\nturned d_y: a row for each output, its numbers are tokens; as_fp8 of it\nturned x: a row for each input, its numbers are tokens; as_fp8 of it\n"
        "gradient = (turned d_y) times (turned x) turned back\n```",
    ),
    solution="def weight_gradient(d_y_MF, x_MD):\n    return as_fp8(d_y_MF.t()) @ as_fp8(x_MD.t()).t()\n",
    differs="It multiplies the FP8 numbers tile by tile, and in the same step makes the other two products; `after_attention` is the input with scales 2^n that is met below.",
)  # fmt: skip


# --- the lost update --------------------------------------------------------------------------------------------------


def lost(value, update, bits):
    """Whether the format with that many bits of mantissa holds the same number after the addition."""
    rounds = {2: rounding.E5M2.round, 3: rounding.E4M3.round, 7: rounding.to_bf16}[bits]
    before, after = (rounds(torch.tensor([x], dtype=torch.float32).numpy())[0] for x in (value, value + update))
    return bool(before == after)


def _lost_inputs(g: torch.Generator):
    for value, update, bits in (
        (1.5, 0.02, 3), (1.5, 0.05, 3), (1.5, 0.07, 3), (1.5, 0.2, 3), (1.5, -0.2, 3), (1.5, -0.05, 3), (1.875, 0.065, 3), (1.0, 0.055, 3), (1.0, -0.05, 3), (1.0, -0.03, 3), (1.0, 0.05, 3), (1.0, 0.1, 3), (1.0, 0.0625, 3), (1.125, 0.0625, 3),
        (3.5, 0.1, 3), (0.75, 0.025, 3), (0.75, 0.05, 3), (6.0, 0.4, 3), (1.5, 0.003, 7), (1.5, 0.005, 7), (1.0, -0.003, 7), (40.0, 3.0, 2), (40.0, 5.0, 2),
    ):  # fmt: skip
        yield {"value": value, "update": update, "bits": bits}


def _spacing(x, bits):
    return 2.0 ** (math.floor(math.log2(x)) - bits)


LOST = Exercise(
    key="17.lost",
    reference=lost,
    source=rounding.FP8.round,
    inputs=_lost_inputs,
    tolerance=0.0, because="a yes or a no",
    wrong=(
        Wrong("whole spacing", lambda v, u, bits: abs(u) < _spacing(v + u, bits), "you call an update lost until it reaches the whole spacing. From half of it on, the next number is nearer."),
        Wrong("towards zero", lambda v, u, bits: math.floor((v + u) / _spacing(v + u, bits)) * _spacing(v + u, bits) == v, "you cut off instead of rounding to the nearest."),
        Wrong("one bit more", lambda v, u, bits: abs(u) < _spacing(v + u, bits) / 4, "you count the hidden 1 among the bits of mantissa: between two powers of two lie 2^bits steps."),
        Wrong("spacing of 1", lambda v, u, bits: round((v + u) * 2**bits) / 2**bits == v, "you use the spacing between 1 and 2 everywhere; it doubles with every power of two."),
        Wrong("spacing of the value", lambda v, u, bits: round((v + u) / _spacing(v, bits)) * _spacing(v, bits) == v, "at a power of two, going down, the numbers are twice as dense: 1 - 0.05 does not come back to 1 in e4m3. Take the spacing of the sum."),
        Wrong("ties always lost", lambda v, u, bits: abs(u) <= _spacing(v + u, bits) / 2, "a tie is not always lost: it goes to the even neighbour, and 1.125 + 0.0625 becomes 1.25."),
        Wrong("ties never lost", lambda v, u, bits: abs(u) < _spacing(v + u, bits) / 2, "a tie is not always kept: it goes to the even neighbour, and 1 + 0.0625 becomes 1."),
        Wrong("half of the value's spacing", lambda v, u, bits: abs(u) < _spacing(v, bits) / 2, "you compare with half of the value's spacing. Going down from a power of two the numbers are twice as dense, and a tie goes to the even neighbour: round the sum."),
        Wrong("half, ties lost", lambda v, u, bits: abs(u) <= _spacing(v, bits) / 2, "you compare with half of the value's spacing and lose every tie. Round the sum instead: ties go to the even neighbour, and below a power of two the numbers are twice as dense."),
        Wrong("relative", lambda v, u, bits: abs(u) / v < 2.0 ** -(bits + 1), "you compare the update's share of the value. The spacing does not grow with the value between two powers of two."),
        Wrong("always", lambda v, u, bits: True, "you say True always; 1.5 + 0.2 is not lost."),
        Wrong("turned over", lambda v, u, bits: not lost(v, u, bits), "you say True where the update survives."),
        Wrong("never", lambda v, u, bits: v + u == v, "you add in float64, where nothing of this size is lost: round the sum to the format first."),
        Wrong("sign of the update", lambda v, u, bits: u < _spacing(v + u, bits) / 2, "a negative update may be large, too: 1.5 - 0.2 is not lost. Round the sum, or compare magnitudes."),
        Wrong("int for floor", lambda v, u, bits: round((v + u) / 2.0 ** (int(math.log2(v + u)) - bits)) * 2.0 ** (int(math.log2(v + u)) - bits) == v, "int() cuts towards zero: log2(0.8) is -0.3 and belongs to the exponent -1. Use math.floor."),
        Wrong("three bits always", lambda v, u, bits: lost(v, u, 3), "you count three bits of mantissa, whatever `bits` says."),
        Wrong("the number itself", lambda v, u, bits: round((v + u) / _spacing(v + u, bits)) * _spacing(v + u, bits), "you return the rounded number. Compare it with the old value: True or False."),
        Wrong("update's own size", lambda v, u, bits: abs(u) < 2.0**-bits, "you compare the update with 2^-bits. What counts is its size relative to the value's spacing."),
    ),
    hints=(
        "Round the sum, and see whether it is the old value. How far apart are the format's numbers where the *sum* lies?",
        "```text\nspacing = 2^(e - bits), where 2^e <= value + update < 2^(e+1)\nrounded = round((value + update) / spacing) * spacing    (Python's round takes ties to even)\nlost if rounded == value\n```",
    ),
    solution=(
        "def lost(value, update, bits):\n"
        "    total = value + update\n"
        "    spacing = 2.0 ** (math.floor(math.log2(total)) - bits)\n"
        "    return round(total / spacing) * spacing == value\n"
    ),
    differs="The answer key rounds both numbers with the simulator's conversions and compares.",
)  # fmt: skip

EXERCISES = (DECODE, ROUND, QUANTISE, PRODUCT, WEIGHT_GRADIENT, LOST)
