"""Who works when: the tiles of a grouped product, and its programs laid out over multiprocessors.

A model of the clock, not a clock. A multiprocessor runs one program at a time and takes the next in the launch's order
when it is free; a program takes as many units as it multiplies tiles; starting one, and memory, cost nothing. What is
left is what the *loads* do to the time.

How the production version differs: a multiprocessor holds several small programs, and memory and cache decide as much
as the count does.
"""

import heapq
from dataclasses import dataclass

from minimoe_kernels.kernel import cdiv

__all__ = ["WAYS", "Run", "Schedule", "Tile", "launches", "schedule", "tiles_of"]

WAYS = ("loop over experts", "one launch", "weight gradient")


@dataclass(frozen=True)
class Tile:
    """Rows `start` to `start + rows` of the sorted assignments, all of one expert."""

    expert: int
    start: int
    rows: int


@dataclass(frozen=True)
class Run:
    """One program on one multiprocessor."""

    processor: int
    start: int
    length: int
    expert: int


@dataclass(frozen=True)
class Schedule:
    """The programs of one or several launches, laid out."""

    runs: tuple[Run, ...]
    processors: int

    @property
    def length(self) -> int:
        """Units until the last program has ended."""
        return max((run.start + run.length for run in self.runs), default=0)

    @property
    def work(self) -> int:
        """Units that programs worked, all multiprocessors together."""
        return sum(run.length for run in self.runs)

    @property
    def busy(self) -> float:
        """The share of all multiprocessors' time in which they worked."""
        return self.work / (self.processors * self.length) if self.runs else 0.0


def tiles_of(load_E, tile: int) -> list[Tile]:
    """Each expert's block cut into tiles of `tile` rows, the last of them shorter; none for an empty expert."""
    tiles, first = [], 0
    for expert, load in enumerate(load_E):
        tiles += [Tile(expert, first + done, min(tile, load - done)) for done in range(0, load, tile)]
        first += load
    return tiles


def launches(load_E, tile: int, across: int, way: str, deep: int = 1) -> list[list[tuple[int, int]]]:
    """The launches of a way, each a list of programs (expert, length) in the order in which they start.

    An expert's matrix is `across` blocks wide and `deep` blocks deep. Forward, a program makes one tile of rows by one
    block of columns and walks along the inner axis, `deep` units. In the gradient of the weights it owns one of the
    `across * deep` blocks and takes as many units as the expert has tiles of rows. Raises `ValueError` for a way that
    is none.
    """
    if way not in WAYS:
        raise ValueError(f"way={way!r}: one of {', '.join(WAYS)}")
    if way == "weight gradient":
        return [[(e, cdiv(load, tile)) for e, load in enumerate(load_E) if load for _ in range(across * deep)]]
    programs = [(t.expert, deep) for _ in range(across) for t in tiles_of(load_E, tile)]
    if way == "one launch":
        return [programs]
    return [[p for p in programs if p[0] == e] for e, load in enumerate(load_E) if load]


def schedule(load_E, tile: int, across: int, processors: int, way: str, deep: int = 1) -> Schedule:
    """`launches` over `processors` multiprocessors; a launch begins when the one before it has ended."""
    runs, now = [], 0
    for programs in launches(load_E, tile, across, way, deep):
        free = [(now, p) for p in range(processors)]
        for expert, length in programs:
            start, p = heapq.heappop(free)
            runs.append(Run(p, start, length, expert))
            heapq.heappush(free, (start + length, p))
        now = max(start for start, _ in free)
    return Schedule(tuple(runs), processors)
