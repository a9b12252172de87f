"""Exercises of chapter 14, Your first kernels. The reader writes kernels; `first_kernels.launched` launches them."""

import re

import torch

from minimoe_course.exercise import Exercise, Law, Wrong
from minimoe_course.first_kernels import Launched
from minimoe_kernels import rms_norm as rms_norm_module
from minimoe_kernels import sim
from minimoe_kernels import swiglu as swiglu_module
from minimoe_kernels.kernel import cdiv, load, tl, triton
from minimoe_kernels.sim import memory

__all__ = ["EXERCISES", "slipped"]

HEAD = "from minimoe_course.first_kernels import launched\nfrom minimoe_kernels.kernel import tl, triton\n\n\n"
MOVED = (Launched.__call__,)
UNWRITTEN = Law(
    "some of your result is NaN: it begins unwritten, and no program stored anything there. Which programs and lanes "
    "come to the places that are NaN below?",
    lambda fn, case: not fn(*case.values()).isnan().any(),
)


def slipped(exercise: Exercise, *changes: tuple[str, str]) -> Launched:
    """The solution of a kernel exercise with a few characters changed: (what stands there, what it becomes), ..."""
    return _kernel(exercise.solution, exercise.name, changes)


def _kernel(text, name, changes):
    for old, new in changes:
        if old not in text:
            raise ValueError(f"{name}: {old!r} does not stand in the solution")
        text = text.replace(old, new)
    return getattr(load(text, f"{name}_slip"), name)


# --- the complaint ----------------------------------------------------------------------------------------------------


@triton.jit
def _double(x_ptr, out_ptr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, 2 * tl.load(x_ptr + offsets))


def first_wild(n, BLOCK, programs):
    """The first wild load of a kernel without a mask: the simulator runs it, and its words are read."""
    try:
        _double[(programs,)](torch.zeros(n), sim.empty(n), BLOCK=BLOCK)
    except sim.OutOfBounds as error:
        program, element = re.search(r"program \((\d+), 0, 0\) of \w+ loads element (\d+)", str(error)).groups()
        return int(program), int(element)
    return -1, -1


def _wild_inputs(g: torch.Generator):
    for n, BLOCK, programs in ((10, 4, 3), (8, 4, 2), (8, 4, 3), (3, 8, 1), (10, 4, 5), (17, 8, 2), (33, 16, 4)):
        yield {"n": n, "BLOCK": BLOCK, "programs": programs}


def _wild(program, element, quiet=lambda n, b, p: p * b <= n):
    def answer(n, BLOCK, programs):
        return (-1, -1) if quiet(n, BLOCK, programs) else (program(n, BLOCK, programs), element(n, BLOCK, programs))

    return answer


