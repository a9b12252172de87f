"""The clock of a GPU: CUDA events around one launch at a time, with the L2 cache overwritten before each.

A wrapper in Python needs tens of microseconds to enqueue a kernel, longer than some kernels run. So before each start
the GPU is kept busy for as long as the enqueuing takes: by the time it arrives at the first event, all that follows
stands in its queue, and the events are as far apart as the work is long. What the enqueuing takes is kept beside it.

The two roofs are measured by the same clock in the same process: the bytes a second of a large copy, read and written,
and the FLOPs a second of cuBLAS on 8192 x 8192 x 8192 random numbers. On zeros the same product is 13% faster, because
wires that do not change cost no power.

How the production version differs: `triton.testing.do_bench` overwrites the cache too, and leaves the waiting in;
Nsight Systems and CUPTI time each kernel by itself.
"""

import functools
import math
import platform
import re
import statistics
import subprocess
import time
from pathlib import Path

import torch

__all__ = ["CudaClock", "contest", "spread"]

CYCLES_A_SECOND = 2e9  # no fewer than any GPU's
COPY, SQUARE = 2**30, 8192  # numbers in bf16 copied, side of the product


class CudaClock:
    """Times calls on one GPU. Anything with these methods can stand in its place (the tests' clock is one).

    `sample(call)` gives the us of several launches, `peak_bytes(call)` what a call allocates at most, `roofs(dtype)`
    the measured TFLOP/s and GB/s, `env()` what it was measured on. `sample_ms` is how long one sample may take.
    """

    method, l2 = "events", "cold"

    def __init__(self, device="cuda", sample_ms: float = 100.0):
        self.device, self.sample_ms = torch.device(device), sample_ms
        if self.device.index is not None:
            torch.cuda.set_device(self.device)  # events, and Triton's launches, go to the current one
        self.properties = torch.cuda.get_device_properties(self.device)
        self.flush = torch.empty(max(2**28, 4 * self.properties.L2_cache_size), dtype=torch.int8, device=self.device)
        self.roofs = functools.cache(self.roofs)
        self.enqueue_us = 0.0  # of the last sample: what one call takes until it returns

    def sample(self, call) -> list[float]:
        """The times of 5 to 50 launches in us, after two that are not counted."""
        call()
        self._wait()
        start = time.perf_counter()
        call()
        self.enqueue_us = 1e6 * (time.perf_counter() - start)
        self._wait()
        count = int(self.sample_ms * 1e3 / max(1.0, statistics.median(self._launches(call, 2))))
        return self._launches(call, max(5, min(50, count)))

    def _launches(self, call, count):
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        busy = int(min(20e-3, 2e-6 * self.enqueue_us) * CYCLES_A_SECOND)
        for start, end in pairs:
            self.flush.zero_()
            torch.cuda._sleep(busy)
            start.record()
            call()
            end.record()
        self._wait()
        return [1e3 * start.elapsed_time(end) for start, end in pairs]

    def _wait(self):
        torch.cuda.synchronize(self.device)

    def peak_bytes(self, call) -> int:
        """The most that is allocated during a call, beyond what was allocated before; its results are in it."""
        self._wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        call()
        self._wait()
        return torch.cuda.max_memory_allocated(self.device) - before

    def roofs(self, dtype: str) -> tuple[float, float]:
        """(TFLOP/s, GB/s), each the best of three samples' medians; measured once."""
        return self._product(dtype), self._copy()

    def _best_us(self, call):
        return min(statistics.median(self.sample(call)) for _ in range(3))

    def _copy(self):
        source = torch.randn(COPY, dtype=torch.bfloat16, device=self.device)
        target = torch.empty_like(source)
        return 2 * 2 * COPY / self._best_us(lambda: target.copy_(source)) / 1e3

    def _product(self, dtype):
        a, b = (torch.randn(SQUARE, SQUARE, dtype=torch.bfloat16, device=self.device) for _ in range(2))
        call = functools.partial(torch.mm, a, b)
        if dtype == "fp8":
            one, (a, b) = torch.ones((), device=self.device), (t.to(torch.float8_e4m3fn) for t in (a, b))
            call = functools.partial(
                torch._scaled_mm, a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
            )
        return 2 * SQUARE**3 / self._best_us(call) / 1e6

    def env(self) -> dict:
        """GPU, driver, versions and what the GPU's manager says of clocks and power. Raises if there is no driver."""
        import triton

        major, minor = self.properties.major, self.properties.minor
        fusion = getattr(getattr(getattr(triton, "knobs", None), "language", None), "default_fp_fusion", True)
        found = {
            "gpu": torch.cuda.get_device_name(self.device), "arch": 10 * major + minor,
            "sms": self.properties.multi_processor_count, "driver": "", "cuda": torch.version.cuda,
            "torch": torch.__version__, "triton": triton.__version__, "python": platform.python_version(),
            "fp_fusion": bool(fusion),
        }  # fmt: skip
        found |= _manager(getattr(self.properties, "uuid", None))
        if not found["driver"]:
            raise RuntimeError("no driver version: neither nvidia-smi nor /proc/driver/nvidia/version says one")
        return found


def _manager(uuid) -> dict:
    """What nvidia-smi says; without it the driver's own file."""
    names = ("driver_version", "ecc.mode.current", "power.limit", "clocks.sm")
    chosen = [] if uuid is None else ["-i", f"GPU-{uuid}"]
    command = ["nvidia-smi", *chosen, f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        driver, ecc, power, clock = (word.strip() for word in said.splitlines()[0].split(","))
        return {"driver": driver, "ecc": ecc, "power_w": power, "clock_sm_mhz": clock}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        file = Path("/proc/driver/nvidia/version")
        found = re.search(r"\d+\.\d+(\.\d+)?", file.read_text()) if file.exists() else None
        return {"driver": found[0] if found else ""}


def contest(sides: dict, clock, rounds: int) -> dict:
    """Every side timed once a round, in an order that rotates: {name: `spread` of its times}.

    A GPU that warms up or slows down does so for all of them.
    """
    names, taken = list(sides), {name: [] for name in sides}
    enqueue = {}
    for number in range(rounds):
        for i in range(len(names)):
            name = names[(i + number) % len(names)]
            taken[name].append(clock.sample(sides[name].call))
            enqueue.setdefault(name, []).append(getattr(clock, "enqueue_us", math.nan))
    found = {name: spread(times, clock) for name, times in taken.items()}
    for name, times in enqueue.items():
        if not math.isnan(times[0]):
            found[name]["enqueue"] = round(statistics.median(times), 2)
    return found


def spread(rounds: list[list[float]], clock) -> dict:
    """The `time_us` of a record: median, p20, p80 and least of all launches, and each round's median."""
    times = [us for one in rounds for us in one]
    low, _, _, high = statistics.quantiles(times, n=5, method="inclusive")
    made = {"median": statistics.median(times), "p20": low, "p80": high, "min": min(times), "n": len(times)}
    made = {name: round(value, 3) for name, value in made.items()}
    rounded = [round(statistics.median(one), 3) for one in rounds]
    return made | {"method": clock.method, "l2": clock.l2, "rounds": rounded}
