"""A launch of `mla_decode` in the simulator, cut into steps: what KernelStepper's decode view steps through.

The kernels are the project's own, unchanged, and so is the function that launches them. Three hooks of the simulator
see what they do. Launches go to a runner of ours, which wraps each tensor so that its accesses are written down. The
kernel's `range` is the simulator's with a look between two rounds: there the variables of the kernel's function are
read (running maximum, sum, accumulator). And the counters are read at the same places.

A step is one block of entries in one program, or what a program does after its last block, or the combination of one
sequence, whose programs (one a head) are shown together.

How the production version differs: a GPU runs all programs at once, and a profiler samples totals; a debugger that
stops in one program (cuda-gdb) shows its registers, not what the others have read.
"""

import sys
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch

from minimoe_kernels import sim
from minimoe_kernels.kernel import cdiv, rescoped, running
from minimoe_kernels.kernel import tl as language
from minimoe_kernels.mla_decode import mla_decode, mla_decode_reference
from minimoe_kernels.sim.grid import run as simulate
from minimoe_kernels.sim.memory import Buffer, Pointer
from minimoe_kernels.sim.state import Counts, now

__all__ = ["LATENT", "ROTARY", "Decode", "DecodeTrace", "Step", "trace_decode"]

LATENT, ROTARY, SPARE = 32, 16, 3  # C, R, and pages that belong to no sequence
SEEN = ("peak", "total", "acc", "shrink", "first", "end", "finished", "log_sum", "weights", "out")
NAMES = {"q": "queries", "table": "block table", "partial": "partial results", "log_sum": "log-sums", "out": "output"}


@dataclass(frozen=True)
class Decode:
    """What is asked of `mla_decode`: shares of a sequence, heads, entries of each sequence, entries of a page."""

    splits: int
    heads: int
    lengths: tuple
    page: int

    def inputs(self):
        """(queries (B, H, C + R), cache (P, page, C + R), block table (B, J), lengths (B,)), in bfloat16 and int32.

        Pages lie in no order. What no sequence uses is NaN, and unused slots of the table name no page.
        """
        generator = torch.Generator().manual_seed(0)
        width, pages = LATENT + ROTARY, [cdiv(length, self.page) for length in self.lengths]
        order = torch.randperm(sum(pages) + SPARE, generator=generator).tolist()
        cache = torch.full((len(order), self.page, width), float("nan"))
        table = torch.full((len(pages), max(1, *pages) if pages else 1), 2**30, dtype=torch.int32)
        for b, (length, count) in enumerate(zip(self.lengths, pages, strict=True)):
            for j in range(count):
                table[b, j], rows = order.pop(), min(self.page, length - j * self.page)
                cache[table[b, j], :rows] = torch.randn(rows, width, generator=generator)
        queries = 2 * torch.randn(len(pages), self.heads, width, generator=generator)
        return queries.bfloat16(), cache.bfloat16(), table, torch.tensor(self.lengths, dtype=torch.int32)


@dataclass
class Step:
    """One step: program, what it moved by tensor, which rows of the cache it read, and its variables afterwards.

    `kind` is "block", "store" or "combine"; `block` counts blocks of this program from 0; `rows` are flat, page * PAGE
    + place, in the order of the entries; `loaded` and `stored` are bytes by tensor; `state` holds those of the
    variables in `SEEN` that the kernel has, as arrays.
    """

    kind: str
    place: tuple
    block: int
    loaded: dict
    stored: dict
    rows: np.ndarray
    counts: Counts
    state: dict


@dataclass
class DecodeTrace:
    """Steps in the order in which they ran, the launches as the simulator counted them, and the verdict."""

    asked: Decode
    tensors: tuple
    steps: list = field(default_factory=list)
    launches: list = field(default_factory=list)
    block_h: int = 0
    block_s: int = 0
    verdict: str = ""
    right: bool = False

    @property
    def programs(self) -> list[list[Step]]:
        """The steps of each program of the first launch."""
        found: dict = {}
        for step in self.steps:
            if step.kind != "combine":
                found.setdefault(step.place, []).append(step)
        return list(found.values())


class _Recorded(Buffer):
    """A tensor whose accesses are written down, after the simulator has let them pass."""

    def __init__(self, name, tensor, watch):
        super().__init__(name, tensor)
        self.watch = watch

    def check(self, offsets, verb, mask):
        super().check(offsets, verb, mask)
        self.watch.note(self, verb, np.array(offsets).reshape(-1))


