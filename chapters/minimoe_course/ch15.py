"""Exercises of chapter 15, Grouped GEMM and routing."""

import dataclasses

import torch

from minimoe_course.exercise import Exercise, Law, Wrong
from minimoe_course.first_kernels import Launched
from minimoe_course.grouped_kernels import TILE, aligned, launch_grouped
from minimoe_kernels import align as align_module
from minimoe_kernels import grouped_gemm as grouped_module
from minimoe_kernels import sim
from minimoe_kernels.kernel import cdiv, load

__all__ = ["EXERCISES", "right_in_order", "slipped", "wrong_rows"]

HEAD = "from minimoe_course.grouped_kernels import launched\nfrom minimoe_kernels.kernel import tl, triton\n\n\n"
MOVED = (Launched.__call__,)


def slipped(*changes: tuple[str, str]) -> Launched:
    """The solution of the grouped kernel with a few characters changed: (what stands there, what it becomes), ..."""
    text = GROUPED_SOLUTION
    for old, new in changes:
        if old not in text:
            raise ValueError(f"grouped: {old!r} does not stand in the solution")
        text = text.replace(old, new)
    return load(text, "grouped_slip").grouped


# --- who stands where -------------------------------------------------------------------------------------------------


def places(chosen_A, E):
    """The library's kernels."""
    return align_module.align(chosen_A[:, None], E).where_MK.flatten().long()


def _places_inputs(g: torch.Generator):
    yield {"chosen_A": torch.tensor([2, 0, 2, 1, 0]), "E": 3}
    yield {"chosen_A": torch.tensor([3, 3, 0, 3, 1, 3]), "E": 5}
    yield {"chosen_A": torch.randint(0, 7, (40,), generator=g), "E": 11}


def _places(start, rank=lambda chosen_A, a: int((chosen_A[:a] == chosen_A[a]).sum())):
    def answer(chosen_A, E):
        counts = torch.bincount(chosen_A, minlength=E)
        starts = start(counts)
        return torch.tensor([int(starts[e]) + rank(chosen_A, a) for a, e in enumerate(chosen_A.tolist())])

    return answer


def _before(counts):
    return counts.cumsum(0) - counts


def _from_behind(chosen_A, a):
    return int((chosen_A[a + 1 :] == chosen_A[a]).sum())


def _stable(fn, case):
    """False where segments are right and those within one stand in another order than they came."""
    chosen_A, where_A = case["chosen_A"], torch.as_tensor(fn(*case.values()))
    order_A = where_A.argsort()
    grouped_right = where_A[order_A].equal(torch.arange(len(chosen_A))) and bool((chosen_A[order_A].diff() >= 0).all())
    return not grouped_right or order_A.equal(chosen_A.argsort(stable=True))


def _not_the_order(fn, case):
    """False where the result lists the assignments sorted by expert, as an unstable `argsort` does, not their places."""
    chosen_A, given_A = case["chosen_A"], torch.as_tensor(fn(*case.values()))
    lists = given_A.sort().values.equal(torch.arange(len(chosen_A))) and bool((chosen_A[given_A].diff() >= 0).all())
    return not lists or given_A.equal(places(*case.values()))


