"""Every program of a product in tiles, with the elements that it read and wrote: what KernelStepper steps through.

The kernel runs in the simulator on bfloat16 matrices of -1, 0 and 1, whose products are exact, so a wrong element is a
wrong kernel and no rounding. A kernel that leaves its matrices stops there: the trace ends at the access that was
refused and keeps the simulator's words. One that runs through is run again, reversed and shuffled.

How the production version differs: a profiler samples counters of the hardware; which element was read by whom, no
machine says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from minimoe_kernels import sim
from minimoe_kernels.kernel import Kernel, cdiv
from minimoe_kernels.sim.grid import run as simulate
from minimoe_kernels.sim.memory import Buffer, Pointer
from minimoe_kernels.sim.state import Counts, now

__all__ = ["ITEM", "ORDERS", "Program", "Sizes", "Trace", "arranged", "shared_bytes", "trace"]

ITEM = 2  # bytes of a bfloat16
ORDERS = ("row by row", "grouped", "reversed", "shuffled")
NAMES = "ABC"


@dataclass(frozen=True)
class Sizes:
    """C (M x F) = A (M x D) B (D x F), in tiles of BLOCK_M x BLOCK_F, BLOCK_D of the inner axis at a time."""

    M: int
    D: int
    F: int
    BLOCK_M: int
    BLOCK_D: int
    BLOCK_F: int

    @property
    def shapes(self) -> dict:
        return {"A": (self.M, self.D), "B": (self.D, self.F), "C": (self.M, self.F)}

    @property
    def grid(self) -> tuple[int, int]:
        return cdiv(self.M, self.BLOCK_M), cdiv(self.F, self.BLOCK_F)

    @property
    def ideal_flops(self) -> int:
        return 2 * self.M * self.D * self.F

    @property
    def ideal_bytes(self) -> int:
        """Each matrix moved once."""
        return ITEM * (self.M * self.D + self.D * self.F + self.M * self.F)


@dataclass
class Program:
    """One program: how often it loaded each element (flat), which elements of C it stored, its counts."""

    place: tuple
    loads: dict
    stores: np.ndarray
    counts: Counts

    @property
    def tile(self) -> tuple[int, int]:
        """Where its first stored element lies, flat; -1 if it stored nothing."""
        return int(self.stores.min()) if self.stores.size else -1


@dataclass
class Trace:
    """Programs in the order in which they ran, the product, and what is wrong with it ("" if nothing)."""

    sizes: Sizes
    programs: list = field(default_factory=list)
    grid: tuple = ()
    stopped: bool = False
    verdict: str = ""
    right: bool = False


class _Recorded(Buffer):
    """A tensor whose accesses are written down, after the simulator has let them pass."""

    def __init__(self, name, tensor, log):
        super().__init__(name, tensor)
        self.log = log

    def check(self, offsets, verb, mask):
        super().check(offsets, verb, mask)
        self.log.append((self.name, verb, np.array(offsets).reshape(-1)))


def matrices(sizes: Sizes):
    """A, B and an unwritten C: whole numbers so small that every product is exact in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randint(-1, 2, shape, generator=generator).to(torch.bfloat16)
        for shape in (sizes.shapes["A"], sizes.shapes["B"])
    )
    return a, b, sim.empty(*sizes.shapes["C"], dtype=torch.bfloat16)


def trace(kernel: Kernel, sizes: Sizes, grid: Callable | None = None) -> Trace:
    """Run `kernel(A, B, C, M, D, F, BLOCK_M, BLOCK_D, BLOCK_F)` once, program by program, and judge the product.

    `grid` takes `Sizes` and gives the grid; by default tiles of M x tiles of F. What the kernel raises is kept in the
    trace. Raises TypeError if it is no kernel or does not take nine arguments.
    """
    if not isinstance(kernel, Kernel) or len(kernel.parameters) != 9:
        raise TypeError(f"{getattr(kernel, '__name__', kernel)!r} is no @triton.jit kernel of nine arguments: "
                        "A, B, C, M, D, F, BLOCK_M, BLOCK_D, BLOCK_F")  # fmt: skip
    launched = tuple(grid(sizes)) if grid else sizes.grid
    found = Trace(sizes, grid=launched)
    a, b, c = matrices(sizes)
    try:
        _recorded(kernel, sizes, launched, (a, b, c), found)
        with sim.session(sim.ORDERS):
            again = sim.empty(*c.shape, dtype=c.dtype)
            kernel[launched](a, b, again, *_numbers(sizes))
    except Exception as error:  # whatever a reader's kernel raises is theirs to see
        found.verdict = f"{type(error).__name__}: {error}"
        return found
    found.verdict, found.right = _judged(c, a.float() @ b.float(), sizes)
    return found


