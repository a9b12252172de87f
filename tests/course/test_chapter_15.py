"""Chapter 15: its slips get the verdicts that the text names, its counts are the formulas', its numbers recomputed."""

import pytest
import torch

import minimoe
from minimoe_course import data_path
from minimoe_course.ch15 import GROUPED, PLACES, WRONG_ROWS, grouped, padding, right_in_order, slipped, wrong_rows
from minimoe_course.checking import check, judge
from minimoe_course.first_kernels import Launched, verdict
from minimoe_course.grouped_kernels import (
    aligned,
    grouped_bytes,
    grouped_flops,
    launch_grouped,
    launched,
    layer_routing,
)
from minimoe_kernels import sim
from minimoe_kernels.checks.mutants import mutants_of, mutate
from minimoe_kernels.grouped_gemm import grouped_gemm
from minimoe_kernels.kernel import tl, triton
from minimoe_widgets.grouped_schedule import WAYS, schedule

STORE = ("mask=mine & (f < F))", "mask=f < F)")
START = ("tl.load(tile_start_ptr + tl.program_id(0))", "tl.program_id(0) * TILE")
ACCESSES = [
    (("ends_ptr + expert)", "ends_ptr + expert + 1)"), "OutOfBounds", "loads element 4 of ends_ptr"),
    (("expert >= 0", "expert >= -1"), "OutOfBounds", "loads element -1 of ends_ptr"),
    (("mask=mine & (d[None, :] < D)", "mask=mine"), "OutOfBounds", "x_ptr"),
    (("(f < F) & (d[:, None] < D)", "f < F"), "OutOfBounds", "weight_ptr"),
    ((", mask=mine & (f < F))", ")"), "OutOfBounds", "out_ptr"),
    (("out_ptr + rows * F + f", "out_ptr + rows * F + f * 0"), "StoreConflict", "one element"),
]


@pytest.fixture
def case():
    """Loads of the chapter's slips: (x_AD, weight_EFD, load_E)."""
    torch.manual_seed(0)
    return torch.randn(16, 8).bfloat16(), torch.randn(4, 20, 8).bfloat16(), torch.tensor([5, 0, 3, 8])


@pytest.mark.parametrize("change, error, words", ACCESSES)
def test_a_wrong_access_is_named(change, error, words, case):
    said = verdict(lambda: slipped(change)(*case))
    assert said.startswith(error) and words in said
    assert judge(GROUPED, slipped(change)).kind == "wrong"


def test_a_store_without_the_rows_mask_repairs_itself_in_order_and_races_otherwise(case):
    kernel = slipped(STORE)
    assert verdict(lambda: kernel(*case)).startswith("OrderDependent")
    torch.testing.assert_close(launch_grouped(kernel.kernel, *case), grouped(*case), rtol=1e-5, atol=1e-5)
    assert judge(GROUPED, kernel).kind == "wrong"
    slips = [kernel, slipped(START), *(slipped(change) for change, *_ in ACCESSES[:2])]  # those of the chapter
    assert [right_in_order(slip, *case) for slip in slips] == [True, False, False, False]


def test_starts_that_are_multiples_of_the_tile_are_silent_and_leave_rows_5_to_11_unwritten(case):
    kernel = slipped(START)
    assert verdict(lambda: kernel(*case)) == "no complaint"
    assert kernel(*case).isnan().any(1).nonzero().flatten().tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert judge(GROUPED, kernel).kind == "wrong"


def test_careless_tiles_are_silent_too_and_the_count_is_that_of_the_launch():
    assert [WRONG_ROWS.reference(*c.values()) for c in WRONG_ROWS.cases()] == [2, 4, 0, 3, 4, 5, 5]
    assert verdict(lambda: wrong_rows(torch.tensor([3, 0, 2, 3]))) == "no complaint"