PLACES = Exercise(
    key="15.places",
    reference=places,
    source=align_module.place_kernel.fn,
    inputs=_places_inputs,
    tolerance=0.0, because="whole numbers",
    wrong=(
        Wrong("the order", lambda chosen_A, E: chosen_A.argsort(stable=True), "you give, for each place, the assignment that stands there. Asked is the other way round: for each assignment, its place."),
        Wrong("from behind", _places(_before, _from_behind), "within an expert your assignments stand in reversed order. The first that asks gets the first place."),
        Wrong("ends for starts", _places(lambda counts: counts.cumsum(0)), "every segment begins where it should end: the prefix sum must leave the expert's own count out."),
        Wrong("no prefix sum", _places(lambda counts: counts), "you begin each segment at the expert's own count; it begins behind those of all experts before it."),
        Wrong("nobody moves up", _places(_before, lambda chosen_A, a: 0), "all assignments of an expert get one place. Each must move up behind those of its expert that came before it."),
        Wrong("no start", _places(torch.zeros_like), "every segment begins at 0: add the number of assignments of all experts before it."),
        Wrong("one place for the empty", _places(lambda counts: _before(counts.clamp(min=1))), "you keep a place free for an expert without tokens; its segment is empty."),
        Wrong("counted from one", _places(lambda counts: _before(counts) + 1), "places are numbered from 0."),
    ),
    laws=(
        Law("each expert has its own segment, but within a segment those who came first do not stand first: your sort is not stable. (`argsort` promises it only with `stable=True`.)", _stable),
        Law("you give, for each place, the assignment that stands there, and those of one expert not in the order in which they came: your sort is not stable. Asked is the other way round: for each assignment, its place.", _not_the_order),
    ),
    hints=(
        "How many assignments have an expert with a smaller number? They all stand in front. And how many with the same expert come earlier?",
        "```text\ncounts = how often each expert occurs                (histogram)\nnext = sum of the counts of all experts before it    (prefix sum)\n"
        "for each assignment in order, of expert e:           (scatter)\n    its place is next[e]; then next[e] grows by 1\n```",
    ),
    solution=(
        "def places(chosen_A, E):\n"
        "    counts = torch.bincount(chosen_A, minlength=E)\n"
        "    next_place, where = (counts.cumsum(0) - counts).tolist(), []\n"
        "    for e in chosen_A.tolist():\n"
        "        where.append(next_place[e])\n"
        "        next_place[e] += 1\n"
        "    return torch.tensor(where)\n"
    ),
    differs="The library's kernels do the three steps in chunks of 1024 assignments: count each chunk, sum over the chunks, let each chunk place its own.",
)  # fmt: skip


# --- the grouped product ----------------------------------------------------------------------------------------------

GROUPED_SOLUTION = HEAD + '''@launched
@triton.jit
def grouped(x_ptr, weight_ptr, out_ptr, ends_ptr, tile_expert_ptr, tile_start_ptr, D, F,
            TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_F: tl.constexpr):
    expert = tl.load(tile_expert_ptr + tl.program_id(0))
    if expert >= 0:
        rows = (tl.load(tile_start_ptr + tl.program_id(0)) + tl.arange(0, TILE))[:, None]
        mine = rows < tl.load(ends_ptr + expert)
        f = (tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F))[None, :]
        d = tl.arange(0, BLOCK_D)
        x = tl.load(x_ptr + rows * D + d[None, :], mask=mine & (d[None, :] < D), other=0.0)
        w_at = weight_ptr + expert * F * D + f * D + d[:, None]
        weight = tl.load(w_at, mask=(f < F) & (d[:, None] < D), other=0.0)
        tl.store(out_ptr + rows * F + f, tl.dot(x, weight), mask=mine & (f < F))
'''


def grouped(x_AD, weight_EFD, load_E):
    """The library's kernel, in float32 so that its result is not rounded to bfloat16."""
    return grouped_module.grouped_gemm(x_AD.float(), weight_EFD.float(), aligned(load_E))


def right_in_order(kernel: Launched, x_AD, weight_EFD, load_E) -> bool:
    """Whether the kernel gives the right numbers when its programs run once, in the order of their numbers."""
    try:
        out_AF = launch_grouped(kernel.kernel, x_AD, weight_EFD, load_E)
    except sim.SimulatorError:
        return False
    return torch.allclose(out_AF, grouped(x_AD, weight_EFD, load_E), rtol=1e-5, atol=1e-5)


