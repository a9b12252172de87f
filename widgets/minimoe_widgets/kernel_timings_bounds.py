"""What stands beside a kernel's time, and in its place where there is none: floors, counts, and what was compiled.

The cases are the bench's: V3's sizes, and small ones for the simulator. A floor is never a time
(`minimoe_kernels.work` has the formulas). The simulator counts every load in full, so a tensor that several programs
read stands in its count several times.

How the production version differs: Nsight Compute reads both from hardware counters, for the launch that ran.
"""

import contextlib
from dataclasses import replace

import torch

from minimoe_kernels import sim
from minimoe_kernels.bench import CASES
from minimoe_kernels.bench.sides import Case
from minimoe_kernels.kernel import running, simulated
from minimoe_kernels.resources import launch_name
from minimoe_kernels.timing_records import Record
from minimoe_kernels.work import DATASHEETS

__all__ = ["CASES", "DATASHEET", "case_of", "counted", "in_words", "key", "launched", "reported"]

H100 = DATASHEETS["NVIDIA H100 80GB HBM3"]
DATASHEET = {dtype: (H100[dtype], H100["GBs"]) for dtype in ("bf16", "fp8")}  # TFLOP/s, GB/s
SORTED = ("permute", "grouped_gemm")  # their inputs are in the order of experts
SIZES = {
    "A": "{:,} assignments", "B": "{:,} sequences", "C": "latent {:,}", "D": "hidden {:,}", "E": "{:,} experts",
    "F": "width {:,}", "H": "{:,} heads", "K": "{:,} chosen", "M": "{:,} rows", "N": "no-position {:,}",
    "R": "rotary {:,}", "S": "{:,} cached", "T": "{:,} tokens", "V": "vocabulary {:,}", "W": "values {:,}",
    "X": "{:,} rows", "Y": "{:,} columns",
}  # fmt: skip


def in_words(sizes: dict) -> str:
    """{"S": 4096, "H": 16} as "4,096 cached, 16 heads"."""
    return ", ".join(SIZES[letter].format(size) for letter, size in sizes.items())


def key(found: Case | Record) -> tuple[str, str, str]:
    """Kernel, shape in words, and dtype: what the pickers choose by."""
    if isinstance(found, Record):
        return found.kernel, in_words(found.line["shape"]), found.dtype
    return found.kernel, in_words(found.sizes), found.work.dtype


def case_of(record: Record, cases=CASES) -> Case:
    """The case that a record is of; one at the record's sizes where the bench has others."""
    same = [case for case in cases if case.kernel == record.kernel]
    sizes = record.line["shape"]
    return next((case for case in same if case.sizes == sizes), replace(same[0], sizes=same[0].sizes | sizes))


@contextlib.contextmanager
def _aside():
    """Random numbers are drawn that the reader's own draws do not notice; backward passes stay on this thread."""
    with torch.random.fork_rng(devices=[]), torch.autograd.set_multithreading_enabled(False):
        torch.default_generator.manual_seed(0)
        yield


def counted(case: Case) -> sim.Counts:
    """What the simulator counts at the small sizes."""
    with _aside():
        ours, _ = case.build("cpu", **case.small)
        with sim.session() as ran:
            ours.call()
    return ran.total


def launched(case: Case) -> list[str]:
    """Its launches at its own sizes as kernels/resources.json names them; nothing is allocated, nothing runs.

    Rows that lie in the order of experts need numbers to be sorted: there the launches of the small sizes.
    """
    if case.module in SORTED:
        return _launched(case, "cpu", case.small, simulated)
    return _launched(case, "meta", case.sizes, lambda *_: None)


def _launched(case, device, sizes, run):
    names = []

    def note(kernel, *rest):
        names.append(launch_name(kernel, rest[1]))
        return run(kernel, *rest)

    with _aside(), running(note):
        ours, _ = case.build(device, **sizes)
        names.clear()  # a backward pass has launched its forward pass
        ours.call()
    return list(dict.fromkeys(names))


def reported(case: Case, report: dict) -> dict:
    """{launch: {arch: resources}} of a report; the launch most like it, called "like ...", where it has not the same.

    `report` is that of `minimoe_kernels.resources`.
    """
    found = {}
    for name in launched(case):
        if name not in report:
            same = [other for other in report if other.split("(")[0] == name.split("(")[0]]
            near = min(same, key=lambda other: len(_words(name) ^ _words(other)), default=None)
            if near and near not in found:
                found[f"like {near}"] = report[near]
        else:
            found[name] = report[name]
    return found


def _words(launch):
    return set(launch[:-1].split("(")[1].split(", "))