def test_an_unwritten_kernel_is_not_yet_and_the_librarys_own_is_refused(capsys):
    @launched
    @triton.jit
    def grouped(x_ptr, weight_ptr, out_ptr, ends_ptr, tile_expert_ptr, tile_start_ptr, D, F,
                TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_F: tl.constexpr):  # fmt: skip
        ...

    assert check(GROUPED, grouped) is GROUPED.reference and "not yet" in capsys.readouterr().out

    def cheat(x_AD, weight_EFD, load_E):
        return grouped_gemm(x_AD.float(), weight_EFD.float(), aligned(load_E))

    assert "the exercise is to write it" in judge(GROUPED, cheat).message
    with pytest.raises(TypeError, match="knows grouped"):
        launched(lambda x: x)
    with pytest.raises(ValueError, match="does not stand in the solution"):
        slipped(("nowhere", "somewhere"))
    assert isinstance(slipped(), Launched)


def test_places_that_hand_back_the_inverse_permutation_are_told_so():
    found = judge(PLACES, lambda chosen_A, E: chosen_A.argsort(stable=True))
    assert found.kind == "wrong" and "the other way round" in found.message


def shuffled(chosen_A):
    """A sort by expert in which those of one expert stand anyhow: what `argsort` may give without `stable=True`."""
    mixed_A = torch.randperm(len(chosen_A), generator=torch.Generator().manual_seed(1))
    return mixed_A[chosen_A[mixed_A].argsort(stable=True)]


def test_an_unstable_sort_is_called_one_whether_its_order_or_its_places_are_given():
    def inverse(chosen_A, E):
        return torch.empty_like(chosen_A).scatter_(0, shuffled(chosen_A), torch.arange(len(chosen_A)))

    for answer in (inverse, lambda chosen_A, E: shuffled(chosen_A)):
        found = judge(PLACES, answer)
        assert found.kind == "wrong" and "your sort is not stable" in found.message
    assert judge(PLACES, lambda chosen_A, E: [0] * len(chosen_A)).message.startswith("you return a list of 5")


def test_a_result_that_is_nan_somewhere_is_called_unwritten():
    half = slipped(("mask=mine & (f < F))", "mask=mine & (f < F) & (f % 3 < 2))"))
    found = judge(GROUPED, half)
    assert found.kind == "wrong" and "no program stored anything there" in found.message


# What these change shows only beyond 1024 assignments, or in the tiles, which places do not have.
SAME = {("count_kernel", "last tile"), ("place_kernel", "last tile")}
ALIGN = [(k, m) for k in ("count_kernel", "starts_kernel", "place_kernel") for m in mutants_of("align", k)]


@pytest.mark.parametrize("kernel, mutant", [found for found in ALIGN if found not in SAME])
def test_a_mutant_of_the_sorting_kernels_is_no_right_answer(kernel, mutant):
    ops = mutate("align", kernel, mutant)
    answer = lambda chosen_A, E: ops.align(chosen_A[:, None], E).where_MK.flatten().long()  # noqa: E731
    assert judge(PLACES, answer, may_call_library=True).kind == "wrong"


@pytest.mark.parametrize("mutant", mutants_of("grouped_gemm", "rows_kernel"))
def test_a_mutant_of_the_grouped_product_is_no_right_answer(mutant):
    ops = mutate("grouped_gemm", "rows_kernel", mutant)
    answer = lambda x_AD, weight_EFD, load_E: ops.grouped_gemm(x_AD.float(), weight_EFD.float(), aligned(load_E))  # noqa: E731
    assert judge(GROUPED, answer, may_call_library=True).kind == "wrong"


SIZES = [((40, 0, 7, 16, 33), 16, 64, 256), ((0, 3), 32, 128, 16), ((65,), 64, 64, 384)]


