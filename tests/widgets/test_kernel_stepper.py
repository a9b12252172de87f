"""KernelStepper without a browser: controls are set, the frame that the canvas would draw is read."""

import inspect

import numpy as np
import pytest

from minimoe_kernels.kernel import cdiv, load
from minimoe_widgets import KernelStepper, kernel_stepper_matmul
from minimoe_widgets.kernel_stepper_matmul import matmul
from minimoe_widgets.kernel_stepper_trace import ITEM, ORDERS, Sizes, arranged, shared_bytes, trace
from minimoe_widgets.kernel_stepper_words import Picture

SMALL = {"M": 40, "D": 24, "F": 56, "tiles": (16, 16, 32)}
SIZES = Sizes(40, 24, 56, 16, 16, 32)
SOURCE = inspect.getsource(kernel_stepper_matmul)


@pytest.fixture
def stepper():
    return KernelStepper(**SMALL)


def slipped(old, new):
    """The kernel with a few characters changed."""
    assert SOURCE.count(old) == 1
    return load(SOURCE.replace(old, new)).matmul


def test_it_opens_in_the_middle_of_a_right_product_whose_tiles_do_not_divide_it():
    stepper = KernelStepper()
    sizes = stepper._trace.sizes
    assert sizes.M % sizes.BLOCK_M and sizes.D % sizes.BLOCK_D and sizes.F % sizes.BLOCK_F
    assert 0 < stepper.step.value < stepper.step.max == 64
    assert "Try first" in stepper.hint.value and "C is right" in stepper.notice.value


def test_bytes_and_flops_are_those_of_the_formula():
    """Each band of A is read once a column of tiles, each of B once a row; padding is computed but never loaded."""
    for sizes in (SIZES, Sizes(16, 16, 16, 16, 16, 16), Sizes(33, 40, 17, 32, 32, 64)):
        done = Picture(trace(matmul, sizes), "row by row", 1, sizes.grid[0] * sizes.grid[1])
        down, across = sizes.grid
        loads = ITEM * (sizes.M * sizes.D * across + sizes.D * sizes.F * down)
        flops = 2 * down * sizes.BLOCK_M * across * sizes.BLOCK_F * cdiv(sizes.D, sizes.BLOCK_D) * sizes.BLOCK_D
        assert done.counts == (loads, ITEM * sizes.M * sizes.F, flops)
        assert done.ideal == 2 * sizes.M * sizes.D * sizes.F / sizes.ideal_bytes


def test_a_program_reads_its_bands_and_writes_its_tile(stepper):
    stepper.step.value = 4
    assert stepper.picture.boxes() == [["A", 16, 0, 32, 24], ["B", 0, 32, 24, 56], ["C", 16, 32, 32, 56]]
    assert "Program (1, 1)" in stepper.state.value


def test_every_element_of_c_is_written_once_and_those_of_a_and_b_once_a_tile():
    found = trace(matmul, SIZES)
    written = np.bincount(np.concatenate([p.stores for p in found.programs]), minlength=40 * 56)
    assert (written == 1).all()
    for name, times in (("A", 2), ("B", 3)):
        assert (sum(p.loads[name] for p in found.programs) == times).all()


def test_the_order_moves_what_is_shared_and_never_what_is_counted():
    found = trace(matmul, Sizes(128, 32, 128, 16, 16, 16))
    ends = {order: Picture(found, order, 16, 64) for order in ORDERS}
    assert len({picture.loaded[-1] for picture in ends.values()}) == 1
    assert all(sorted(arranged(found, order, 16)) == list(range(64)) for order in ORDERS)
    assert ends["grouped"].shared[-1] < ends["row by row"].shared[-1] < ends["shuffled"].shared[-1]
    # 16 programs: a wave of 2 rows reads 2 bands of A and all 8 of B, one of 4 x 4 reads 4 and 4
    band = 16 * 32 * ITEM
    assert (ends["row by row"].shared[-1], ends["grouped"].shared[-1]) == (4 * 10 * band, 4 * 8 * band)


def test_alone_every_program_loads_everything_and_all_together_load_each_matrix_once():
    found = trace(matmul, SIZES)
    order = arranged(found, "row by row", 1)
    assert shared_bytes(found, order, 1) == Picture(found, "row by row", 1, 0).loaded
    assert shared_bytes(found, order, 6)[-1] == ITEM * (40 * 24 + 24 * 56)


def test_the_rows_come_one_after_the_other_and_groups_column_by_column(stepper):
    stepper.together.value = 4
    stepper.order.value = "grouped"
    assert [p.place[:2] for p in stepper.picture.programs] == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]
    stepper.order.value = "row by row"
    assert [p.place[:2] for p in stepper.picture.programs][:3] == [(0, 0), (0, 1), (1, 0)]


def test_the_frame_follows_every_control(stepper):
    seen = [dict(stepper.canvas.frame)]
    for control, value in ((stepper.step, 1), (stepper.order, "shuffled"), (stepper.together, 2),
                           (stepper.sizes[0], 90), (stepper.tiles[0], 32)):  # fmt: skip
        control.value = value
        assert stepper.canvas.frame != seen[-1]
        seen.append(dict(stepper.canvas.frame))
    assert stepper.canvas.frame["shapes"] == {"A": [90, 24], "B": [24, 56], "C": [90, 56]}
    assert len(stepper.canvas.frame["shades"]["C"]) == 90 * 56