class _Watch:
    """The runner of a launch: runs it in the simulator and cuts it into steps."""

    def __init__(self):
        self.steps, self.constants = [], {}

    def run(self, kernel, grid, values, options):
        self.code, self.constants = kernel.fn.__code__, self.constants | values
        ready = {
            name: Pointer(_Recorded(name, value, self), np.int64(0)) if isinstance(value, torch.Tensor) else value
            for name, value in values.items()
        }
        function = rescoped(kernel.fn, {"range": self._range})

        def program(**arguments):
            self.log, self.before, self.rounds, self.last = [], Counts(), 0, {}
            function(**arguments)
            self._cut("store", self.last)

        return simulate(program, kernel.name, grid, ready, kernel.constants)

    def _range(self, *bounds, **hints):
        for place in language.range(*bounds, **hints):
            yield place
            self._cut("block", self._variables())
            self.rounds += 1

    def note(self, buffer, verb, offsets):
        self.log.append((buffer.name, verb, offsets, offsets.size * buffer.itemsize))
        if verb == "stores":
            self.last = self._variables()

    def _variables(self):
        """The kernel's own variables, read from its running frame."""
        frame = sys._getframe()
        while frame.f_code is not self.code:
            frame = frame.f_back
        return {name: np.array(frame.f_locals[name].data) for name in SEEN if name in frame.f_locals}

    def _cut(self, kind, state):
        moved = {"loads": {}, "stores": {}}
        for argument, verb, _, size in self.log:
            name = argument.removesuffix("_ptr")
            name = NAMES.get(name, name)
            moved[verb][name] = moved[verb].get(name, 0) + size
        read = [offsets // (LATENT + ROTARY) for name, _, offsets, _ in self.log if name == "cache_ptr"]
        rows = np.array(list(dict.fromkeys(np.concatenate(read).tolist())) if read else [], dtype=int)
        counts = Counts(*(getattr(now.counts, f.name) - getattr(self.before, f.name) for f in fields(Counts)))
        self.steps.append(Step(kind, now.program, self.rounds, moved["loads"], moved["stores"], rows, counts, state))
        self.log, self.before = [], replace(now.counts)


def trace_decode(asked: Decode) -> DecodeTrace:
    """Launch `mla_decode` once, step by step, and judge what it gives against attention in float64.

    Raises what the simulator raises; then the kernel is wrong, not the caller.
    """
    tensors, scale = asked.inputs(), (LATENT + ROTARY) ** -0.5
    watch, found = _Watch(), DecodeTrace(asked, tensors)
    with sim.session() as ran, running(watch.run):
        out_BHC = mla_decode(*tensors, LATENT, scale, splits=asked.splits)
    found.launches = ran.launches
    found.block_h, found.block_s = watch.constants["BLOCK_H"], watch.constants["BLOCK_S"]
    split = len(found.launches[0].programs)
    ends = [i for i, step in enumerate(watch.steps) if step.kind == "store"]
    first = ends[split - 1] + 1  # step of the second launch
    found.steps = watch.steps[:first]
    for b in range(len(asked.lengths)):
        found.steps.append(_together(b, watch.steps[first + b * asked.heads : first + (b + 1) * asked.heads]))
    with sim.session(sim.ORDERS):  # raises if the order of the programs matters
        mla_decode(*tensors, LATENT, scale, splits=asked.splits)
    queries, cache, table, lengths = tensors
    exact = mla_decode_reference(queries.double(), cache.double(), table, lengths, LATENT, scale)
    found.verdict, found.right = _judged(out_BHC, exact, cache)
    return found


def _together(sequence, steps) -> Step:
    """The programs that combine one sequence's heads, as one step; their variables stand below each other."""
    loaded, stored, counts = {}, {}, Counts()
    for step in steps:
        counts = counts + step.counts
        for total, part in ((loaded, step.loaded), (stored, step.stored)):
            for name, size in part.items():
                total[name] = total.get(name, 0) + size
    state = {name: np.stack([step.state[name] for step in steps]) for name in ("weights", "total", "out", "log_sum")}
    return Step("combine", (sequence,), 0, loaded, stored, np.zeros(0, int), counts, state)


def _judged(out, exact, cache) -> tuple[str, bool]:
    """Each weight and each result is rounded to bfloat16, by 2^-9 of itself at most; weights add up to 1."""
    allowed = 2.0**-8 * float(cache[..., :LATENT].double().nan_to_num().abs().max())
    worst = float((out.double() - exact).abs().max().nan_to_num(nan=float("inf")))
    right = worst <= allowed
    words = "" if right else "WRONG: "
    return (
        f"{words}The largest difference from attention in float64 is {worst:.2g}; rounding weights and results to "
        f"bfloat16 allows {allowed:.2g}. Every order of the programs gives the same bits."
    ), right
