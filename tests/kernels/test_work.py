"""Least bytes and FLOPs: against figures by hand at V3's sizes, and against the simulator's counts at small ones."""

import pytest

from minimoe_kernels import bench, sim
from minimoe_kernels.work import DATASHEETS, WORK, floors_us

H100 = DATASHEETS["NVIDIA H100 80GB HBM3"]
T, D, F = 8192, 7168, 2048
ROWS = 8 * T
DECODE = {"B": 128, "S": 4096}

# kernel, sizes, MB or TFLOP worked out by hand, the floor in us on one H100 by its datasheet
FIGURES = [
    ("rms_norm", {"M": T, "D": D}, "MB", 235, 70),
    ("add_rms_norm", {"M": T, "D": D}, "MB", 470, 140),
    ("rope", {"M": T, "H": 128, "R": 64}, "MB", 271, 81),
    ("swiglu", {"M": ROWS, "F": F}, "MB", 805, 240),
    ("swiglu_quant", {"M": ROWS, "F": F}, "MB", 675, 202),
    ("quantise_tiles", {"M": T, "D": D}, "MB", 178, 53),
    ("route", {"M": T, "E": 256, "K": 8}, "MB", 8.9, 2.66),
    ("permute", {"M": T, "K": 8, "D": D}, "MB", 1057, 316),
    ("unpermute", {"M": T, "K": 8, "D": D}, "MB", 1057, 316),
    ("grouped_gemm", {"A": ROWS, "E": 32, "F": 2 * F, "D": D}, "TFLOP", 3.85, 3891),
    ("grouped_gemm_backward", {"A": ROWS, "E": 32, "F": 2 * F, "D": D}, "TFLOP", 7.70, 7782),
    ("grouped_gemm", {"A": 1024, "E": 256, "F": 2 * F, "D": D}, "MB", 15_055, 4494),
    ("fp8_gemm", {"M": 4096, "F": 4096, "D": D}, "TFLOP", 0.2405, 122),
    ("mla_prefill", {"T": T, "H": 128}, "TFLOP", 2.75, 2779),
    ("mla_decode", DECODE | {"H": 16}, "MB", 608, 182),
    ("mla_decode", DECODE | {"H": 128}, "MB", 640, 191),
    ("token_loss", {"M": T, "V": 129_280, "D": D}, "TFLOP", 45.5, 46_000),
    ("log_probs", {"M": T, "V": 129_280, "D": D}, "TFLOP", 15.2, 15_400),
]


@pytest.mark.parametrize("kernel, sizes, unit, figure, floor_us", FIGURES)
def test_at_v3s_sizes_the_formulas_give_the_figures(kernel, sizes, unit, figure, floor_us):
    work = WORK[kernel](**sizes)
    assert (work.bytes / 1e6 if unit == "MB" else work.flops / 1e12) == pytest.approx(figure, rel=0.01)
    floors = floors_us(work, H100[work.dtype], H100["GBs"])
    assert max(floors) == pytest.approx(floor_us, rel=0.012)
    assert (floors[0] >= floors[1]) == (unit == "MB")


@pytest.mark.parametrize("heads, intensity", [(16, 30), (64, 117), (128, 228)])
def test_decoding_climbs_from_30_flops_a_byte_to_228(heads, intensity):
    assert round(WORK["mla_decode"](**DECODE, H=heads).intensity) == intensity


def test_five_numbers_by_hand():
    """Three tokens of four numbers, two experts each: 3 rows read, 6 written, 6 ids; in bf16 2 x 36 and 4 x 6 bytes."""
    assert WORK["permute"](3, 2, 4).bytes == 2 * (12 + 24) + 4 * 6 and WORK["permute"](3, 2, 4).flops == 0
    assert WORK["unpermute"](3, 2, 4).flops == 6 * 4 * 2
    one = WORK["mla_prefill"](T=3, H=1, N=2, R=1, W=2)
    assert one.flops == 2 * 6 * (2 + 1 + 2)  # 6 of 9 scores are not masked


def test_every_formula_has_a_case_and_every_case_a_formula():
    assert {case.kernel for case in bench.CASES} == set(WORK)
    assert all(case.work.bytes > 0 and case.work.flops >= 0 for case in bench.CASES)


# kernel, sizes, what a kernel may load and store beyond the least, and why
REACHED = [
    ("rms_norm", {"M": 1, "D": 64}, 4, "the row's scale, which the backward pass needs"),
    ("add_rms_norm", {"M": 1, "D": 64}, 4, "the same"),
    ("rms_norm_backward", {"M": 1, "D": 64}, 2 * 64, "the gain's gradient leaves in float32"),
    ("rope", {"M": 5, "H": 3, "R": 16}, 5 * (4 * 16 + 4), "two launches: table and positions twice"),
    ("swiglu", {"M": 5, "F": 128}, 0, ""),
    ("swiglu_backward", {"M": 5, "F": 128}, 0, ""),
    ("swiglu_quant", {"M": 5, "F": 256}, 0, ""),
    ("quantise_tiles", {"M": 5, "D": 256}, 0, ""),
    ("quantise_blocks", {"X": 128, "Y": 256}, 0, ""),
    ("dequantise", {"X": 128, "Y": 256}, 4 * 2 * 127, "each row loads its block's scale"),
    ("route", {"M": 1, "E": 64, "K": 6}, 0, ""),
    ("permute", {"M": 7, "K": 1, "D": 64}, 0, ""),
    ("unpermute", {"M": 7, "K": 3, "D": 64}, 0, ""),
    ("fp8_gemm", {"M": 32, "F": 128, "D": 512}, 0, ""),
]


@pytest.mark.parametrize("kernel, sizes, beyond, why", REACHED, ids=lambda value: value if type(value) is str else "")
def test_where_a_kernel_can_reach_the_least_bytes_the_simulator_counts_them(kernel, sizes, beyond, why):
    assert counted(kernel, sizes).bytes == WORK[kernel](**sizes).bytes + beyond


@pytest.mark.parametrize(
    "kernel, sizes",
    [
        ("fp8_gemm", {"M": 32, "F": 128, "D": 512}),
        ("grouped_gemm", {"A": 16, "E": 1, "F": 32, "D": 16}),
        ("mla_decode", {"B": 2, "S": 128, "H": 16, "C": 64, "R": 16}),
        ("log_probs", {"M": 16, "V": 128, "D": 64}),
    ],
)
def test_products_without_padding_have_the_least_flops(kernel, sizes):
    assert counted(kernel, sizes).dot_flops == WORK[kernel](**sizes).flops


def counted(kernel, sizes):
    case = next(case for case in bench.CASES if case.kernel == kernel)
    ours, _ = case.build("cpu", **sizes)
    with sim.session() as ran:
        ours.call()
    return ran.total
