"""Chapter 17: its bytes, errors, sums, turned tiles and lost updates recomputed; its slips told apart."""

import math
import statistics

import pytest
import torch

import minimoe
from minimoe.accounting.weights import parameters, stored
from minimoe.training import Batches
from minimoe.training.fp8 import use_fp8
from minimoe.training.fp8_product import BLOCKS, TILES, e5m6, limited_sum, product, quantise
from minimoe_course import fp8_numbers as numbers
from minimoe_course.ch17 import (
    DECODE,
    LOST,
    PRODUCT,
    QUANTISE,
    ROUND,
    WEIGHT_GRADIENT,
    decode,
    lost,
    round_e4m3,
    slipped,
)
from minimoe_course.checking import check, judge
from minimoe_course.first_kernels import Launched, verdict
from minimoe_course.start import data_path
from minimoe_kernels.kernel import tl, triton
from minimoe_kernels.sim.rounding import E4M3, E5M2
from minimoe_widgets import FP8Explorer
from minimoe_widgets.kernel_stepper_matmul import matmul

# What stands in the solution, what it becomes, the error that the reader sees, words of it.
ACCESSES = [
    ("m * tl.num_programs(1) + j", "j", "OrderDependent", "of scale_ptr"),
    ("m * tl.num_programs(1) + j", "m * D + j", "OutOfBounds", "of scale_ptr"),
    ("m * tl.num_programs(1) + j", "m + j", "OrderDependent", "of scale_ptr"),
    ("m * tl.num_programs(1) + j", "m * tl.num_programs(0) + j", "OutOfBounds", "of scale_ptr"),
    ("x_ptr + m * D + columns, mask=mask", "x_ptr + m * D + columns", "OutOfBounds", "loads element"),
    ("columns < D", "columns <= D", "OutOfBounds", "element"),
    (".to(tl.float8e4nv), mask=mask", ".to(tl.float8e4nv)", "OutOfBounds", "stores element"),
    ("fp8_ptr + m * D", "fp8_ptr", "OrderDependent", "fp8_ptr"),
    (", other=0.0", "", "Uninitialised", "other"),
    ("tl.load(x_ptr", "tl.load(fp8_ptr", "Uninitialised", "nothing has written"),
]


@pytest.mark.parametrize("old, new, error, words", ACCESSES)
def test_a_wrong_access_is_told_from_a_wrong_value(old, new, error, words):
    found = judge(QUANTISE, slipped((old, new)))
    assert found.kind == "wrong" and f"{error}: " in found.message and words in found.message
    assert found.message not in [wrong.says for wrong in QUANTISE.wrong]


def test_the_slips_of_the_text_get_the_verdicts_of_the_text():
    x_MD = torch.tensor([[1.0, -2, 3, -4, 5], [6, 7, -9, 8, 0]])

    def said(*change):
        return verdict(lambda: slipped(change)(x_MD, 4)).partition(":")[0]

    assert said("tl.abs(x)", "x") == said("(x / scale)", "(x * scale)") == "no complaint"
    assert said("m * tl.num_programs(1) + j", "j") == "OrderDependent"
    assert said("m * tl.num_programs(1) + j", "m * D + j") == "OutOfBounds"


@pytest.mark.parametrize("exercise", [DECODE, ROUND, PRODUCT, WEIGHT_GRADIENT, LOST], ids=lambda e: e.key)
def test_an_unwritten_stub_is_not_yet_and_goes_on_with_the_library(exercise, capsys):
    def stub(*_): ...

    assert check(exercise, stub) is exercise.reference and "not yet" in capsys.readouterr().out


def test_a_conversion_by_pytorch_is_no_answer():
    def decode(byte):
        return torch.tensor([byte], dtype=torch.uint8).view(torch.float8_e4m3fn).float().item()

    def round_e4m3(x_A):
        return x_A.clamp(-448, 448).to(torch.float8_e4m3fn).float()

    for exercise, answer in ((DECODE, decode), (ROUND, round_e4m3)):
        found = judge(exercise, answer)
        assert found.kind == "wrong" and "you let PyTorch convert" in found.message


