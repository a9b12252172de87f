"""Chapter 14: its slips get the verdicts that the text names, its counts are the formulas', its floors recomputed."""

import re

import pytest
import torch

import minimoe
from minimoe_course.ch14 import FIRST_WILD, RMS_NORM, SWIGLU, slipped, tile_bytes
from minimoe_course.checking import check, judge
from minimoe_course.first_kernels import WAYS, Launched, counted, launched, one_pass, roofline, verdict
from minimoe_kernels import sim
from minimoe_kernels.kernel import load, tl, triton
from minimoe_widgets.kernel_stepper_matmul import matmul

# (exercise, what stands in the solution, what it becomes, the error that the reader sees, words of it)
ACCESSES = [
    (SWIGLU, "out_ptr + m * F", "out_ptr + m * stride", "OutOfBounds", "stores element 8 of out_ptr"),
    (SWIGLU, "gate_ptr + m * stride", "gate_ptr + m * F", "OutOfBounds", "between its rows are not its own"),
    (SWIGLU, "gate_ptr + m * stride + columns, mask=mask", "gate_ptr + m * stride + columns", "OutOfBounds", "without"),
    (SWIGLU, "up, mask=mask", "up", "OutOfBounds", "program (0, 1, 0) of swiglu stores element 5"),
    (SWIGLU, "columns < F", "columns <= F", "OutOfBounds", "where the mask is True (2 of 4 lanes)"),
    (SWIGLU, "out_ptr + m * F", "out_ptr", "OrderDependent", "run forward"),
    (RMS_NORM, "x_ptr + row * D + columns, mask=mask", "x_ptr + row * D + columns", "OutOfBounds", "loads element 6"),
    (RMS_NORM, "weight * x * scale, mask=mask", "weight * x * scale", "OutOfBounds", "stores element 6"),
    (RMS_NORM, "out_ptr + row * D", "out_ptr", "OrderDependent", "3 of 6 elements differ"),
    (RMS_NORM, "x_ptr + row * D", "x_ptr + row * BLOCK", "OutOfBounds", "x_ptr"),
    (RMS_NORM, "columns, mask=mask, other=0.0).to", "columns, mask=mask).to", "Uninitialised", "x_ptr: their mask was"),
    (RMS_NORM, "tl.load(weight_ptr", "tl.load(out_ptr", "Uninitialised", "which nothing has written"),
    (RMS_NORM, "out_ptr + row * D + columns", "out_ptr + row * D + columns * 0", "StoreConflict", "one element"),
]


@pytest.mark.parametrize("exercise, old, new, error, words", ACCESSES)
def test_a_wrong_access_is_told_from_a_wrong_value_and_names_program_tensor_and_mask(exercise, old, new, error, words):
    found = judge(exercise, slipped(exercise, (old, new)))
    assert found.kind == "wrong" and f"{error}: " in found.message and words in found.message
    assert found.message not in [wrong.says for wrong in exercise.wrong]
    if error != "OrderDependent":  # that one is found when the programs have run, not on a line
        quoted = re.search(r"line \d+ of the cell, `(.*)`: ", found.message)[1]
        assert new in quoted or "mask" in new or "columns" in old


def test_a_store_without_its_mask_is_blamed_where_the_gain_has_no_other_as_in_a_right_answer():
    load = ("tl.load(weight_ptr + columns, mask=mask, other=0.0)", "tl.load(weight_ptr + columns, mask=mask)")
    assert judge(RMS_NORM, slipped(RMS_NORM, load)).kind == "right"
    found = judge(RMS_NORM, slipped(RMS_NORM, load, ("weight * x * scale, mask=mask", "weight * x * scale")))
    assert found.kind == "wrong" and "from weight_ptr: this tl.store has no mask" in found.message


def test_a_result_with_rows_or_columns_that_nobody_stored_is_called_unwritten():
    alone = judge(RMS_NORM, slipped(RMS_NORM, ("tl.program_id(0)", "0")))
    assert "Either every program works on row 0" in alone.message
    by_rows = slipped(SWIGLU, ("m = tl.program_id(0)", "m = 0"), ("tl.program_id(1) *", "tl.program_id(0) *"))
    assert "no program stored anything there" in judge(SWIGLU, by_rows).message


def test_a_race_that_repairs_itself_passes_in_order_and_is_found_in_three():
    source = (
        "import triton\nimport triton.language as tl\n\n@triton.jit\n"
        "def double_rows(x_ptr, out_ptr, D, BLOCK: tl.constexpr):\n"
        "    row, columns = tl.program_id(0), tl.arange(0, BLOCK)\n"
        "    x = tl.load(x_ptr + row * D + columns, mask=columns < D, other=0.0)\n"
        "    tl.store(out_ptr + row * D + columns, 2 * x)\n"
    )
    kernel, x_MD = load(source).double_rows, torch.arange(1.0, 10).view(3, 3)
    out_MD = torch.zeros(4, 3)
    kernel[(3,)](x_MD, out_MD, 3, BLOCK=4)
    assert torch.equal(out_MD[:3], 2 * x_MD)

    def launch():
        kernel[(3,)](x_MD, torch.zeros(4, 3), 3, BLOCK=4)

    assert verdict(launch, orders=("forward",)) == "no complaint"
    assert "element 3 of out_ptr is 8.0 with the programs run forward and 0.0 run reversed" in verdict(launch)


