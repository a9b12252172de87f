"""The button "Run on my GPU" with a clock that pretends: told while it runs, written, shown; errors lose nothing."""

import runpy
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimoe_kernels import swiglu
from minimoe_kernels.checks.mutants import mutate
from minimoe_kernels.timing_records import TIMINGS, read_records
from minimoe_widgets import KernelTimings, kernel_timings, kernel_timings_run
from minimoe_widgets.kernel_timings_bounds import CASES

CLOCK = runpy.run_path(str(Path(__file__).parents[1] / "kernels" / "pretend_clock.py"))
H100 = "NVIDIA H100 80GB HBM3"
SMALL = tuple(replace(case, sizes=case.small) for case in CASES)


@pytest.fixture(autouse=True)
def committed():
    """Whatever happens here, the recorded timings stay as they are."""
    before = {path: path.read_bytes() for path in TIMINGS.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in TIMINGS.rglob("*") if path.is_file()} == before


@pytest.fixture
def explorer(tmp_path, monkeypatch):
    """Opens one on small cases: explorer(us, kernel), the clock in `.clock`."""
    monkeypatch.setattr(kernel_timings, "CASES", SMALL)

    def opened(us=200.0, kernel="swiglu", clock=None):
        clock = clock or CLOCK["believable"](us)
        made = KernelTimings(kernel, timings=tmp_path, clock=clock)
        made.compile.value, made.clock = False, clock
        return made

    return opened


def pressed(explorer):
    explorer.run.click()
    explorer.wait(60)
    return explorer


def test_the_kernel_is_timed_written_and_shown_with_its_badge(explorer, tmp_path):
    shown = explorer()
    assert shown.gpu.value == "Not measured yet" and not shown.run.disabled and shown.notice.value.count(">") == 2
    torch.manual_seed(3)
    want = torch.rand(2)
    torch.manual_seed(3)
    pressed(shown)
    assert torch.equal(torch.rand(2), want)
    assert shown.gpu.value == H100 and shown.kernel.value == "swiglu" and "5 rows, width 128" in shown.title.value
    assert f"Recorded on {H100}, driver 580.1, torch 2.13.0, Triton 3.7.1" in shown.badge.value
    assert "Timed, and written below" in shown.notice.value and "torch.compile: not asked for" in shown.notice.value
    assert "minimoe: <b>200 us</b> (180 to 240)" in shown.bars.value and "torch: <b>200 us</b>" in shown.bars.value
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jsonl")] == [
        "nvidia-h100-80gb-hbm3/swiglu.jsonl"
    ]
    assert not shown.run.disabled and not shown.timer.running


def test_a_second_run_is_the_newest_and_its_warning_is_said(explorer):
    pressed(explorer())
    shown = pressed(explorer(400.0))
    assert "1 older record of it" in shown.badge.value and "400 us, was 200 us" in shown.badge.value
    assert "100% slower" in shown.notice.value and "<b>400 us</b>" in shown.bars.value
    shown.gpu.value = "Not measured yet"
    shown.kernel.value = "permute"
    pressed(shown)
    assert shown.kernel.value == "permute" and shown.picture.points == {} and "It moved" in shown.state.value
    assert set(shown.kernel.options) == {"swiglu", "permute"}


def test_while_it_runs_the_page_says_what_it_does_and_the_button_is_off(explorer):
    seen, go, arrived = [], threading.Event(), threading.Event()

    class Slow(CLOCK["PretendClock"]):
        def sample(self, call):
            seen.append((shown.notice.value, shown.run.disabled))
            arrived.set()
            assert go.wait(60)
            return super().sample(call)

        def roofs(self, dtype):
            seen.append((shown.notice.value, shown.run.disabled))
            return super().roofs(dtype)

    shown = explorer(clock=Slow(200.0, CLOCK["VERSIONS"], "events"))
    shown.run.click()
    assert arrived.wait(60) and shown.timer.running
    shown.run.click()  # a press that arrives meanwhile
    other = explorer()
    pressed(other)
    assert "Another explorer is timing on this GPU" in other.notice.value and not other.run.disabled
    go.set()
    shown.wait(60)
    assert len(seen) == 3 * 2 + 1 and all(disabled for _, disabled in seen)
    assert "swiglu M=5 F=128, since" in seen[0][0] and "in turns, sample 1." in seen[0][0]
    assert "own roofs" in seen[-1][0] and len(shown.records) == 1


def test_a_wrong_kernel_is_said_in_words_and_loses_nothing(explorer, monkeypatch, tmp_path):
    pressed(explorer())
    shown = explorer()
    title = shown.title.value
    monkeypatch.setattr(swiglu, "swiglu", mutate("swiglu", "swiglu_forward", "zeros").swiglu)
    pressed(shown)
    assert "was not timed, and nothing was written. Disagreement: swiglu 5x24" in shown.notice.value
    assert shown.title.value == title and len(read_records(tmp_path)) == 1 and not shown.run.disabled
    monkeypatch.undo()


@pytest.mark.parametrize(
    "clock, says",
    [
        (lambda: CLOCK["PretendClock"](env={"gpu": "GeForce 256"}), "no datasheet of &#x27;GeForce 256&#x27;"),
        (lambda: CLOCK["PretendClock"](), "ValueError: env does not say driver"),
        (lambda: CLOCK["believable"](1e-3), "less than the datasheet&#x27;s floor"),
    ],
)
def test_a_gpu_without_a_datasheet_and_times_that_cannot_be_are_said_and_not_written(explorer, clock, says, tmp_path):
    shown = pressed(explorer(clock=clock()))
    assert says in shown.notice.value and shown.records == [] and not list(tmp_path.iterdir())
    assert shown.gpu.value == "Not measured yet" and not shown.run.disabled


def test_a_record_that_cannot_be_written_is_shown_all_the_same(explorer, monkeypatch):
    def full(record, folder):
        raise OSError("no space left on device")

    monkeypatch.setattr(kernel_timings_run.bench, "append", full)
    shown = pressed(explorer())
    assert "could not be written: no space left on device" in shown.notice.value
    assert "Recorded on" in shown.badge.value and len(shown.records) == 1


def test_an_explorer_that_was_closed_writes_its_record_and_stays_closed(explorer, tmp_path):
    shown = explorer()
    shown.run.click()
    shown.close()
    shown.wait(60)
    assert len(read_records(tmp_path)) == 1 and shown.records == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="un-skip where PyTorch sees no GPU")
def test_without_a_gpu_the_button_is_off_and_says_why(tmp_path):
    shown = KernelTimings(timings=tmp_path)
    assert shown.run.disabled
    assert "Run on my GPU is off: there is no GPU here that PyTorch can use." in shown.notice.value
    pressed(shown)
    assert not list(tmp_path.iterdir()) and not shown.timer.running


def test_a_gpu_without_triton_is_said_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert kernel_timings_run.missing() in ("", "Triton is not installed.")
    monkeypatch.setattr(kernel_timings_run.importlib.util, "find_spec", lambda name: None)
    assert kernel_timings_run.missing() == "Triton is not installed."