def test_an_unwritten_kernel_is_not_yet(capsys):
    @numbers.launched
    @triton.jit
    def quantise(x_ptr, fp8_ptr, scale_ptr, D, TILE: tl.constexpr): ...

    assert check(QUANTISE, quantise) is QUANTISE.reference and "not yet" in capsys.readouterr().out


def test_launched_refuses_what_it_cannot_launch():
    with pytest.raises(TypeError, match="knows quantise, not matmul"):
        numbers.launched(matmul)
    with pytest.raises(ValueError, match="does not stand in the solution"):
        slipped(("nowhere", "somewhere"))
    assert isinstance(slipped(), Launched)


def test_all_256_bytes_are_pytorchs_and_253_numbers_differ():
    values = [decode(byte) for byte in range(256)]
    theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    assert torch.equal(torch.tensor(values).nan_to_num(nan=-1e9), theirs.nan_to_num(nan=-1e9))
    assert len({v for v in values if not math.isnan(v)}) == 253 and 17.0 not in values
    positive = sorted(v for v in values if v > 0)
    assert positive[-1] / positive[7] == 28_672 and len(positive[:7]) == 7


def test_rounding_to_e4m3_is_pytorchs_within_its_range():
    x_A = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 40
    assert torch.equal(round_e4m3(x_A), x_A.to(torch.float8_e4m3fn).float())
    assert round_e4m3(torch.tensor([1.94, 17, 19, 500])).tolist() == [2, 16, 20, 448]


def test_the_worst_rounding_errors_of_the_first_figure():
    places, worst = numbers.step_error(E4M3)
    normal = [w for p, w in zip(places, worst, strict=True) if p >= 2.0**-6 / 448]
    assert round(max(normal), 1) == 5.9 and min(normal) > 3 and round(max(worst)) == 33
    assert 1.8 < max(w for p, w in zip(*numbers.step_error(E5M2), strict=True) if p > 1e-6) / max(normal) < 2


def test_an_outlier_costs_int8_all_at_1000_and_e4m3_nothing_until_10_000():
    x_MD = torch.randn(16, 1024, generator=torch.Generator().manual_seed(0))
    others = torch.arange(16) != 3

    def off(rounded, size):
        x_MD[3, 77] = size
        return 100 * ((rounded(x_MD) - x_MD)[others].norm() / x_MD[others].norm()).item()

    assert (
        off(lambda x: numbers.one_scale(x, "int8"), 1.0) < 1.1
        and off(lambda x: numbers.one_scale(x, "int8"), 1000.0) > 99.9
    )
    assert all(2.5 < off(lambda x: numbers.one_scale(x, "e4m3"), 10.0**n) < 2.8 for n in range(5))
    assert off(lambda x: numbers.one_scale(x, "e4m3"), 1e6) > 90
    assert all(2.5 < off(numbers.as_fp8, 10.0**n) < 2.7 for n in range(7))
    assert all(5.2 < off(lambda x: numbers.one_scale(x, "e5m2"), 10.0**n) < 5.4 for n in range(7))


@pytest.fixture(scope="module")
def nano():
    return minimoe.load(data_path("nano"), dtype=torch.float32)


def test_tokens_whose_gradient_one_scale_loses_are_those_that_are_certain(nano):
    batch_BT, name = numbers.held_out(8), "model.layers.2.mlp.shared_experts.down_proj"
    x_MD, d_y_MD = numbers.gradients(nano, batch_BT, name)[name]
    assert x_MD.shape == (1024, 48) and d_y_MD.shape == (1024, 96)
    assert all(parameter.grad is None for parameter in nano.parameters())
    largest_M = d_y_MD.abs().amax(1)
    assert (largest_M == 0).sum() == 8 and largest_M.max() / largest_M[largest_M > 0].min() > 3e5
    lost_M = numbers.row_errors(numbers.one_scale(d_y_MD, "e4m3"), d_y_MD) > 50
    assert 30 <= lost_M.sum() <= 45
    with torch.no_grad():
        logits_BTV = nano.eval()(batch_BT).logits
    loss_M = torch.nn.functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1), batch_BT[:, 1:].flatten(), reduction="none"
    )
    assert loss_M[lost_M].max() < 1e-4 and loss_M[~lost_M].mean() > 3
    assert (
        numbers.row_errors(numbers.as_fp8(d_y_MD), d_y_MD).max() < 3.6
        and numbers.row_errors(numbers.one_scale(x_MD, "e4m3"), x_MD).max() < 6
    )


