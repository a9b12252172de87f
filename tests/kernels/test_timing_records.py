"""Records: one that is right is read; every way of being wrong is refused by file, line and what would be right."""

import copy
import json

import pytest

from minimoe_kernels.timing_records import TIMINGS, derive, folder_of, latest, read_records, regressions, validated
from minimoe_kernels.work import DATASHEETS, WORK

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def folder(tmp_path):
    """Writes records below tmp_path, each where it belongs: folder(record, ...)."""

    def write(*records, name=None):
        for line in records:
            path = tmp_path / folder_of(line["env"]["gpu"]) / (name or f"{line['kernel']}.jsonl")
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return tmp_path

    return write


def changed(record, path, value):
    """A copy with one field, "time_us.median", set to a value (or removed)."""
    record = copy.deepcopy(record)
    *parents, last = path.split(".")
    inner = record
    for name in parents:
        inner = inner[int(name)] if name.isdigit() else inner[name]
    inner.pop(last) if value is GONE else inner.__setitem__(last, value)
    return record


GONE = object()


def test_every_committed_record_is_valid(folder, record):
    """Without a GPU there may be none; the same reader reads one that is, and refuses one that is not."""
    read_records(TIMINGS)
    assert len(read_records(folder(record))) == 1
    with pytest.raises(ValueError, match="line 2"):
        read_records(folder(changed(record, "flops", 1)))


def test_a_folder_that_is_not_there_has_no_records(tmp_path):
    assert read_records(tmp_path / "none") == []


def test_a_record_reads_back_with_its_times_roofs_and_origin(folder, record):
    (found,) = read_records(folder(record))
    assert (found.gpu, found.kernel, found.dtype, found.shape) == (H100, "swiglu", "bf16", "M 5, F 128")
    assert found.bytes == 6 * 5 * 128 and found.intensity == 0.5
    assert found.times["minimoe"] == (200.0, 180.0, 240.0) and found.times["torch"] == (200.0, 180.0, 240.0)
    assert found.datasheet == (989.0, 3350.0) and found.measured == (700.0, 3000.0)
    assert found.share("measured") == pytest.approx(3840 / 3000e3 / 200)
    assert found.badge.startswith(f"Recorded on {H100}, driver 580.1, torch 2.13.0, Triton 3.7.1, 20")


def test_derived_fields_are_those_of_the_raw_ones_by_hand():
    roof = {"bw_GBs": {"datasheet": 4000, "measured": 2000}, "tflops": {"datasheet": 100, "measured": 80}}
    line = {"bytes": {"ideal": 8_000_000}, "flops": 400_000_000, "time_us": {"median": 10.0}, "roof": roof}
    assert derive(line) == {"GBs": 800.0, "tflops": 40.0, "pct_of_roof_datasheet": 40.0, "pct_of_roof_measured": 50.0,
                            "bound": "compute"}  # fmt: skip
    assert derive(line | {"flops": 100_000_000})["bound"] == "bandwidth"


# field, value, what the refusal says
WRONG = [
    ("schema", 2, "schema 2, this reads 1"),
    ("env.driver", GONE, "env does not say driver; it must name gpu, driver, cuda, torch, triton, python"),
    ("env.triton", "", "env does not say triton"),
    ("env.gpu", None, "env does not say gpu"),
    ("env.gpu", "GeForce 256", "no datasheet of 'GeForce 256'"),
    ("correct.passed", False, "a wrong kernel has no time"),
    ("correct.passed", "yes", "passed is 'yes', not true"),
    ("data", "zeros", "data 'zeros': times on anything but random numbers flatter; want 'randn'"),
    ("source_sha256", "abc", "not 64 hexadecimal"),
    ("when", "yesterday", "no date"),
    ("kernel", "softmax", "kernel 'softmax' is not one of rms_norm"),
    ("shape", {"M": 5}, "does not fit"),
    ("shape", {"M": 6, "F": 128}, r"bytes.ideal 3840; swiglu of {'M': 6, 'F': 128} has 4608"),
    ("flops", 1, "flops 1; swiglu of {'M': 5, 'F': 128} has 1920"),
    ("bytes.ideal", 1, "bytes.ideal 1; .* has 3840"),
    ("dtype", "fp8", "dtype 'fp8'; .* has 'bf16'"),
    ("roof.bw_GBs.datasheet", 4000, f"the datasheet of {H100} says 3350.0"),
    ("roof.bw_GBs.measured", 3400.0, "measured 3400 is above the datasheet's 3350"),
    ("roof.tflops.measured", 1000.0, "measured 1000 is above the datasheet's 989"),
    ("roof.tflops.measured", float("nan"), "want a finite number above 0"),
    ("time_us.median", 0, "the median of minimoe is 0; want a finite number above 0"),
    ("time_us.median", True, "want a finite number"),
    ("time_us.median", 300.0, "180.0, 300.0, 240.0 us are not p20 <= median <= p80"),
    ("time_us.p20", None, "p20 is None"),
    ("time_us.min", 190.0, "min 190.0, p20 180.0, p80 240.0 us are not min <= p20 <= p80"),
    ("time_us.min", 0.0001, "minimoe took 0.0001 us, less than the datasheet's floor of 0.00115 us"),
    ("time_us.method", "pretended", "want a GPU's own clock"),
    ("time_us.l2", "tepid", "cold or warm"),
    ("time_us.rounds", [200.0], "9 launches in 1 rounds; want at least 3"),
    ("time_us.n", 2, "2 launches in 3 rounds"),
    ("peers.0.time_us.median", 0.0002, "torch: 180.0, 0.0002, 240.0 us are not"),
    ("peers.0.time_us", {"median": 0.0002}, "torch took 0.0002 us, less than the datasheet's floor"),
    ("derived.GBs", 1.0, "derived GBs is 1.0; the raw fields make it 0.019"),
    ("derived.tflops", 900.0, "derived tflops is 900.0"),
    ("derived.pct_of_roof_datasheet", 99.0, "derived pct_of_roof_datasheet is 99.0"),
    ("derived.pct_of_roof_measured", 99.0, "derived pct_of_roof_measured is 99.0"),
    ("derived.bound", "compute", "derived bound is 'compute'; the raw fields make it 'bandwidth'"),
    ("time_us", [200.0], "wrong kind of value"),
    ("time_us.rounds", 3, "wrong kind of value"),
]


