"""What stands beside a time: shapes in words, counts that leave the reader's draws alone, and what was compiled."""

from types import SimpleNamespace

import pytest
import torch

from minimoe_kernels.timing_records import Record
from minimoe_kernels.work import WORK
from minimoe_widgets.kernel_timings_bounds import CASES, case_of, counted, in_words, key, launched, reported

FIRST = {case.kernel: case for case in reversed(CASES)}


def record(kernel, **sizes):
    return Record("a GPU", kernel, "", "bf16", 1, 1, {}, (1, 1), (1, 1), {}, "2026-12-01", {"shape": sizes})


def test_every_kernel_that_has_formulas_has_a_case():
    assert set(FIRST) == set(WORK) and len({key(case) for case in CASES}) == len(CASES)


def test_shapes_are_said_in_words():
    assert in_words({"S": 4096, "H": 16}) == "4,096 cached, 16 heads"
    assert key(record("align", M=40, K=3)) == ("align", "40 rows, 3 chosen", "bf16")


def test_a_record_finds_its_case_or_one_at_its_own_sizes():
    for case in CASES:
        assert case_of(record(case.kernel, **case.sizes)) is case
    other = case_of(record("mla_decode", B=2, S=128, H=32))  # C and R have defaults
    assert other.sizes == {"B": 2, "S": 128, "H": 32, "C": 512, "R": 64}


@pytest.mark.parametrize("kernel", ["swiglu", "swiglu_backward"])
def test_a_kernel_that_reads_each_number_once_is_counted_at_the_formulas_bytes(kernel):
    small = WORK[kernel](**FIRST[kernel].small)
    assert counted(FIRST[kernel]).bytes == small.bytes


def test_counting_and_compiling_leave_the_readers_random_numbers_alone():
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    counted(FIRST["unpermute"])
    launched(FIRST["unpermute"])
    assert torch.equal(torch.rand(3), want) and counted(FIRST["align"]) == counted(FIRST["align"])


def test_launches_are_those_of_the_cases_own_sizes():
    heads = {case.sizes["H"]: launched(case) for case in CASES if case.kernel == "mla_decode"}
    assert "BLOCK_H=16" in heads[16][0] and "BLOCK_H=64" in heads[128][0] and "SPLITS=1" in heads[128][1]
    assert launched(FIRST["swiglu_backward"]) == ["swiglu_backward(bf16, bf16, bf16, bf16, bf16, BLOCK=2048)"]
    assert launched(FIRST["permute"]) == ["gather_kernel(bf16, i32, bf16, K=3, BLOCK=64)"]  # needs numbers to sort


def test_a_launch_that_was_not_compiled_is_shown_by_the_one_most_like_it_and_says_so():
    gated, plain = (
        "gather_kernel(bf16, i32, fp32, bf16, K=8, BLOCK=1024)",
        "gather_kernel(bf16, i32, bf16, K=8, BLOCK=1024)",
    )
    report = {gated: 1, plain: 2, "sum_kernel(bf16, K=8)": 3}
    assert reported(FIRST["permute"], report) == {f"like {plain}": 2}
    assert reported(FIRST["permute"], {launched(FIRST["permute"])[0]: 4, gated: 1}) == {
        launched(FIRST["permute"])[0]: 4
    }
    assert reported(FIRST["swiglu"], report) == {}


def test_the_meta_device_is_only_left_where_numbers_are_needed():
    def build(device, **sizes):
        asked.append((device, sizes))
        return SimpleNamespace(call=lambda: None), {}

    asked = []
    for module in ("swiglu", "permute"):
        assert launched(SimpleNamespace(build=build, module=module, sizes={"M": 10**9}, small={"M": 1})) == []
    assert asked == [("meta", {"M": 10**9}), ("cpu", {"M": 1})]