def test_gradients_are_autograds(nano):
    name = "model.layers.0.mlp.down_proj"
    batch_BT = numbers.held_out(2)
    x_MD, d_y_MD = numbers.gradients(nano, batch_BT, name)[name]
    nano(batch_BT, labels=batch_BT).losses["next_token"].backward()
    weight = nano.get_submodule(name).weight
    torch.testing.assert_close(d_y_MD.t() @ x_MD, weight.grad, rtol=1e-4, atol=1e-7)
    nano.zero_grad(set_to_none=True)


def test_two_levels_leave_less_than_a_25th_of_the_error():
    for draw, percent in ((torch.randn, 1.5), (torch.rand, 8.0)):
        errors = numbers.sum_errors(draw, [128, 4096])
        assert round(errors["one level"][1], 1) == percent and errors["one level"][1] > 25 * errors["two levels"][1]
        assert errors["one level"][0] == errors["two levels"][0] < 0.13
    a, b = torch.ones(1, 64), torch.full((1, 64), 1 / 8)
    a[0, 0] = b[0, 0] = 448
    assert limited_sum(a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)).item() == 448 * 448


def test_errors_of_a_product_cancel_for_one_sign_only():
    def off(draw, K):
        x_MD, weight_FD = (draw(64, K, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
        exact_MF = x_MD @ weight_FD.t()
        return 100 * ((product(quantise(x_MD), quantise(weight_FD, BLOCKS)) - exact_MF).norm() / exact_MF.norm()).item()

    assert all(3.6 < off(torch.randn, K) < 3.7 for K in (64, 256, 1024, 4096))
    assert off(torch.rand, 64) > 0.5 and off(torch.rand, 4096) < 0.1


def test_a_number_becomes_zero_beside_one_that_is_458_752_times_larger():
    for times, left in ((458_751.0, True), (458_752.0, False)):
        assert bool(quantise(torch.tensor([[1.0, times]])).dequantise()[0, 0]) is left


def test_two_batches_disagree_ten_times_as_much_as_fp8_and_float32_on_one():
    model, batches = minimoe.Transformer(minimoe.NANO, seed=0), Batches(numbers.documents(), 4, 128, seed=0)
    one_BT, other_BT = batches.take(), batches.take()
    exact, other = numbers.layer_gradient(model, one_BT), numbers.layer_gradient(model, other_BT)
    rounded = numbers.layer_gradient(use_fp8(model), one_BT)
    assert 0 < 10 * (rounded - exact).norm() < (other - exact).norm()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_the_text_asks_of_the_explorer_is_what_it_shows():
    explorer = FP8Explorer(factor=2**20)
    assert [round(100 * choice.rms_error) for choice in explorer.scales_picture.choices] == [100, 58, 15]
    explorer.scales.value = "float32, stale"
    assert all(choice.rms_error < 0.031 for choice in explorer.scales_picture.choices)
    explorer.canvas.at = list(explorer.scales_picture.outlier)
    for pattern in explorer.scales_picture.patterns:
        assert round(pattern.exact / 1e6) == 42 and round(pattern.back) == 40
    near = [interval for interval, error in explorer.sums_picture.line(4096) if error < 0.001]
    assert max(near) == 512 and near == [32, 64, 128, 256, 512]


def test_turning_tiles_rounds_again_unless_scales_are_powers_of_two():
    x_MD = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    changed = {}
    for power in (False, True):
        stored_MD = quantise(x_MD, TILES, power).dequantise()
        changed[power] = (quantise(stored_MD.t(), TILES, power).dequantise().t() != stored_MD).float().mean().item()
    assert changed[False] > 0.95 and changed[True] < 1e-3
    off = [(rounded - x_MD).norm().item() for rounded in (e5m6(x_MD), numbers.as_fp8(x_MD))]
    assert 7 < off[1] / off[0] < 9


def test_the_recipe_is_asked_of_the_model_and_leaves_it_as_it_was():
    model = minimoe.Transformer(minimoe.NANO, seed=0)
    rows = numbers.recipe(model).values
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert sum(row[2] for row in rows) == sum(p.numel() for p in model.parameters())
    fp8 = {row[1] for row in rows if row[0] == "FP8"}
    attention = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}
    assert fp8 == {"gate_proj", "up_proj", "down_proj"} | attention
    assert {row[1] for row in rows if row[0] != "FP8"} == {"Embedding", "lm_head", "eh_proj", "Router", "RMSNorm"}
    share = sum(row[2] for row in rows if row[0] == "FP8") / sum(row[2] for row in rows)
    assert round(share, 2) == 0.69
    counted = parameters(minimoe.V3)
    assert round(stored(minimoe.V3).elements["F8_E4M3"] / (counted.total + counted.mtp), 3) == 0.997
    assert round(minimoe.V3.vocab_size * minimoe.V3.hidden_size / 1e9, 2) == 0.93


def test_routers_choose_otherwise_in_fp8_more_often_than_in_bfloat16(nano):
    for _, tokens, wide, narrow in numbers.router_choices(nano, numbers.held_out(8)).values:
        assert tokens > 1000 and float(wide[:-1]) < 0.6 and 3 < float(narrow[:-1]) < 9


def test_masters_in_fp8_lose_most_updates_and_learn_less():
    ids = numbers.documents()
    runs = {form: numbers.masters(form, ids, seed=0, steps=12) for form in ("float32", "bfloat16", "e4m3")}
    moved = {form: statistics.fmean(run["moved"][4:8]) for form, run in runs.items()}
    assert moved["float32"] > 0.999 and 0.3 < moved["bfloat16"] < 0.95 and moved["e4m3"] < 0.15
    assert runs["float32"]["loss"][0] == pytest.approx(7.65, abs=0.01)
    assert runs["e4m3"]["loss"][-1] > runs["float32"]["loss"][-1] + 0.02
    assert abs(runs["bfloat16"]["loss"][-1] - runs["float32"]["loss"][-1]) < 0.02


@pytest.mark.parametrize("value, update, bits, answer", [
    (1.5, 0.05, 3, True), (1.5, 0.07, 3, False), (1.0, -0.05, 3, False), (1.0, 0.0625, 3, True),
    (1.125, 0.0625, 3, False),
])  # fmt: skip
def test_lost_updates_of_the_text(value, update, bits, answer):
    assert lost(value, update, bits) is answer


def test_v3s_last_rate_moves_a_quarter_of_its_weights_in_bfloat16():
    weights = (0.006 * torch.randn(2000, generator=torch.Generator().manual_seed(0))).abs().bfloat16().tolist()
    moved = [1 - sum(lost(w, rate, 7) for w in weights if w > 0) / 2000 for rate in (2.2e-4, 7.3e-6)]
    assert moved[0] == 1 and 0.2 < moved[1] < 0.3


def test_a_moment_decays_in_bfloat16_with_v3s_beta_and_not_with_0_999():
    def left(beta, dtype):
        v = torch.linspace(1, 2, 1000).to(dtype).float()
        before = v.mean()
        for _ in range(100):
            v = (beta * v).to(dtype).float()
        return (v.mean() / before).item()

    assert left(0.95, torch.bfloat16) == pytest.approx(0.95**100, rel=0.1)
    assert left(0.95, torch.float8_e4m3fn) > 0.7
    assert left(0.999, torch.bfloat16) == 1.0


def test_the_study_is_within_the_bounds_of_the_prose():
    runs = numbers.study()

    def ends(kind):
        means = [[statistics.fmean(runs[seed, k]["next_token"][-20:]) for k in (kind, "float32")] for seed in (0, 1, 2)]
        return [100 * (mine / base - 1) for mine, base in means]

    assert round(min(ends("fp8")), 2) == 0.05 and round(max(ends("fp8")), 2) == 0.21
    assert max(map(abs, ends("float32_reordered"))) < 0.045
    wavers = []
    for seed in (0, 1, 2):
        mine, base = (runs[seed, kind]["next_token"] for kind in ("float32_reordered", "float32"))
        wavers += [100 * (sum(mine[a : a + 10]) / sum(base[a : a + 10]) - 1) for a in range(0, 120, 10)]
    assert round(max(map(abs, wavers)), 2) == 0.24
    assert all(3 < runs[s, "fp8"]["cpu_s"] / runs[s, "float32"]["cpu_s"] < 4 for s in (0, 1, 2))