@pytest.mark.parametrize("loads, tile, D, F", SIZES)
def test_the_simulator_counts_the_formulas(loads, tile, D, F):
    where, block = aligned(loads, tile), min(128, F)
    x_AD, weight_EFD = torch.randn(sum(loads), D).bfloat16(), torch.randn(len(loads), F, D).bfloat16()
    with sim.session(sim.ORDERS) as ran:
        grouped_gemm(x_AD, weight_EFD, where)
    (launch,) = ran.launches
    looked_up = sum(launch.tensors[name][0] for name in ("ends_ptr", "tile_expert_ptr", "tile_start_ptr"))
    assert grouped_bytes(loads, tile, D, F, block) == launch.total.bytes - looked_up
    assert grouped_flops(loads, tile, D, F) == launch.total.dot_flops


def test_wgrad_writes_zeros_for_an_empty_expert_and_its_programs_grow_with_the_load():
    x_AD, weight_EFD = torch.randn(70, 16, requires_grad=True), torch.randn(3, 16, 16, requires_grad=True)
    out_AF = grouped_gemm(x_AD, weight_EFD, aligned((65, 0, 5), 16))
    with sim.session(sim.ORDERS) as ran:
        out_AF.sum().backward()
    dgrad, wgrad = ran.launches
    assert (dgrad.kernel, wgrad.kernel) == ("rows_kernel", "weight_gradient_kernel")
    assert not weight_EFD.grad[1].any() and not weight_EFD.grad.isnan().any()
    turns = [wgrad.programs[0, 0, e].dot_flops // (2 * 32 * 16 * 16) for e in range(3)]
    assert turns == [3, 0, 1]


def test_the_numbers_of_the_prose():
    v3 = minimoe.V3
    assert (v3.n_routed_experts, v3.num_experts_per_tok) == (256, 8)
    assert (v3.hidden_size, v3.moe_intermediate_size) == (7168, 2048)
    assert 128 * 8 / 256 == 4 and 2 * 2048 // 128 == 32 and 132 - 32 == 100 and (2048 // 128) * (7168 // 128) == 896
    weights_bytes = 256 * 7168 * 4096 * 2
    assert round(weights_bytes / 1e9) == 15 and round(weights_bytes / 3.35e12 * 1e6) == 4487
    arithmetic_us = [2 * rows * 7168 * 4096 / 989e12 * 1e6 for rows in (65536, 1024)]
    assert [round(t) for t in arithmetic_us] == [3891, 61]
    assert round(4487 / arithmetic_us[1]) == 74 and round(arithmetic_us[0] / 561) == 7
    assert padding(torch.tensor([5, 0, 3]), 4) == pytest.approx(1 / 3)


def test_both_routers_on_the_clock_as_the_text_says():
    from minimoe.tokenizer import Tokenizer
    from minimoe.training import Batches, load_corpus
    from minimoe.training.data import encode_documents

    tokenizer = Tokenizer.load(data_path("balance") / "none")
    documents = encode_documents(tokenizer, load_corpus(data_path("wordnet")).validation)
    batch_BT = Batches(documents, 8, 128, seed=1).take()
    models = (minimoe.load(data_path("balance") / name, dtype=torch.float32) for name in ("none", "loss_free"))
    loads = [layer_routing(model, batch_BT).tolist() for model in models]
    assert all(sum(load_E) == 4096 for load_E in loads)
    loop, one, wgrad = ([schedule(load_E, 64, 4, 132, way, deep=4).length for load_E in loads] for way in WAYS)
    assert loop == [64, 64] and one[0] == one[1] == 12 and wgrad[0] > 1.5 * wgrad[1]
    loop, one, wgrad = ([schedule(load_E, 64, 16, 132, way, deep=56).length for load_E in loads] for way in WAYS)
    assert loop[0] > 1.2 * loop[1] and one[0] == one[1] and wgrad[0] < 1.02 * wgrad[1]
    shown = [[schedule(load_E, 64, 4, 12, way).length for load_E in loads] for way in WAYS]
    assert shown == [[32, 32], [24, 24], [30, 26]]
    assert max(loads[0]) > 3.9 * 256 and max(loads[1]) < 1.3 * 256
