"""The one program that is running: its place in the grid, and what it has moved and computed so far.

Programs run one after the other, so one object serves them all: the grid sets `program` before each and takes the
counts after it.

How the production version differs: a GPU runs thousands of programs at once, and counts with hardware counters that a
profiler reads out (`dram__bytes_read.sum` in Nsight Compute, which sees caches; here every load counts in full).
"""

from dataclasses import dataclass, fields

__all__ = ["Counts", "now"]


@dataclass
class Counts:
    """Bytes that unmasked lanes loaded and stored, multiply-adds of `tl.dot` (as 2 each), other float operations."""

    loaded_bytes: int = 0
    stored_bytes: int = 0
    dot_flops: int = 0
    other_flops: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def bytes(self) -> int:
        return self.loaded_bytes + self.stored_bytes

    @property
    def flops(self) -> int:
        return self.dot_flops + self.other_flops

    @property
    def intensity(self) -> float:
        """FLOPs a byte: how far right a kernel stands under the roofline."""
        return self.flops / self.bytes if self.bytes else 0.0


class Now:
    """The running kernel's name, its program, the grid, and the counts."""

    __slots__ = ("kernel", "program", "grid", "counts")

    def __init__(self):
        self.kernel, self.program, self.grid, self.counts = "no kernel", (0, 0, 0), (1, 1, 1), Counts()

    def where(self) -> str:
        return f"program {self.program} of {self.kernel}"


now = Now()
