"""KernelTimings without a browser: bounds without a record, a made-up record in a folder, and what is refused."""

import json

import pytest

from minimoe_kernels import sim
from minimoe_kernels.timing_records import derive, folder_of
from minimoe_widgets import KernelTimings
from minimoe_widgets.kernel_timings_bounds import CASES, counted

RECORD = {
    "schema": 1, "kernel": "mla_decode", "variant": "minimoe/bh64", "op": "forward", "dtype": "bf16", "data": "randn",
    "shape": {"B": 128, "S": 4096, "H": 128}, "bytes": {"ideal": 639_631_360}, "flops": 146_028_888_064,
    "env": {"gpu": "NVIDIA H100 80GB HBM3", "driver": "580.1", "cuda": "13.0", "torch": "2.11.0", "triton": "3.6.0",
            "python": "3.12.3"},
    "time_us": {"median": 250.0, "p20": 245.0, "p80": 260.0, "min": 244.0, "n": 9, "method": "events", "l2": "cold",
                "rounds": [250.0, 250.0, 250.0]},
    "roof": {"bw_GBs": {"datasheet": 3350, "measured": 3000}, "tflops": {"datasheet": 989, "measured": 798}},
    "correct": {"passed": True}, "peers": [{"name": "torch", "time_us": {"median": 900.0}}], "when": "2026-12-01",
    "source_sha256": "0" * 64, "commit": None, "config": {}, "resources": {},
}  # fmt: skip
H200 = {"bw_GBs": {"datasheet": 4800, "measured": 4300}, "tflops": {"datasheet": 989, "measured": 790}}


@pytest.fixture
def folder(tmp_path):
    """A folder of records with their derived fields: folder(record, ...)."""

    def write(*records):
        for record in records:
            path = tmp_path / folder_of(record["env"]["gpu"]) / "mla_decode.jsonl"
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(record | {"derived": derive(record)}) + "\n")
        return tmp_path

    return write


@pytest.fixture
def empty(tmp_path):
    return tmp_path / "none"


def test_without_a_record_it_says_so_and_shows_floors_and_counts(empty):
    explorer = KernelTimings(timings=empty)
    assert explorer.gpu.value == "Not measured yet" and explorer.records == []
    assert "no time of this kernel is recorded" in explorer.badge.value
    assert explorer.picture.points == {} and set(explorer.picture.bars) == {"floor: memory", "floor: arithmetic"}
    assert "they are no times" in explorer.alt_text() and "The simulator, on" in explorer.state.value


def test_the_intensities_of_decoding_are_30_117_and_228(empty):
    explorer, found = KernelTimings(timings=empty), []
    for shape in explorer.shape.options:
        explorer.shape.value = shape
        found.append(round(explorer.picture.marks["least traffic"]))
        assert "bandwidth-bound" in explorer.title.value and found[-1] < explorer.picture.ridge
    assert found == [30, 117, 228]
    assert f"at least {explorer.chosen.bytes / 3350e3:.4g} us" in explorer.title.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kernel} {case.shape}")
def test_every_case_runs_small_and_has_a_line_in_the_compilers_report(case, empty):
    assert counted(case).bytes > 0 and case.bytes > 0 and case.intensity > 0
    explorer = KernelTimings(case.kernel, case.shape, timings=empty)
    assert explorer.chosen is case
    assert all({"sm_80", "sm_90", "sm_100"} == set(by_arch) for by_arch in explorer.compiled.values())
    assert len(explorer.compiled) == 1 and "sm_90" in explorer.report.value
    assert explorer.static().png().startswith(b"\x89PNG")


def test_the_report_follows_the_heads(empty):
    explorer = KernelTimings("mla_decode", "128 heads", timings=empty)
    assert "HGMMA" in explorer.report.value and "13" in explorer.report.value  # the spills on sm_80
    explorer.shape.value = explorer.shape.options[0]
    assert "HGMMA" not in explorer.report.value and "BLOCK_H=16" in explorer.report.value


def test_fp8_has_its_own_roof(empty):
    explorer = KernelTimings("fp8_gemm", timings=empty)
    assert explorer.picture.roofs == {"H100 datasheet": (1979.0, 3350.0)} and explorer.dtype.value == "fp8"
    assert "needs sm_89" in explorer.report.value


