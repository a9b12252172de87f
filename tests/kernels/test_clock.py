"""The GPU's clock without a GPU: `torch.cuda` is replaced by a queue that remembers what was enqueued, and when."""

import types
from dataclasses import replace

import pytest
import torch

from minimoe_kernels import bench
from minimoe_kernels.bench import clock as module
from minimoe_kernels.bench.clock import CudaClock, _manager
from minimoe_kernels.timing_records import validated


class Queue:
    """What a GPU would do, in us: a call takes what it says, and every event comes `step` after what was before it."""

    def __init__(self):
        self.now, self.step, self.log = 0.0, 0.0, []

    def call(self, us):
        def enqueue():
            self.now += us
            self.log.append("call")

        return enqueue


@pytest.fixture
def gpu(monkeypatch):
    queue = Queue()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            queue.now += queue.step
            self.at = queue.now
            queue.log.append("event")

        def elapsed_time(self, end):
            return (end.at - self.at) / 1e3

    def sleep(cycles):
        assert isinstance(cycles, int) and 0 <= cycles <= 20e-3 * module.CYCLES_A_SECOND
        queue.log.append("busy")

    properties = types.SimpleNamespace(L2_cache_size=2**20, multi_processor_count=132, major=9, minor=0, uuid="u-1")
    replaced = {
        "Event": Event, "_sleep": sleep, "synchronize": lambda device: None, "get_device_name": lambda device: "a GPU",
        "get_device_properties": lambda device: properties, "memory_allocated": lambda device: 100,
        "reset_peak_memory_stats": lambda device: queue.log.append("reset"),
        "max_memory_allocated": lambda device: 340,
    }  # fmt: skip
    for name, function in replaced.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(module, "COPY", 2**10)
    monkeypatch.setattr(module, "SQUARE", 64)
    made = CudaClock("cpu")
    made.flush = types.SimpleNamespace(zero_=lambda: queue.log.append("flush"), numel=made.flush.numel)
    made.queue = queue
    return made


def test_every_launch_finds_a_cold_cache_and_a_busy_gpu_and_stands_between_its_own_events(gpu):
    assert gpu.sample(gpu.queue.call(2000.0)) == pytest.approx([2000.0] * 50)
    assert gpu.queue.log[:2] == ["call"] * 2  # warming up, and how long the enqueuing takes
    rest = gpu.queue.log[2:]
    assert rest == ["flush", "busy", "event", "call", "event"] * (2 + 50) and gpu.enqueue_us > 0
    assert gpu.flush.numel() >= 4 * 2**20


def test_long_calls_are_timed_five_times(gpu):
    assert len(gpu.sample(gpu.queue.call(200_000.0))) == 5


def test_memory_is_what_a_call_adds_to_what_was_there(gpu):
    assert gpu.peak_bytes(gpu.queue.call(1.0)) == 240 and gpu.queue.log == ["reset", "call"]


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_roofs_are_a_product_and_a_copy_measured_once_on_random_numbers(gpu, monkeypatch, dtype):
    def took(times):
        def sample(call):
            call()
            operands = [t for t in call.args if isinstance(t, torch.Tensor)] if hasattr(call, "args") else []
            assert all(t.float().std() > 0.5 for t in operands)
            return times

        return sample

    called = []
    plain = torch._scaled_mm

    def scaled(*operands, use_fast_accum, **options):
        called.append(use_fast_accum)
        return plain(*operands, **options)

    monkeypatch.setattr(torch, "_scaled_mm", scaled)
    monkeypatch.setattr(gpu, "sample", took([2.0, 1.0, 4.0]))
    tflops, gigabytes = gpu.roofs(dtype)
    assert tflops == pytest.approx(2 * 64**3 / 2.0 / 1e6) and gigabytes == pytest.approx(4 * 2**10 / 2.0 / 1e3)
    assert called == ([True] * 3 if dtype == "fp8" else [])
    monkeypatch.setattr(gpu, "sample", took([1.0]))
    assert gpu.roofs(dtype) == (tflops, gigabytes)


def nvidia_smi(folder, monkeypatch, says, status=0):
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho \"$@\" > {folder}/asked\nprintf '{says}'\nexit {status}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.skipif(__import__("sys").platform == "win32", reason="un-skip where /bin/sh runs a script")
def test_driver_clocks_and_power_are_asked_of_the_gpus_manager_by_its_number(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, "580.159.03, Enabled, 700.00, 1980\\n")
    want = {"driver": "580.159.03", "ecc": "Enabled", "power_w": "700.00", "clock_sm_mhz": "1980"}
    assert _manager("u-1") == want
    assert "-i GPU-u-1 --query-gpu=driver_version,ecc.mode.current,power.limit,clocks.sm" in (
        tmp_path / "asked"
    ).read_text()
    nvidia_smi(tmp_path, monkeypatch, "no devices\\n", status=9)
    assert set(_manager(None)) == {"driver"}


def test_the_environment_names_every_version_or_is_refused(gpu, monkeypatch):
    pytest.importorskip("triton", reason="un-skip when triton has a wheel for this platform")
    monkeypatch.setattr(module, "_manager", lambda uuid: {"driver": "580.1", "clock_sm_mhz": "1980"})
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = gpu.env()
    assert (found["gpu"], found["arch"], found["sms"], found["driver"]) == ("a GPU", 90, 132, "580.1")
    assert all(found[name] for name in ("cuda", "torch", "triton", "python")) and found["fp_fusion"] is True
    monkeypatch.setattr(module, "_manager", lambda uuid: {"driver": ""})
    with pytest.raises(RuntimeError, match="no driver version"):
        gpu.env()


def test_the_whole_path_gives_a_record_that_is_valid_once_there_is_cuda(gpu, monkeypatch):
    """GPU, driver and CUDA's version are put in by hand; what is read back is what the clock wrote."""
    pytest.importorskip("triton", reason="un-skip when triton has a wheel for this platform")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(module, "_manager", lambda uuid: {"driver": "580.1", "clock_sm_mhz": "1980"})
    gpu.queue.step = 150.0
    case = next(case for case in bench.CASES if case.kernel == "rms_norm_backward")
    made = bench.run(replace(case, sizes=case.small), gpu, "cpu", leave_out=("torch.compile",))
    with pytest.raises(ValueError, match="env does not say cuda"):
        validated(made)
    made["env"]["cuda"] = "13.0"
    found = validated(made)
    assert found.times["minimoe"] == (150.0, 150.0, 150.0) and set(found.times) == {"minimoe", "torch", "F.rms_norm"}
    assert made["time_us"]["n"] == 150 and made["time_us"]["enqueue"] > 0 and made["peak_bytes"] == 240
    assert made["env"]["clock_sm_mhz"] == ["1980", "1980"] and made["op"] == "backward"