def test_an_unwritten_kernel_is_not_yet_and_one_that_stores_nothing_is_wrong(capsys):
    @launched
    @triton.jit
    def swiglu(gate_ptr, up_ptr, out_ptr, F, stride, BLOCK: tl.constexpr): ...

    assert check(SWIGLU, swiglu) is SWIGLU.reference and "not yet" in capsys.readouterr().out
    store = "tl.store(out_ptr + m * F + columns, gate * tl.sigmoid(gate) * up, mask=mask)"
    read_only = slipped(SWIGLU, (store, "pass"))
    assert judge(SWIGLU, read_only).kind == "wrong"


def test_a_kernel_that_calls_the_librarys_kernel_is_refused():
    from minimoe_kernels.swiglu import swiglu_forward

    @launched
    @triton.jit
    def swiglu(gate_ptr, up_ptr, out_ptr, F, stride, BLOCK: tl.constexpr):
        swiglu_forward(gate_ptr, up_ptr, out_ptr, F, stride, stride, BLOCK, tl.float32)

    assert "which is the answer" in judge(SWIGLU, swiglu).message


def test_launched_refuses_what_it_cannot_launch():
    with pytest.raises(TypeError, match="swiglu and rms_norm, not matmul"):
        launched(matmul)
    with pytest.raises(TypeError, match="not <lambda>"):
        launched(lambda x: x)
    with pytest.raises(ValueError, match="does not stand in the solution"):
        slipped(SWIGLU, ("nowhere", "somewhere"))
    assert isinstance(slipped(SWIGLU), Launched)


def test_the_three_ways_give_one_result_and_move_36_6_and_4_bytes_a_number():
    x_MD, weight_D = torch.randn(5, 96).bfloat16(), torch.randn(96).bfloat16()
    exact_MD = minimoe.model.layers.rms_norm(x_MD.double(), weight_D.double(), 1e-6)
    scales_bytes = 5 * 4 * 2  # written and read, in float32
    for (way, norm), a_number, extra in zip(WAYS.items(), (36, 6, 4), (scales_bytes, 0, 0), strict=True):
        ran = counted(norm, x_MD, weight_D, 1e-6)
        gain_bytes = 5 * 96 * 2
        assert ran.total.bytes == a_number * x_MD.numel() + gain_bytes + extra, way
        torch.testing.assert_close(norm(x_MD, weight_D, 1e-6).double(), exact_MD, rtol=2**-6, atol=2**-9)
        assert ran.total.intensity < 2 < 989 / 3.35


def test_the_ways_are_the_same_bits_as_the_library_where_they_round_alike():
    x_MD, weight_D = torch.randn(3, 64).bfloat16(), torch.randn(64).bfloat16()
    six_MD = WAYS["six operations"](x_MD, weight_D, 1e-6)
    assert torch.equal(six_MD, minimoe.model.layers.rms_norm(x_MD, weight_D, 1e-6))
    assert not torch.equal(one_pass(x_MD, weight_D, 1e-6), six_MD)  # it rounds once, at the end


@pytest.mark.parametrize("M, D, F, tall, wide", [(48, 64, 80, 16, 16), (40, 24, 56, 16, 32), (1, 64, 48, 16, 16)])
def test_the_formula_of_a_tile_is_what_the_simulator_counts(M, D, F, tall, wide):
    a_MD, b_DF = torch.randn(M, D).bfloat16(), torch.randn(D, F).bfloat16()
    c_MF = sim.empty(M, F, dtype=torch.bfloat16)
    grid = -(-M // tall), -(-F // wide)
    with sim.session(sim.ORDERS) as ran:
        matmul[grid](a_MD, b_DF, c_MF, M, D, F, tall, 16, wide)
    assert tile_bytes(M, D, F, tall, wide) == ran.total.bytes
    torch.testing.assert_close(c_MF.float(), a_MD.float() @ b_DF.float(), rtol=2**-7, atol=1e-2)


def test_the_numbers_of_the_prose():
    n = 4096
    intensity = {b: 2 * n**3 / tile_bytes(n, n, n, b, b) for b in (16, 128, 512, 1024)}
    assert [round(value) for value in intensity.values()] == [8, 63, 241, 455]
    assert round(989 / 3.35) == 295 and 4 * 256**2 == 65536 * 4 == 256 * 1024
    assert tile_bytes(4, 8, 6, 2, 3) == 368
    assert 40 * 3.35 == 134 and round(100 / 134, 2) == 0.75
    least_us = [round(4 * 8192 * minimoe.V3.hidden_size / bandwidth * 1e6) for bandwidth in (3.35e12, 3.0e12)]
    assert least_us == [70, 78]
    v3 = minimoe.V3
    assert (v3.num_hidden_layers, v3.n_routed_experts, v3.num_experts_per_tok) == (61, 256, 8)
    assert 4 * v3.hidden_size == 28 * 1024 and 256 // 32 == 8 and 280 > 256
    assert torch.tensor(256.0).bfloat16() + 1 == 256


def test_the_answer_key_of_the_first_wild_access_is_the_simulators_own_complaint():
    assert [FIRST_WILD.reference(*case.values()) for case in FIRST_WILD.cases()] == [
        (2, 10), (-1, -1), (2, 8), (0, 3), (2, 10), (-1, -1), (2, 33)
    ]  # fmt: skip


def test_the_roofline_has_its_points_on_the_roof():
    roofs = {"datasheet": (989e12, 3.35e12), "measured": (8e14, 3e12)}
    figure = roofline({"slope": 2.0, "flat": 1000.0}, roofs, "Title")
    dots = [line.get_xydata()[0].tolist() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots == [[2.0, pytest.approx(6.7)], [1000.0, pytest.approx(989.0)]]