def _numbers(sizes):
    return sizes.M, sizes.D, sizes.F, sizes.BLOCK_M, sizes.BLOCK_D, sizes.BLOCK_F


def _recorded(kernel, sizes, grid, tensors, found):
    log: list = []
    pointers = [Pointer(_Recorded(n, t, log), np.int64(0)) for n, t in zip(NAMES, tensors, strict=True)]
    values = dict(zip(kernel.parameters, (*pointers, *_numbers(sizes)), strict=True))

    def stepped(**ready):
        log.clear()
        try:
            kernel.simulated(**ready)
        except BaseException:
            found.stopped = True
            raise
        finally:
            found.programs.append(_program(log, sizes))

    simulate(stepped, kernel.name, grid, values, kernel.constants)


def _program(log, sizes) -> Program:
    loads = {}
    for name in NAMES:
        offsets = [each for which, verb, each in log if which == name and verb != "stores"]
        size = sizes.shapes[name][0] * sizes.shapes[name][1]
        loads[name] = np.bincount(np.concatenate(offsets) if offsets else np.zeros(0, int), minlength=size)
    stored = [each for which, verb, each in log if which == "C" and verb != "loads"]
    return Program(now.program, loads, np.concatenate(stored) if stored else np.zeros(0, int), now.counts)


def _judged(c, exact, sizes) -> tuple[str, bool]:
    """(what to say of the product, whether it is right)."""
    wrong = ~(c.float() == exact)
    never = c.float().isnan()
    if not wrong.any():
        return "C is right, and the same in every order of the programs.", True
    if never.any():
        row, column = never.nonzero()[0].tolist()
        return f"{int(never.sum())} of {c.numel()} elements of C are not numbers, the first at [{row}, {column}]: nothing was stored there, or it was made of lanes that a mask had switched off.", False  # fmt: skip  # noqa: E501
    row, column = wrong.nonzero()[0].tolist()
    has, wants = (f"{float(x[row, column]):g}" for x in (c, exact))
    return f"{int(wrong.sum())} of {c.numel()} elements of C are wrong, the first at [{row}, {column}]: {has}, want {wants}.", False  # fmt: skip  # noqa: E501


def arranged(found: Trace, order: str, together: int, seed: int = 0) -> list[int]:
    """Numbers of the programs in the order in which they are shown. One that was stopped keeps the order it ran in.

    "grouped": a few rows of tiles, as many as the root of `together`, column by column, then the next few.
    """
    count = len(found.programs)
    if found.stopped:
        return list(range(count))
    F, tall = found.sizes.F, found.sizes.BLOCK_M * max(1, int(together**0.5))
    where = [divmod(program.tile, F) for program in found.programs]
    if order == "grouped":
        return sorted(range(count), key=lambda i: (where[i][0] // tall, where[i][1], where[i][0]))
    rows = sorted(range(count), key=lambda i: where[i])
    if order == "reversed":
        return rows[::-1]
    if order == "shuffled":
        return np.random.default_rng(seed).permutation(count).tolist()
    return rows


def shared_bytes(found: Trace, order: list[int], together: int) -> list[int]:
    """Bytes loaded after each program, if those of one wave of `together` find what a neighbour has loaded."""
    total, out = 0, []
    for place, number in enumerate(order):
        if place % together == 0:
            seen = {name: np.zeros(shape[0] * shape[1], bool) for name, shape in found.sizes.shapes.items()}
        for name, counts in found.programs[number].loads.items():
            fresh = (counts > 0) & ~seen[name]
            seen[name] |= fresh
            total += ITEM * int(fresh.sum())
        out.append(total)
    return out