FIRST_WILD = Exercise(
    key="14.first_wild",
    reference=first_wild,
    source=memory.Buffer.check,
    inputs=_wild_inputs,
    tolerance=0.0, because="whole numbers",
    wrong=(
        Wrong("the last program", _wild(lambda n, b, p: p - 1, lambda n, b, p: n), "you name the last program. With more programs than needed an earlier one goes astray first, and the simulator stops there."),
        Wrong("rounded up", _wild(lambda n, b, p: cdiv(n, b), lambda n, b, p: n), "you round n / BLOCK up, which counts the programs that are needed. The one that holds element n has the number n // BLOCK."),
        Wrong("start of its block", _wild(lambda n, b, p: n // b, lambda n, b, p: n // b * b), "you name the first element of the block. That one may exist; the first that does not is n."),
        Wrong("last lane", _wild(lambda n, b, p: n // b, lambda n, b, p: n // b * b + b - 1), "you name the last lane of the block; the first wild one comes earlier."),
        Wrong("last element", _wild(lambda n, b, p: n // b, lambda n, b, p: n - 1), "element n - 1 is the last good one."),
        Wrong("only a rest is wild", _wild(lambda n, b, p: n // b, lambda n, b, p: n, lambda n, b, p: n % b == 0 or p * b <= n), "where BLOCK divides n you see no danger. With one program too many there is."),
        Wrong("a rest is always wild", _wild(lambda n, b, p: n // b, lambda n, b, p: n, lambda n, b, p: n % b == 0 and p * b <= n), "where BLOCK does not divide n you always see a complaint. With too few programs nobody gets as far as n: the tail is not computed, and no access is wild."),
        Wrong("always wild", _wild(lambda n, b, p: n // b, lambda n, b, p: n, lambda n, b, p: False), "you always see a complaint. Where the programs together cover at most n numbers, nobody gets as far as n: (-1, -1)."),
        Wrong("exactly covered", _wild(lambda n, b, p: n // b, lambda n, b, p: n, lambda n, b, p: p * b < n), "where the programs cover exactly n numbers you see a complaint; the last lane of the last program holds element n - 1, which exists."),
        Wrong("place in the block", _wild(lambda n, b, p: n // b, lambda n, b, p: n % b), "you give the lane within the block; the element is counted from the beginning of the tensor."),
        Wrong("exchanged", _wild(lambda n, b, p: n, lambda n, b, p: n // b), "you give (element, program); the program comes first."),
        Wrong("counted from one", _wild(lambda n, b, p: n // b + 1, lambda n, b, p: n), "programs are numbered from 0."),
    ),
    may_use=(cdiv,),
    hints=(
        "Elements 0 to n - 1 exist. Which number is the first that does not, and in whose block does it lie? Does anybody come that far?",
        "```text\nif all programs together cover at most n elements: (-1, -1)\notherwise: the element is n, and its program is n // BLOCK\n```",
    ),
    solution=(
        "def first_wild(n, BLOCK, programs):\n"
        "    if programs * BLOCK <= n:\n"
        "        return -1, -1\n"
        "    return n // BLOCK, n\n"
    ),
    differs="The answer key predicts nothing: it runs the kernel and reads the complaint, which is made here.",
)  # fmt: skip


# --- SwiGLU -----------------------------------------------------------------------------------------------------------

SWIGLU_SOLUTION = HEAD + '''@launched
@triton.jit
def swiglu(gate_ptr, up_ptr, out_ptr, F, stride, BLOCK: tl.constexpr):
    m = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < F
    gate = tl.load(gate_ptr + m * stride + columns, mask=mask, other=0.0)
    up = tl.load(up_ptr + m * stride + columns, mask=mask, other=0.0)
    tl.store(out_ptr + m * F + columns, gate * tl.sigmoid(gate) * up, mask=mask)
'''


def swiglu(gate_MF, up_MF):
    """The library's kernel."""
    return swiglu_module.swiglu(gate_MF, up_MF)


def _swiglu_inputs(g: torch.Generator):
    yield {"gate_MF": torch.tensor([[0.0, 1.0, 2.0, -1.0, 3.0]]), "up_MF": torch.tensor([[1.0, 1.0, 2.0, 3.0, -1.0]])}
    yield {"gate_MF": torch.randn(2, 4, generator=g), "up_MF": torch.randn(2, 4, generator=g)}
    yield {"gate_MF": torch.randn(3, 11, generator=g), "up_MF": torch.randn(3, 11, generator=g)}


def _swiglu(*changes):
    return _kernel(SWIGLU_SOLUTION, "swiglu", changes)


FORMULA = "gate * tl.sigmoid(gate) * up"
SWIGLU = Exercise(
    key="14.swiglu",
    reference=swiglu,
    source=swiglu_module.swiglu_forward,
    inputs=_swiglu_inputs,
    tolerance=1e-5, because="float32 rounds at 6e-8; a sigmoid and two products",
    wrong=(
        Wrong("halves exchanged", _swiglu((FORMULA, "up * tl.sigmoid(up) * gate")), "you put the up half through the sigmoid; the gate goes through it."),
        Wrong("sigmoid alone", _swiglu((FORMULA, "tl.sigmoid(gate) * up")), "your gate is sigmoid(gate); silu is gate * sigmoid(gate)."),
        Wrong("no up", _swiglu((FORMULA, "gate * tl.sigmoid(gate)")), "the up half does not reach your result."),
        Wrong("added", _swiglu((FORMULA, "gate * tl.sigmoid(gate) + up")), "you add up; it is multiplied."),
        Wrong("sign turned", _swiglu((FORMULA, "gate * tl.sigmoid(-gate) * up")), "your sigmoid is turned round: it must grow with gate."),
        Wrong("first tile only", _swiglu(("tl.program_id(1) * BLOCK + ", "")), "every program works on the first BLOCK columns and nobody on the rest, which are NaN because nothing was ever stored there. The place along a row is program_id(1) * BLOCK + arange."),
        Wrong("first row only", _swiglu(("m = tl.program_id(0)", "m = 0")), "only row 0 is stored; the other rows are NaN. Either every program works on row 0 (the row is program_id(0)), or the mask compares more than the column with F (row * stride belongs to the address, not to the mask)."),
        Wrong("nothing stored", _swiglu(("tl.store(out_ptr + m * F + columns, gate * tl.sigmoid(gate) * up, mask=mask)", "return gate")), "all of your result is NaN because nothing was ever stored. A kernel returns nothing: it writes to out_ptr with tl.store."),
        Wrong("first row read", _swiglu(("gate_ptr + m * stride", "gate_ptr"), ("up_ptr + m * stride", "up_ptr")), "every row of your result is made from row 0: move both pointers by row * stride."),
        Wrong("one column short", _swiglu(("mask = columns < F", "mask = columns < F - 1")), "the last column is NaN: your mask ends one column too early and nothing was stored there."),
        Wrong("tail dropped", _swiglu(("mask = columns < F", "mask = columns < F // BLOCK * BLOCK")), "the columns after the last full tile are NaN: nothing was stored there. The mask lets a part of the last tile through."),
    ),
    laws=(UNWRITTEN,),
    may_use=MOVED,
    forbid=(swiglu_module.swiglu, torch.nn.functional.silu),
    hints=(
        "Which row is this program's, and which columns? Everything else is the formula with a load on one side and a store on the other. The inputs' rows are `stride` apart, the output's `F`.",
        "```text\nm = number of this program along axis 0\ncolumns = (number along axis 1) * BLOCK + (0 .. BLOCK-1)\nmask = columns that exist\n"
        "gate = load from gate_ptr + m * stride + columns, where mask\nup = the same from up_ptr\nstore gate * sigmoid(gate) * up to out_ptr + m * F + columns, where mask\n```",
    ),
    solution=SWIGLU_SOLUTION,
    differs="It computes in float32 whatever the tensors hold, and numbers its rows in 64 bits: row * F passes 2 billion sooner than one thinks.",
)  # fmt: skip


# --- RMSNorm ----------------------------------------------------------------------------------------------------------

RMS_SOLUTION = HEAD + '''@launched
@triton.jit
def rms_norm(x_ptr, weight_ptr, out_ptr, D, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < D
    x = tl.load(x_ptr + row * D + columns, mask=mask, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / D + eps)
    weight = tl.load(weight_ptr + columns, mask=mask, other=0.0)
    tl.store(out_ptr + row * D + columns, weight * x * scale, mask=mask)
'''


def rms_norm(x_MD, weight_D, eps):
    """The library's kernel, in float32 throughout, so that no rounding of the result hides one of the sum."""
    return rms_norm_module.rms_norm(x_MD.float(), weight_D, eps)


def _rms_inputs(g: torch.Generator):
    yield {"x_MD": torch.tensor([[3.0, 4.0]]).bfloat16(), "weight_D": torch.ones(2), "eps": 0.0}
    yield {
        "x_MD": torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]]).bfloat16(),
        "weight_D": torch.tensor([1.0, 2.0, 0.5]),
        "eps": 0.5,
    }
    yield {
        "x_MD": (torch.randn(3, 300, generator=g) + 0.5).bfloat16(),
        "weight_D": torch.randn(300, generator=g),
        "eps": 1e-6,
    }


def _rms(*changes):
    return _kernel(RMS_SOLUTION, "rms_norm", changes)


SCALE = "1.0 / tl.sqrt(tl.sum(x * x, axis=0) / D + eps)"
NARROW = "1.0 / tl.sqrt(tl.sum(x * x, axis=0).to(tl.float32) / D + eps)"
RMS_NORM = Exercise(
    key="14.rms_norm",
    reference=rms_norm,
    source=rms_norm_module.rms_norm_forward,
    inputs=_rms_inputs,
    tolerance=1e-5, because="float32 rounds at 6e-8; a sum over 300 squares in any order",
    wrong=(
        Wrong("mean over the block", _rms(("axis=0) / D", "axis=0) / BLOCK")), "you divide the sum by BLOCK; the row has D numbers, and the rest of the block is padding."),
        Wrong("sum in bfloat16", _rms((".to(tl.float32)", ""), (SCALE, NARROW)), "your squares are summed in bfloat16, which keeps 8 bits: the scale is off in its third digit. Cast x to float32 before you square it."),
        Wrong("squared in bfloat16", _rms((".to(tl.float32)", ""), ("tl.sum(x * x, axis=0)", "tl.sum((x * x).to(tl.float32), axis=0)")), "your squares are summed in float32, but each was rounded to 8 bits before. Cast x to float32 before you square it."),
        Wrong("narrowed", _rms(("weight * x * scale", "weight * (x * scale).to(tl.bfloat16)")), "you round to bfloat16 before the gain. Here the result is float32: leave out the second cast."),
        Wrong("a gain a row", _rms(("tl.load(weight_ptr + columns, mask=mask, other=0.0)", "tl.load(weight_ptr + row)")), "you multiply a row by one number; the gain has one for every column."),
        Wrong("nothing stored", _rms(("tl.store(out_ptr + row * D + columns, weight * x * scale, mask=mask)", "return x")), "all of your result is NaN because nothing was ever stored. A kernel returns nothing: it writes to out_ptr with tl.store."),
        Wrong("row in the mask", _rms(("mask = columns < D", "mask = row * D + columns < D")), "only row 0 is stored; the other rows are NaN. Either every program works on row 0 (the row is program_id(0)), or the mask compares more than the column with D (row * D belongs to the address, not to the mask)."),
        Wrong("no gain", _rms(("weight * x * scale", "x * scale")), "the gain does not reach your result: multiply by weight."),
        Wrong("no eps", _rms((" + eps", "")), "a row of zeros becomes NaN: eps belongs under the root."),
        Wrong("eps outside", _rms((" / D + eps)", " / D + 0.0)"), ("1.0 / tl.sqrt(tl.sum(x * x, axis=0) / D + 0.0)", "1.0 / (tl.sqrt(tl.sum(x * x, axis=0) / D) + eps)")), "you add eps to the root; it is added under the root."),
        Wrong("sum, not mean", _rms((" / D + eps", " + eps")), "you scale rows to length 1: divide the sum of squares by D."),
        Wrong("no square", _rms(("x * x", "x")), "your sum adds up x; it is the sum of x * x."),
        Wrong("no root", _rms((SCALE, "1.0 / (tl.sum(x * x, axis=0) / D + eps)")), "you divide by the mean square; divide by its root."),
        Wrong("magnitudes", _rms((SCALE, "1.0 / (tl.sum(tl.abs(x), axis=0) / D + eps)")), "you divide by the mean magnitude; RMSNorm divides by the root of the mean square."),
        Wrong("mean taken away", _rms(("    scale =", "    x = tl.where(mask, x - tl.sum(x, axis=0) / D, 0.0)\n    scale =")), "you subtract the mean first. That is LayerNorm."),
        Wrong("first row", _rms(("x_ptr + row * D", "x_ptr")), "every row of your result is row 0 of x: move x_ptr by row * D."),
        Wrong("one column short", _rms(("weight * x * scale, mask=mask", "weight * x * scale, mask=columns < D - 1")), "the last column is NaN: your last mask ends one column too early and nothing was stored there."),
        Wrong("multiplied", _rms((SCALE, "tl.sqrt(tl.sum(x * x, axis=0) / D + eps)")), "you multiply by the root-mean-square; divide by it."),
    ),
    laws=(UNWRITTEN,),
    may_use=MOVED,
    forbid=(rms_norm_module.rms_norm, torch.nn.functional.rms_norm),
    hints=(
        "A row fits into the program's block, so it is loaded once. What may a lane hold that is no part of the row, if the sum must not see it? And in which type do 300 squares add up?",
        "```text\nrow = number of this program\ncolumns = 0 .. BLOCK-1, of which those below D exist\nx = load the row, 0 where it does not exist, as float32\n"
        "scale = 1 / sqrt(sum of x * x / D + eps)\nweight = load the gain\nstore weight * x * scale where the row exists\n```",
    ),
    solution=RMS_SOLUTION,
    differs="It can add the residual stream in the same pass, keeps the scale for the backward pass, and rounds to x's type before the gain, as the official code does.",
)  # fmt: skip


# --- what a tile costs ------------------------------------------------------------------------------------------------


def tile_bytes(M, D, F, BLOCK_M, BLOCK_F):
    """Bytes that a product in tiles loads and stores, in bfloat16, every load counted."""
    return 2 * (M * D * cdiv(F, BLOCK_F) + D * F * cdiv(M, BLOCK_M) + M * F)


def _tile_inputs(g: torch.Generator):
    for sizes in ((4, 8, 6, 2, 3), (4, 8, 6, 2, 2), (16, 16, 16, 16, 16), (40, 24, 56, 16, 32), (1, 64, 48, 16, 16), (120, 40, 124, 16, 32)):
        yield dict(zip(("M", "D", "F", "BLOCK_M", "BLOCK_F"), sizes, strict=True))


def _tiles(count):
    return lambda M, D, F, BLOCK_M, BLOCK_F: count(M, D, F, BLOCK_M, BLOCK_F, cdiv(M, BLOCK_M), cdiv(F, BLOCK_F))


TILE_BYTES = Exercise(
    key="14.tile_bytes",
    reference=tile_bytes,
    source=memory.load,
    inputs=_tile_inputs,
    tolerance=0.0, because="whole numbers",
    wrong=(
        Wrong("each matrix once", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D + D * F + M * F)), "you count each matrix once. Every column of tiles reads A again, every row of tiles B."),
        Wrong("exchanged", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D * down + D * F * across + M * F)), "A is read once for every column of tiles, of which there are F / BLOCK_F, and B once for every row of tiles. You have them exchanged."),
        Wrong("nothing stored", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D * across + D * F * down)), "C is stored too: M * F numbers."),
        Wrong("numbers, not bytes", _tiles(lambda M, D, F, m, f, down, across: M * D * across + D * F * down + M * F), "you count numbers; one has 2 bytes."),
        Wrong("float32", _tiles(lambda M, D, F, m, f, down, across: 4 * (M * D * across + D * F * down + M * F)), "a bfloat16 has 2 bytes, yours has 4."),
        Wrong("rounded down", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D * (F // f) + D * F * (M // m) + M * F)), "you round the number of tiles down: the last one, which is not full, also reads its bands."),
        Wrong("padding loaded", _tiles(lambda M, D, F, m, f, down, across: 2 * (down * m * D * across + D * across * f * down + M * F)), "you count the padding of the last tile. Lanes that the mask switches off load nothing."),
        Wrong("every program everything", _tiles(lambda M, D, F, m, f, down, across: 2 * ((M * D + D * F) * down * across + M * F)), "you let every program read both matrices whole; it reads one band of each."),
        Wrong("parts of a tile", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D * F / f + D * F * M / m + M * F)), "you count fractions of a tile: round M / BLOCK_M and F / BLOCK_F up."),
        Wrong("padding everywhere", _tiles(lambda M, D, F, m, f, down, across: 2 * down * across * (m * D + D * f + m * f)), "you let every program load and store full tiles. Lanes that the mask switches off move nothing."),
        Wrong("C not doubled", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D * across + D * F * down) + M * F), "a number of C has 2 bytes, too."),
        Wrong("C in float32, or loaded", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D * across + D * F * down) + 4 * M * F), "you count C twice. It is stored once, in bfloat16, and not loaded: the sum begins at 0 in float32 registers."),
        Wrong("stored once a step", _tiles(lambda M, D, F, m, f, down, across: 2 * (M * D * across + D * F * down + M * F * across)), "you store C more than once: the sum stays in registers until it is finished."),
    ),
    may_use=(cdiv,),
    hints=(
        "Take one element of A. Which programs need it? All those whose tile lies in its row of tiles.",
        "```text\ndown = tiles below each other, M / BLOCK_M rounded up\nacross = tiles beside each other, F / BLOCK_F rounded up\n"
        "numbers = (size of A) * across + (size of B) * down + (size of C)\nbytes = 2 * numbers\n```",
    ),
    solution=(
        "def tile_bytes(M, D, F, BLOCK_M, BLOCK_F):\n"
        "    down, across = -(-M // BLOCK_M), -(-F // BLOCK_F)\n"
        "    return 2 * (M * D * across + D * F * down + M * F)\n"
    ),
    differs="The library has no formula for it; it counts, here. A test holds the formula against that count.",
)  # fmt: skip

EXERCISES = (FIRST_WILD, SWIGLU, RMS_NORM, TILE_BYTES)