@pytest.mark.parametrize("path, value, says", WRONG, ids=[f"{i} {path}" for i, (path, *_) in enumerate(WRONG)])
def test_a_record_that_cannot_be_true_is_refused_by_file_and_line(folder, record, path, value, says):
    root, where = folder(record), f"{folder_of(H100)}/swiglu.jsonl"
    with (root / where).open("a") as file:
        file.write(json.dumps(changed(record, path, value)) + "\n")
    with pytest.raises(ValueError, match=says) as error:
        read_records(root)
    assert f"{where} line 2: " in str(error.value)


@pytest.mark.parametrize(
    "name", ["schema", "kernel", "variant", "op", "source_sha256", "commit", "shape", "dtype", "data", "config", "env",
             "time_us", "bytes", "flops", "roof", "derived", "resources", "correct", "peers", "when"],
)  # fmt: skip
def test_a_record_that_lacks_a_field_is_refused_by_the_fields_name(record, name):
    with pytest.raises(ValueError, match=f"it lacks '{name}'"):
        validated(changed(record, name, GONE))


def test_text_that_is_no_json_is_refused_by_line(folder, record):
    path = folder(record) / folder_of(H100) / "swiglu.jsonl"
    path.write_text(path.read_text() + "{half a rec\n")
    with pytest.raises(ValueError, match="swiglu.jsonl line 2"):
        read_records(path.parents[1])


def test_two_gpus_share_no_folder_and_two_kernels_no_file(folder, record):
    root = folder(changed(record, "env.gpu", "NVIDIA H200"))
    (root / "nvidia-h200").rename(root / "nvidia-h100-80gb-hbm3")
    with pytest.raises(ValueError, match="roof bw_GBs 3350.0; the datasheet of NVIDIA H200 says 4800.0"):
        read_records(root)
    line = changed(changed(record, "env.gpu", "NVIDIA H200"), "roof.bw_GBs.datasheet", 4800.0)
    line["derived"] = derive(line)
    (root / "nvidia-h100-80gb-hbm3" / "swiglu.jsonl").write_text(json.dumps(line))
    with pytest.raises(ValueError, match="belongs into nvidia-h200/swiglu.jsonl"):
        read_records(root)
    with pytest.raises(ValueError, match="belongs into nvidia-h100-80gb-hbm3/swiglu.jsonl"):
        read_records(folder(record, name="rope.jsonl"))


def test_the_newest_of_equal_measurements_counts(folder, record):
    newer = changed(record, "time_us.median", 210.0)
    newer["derived"] = derive(newer)
    root = folder(record, newer)
    assert [found.median_us for found in latest(read_records(root))] == [210.0]


def slower(record, times, **env):
    """The record with all of its own times multiplied."""
    record = copy.deepcopy(record)
    for name in ("median", "p20", "p80", "min"):
        record["time_us"][name] *= times
    record["env"] |= env
    return record | {"derived": derive(record)}


def test_15_percent_slower_in_an_equal_environment_is_a_warning(record):
    first, within, beyond = (validated(slower(record, times)) for times in (1.0, 1.14, 1.14 * 1.16))
    assert regressions([first, within]) == [] and regressions([beyond, first]) == []
    (said,) = regressions([first, within, beyond])
    assert "swiglu (M 5, F 128)" in said and "264.5 us, was 228 us" in said and "16% slower" in said
    assert regressions([first, validated(slower(record, 2.0, driver="590"))]) == []
    assert len(regressions([first, validated(slower(record, 2.0, clock_sm_mhz=[1200, 1300]))])) == 1


def test_every_datasheet_has_its_roofs_in_order():
    for gpu, sheet in DATASHEETS.items():
        assert sheet["GBs"] > 0 and sheet["bf16"] > 0 and folder_of(gpu).startswith("nvidia-")
        assert sheet["fp8"] is None or sheet["fp8"] == pytest.approx(2 * sheet["bf16"], rel=0.01)
    assert set(WORK) >= {"rms_norm", "mla_decode"}