def test_before_the_first_program_nothing_is_touched(stepper):
    stepper.step.value = 0
    frame = stepper.canvas.frame
    assert frame["boxes"] == [] and not any(any(shade) for shade in frame["shades"].values())
    assert stepper.picture.intensity == 0 and "No program" in stepper.state.value
    assert stepper.static().alt


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("mask=(rows < M) & (across < D), other=0.0", "other=0.0", "element 960 of A without a mask"),
        ("(rows < M) & (columns < F))", "(rows < M))", "OutOfBounds: program (2, 1, 0) of matmul stores"),
        ("tl.program_id(1) * BLOCK_F + tl.arange", "tl.arange", "nothing was stored there"),
        ("tl.dot(a, b, acc)", "tl.dot(a, b)", "elements of C are wrong, the first at"),
        ("(down < D) & (columns < F), other=0.0", "(down < D) & (columns < F)", "lanes"),
        ("tl.store(c_ptr", "tl.store(a_ptr", "of A where the mask is True"),
        ("c_ptr + rows * F + columns", "c_ptr + rows * 0 + columns", "StoreConflict"),
        ("tl.zeros((BLOCK_M, BLOCK_F), dtype=tl.float32)", "tl.zeros((BLOCK_M, 7), dtype=tl.float32)", "Error"),
        ("acc, mask", "acc + tl.load(c_ptr + rows * F + columns, mask=columns < 0), mask", "lanes"),
    ],
)
def test_a_wrong_kernel_is_stepped_and_the_simulators_words_are_shown(old, new, says):
    stepper = KernelStepper(slipped(old, new), **SMALL)
    assert says in stepper.verdict and "font-weight" in stepper.notice.value
    assert stepper.static().alt and says in stepper.alt_text()


def test_a_kernel_that_is_stopped_opens_where_it_stopped_in_the_order_it_ran_in():
    stepper = KernelStepper(slipped("mask=(rows < M) & (across < D), other=0.0", "other=0.0"), **SMALL)
    assert stepper.order.disabled and stepper.step.value == stepper.step.max < 6
    assert "was stopped by the simulator" in stepper.picture.title() and stepper.canvas.frame["stopped"]


def test_programs_that_wait_for_each_other_are_called_dependent_on_their_order():
    race = slipped(
        "tl.store(c_ptr + rows * F + columns, acc,",
        "tl.store(c_ptr + rows * F + columns, acc + tl.program_id(0), mask=(columns < F) & (rows < M))\n"
        "    rows = rows * 0 + tl.arange(0, BLOCK_M)[:, None]\n    tl.store(c_ptr + rows * F + columns, acc,",
    )
    assert "OrderDependent" in KernelStepper(race, **SMALL).verdict


def test_a_kernel_of_ones_own_may_have_a_grid_of_its_own():
    line = SOURCE.replace("tl.program_id(0)", "(tl.program_id(0) // tl.cdiv(F, BLOCK_F))")
    line = line.replace("tl.program_id(1)", "(tl.program_id(0) % tl.cdiv(F, BLOCK_F))")
    kernel = load(line).matmul
    stepper = KernelStepper(kernel, grid=lambda s: (s.grid[0] * s.grid[1],), **SMALL)
    assert "C is right" in stepper.verdict and stepper.step.max == 6


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"M": 0}, "M=0"), ({"F": 1000}, "F=1000"), ({"tiles": (16, 16)}, "three of"), ({"tiles": (16, 24, 16)}, "24"),
        ({"order": "sideways"}, "sideways"), ({"together": 0}, "together=0"), ({"tiles": (8,) * 3}, "8"),
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused_by_name(wrong, says):
    with pytest.raises(ValueError, match=says):
        KernelStepper(**(SMALL | wrong))


def test_what_is_no_kernel_is_refused():
    with pytest.raises(TypeError, match="nine arguments"):
        KernelStepper(lambda a, b: None)


def test_too_many_programs_keep_the_picture_and_say_so(stepper):
    stepper.tiles[2].value = 16
    stepper.sizes[0].max = stepper.sizes[2].max = 300
    before = None
    stepper.sizes[0].value = 256
    before = dict(stepper.canvas.frame)
    stepper.sizes[2].value = 300
    assert "still shows the last product" in stepper.notice.value and stepper.canvas.frame == before


def test_the_twin_is_a_picture_with_words(stepper):
    twin = stepper.static()
    assert twin.png().startswith(b"\x89PNG")
    assert "40 x 24" in twin.alt and str(stepper.picture.loaded[-1]) in twin.alt.replace(",", "")


def test_the_twin_says_what_its_colours_mean(stepper):
    (legend,) = stepper.static().legends
    labels = {text.get_text() for text in legend.get_texts()}
    assert {"not read, not written", "A: read 1x", "A: read 2x", "B: read 3x", "C: written"} <= labels
    assert "program at work" in labels
    broken = KernelStepper(slipped("mask=(rows < M) & (across < D), other=0.0", "other=0.0"), **SMALL)
    assert "touched before it was stopped" in {t.get_text() for t in broken.static().legends[0].get_texts()}