def test_a_record_is_shown_with_its_spread_its_peers_and_where_it_was_recorded(folder):
    explorer = KernelTimings(timings=folder(RECORD))
    assert explorer.gpu.value == "NVIDIA H100 80GB HBM3"
    assert "Recorded on NVIDIA H100 80GB HBM3, driver 580.1, torch 2.11.0, Triton 3.6.0" in explorer.badge.value
    tflops = 146_028_888_064 / 250e6
    at, value, low, high = explorer.picture.points["minimoe/bh64"]
    assert value == pytest.approx(tflops) and low < value < high and at == pytest.approx(228.3, abs=0.1)
    share = tflops / (at * 3.35), tflops / (at * 3.0)
    assert f"{share[0]:.0%} of the datasheet" in explorer.title.value
    assert f"{share[1]:.0%} of the measured" in explorer.title.value
    assert set(explorer.picture.roofs) == {"datasheet", "measured"}
    assert explorer.picture.bars["torch"] == (900.0, None, None)
    assert "Measured: minimoe/bh64 250 us; torch 900 us" in explorer.alt_text()
    assert explorer.picture.marks == {} and "BLOCK_H=64" in explorer.report.value
    bars = explorer.figure.data[-1]
    assert list(bars.error_x.array) == [10.0, 0.0] and list(bars.error_x.arrayminus) == [5.0, 0.0]
    assert explorer.static().png().startswith(b"\x89PNG")


def test_what_has_no_record_stays_unmeasured_beside_one_that_has(folder):
    explorer = KernelTimings("rms_norm", timings=folder(RECORD))
    assert explorer.gpu.value == "Not measured yet" and "Not measured yet" in explorer.title.value
    explorer.gpu.value = "NVIDIA H100 80GB HBM3"
    assert explorer.kernel.value == "mla_decode" and "Recorded on" in explorer.badge.value
    explorer.gpu.value = "Not measured yet"
    assert "no time of this kernel" in explorer.badge.value


def test_two_gpus_never_stand_in_one_picture(folder):
    other = RECORD | {"env": RECORD["env"] | {"gpu": "NVIDIA H200"}, "roof": H200}
    explorer = KernelTimings(timings=folder(RECORD, other))
    assert explorer.gpu.options[:2] == ("NVIDIA H100 80GB HBM3", "NVIDIA H200")
    explorer.gpu.value = "NVIDIA H200"
    assert explorer.picture.record.gpu == "NVIDIA H200" and len(explorer.picture.points) == 2


def test_the_newest_of_two_records_is_shown(folder):
    faster = RECORD | {"time_us": RECORD["time_us"] | {"median": 249.0}}
    explorer = KernelTimings(timings=folder(RECORD, faster))
    assert len(explorer.records) == 1 and explorer.picture.bars["minimoe/bh64"][0] == 249.0


def test_a_record_that_cannot_be_true_is_an_error_and_no_point_in_a_picture(folder):
    """What else is refused: tests/kernels/test_timing_records.py."""
    impossible = RECORD | {"time_us": RECORD["time_us"] | {"median": 100.0, "p20": 100.0, "min": 100.0}}
    with pytest.raises(ValueError, match="mla_decode.jsonl line 2: .* less than the datasheet's floor of 191 us"):
        KernelTimings(timings=folder(RECORD, impossible))


def test_the_readers_own_counts_are_drawn_as_counts(empty):
    with sim.session() as ran:
        CASES[0].small()
    explorer = KernelTimings(counted={"my norm": ran, "total": ran.total, "by hand": 400}, timings=empty)
    marks = explorer.picture.marks
    assert marks["my norm, counted"] == marks["total, counted"] == ran.total.intensity
    assert "by hand: 400 FLOPs a byte, counted, right of the ridge" in explorer.state.value
    assert "yours, counted" in KernelTimings(counted=3.0, timings=empty).picture.marks


@pytest.mark.parametrize("wrong", [0, -1.0, float("inf"), float("nan"), "many", True, sim.Counts()])
def test_a_count_that_is_none_is_refused(wrong, empty):
    with pytest.raises(ValueError, match="no count of FLOPs a byte"):
        KernelTimings(counted=wrong, timings=empty)


def test_a_kernel_or_shape_that_is_not_there_is_refused_by_name(empty):
    with pytest.raises(ValueError, match="'softmax' is not one of rms_norm"):
        KernelTimings("softmax", timings=empty)
    with pytest.raises(ValueError, match="'17 heads' is in none of"):
        KernelTimings(shape="17 heads", timings=empty)
