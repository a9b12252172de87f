"""KernelTimings without a browser: bounds without a record, a made-up record in a folder, and what is refused."""

import copy
import json
import subprocess
import sys

import pytest

from minimoe_kernels import sim
from minimoe_kernels.timing_records import derive, folder_of
from minimoe_widgets import KernelTimings
from minimoe_widgets.kernel_timings_bounds import CASES, key
from minimoe_widgets.kernel_timings_words import short

RECORD = {
    "schema": 1, "kernel": "mla_decode", "variant": "minimoe/bh64", "op": "forward", "dtype": "bf16", "data": "randn",
    "shape": {"B": 128, "S": 4096, "H": 128}, "bytes": {"ideal": 639_631_360}, "flops": 146_028_888_064,
    "env": {"gpu": "NVIDIA H100 80GB HBM3", "driver": "580.1", "cuda": "13.0", "torch": "2.11.0", "triton": "3.6.0",
            "python": "3.12.3"},
    "time_us": {"median": 250.0, "p20": 245.0, "p80": 260.0, "min": 244.0, "n": 9, "method": "events", "l2": "cold",
                "rounds": [250.0, 250.0, 250.0]},
    "roof": {"bw_GBs": {"datasheet": 3350, "measured": 3000}, "tflops": {"datasheet": 989, "measured": 798}},
    "correct": {"passed": True}, "peers": [{"name": "torch", "time_us": {"median": 900.0}}], "when": "2026-12-01",
    "source_sha256": "0" * 64, "commit": None, "config": {},
    "resources": {"split_kernel": {"registers": 170, "spills": 0, "shared_bytes": 90_000}},
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
    assert f"at least {explorer.chosen.work.bytes / 3350e3:.4g} us" in explorer.title.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_every_case_of_the_bench_is_shown_with_its_floors_its_count_and_what_was_compiled(case, empty):
    kernel, shape, dtype = key(case)
    explorer = KernelTimings(kernel, shape, timings=empty)
    picture = explorer.picture
    assert explorer.chosen is case and explorer.dtype.value == dtype and shape in explorer.title.value
    assert picture.small.bytes > 0 and picture.bars["floor: memory"][0] > 0
    assert explorer.compiled and all({"sm_80", "sm_90", "sm_100"} == set(by) for by in explorer.compiled.values())
    assert "sm_90" in explorer.report.value and explorer.static().png().startswith(b"\x89PNG")
    computes = case.work.flops > 0
    assert len(explorer.figure.data) == (3 if computes else 1) and ("floor: arithmetic" in picture.bars) == computes
    (left, right), (bottom, top) = picture.axes
    assert all(left < at < right and bottom < picture.roof(at) < top for at in picture.marks.values())
    assert right >= 10 * left and top >= 10 * bottom  # two labelled ticks


@pytest.mark.parametrize("kernel", ["permute", "align"])
def test_what_computes_nothing_has_memorys_floor_alone_and_says_so(kernel, empty):
    explorer = KernelTimings(kernel, timings=empty)
    assert explorer.picture.marks == {} and list(explorer.picture.bars) == ["floor: memory"]
    assert "moves and computes nothing" in explorer.state.value and "bandwidth-bound" in explorer.title.value
    assert explorer.figure.layout.annotations[0].text == "0 FLOPs: no place under this roof"
    explorer.kernel.value = "rms_norm"
    assert len(explorer.figure.layout.annotations) == 0
    assert KernelTimings(kernel, counted=3.0, timings=empty).picture.marks == {"yours, counted": 3.0}


def test_a_record_of_what_computes_nothing_is_shown_by_its_bytes(tmp_path, empty):
    line = copy.deepcopy(RECORD) | {"kernel": "permute", "shape": {"M": 8192, "K": 8, "D": 7168}, "flops": 0}
    line["bytes"] = {"ideal": 1_057_226_752}
    line["time_us"] |= {"median": 400.0, "p20": 390.0, "p80": 410.0, "min": 380.0}
    (tmp_path / "nvidia-h100-80gb-hbm3").mkdir()
    file = tmp_path / "nvidia-h100-80gb-hbm3" / "permute.jsonl"
    file.write_text(json.dumps(line | {"derived": derive(line)}))
    explorer = KernelTimings("permute", timings=tmp_path)
    assert explorer.picture.points == {} and "400 us, 79% of the datasheet" in explorer.title.value
    assert "It moved 2,643 GB/s; a copy reaches 3,000." in explorer.state.value
    assert explorer.static().png().startswith(b"\x89PNG")


def test_the_chapters_call_finds_128_heads(empty):
    explorer = KernelTimings("mla_decode", "128 heads", counted={"ours, 128": 34.0}, timings=empty)
    assert explorer.chosen.sizes["H"] == 128 and "ours, 128, counted" in explorer.picture.marks


def test_the_report_follows_the_heads(empty):
    explorer = KernelTimings("mla_decode", "128 heads", timings=empty)
    assert (
        "like" not in explorer.report.value and "HGMMA" in explorer.report.value and "13" in explorer.report.value
    )  # the spills on sm_80
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
    assert "<b>250 us</b> (245 to 260)" in explorer.bars.value and "torch: <b>900 us</b></div>" in explorer.bars.value
    assert explorer.bars.value.count("minimoe-spread") == 1
    assert "NVIDIA H100 80GB HBM3, as recorded" in explorer.report.value and "<td" in explorer.report.value
    point = explorer.figure.data[-1]  # over its peers
    assert point.name == "minimoe/bh64"
    assert point.error_y.array[0] == pytest.approx(high - value)
    assert point.error_y.arrayminus[0] == pytest.approx(value - low)
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


def test_the_newest_of_several_records_is_shown_and_the_older_ones_are_counted(folder):
    """In an equal environment 15% more is called slower; in another one it is only newer."""

    def timed(us, **env):
        spread = {name: us for name in ("median", "p20", "p80", "min")}
        return RECORD | {"time_us": RECORD["time_us"] | spread, "env": RECORD["env"] | env}

    explorer = KernelTimings(timings=folder(RECORD, timed(249.0)))
    assert explorer.picture.bars["minimoe/bh64"][0] == 249.0 and len(explorer.shape.options) == 1
    assert "newest; 1 older record of it." in explorer.badge.value and "Slower" not in explorer.badge.value
    explorer = KernelTimings(timings=folder(timed(300.0)))
    assert "2 older records" in explorer.badge.value and "300 us, was 249 us" in explorer.badge.value
    explorer = KernelTimings(timings=folder(timed(400.0, driver="590.1")))
    assert "3 older records" in explorer.badge.value and "Slower" not in explorer.badge.value


def test_a_record_that_cannot_be_true_is_an_error_and_no_point_in_a_picture(folder):
    """What else is refused: tests/kernels/test_timing_records.py."""
    impossible = RECORD | {"time_us": RECORD["time_us"] | {"median": 100.0, "p20": 100.0, "min": 100.0}}
    with pytest.raises(ValueError, match="mla_decode.jsonl line 2: .* less than the datasheet's floor of 191 us"):
        KernelTimings(timings=folder(RECORD, impossible))


def test_the_readers_own_counts_are_drawn_as_counts(empty):
    with sim.session() as ran:
        norm = next(case for case in CASES if case.kernel == "rms_norm")
        norm.build("cpu", **norm.small)[0].call()
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
    with pytest.raises(ValueError, match="'softmax' is not one of rms_norm, add_rms_norm"):
        KernelTimings("softmax", timings=empty)
    with pytest.raises(ValueError, match="'17 heads' is in none of"):
        KernelTimings(shape="17 heads", timings=empty)


def test_numbers_are_written_as_they_are_read():
    assert [short(value) for value in (15_348.2, 181.63, 0.23691, 1000.0)] == ["15,348", "181.6", "0.2369", "1,000"]
    assert short(2210.8, 3) == "2,211" and short(228.3, 3) == "228"


def test_importing_the_explorers_imports_no_triton():
    code = "import sys, minimoe_widgets; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
