"""Chapter 16: its counts are the formulas', its claims about heads, shares, pages and registers recomputed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe_course.ch16 import COMBINE, FORGOTTEN, HEADS, RUNNING, forgotten, heads_needed
from minimoe_course.checking import check, judge
from minimoe_course.first_kernels import Launched, verdict
from minimoe_course.mla_decoding import STEPS, UNUSED, combined, compiled, counted_decode, pages_of, source_part
from minimoe_course.running_softmax import launched, shared, slipped
from minimoe_kernels.checks.mutants import mutants_of, mutate
from minimoe_kernels.kernel import cdiv, running, tl, triton
from minimoe_kernels.mla_decode import combine_kernel, plan, split_kernel
from minimoe_kernels.production import decoding
from minimoe_kernels.resources import PATH, SHARED_LIMIT, specialised
from minimoe_widgets import KernelStepper

C, R = 512, 64
RIDGE = 989 / 3.35


def least(S, H):
    return 2 * S * H * (2 * C + R), 2 * (S * (C + R) + H * (2 * C + R))


def formula_bytes(S, H, X):
    """What the kernel asks for: the cache once a block of heads, results of shares twice in float32, pages' numbers."""
    block, step, _ = plan(1, H, S, C)
    blocks = cdiv(H, block)
    asked = 2 * (blocks * S + X * H) * (C + R)  # entries; every share of a block reads its queries again
    asked += 4 * blocks * S + 4 * blocks * X  # the table's number of each entry, and the length
    asked += 4 * H * X * (C + 1) * 2 + 2 * H * C  # parts and log-sums, written and read; results
    return asked


@pytest.mark.parametrize("H, S, X", [(16, 256, 1), (16, 512, 4), (64, 256, 1), (128, 256, 2), (3, 128, 1)])
def test_the_bytes_counted_are_the_formulas(H, S, X):
    ran = counted_decode(H, S, X)
    assert ran.total.bytes == formula_bytes(S, H, X)
    rows = cdiv(H, plan(1, H, S, C)[0]) * plan(1, H, S, C)[0]
    assert ran.total.dot_flops == 2 * S * rows * (2 * C + R)


def test_128_heads_earn_no_more_than_64_and_one_head_computes_as_much_as_16():
    ran = {H: counted_decode(H, 256).total for H in (1, 16, 64, 128)}
    assert ran[128].bytes == 2 * ran[64].bytes and ran[128].dot_flops == 2 * ran[64].dot_flops
    assert ran[1].dot_flops == ran[16].dot_flops


def test_the_intensities_and_crossings_of_the_prose():
    assert [round(least(4096, H)[0] / least(4096, H)[1]) for H in (16, 64, 128, 256)] == [30, 117, 228, 432]
    assert round(RIDGE) == 295 and 0.76 < 228 / RIDGE < 0.78
    assert round(865 / 3.35) == 258 and round(798 / 3.0) == 266
    assert round(128 * (2 * C + R) / (C + R)) == 242
    for S, ridge in ((4096, 295), (4096, 266), (512, 258)):
        H = heads_needed(S, C, R, ridge)
        flops, moved = least(S, H)
        assert flops / moved >= ridge > least(S, H - 1)[0] / least(S, H - 1)[1]
        assert H > minimoe.V3.num_attention_heads
    assert heads_needed(295, C, R, 295) == -1
    table = [(S, ridge) for S in (512, 4096, 131072) for ridge in (295, 266, 258, 220)]
    assert [at for at in table if heads_needed(at[0], C, R, at[1]) <= 128] == [(4096, 220), (131072, 220)]


