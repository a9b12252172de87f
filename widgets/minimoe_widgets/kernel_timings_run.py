"""A measurement on the reader's own GPU, in a thread that tells in words where it is.

The bench does all of it: the check against float64, the peers, the clock, the record. One measurement at a time: two
on one GPU would time each other.

How the production version differs: a benchmark has a machine to itself.
"""

import importlib.util
import json
import threading
import time

import torch

from minimoe_kernels import bench
from minimoe_kernels.bench.clock import CudaClock
from minimoe_kernels.timing_records import folder_of, validated

__all__ = ["Timer", "missing"]

_gpu = threading.Lock()


def missing() -> str:
    """What this machine lacks to time a kernel, or ""."""
    if not torch.cuda.is_available():
        return "there is no GPU here that PyTorch can use."
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed."
    return ""


class Told:
    """A clock that says what it is asked for, and asks the real one."""

    def __init__(self, clock, say):
        self._clock, self._say, self._samples = clock, say, 0

    def __getattr__(self, name):
        return getattr(self._clock, name)

    def sample(self, call):
        self._samples += 1
        self._say(f"timing the kernel and its peers in turns, sample {self._samples}")
        return self._clock.sample(call)

    def roofs(self, dtype):
        self._say("measuring this GPU's own roofs: a copy, and cuBLAS 8192 x 8192 x 8192")
        return self._clock.roofs(dtype)


class Timer:
    """Times a case with `clock` (by default the GPU's) and appends the record below `folder`.

    From its thread it calls `say(text)` while it goes on, then `done(record, text)`: a `Record`, or None and why. A
    record that could not be written is given all the same.
    """

    def __init__(self, folder, clock=None):
        self.folder, self._clock, self._thread = folder, clock, None
        lacks = "" if clock else missing()
        self.lacks = lacks and f"Run on my GPU is off: {lacks}"

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, case, leave_out, say, done):
        """Returns at once."""
        since = f"{time.strftime('%H:%M:%S')}"
        head = f"{case.label}, since {since}: "
        work = (case, leave_out, lambda text: say(f"{head}{text}."), done)
        self._thread = threading.Thread(target=self._run, args=work, name="minimoe timer", daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None):
        """Return when the measurement under way is over."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, case, leave_out, say, done):
        if not _gpu.acquire(blocking=False):
            return done(None, "Another explorer is timing on this GPU. Press again when it has ended.")
        try:
            outcome = self._measured(case, leave_out, say)
        except Exception as error:  # whatever a kernel or a GPU may fail with: it is shown, and the records stay
            first = next(iter(str(error).splitlines()), "")[:300]
            outcome = None, f"{case.label} was not timed, and nothing was written. {type(error).__name__}: {first}"
        finally:
            _gpu.release()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        done(*outcome)

    def _measured(self, case, leave_out, say):
        say("checking the kernel against float64 on this GPU, then preparing its peers")
        clock = Told(self._clock or CudaClock(), say)
        with torch.random.fork_rng(_gpus(clock.device)):  # the reader's next random numbers stay what they were
            line = bench.run(case, clock, clock.device, leave_out=leave_out)
        record = validated(json.loads(json.dumps(line)))
        told = [f"left out {name}: {why}" for name, why in line["left_out"].items()]
        try:
            told += bench.append(line, self.folder)
            head = f"Timed, and written below {self.folder} in {folder_of(record.gpu)}/{record.kernel}.jsonl."
        except OSError as error:
            head = f"Timed, and shown while this page is open; it could not be written: {error}."
        return record, " ".join([head, *(f"{text}." for text in told)])


def _gpus(device) -> list[int]:
    """The GPUs whose random numbers a measurement draws."""
    device = torch.device(device)
    return [] if device.type != "cuda" else [torch.cuda.current_device() if device.index is None else device.index]