def _grouped_inputs(g: torch.Generator):
    one = torch.tensor([[1.0], [2.0], [3.0]]).bfloat16()
    yield {"x_AD": one, "weight_EFD": torch.tensor([[[10.0]], [[100.0]]]).bfloat16(), "load_E": torch.tensor([2, 1])}
    for loads, D, F in (((5, 0, 3, 9), 7, 20), ((0, 4, 8, 1, 0), 18, 35)):
        x_AD = torch.randn(sum(loads), D, generator=g).bfloat16()
        weight_EFD = torch.randn(len(loads), F, D, generator=g).bfloat16()
        yield {"x_AD": x_AD, "weight_EFD": weight_EFD, "load_E": torch.tensor(loads)}


DOT = "tl.dot(x, weight)"
GROUPED = Exercise(
    key="15.grouped",
    reference=grouped,
    source=grouped_module.rows_kernel.fn,
    inputs=_grouped_inputs,
    tolerance=1e-5, because="products of bfloat16 are exact in float32, which rounds sums of 18 at 6e-8",
    wrong=(
        Wrong("one matrix for all", slipped(("expert * F * D + ", "")), "all rows are multiplied by the matrix of expert 0: move weight_ptr on by expert * F * D."),
        Wrong("a row for a matrix", slipped(("expert * F * D", "expert * D")), "your matrices begin one row apart; an expert's matrix has F * D numbers."),
        Wrong("a column for a matrix", slipped(("expert * F * D", "expert * F")), "your matrices begin F numbers apart; an expert's matrix has F * D numbers."),
        Wrong("the other way round", slipped(("f * D + d[:, None]", "f + d[:, None] * F")), "you read the matrices transposed. In memory one is F rows of D numbers: element (f, d) stands at f * D + d."),
        Wrong("first columns only", slipped(("tl.program_id(1) * BLOCK_F + ", "")), "every program makes the first BLOCK_F columns and nobody the rest, which are NaN because nothing was stored there."),
        Wrong("one row short", slipped(("rows < tl.load(ends_ptr + expert)", "rows < tl.load(ends_ptr + expert) - 1")), "the last row of every expert is NaN: your mask ends one row too early."),
        Wrong("full tiles only", slipped(("rows < tl.load(ends_ptr + expert)", "(rows < 0) | (tl.load(tile_start_ptr + tl.program_id(0)) + TILE <= tl.load(ends_ptr + expert))")), "rows in tiles that are not full are NaN: the mask lets through those rows of the tile that are the expert's."),
        Wrong("one column short", slipped(("mask=mine & (f < F))", "mask=mine & (f < F - 1))")), "the last column is NaN: your mask ends one column too early."),
        Wrong("inner axis short", slipped(("(d[:, None] < D)", "(d[:, None] < D - 1)")), "the last number of each row of x does not reach your sum."),
        Wrong("rounded", slipped((DOT, f"{DOT}.to(tl.bfloat16)")), "your numbers are right to 3 digits: somewhere the sum is rounded to bfloat16. `tl.dot` gives float32 and `out_ptr` holds float32; store the sum as it is."),
        Wrong("a tile's number for its start", slipped(("tl.load(tile_start_ptr + tl.program_id(0))", "tl.program_id(0) * TILE")), "rows are NaN, since no program stored them: you let tile t begin at row t * TILE. After the first tile that is not full it begins earlier; look it up in tile_start_ptr."),
        Wrong("expert 0 left out", slipped(("expert >= 0", "expert > 0")), "expert 0 is a real expert, its rows are NaN; the tiles without work have expert -1."),
    ),
    laws=(
        Law("some of your result is NaN: it begins unwritten, and no program stored anything there. Call your function on the input below and look which rows or columns are missing.", lambda fn, case: not fn(*case.values()).isnan().any()),
    ),
    may_use=MOVED,
    forbid=(grouped_module.grouped_gemm,),
    hints=(
        "It is chapter 14's `matmul` with three differences. Where do a program's rows begin? Where do they end? Where does its matrix begin? Each is a number that the program looks up.",
        "```text\nexpert = tile_expert of my number along axis 0; if it is -1, there is nothing to do\nrows = tile_start of my number + (0 .. TILE-1), as a column\n"
        "mine = rows before the end of my expert's segment\nf = my number along axis 1 * BLOCK_F + (0 .. BLOCK_F-1), as a row\nd = 0 .. BLOCK_D-1\n"
        "x = load (rows, d) where mine and d exists, else 0\nweight = load from expert * F * D + f * D + d, d as a column, where both exist, else 0\nstore the product to (rows, f) where mine and f exists\n```",
    ),
    solution=GROUPED_SOLUTION,
    differs="It walks along the inner axis in blocks, so D may be anything, takes strides for the matrix, which makes it the gradient of x as well, and numbers rows in 64 bits.",
)  # fmt: skip