def test_the_floors_of_the_prose():
    def floors(H, queries=1, read=1):
        moved = 128 * 2 * (read * 4096 * (C + R) + queries * H * (2 * C + R))
        return moved / 3.35e6, 128 * queries * least(4096, H)[0] / 989e6

    assert [round(floors(H)[0]) for H in (16, 128)] == [182, 191] and round(floors(128, 1, 2)[0]) == 371
    assert round(floors(16)[0] / floors(128)[0], 2) == 0.95
    assert floors(128)[0] > floors(128)[1] and floors(128, 2)[0] < floors(128, 2)[1]
    assert round(floors(128, 2)[0] - floors(128)[0]) == 11


def test_nine_shares_move_as_much_as_the_cache():
    assert 2 * 4096 * (C + R) / (128 * C * 4 * 2) == 9
    assert plan(1, 128, 4096, C)[2] == 64 and plan(128, 128, 4096, C)[2] == 1
    assert round(64 / 9) == 7 and formula_bytes(4096, 128, 64) < 8 * formula_bytes(4096, 128, 1)


def test_the_shares_of_the_kernel_are_one_softmax():
    scores_SH, values_SC = torch.randn(9, 2), torch.randn(9, 4)
    whole_HC = scores_SH.t().softmax(1) @ values_SC
    cuts = ((0, 4), (4, 9))
    parts_XHC = torch.stack([scores_SH[a:b].t().softmax(1) @ values_SC[a:b] for a, b in cuts])
    log_sums_XH = torch.stack([scores_SH[a:b].logsumexp(0) for a, b in cuts])
    torch.testing.assert_close(combined(parts_XHC, log_sums_XH), whole_HC, rtol=1e-5, atol=1e-6)


