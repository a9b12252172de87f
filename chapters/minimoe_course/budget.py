"""One test more for every notebook that nbval runs: how much processor time and memory its kernel has used.

A chapter may use 60 s of processor time and 1.0 GB at its peak. nbval has executed the notebook already, so the test
asks the kernel's process before it is shut down, and nothing is run twice. Processor time, unlike time on the clock,
does not grow when the machine is busy with other work.

Loaded by `chapters/conftest.py`; without nbval there are no notebook items, and it does nothing.
"""

import sys
from itertools import groupby
from pathlib import Path

import psutil
import pytest

__all__ = ["MAX_CPU_S", "MAX_PEAK_BYTES", "BudgetItem", "over_budget", "peak_bytes", "pytest_collection_modifyitems"]

MAX_CPU_S = 60.0
MAX_PEAK_BYTES = 1_000_000_000


def peak_bytes(process: psutil.Process) -> int:
    """The most memory the process has held so far, in bytes (on macOS: what it holds now)."""
    if sys.platform == "linux":
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    memory = process.memory_info()
    return getattr(memory, "peak_wset", memory.rss)


def over_budget(cpu_s: float, peak: int) -> list[str]:
    """What exceeds the budget, in words."""
    found = [f"used {cpu_s:.1f} s of processor time; at most {MAX_CPU_S:.0f} s"] if cpu_s > MAX_CPU_S else []
    return found + (
        [f"held {peak / 1e9:.2f} GB; at most {MAX_PEAK_BYTES / 1e9:.1f} GB"] if peak > MAX_PEAK_BYTES else []
    )


class BudgetItem(pytest.Item):
    """The last test of a notebook: its kernel, still alive, is within the budget."""

    def runtest(self):
        process = psutil.Process(self.parent.kernel.km.provisioner.pid)
        children = process.children(recursive=True)
        times = [p.cpu_times() for p in (process, *children)]
        cpu_s = sum(t.user + t.system for t in times)
        peak = sum(peak_bytes(p) for p in (process, *children))
        self.user_properties += [("cpu_s", round(cpu_s, 1)), ("peak_gb", round(peak / 1e9, 2))]
        self.add_report_section("call", "budget", f"{cpu_s:.1f} s of processor time, {peak / 1e9:.2f} GB at the peak")
        found = over_budget(cpu_s, peak)
        if found:
            pytest.fail(f"{self.parent.path.name}: the kernel " + " and ".join(found), pytrace=False)

    def reportinfo(self):
        return self.path, 0, f"{self.parent.path.name}: within 60 s of processor time and 1.0 GB"


def pytest_collection_modifyitems(items):
    """Put a BudgetItem after the last cell of every notebook."""
    ordered = []
    for parent, group in groupby(list(items), key=lambda item: item.parent):
        ordered += group
        if type(parent).__name__ == "IPyNbFile":
            ordered.append(BudgetItem.from_parent(parent, name="budget"))
    items[:] = ordered