# --- a tile that straddles --------------------------------------------------------------------------------------------


def _careless(load_E):
    """Tiles cut every TILE rows; a tile has the expert of its first row, and nobody's segment ends before the last."""
    where, A = aligned(load_E), int(sum(load_E))
    starts = torch.arange(0, A, TILE)
    expert_A = torch.arange(len(load_E)).repeat_interleave(torch.as_tensor(load_E))
    ends_E = torch.full_like(where.ends_E, A)
    return dataclasses.replace(where, ends_E=ends_E, tile_start=starts.int(), tile_expert=expert_A[starts].int())


def wrong_rows(load_E):
    """Rows of the careless launch, run in the simulator, that are not those of the right one."""
    E, A = len(load_E), int(sum(load_E))
    x_AD, weight_EFD = torch.ones(A, 1).bfloat16(), torch.arange(1.0, E + 1).view(E, 1, 1).bfloat16()
    kernel = slipped().kernel
    right, made = (launch_grouped(kernel, x_AD, weight_EFD, load_E, cut) for cut in (aligned, _careless))
    return int((right != made).any(dim=1).sum())


def _rows_inputs(g: torch.Generator):
    for loads in ((3, 2, 1), (3, 0, 2, 3), (4, 8, 4, 0), (1, 1, 1, 1), (5, 6, 0, 1), (2, 0, 0, 7, 3), (13, 1, 9, 0, 4, 6)):
        yield {"load_E": torch.tensor(loads)}


def _tilewise(count):
    def answer(load_E):
        expert_A = torch.arange(len(load_E)).repeat_interleave(load_E)
        return sum(count(t) for t in expert_A.split(TILE))

    return answer


WRONG_ROWS = Exercise(
    key="15.wrong_rows",
    reference=wrong_rows,
    source=align_module.align_reference,
    inputs=_rows_inputs,
    tolerance=0.0, because="whole numbers",
    wrong=(
        Wrong("tiles", _tilewise(lambda t: int(t[0] != t[-1])), "you count the tiles that straddle a border; asked are the rows in them that get a wrong matrix."),
        Wrong("all rows of them", _tilewise(lambda t: len(t) * int(t[0] != t[-1])), "you count every row of a tile that straddles. Those of its first row's expert are right."),
        Wrong("borders", _tilewise(lambda t: int((t[1:] != t[:-1]).sum())), "you count the borders inside tiles; behind a border all rows of the tile are wrong, not one."),
        Wrong("the majority", _tilewise(lambda t: len(t) - int(t.bincount().max())), "you give a tile to the expert with most of its rows; it belongs to the expert of its first."),
        Wrong("the last expert only", _tilewise(lambda t: int((t == t[-1]).sum()) * int(t[0] != t[-1])), "where a tile touches three experts you count one of the two wrong ones."),
        Wrong("full tiles only", _tilewise(lambda t: int((t != t[0]).sum()) if len(t) == TILE else 0), "the last tile may have fewer than 4 rows; its wrong rows count, too."),
        Wrong("the right ones", _tilewise(lambda t: int((t == t[0]).sum())), "you count the rows that are right."),
        Wrong("the rest of each", lambda load_E: int((load_E % TILE).sum()), "you add up what is left over of each expert. Cut every 4 rows, a tile can be straddled by an expert whose load is a multiple of 4, and saved by one whose load is none."),
    ),
    hints=(
        "Write the expert of each row in a line, and a bar behind every fourth. In each piece, which numbers differ from the first?",
        "```text\nexpert of each row: 0 repeated load_E[0] times, 1 repeated load_E[1] times, ...\nfor each row a: its tile begins at row a // 4 * 4\n"
        "count the rows whose expert is not that of the row where their tile begins\n```",
    ),
    solution=(
        "def wrong_rows(load_E):\n"
        "    expert_A = torch.arange(len(load_E)).repeat_interleave(load_E)\n"
        "    first_A = expert_A[torch.arange(len(expert_A)) // 4 * 4]\n"
        "    return int((expert_A != first_A).sum())\n"
    ),
    differs="The answer key predicts nothing: it runs the right kernel on careless tiles and counts the rows that differ. Here is how the library cuts tiles: each segment on its own.",
)  # fmt: skip