def test_the_running_softmax_of_a_share_is_the_softmax_of_its_entries_and_shares_combine():
    scores_HS, values_SC = 3 * torch.randn(3, 23), torch.randn(23, 8)
    for run in (shared, slipped()):
        out_HC, log_sum_H = run(scores_HS, values_SC)
        torch.testing.assert_close(out_HC, scores_HS.softmax(1) @ values_SC, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(log_sum_H, scores_HS.logsumexp(1), rtol=1e-6, atol=1e-6)
        shares = [run(scores_HS[:, a:b], values_SC[a:b]) for a, b in ((0, 9), (9, 10), (10, 23))]
        parts_XHC, log_sums_XH = (torch.stack(side) for side in zip(*shares, strict=True))
        torch.testing.assert_close(combined(parts_XHC, log_sums_XH), out_HC, rtol=1e-5, atol=1e-5)


def test_a_forgotten_shrink_is_silent_where_scores_fall():
    values_SC, rising_HS = torch.randn(9, 4), torch.arange(9.0)[None]
    wrong, right = slipped(("acc * shrink", "acc")), slipped()
    torch.testing.assert_close(wrong(rising_HS.flip(1), values_SC), right(rising_HS.flip(1), values_SC), rtol=0, atol=0)
    assert not torch.allclose(wrong(rising_HS, values_SC)[0], right(rising_HS, values_SC)[0], atol=1e-3)


# Two of the kernel's mutants change nothing for one sequence and a scale of 1, which is what the exercise has.
SAME = {"operand: query transposed", "scale on one part only"}


@pytest.mark.parametrize("mutant", [m for m in mutants_of("mla_decode", "split_kernel") if m not in SAME])
def test_a_mutant_of_the_split_kernel_is_no_right_answer(mutant):
    wrong = mutate("mla_decode", "split_kernel", mutant).split_kernel
    assert judge(RUNNING, lambda *case: shared(*case, kernel=wrong), may_call_library=True).kind == "wrong"


@pytest.mark.parametrize("mutant", mutants_of("mla_decode", "combine_kernel"))
def test_a_mutant_of_the_combine_kernel_is_no_right_answer(mutant):
    wrong = mutate("mla_decode", "combine_kernel", mutant).combine_kernel
    assert judge(COMBINE, lambda *case: combined(*case, kernel=wrong), may_call_library=True).kind == "wrong"


MASKS = [
    (("mask=s < S, ", ""), "OutOfBounds", "scores_ptr"),
    (("mask=s[:, None] < S, ", ""), "OutOfBounds", "values_ptr"),
    (("out_ptr + head * C + latent", "out_ptr + latent"), "OrderDependent", "out_ptr"),
]


@pytest.mark.parametrize("change, error, words", MASKS)
def test_a_wrong_access_of_the_running_softmax_is_named(change, error, words):
    said = verdict(lambda: slipped(change)(torch.randn(2, 3), torch.randn(3, 4)))
    assert said.startswith(error) and words in said
    assert judge(RUNNING, slipped(change)).kind == "wrong"


REFUSED = [
    (("0.0, tl.zeros", "0, tl.zeros"), "total has initial type int32"),
    (("tl.zeros((C,), dtype=tl.float32)", "0.0"), "acc has initial type fp32"),
    (("tl.exp(peak", "math.exp(peak"), "must be real number"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="un-skip when triton has a wheel for this platform")
def test_the_compiler_takes_the_solution_and_enforces_its_two_rules(pytestconfig, monkeypatch):
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, CompilationError

    monkeypatch.setenv("TRITON_CACHE_DIR", str(pytestconfig.cache.mkdir("triton")))

    def made(*changes):
        written, launches = slipped(("from minimoe_kernels", "import math\nfrom minimoe_kernels"), *changes), []
        with running(lambda kernel, grid, values, options: launches.append((kernel, values))):
            written.launch(written.kernel, torch.randn(2, 19), torch.randn(19, 8))
        ((kernel, values),) = launches
        signature, constants, hints = specialised(kernel, values)
        source = ASTSource(kernel.twin, signature, constexprs=constants, attrs=hints)
        return compile(source, target=GPUTarget("cuda", 90, 32))

    assert "cubin" in made().asm
    for change, words in REFUSED:
        with pytest.raises(CompilationError) as refused:
            made(change)
        assert words in str(refused.value) + str(refused.value.__cause__)


def test_an_unwritten_running_softmax_is_not_yet(capsys):
    @launched
    @triton.jit
    def running(scores_ptr, values_ptr, out_ptr, log_sum_ptr, S, C: tl.constexpr, BLOCK: tl.constexpr): ...

    assert check(RUNNING, running) is RUNNING.reference and "not yet" in capsys.readouterr().out
    assert isinstance(running, Launched)
    with pytest.raises(TypeError, match="knows running"):
        launched(lambda x: x)
    with pytest.raises(ValueError, match="does not stand in the solution"):
        slipped(("nowhere", "somewhere"))


def test_parts_of_the_kernel_are_shown_as_they_stand_and_a_part_that_is_gone_is_an_error():
    part = source_part(combine_kernel, "peak =", "weights =").splitlines()
    assert len(part) == 2 and part[0] == "peak = tl.max(log_sum, axis=0)" and part[1].startswith("weights = tl.exp(")
    with pytest.raises(ValueError, match="split_kernel has no line that begins with 'nowhere'"):
        source_part(split_kernel, "length", "nowhere")


def test_a_page_table_names_its_pages_and_nothing_else():
    assert pages_of(6, 4, 4).tolist() == [1, 0, UNUSED, UNUSED]
    assert [forgotten(*case.values()) for case in FORGOTTEN.cases()][:2] == [(2, -1), (0, -1)]
    assert forgotten(6, 4, 8) == (2, -1) and forgotten(6, 4, 16) == (2, 8)
    assert all(forgotten(n, 64, 64)[1] == -1 for n in (1, 63, 64, 65, 130))


def test_the_report_is_the_committed_one_and_the_steps_agree_with_it():
    for arch in ("sm_80", "sm_90", "sm_100"):
        now = compiled(arch, "BLOCK_H=64", "BLOCK_S=32")
        assert STEPS[32][arch] == (now["registers"], now["spills"], now["shared_bytes"])
    assert json.loads(PATH.read_text())["triton"] == "3.7.1"  # else compile STEPS again, see its comment
    assert STEPS[64]["sm_100"][2] > SHARED_LIMIT[100] and STEPS[64]["sm_90"][2] < SHARED_LIMIT[90]
    assert [STEPS[step]["sm_80"][1] for step in (64, 32, 16)] == [49, 13, 0]
    assert all(STEPS[step]["sm_90"][1] == 0 for step in STEPS)


def test_16_heads_compile_to_the_old_instruction_and_64_to_the_new_one():
    assert compiled("sm_90", "BLOCK_H=16")["tensor_core"] == ["HMMA"]
    assert compiled("sm_90", "BLOCK_H=64")["tensor_core"] == ["HGMMA"]
    assert 64 * 512 // (32 * compiled("sm_90", "BLOCK_H=64")["warps"]) == 128
    with pytest.raises(ValueError, match="0 launches of split_kernel have BLOCK_H=17"):
        compiled("sm_90", "BLOCK_H=17")


@pytest.mark.skipif(sys.platform != "linux", reason="un-skip when triton has a wheel for this platform")
def test_on_the_b200_the_whole_output_goes_through_registers_to_be_shrunk(pytestconfig, monkeypatch, tmp_path):
    """UTCHMMA leaves acc in tensor memory; LDTM.x128 fetches 128 numbers for each thread, STTM.x128 puts them back."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia import compiler
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(pytestconfig.cache.mkdir("triton")))
    launches = []
    with running(lambda kernel, grid, values, options: launches.append((kernel, values, options))):
        decoding()
    kernel, values, options = next((k, v, o) for k, v, o in launches if v.get("BLOCK_H") == 64)
    signature, constants, hints = specialised(kernel, values)
    source = ASTSource(kernel.twin, signature, constexprs=constants, attrs=hints)
    made = compile(source, target=GPUTarget("cuda", 100, 32), options={"enable_fp_fusion": True} | options)
    ir = [line for line in made.asm["ttgir"].splitlines() if "tensor<64x512xf32" in line]
    assert any("ttng.tmem_load %acc " in line for line in ir) and any("ttng.tmem_store" in line for line in ir)
    binary = tmp_path / "split.cubin"
    binary.write_bytes(made.asm["cubin"])
    tool = Path(compiler.__file__).parent / "bin" / "cuobjdump"
    code = subprocess.run([tool, "-sass", binary], capture_output=True, text=True, check=True).stdout
    assert "LDTM.x128" in code and "STTM.x128" in code and "UTCHMMA" in code
    assert 128 * 32 * made.metadata.num_warps == 64 * 512


@pytest.mark.parametrize("exercise", [COMBINE, FORGOTTEN, RUNNING, HEADS], ids=lambda e: e.key)
def test_an_unwritten_stub_is_not_yet_and_goes_on_with_the_library(exercise, capsys):
    def stub(*_): ...

    assert check(exercise, stub) is exercise.reference and "not yet" in capsys.readouterr().out


def test_a_combine_that_writes_into_its_inputs_is_refused():
    def combine(parts_XHC, log_sums_XH):
        log_sums_XH -= log_sums_XH.amax(0).clamp(min=-1e30)
        return combined(parts_XHC, log_sums_XH)

    assert judge(COMBINE, combine, may_call_library=True).kind == "wrong"


def test_the_stepper_opens_where_heads_3_and_13_lose_most_of_their_sum_and_shares_cost_no_bytes_of_the_cache():
    stepper = KernelStepper.decode()
    shrink_H = torch.tensor(stepper.picture.current.state["shrink"])
    assert stepper.step.value == 2 and sorted(shrink_H.argsort()[:2].tolist()) == [3, 13] and shrink_H[0] == 1
    pictures = [KernelStepper.decode(splits=shares).picture for shares in (1, 5)]
    assert [picture.longest for picture in pictures] == [5, 1]
    assert pictures[0].cache[-1] == pictures[1].cache[-1] and pictures[0].moved[-1] < pictures[1].moved[-1]