# --- what a tile wastes -----------------------------------------------------------------------------------------------


def padding(load_E, tile):
    """The share of computed rows that belong to nobody, from the tiles of the library's alignment."""
    tiles = int((aligned(load_E, tile).tile_expert >= 0).sum())
    return 1 - int(load_E.sum()) / (tile * tiles)


def _padding_inputs(g: torch.Generator):
    for loads, tile in (((5, 0, 3), 4), ((8, 4, 8), 4), ((1, 1, 1, 1), 16), ((100, 0, 28, 1), 64), ((7, 130, 0, 65, 2), 32)):
        yield {"load_E": torch.tensor(loads), "tile": tile}


def _share(tiles, share=lambda A, made: 1 - A / made):
    def answer(load_E, tile):
        made = tile * sum(tiles(int(load), tile) for load in load_E)
        return share(int(load_E.sum()), made)

    return answer


PADDING = Exercise(
    key="15.padding",
    reference=padding,
    source=align_module.tiles_kernel.fn,
    inputs=_padding_inputs,
    tolerance=1e-6, because="one division of whole numbers",
    wrong=(
        Wrong("all together", lambda load_E, tile: 1 - int(load_E.sum()) / (tile * cdiv(int(load_E.sum()), tile)), "you round up all rows together; every expert has a last tile of its own."),
        Wrong("a tile for nobody", _share(lambda n, t: max(1, cdiv(n, t))), "you give an expert without tokens a tile; it has none."),
        Wrong("always one more", _share(lambda n, t: n // t + 1 if n else 0), "where a load is a multiple of the tile you add an empty tile."),
        Wrong("of the rows", _share(cdiv, lambda A, made: made / A - 1), "you divide the padding by the rows that exist; asked is its share of the rows that are computed."),
        Wrong("the useful share", _share(cdiv, lambda A, made: A / made), "that is the share of the rows that are useful; asked is the rest."),
        Wrong("rows, no share", _share(cdiv, lambda A, made: made - A), "that is the number of rows of padding; divide it by all computed rows."),
        Wrong("half a tile each", lambda load_E, tile: 1 - int(load_E.sum()) / (int(load_E.sum()) + tile / 2 * int((load_E > 0).sum())), "half a tile an expert is the mean over many loads; here the loads are known."),
    ),
    may_use=(cdiv,),
    hints=(
        "How many tiles does each expert need? Each has `tile` rows, whoever they belong to.",
        "```text\ntiles = sum over experts of load / tile, rounded up\ncomputed = tiles * tile\npadding = (computed - rows that exist) / computed\n```",
    ),
    solution=(
        "def padding(load_E, tile):\n"
        "    computed = tile * sum(-(-int(load) // tile) for load in load_E)\n"
        "    return 1 - int(load_E.sum()) / computed\n"
    ),
    differs="The library has no formula for it: its alignment lists the tiles, by this kernel, and the share is counted from the list.",
)  # fmt: skip

EXERCISES = (PLACES, WRONG_ROWS, GROUPED, PADDING)
