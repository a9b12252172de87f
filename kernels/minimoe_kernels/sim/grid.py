"""Running a grid: every program once, in several orders if asked, with what each of them moved and computed.

A GPU starts programs in any order and many at a time. A kernel whose programs disagree about an element gives one
answer today and another tomorrow; run one after the other, in the order of their numbers, it gives the same answer
always and looks right. So a `Session` can run each grid forward, reversed and shuffled on the same memory, and hold the
results against each other: bit for bit, or within `tolerance` where atomic additions of floats may differ by rounding.

How the production version differs: a GPU shows such a race only by luck. compute-sanitizer's racecheck finds those in
shared memory, not those between programs.
"""

import contextlib
import contextvars
import random
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import torch

from minimoe_kernels.sim.block import Block
from minimoe_kernels.sim.dtypes import FLOAT32, of_number
from minimoe_kernels.sim.errors import OrderDependent
from minimoe_kernels.sim.memory import Buffer, Pointer
from minimoe_kernels.sim.state import Counts, now

__all__ = ["ORDERS", "Launch", "Session", "run", "session"]

ORDERS = ("forward", "reversed", "shuffled")


@dataclass
class Launch:
    """One grid that ran: `programs` maps each program to its counts, `tensors` each tensor to bytes (in, out)."""

    kernel: str
    grid: tuple
    programs: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)

    @property
    def total(self) -> Counts:
        return reduce(Counts.__add__, self.programs.values(), Counts())


@dataclass
class Session:
    """How launches run, and what ran: the orders, how far float results may differ between them, a seed for shuffling.

    `launches` collects a `Launch` for every grid. The results in memory are those of the first order.
    """

    orders: tuple = ("forward",)
    tolerance: float = 0.0
    seed: int = 0
    launches: list = field(default_factory=list)

    @property
    def total(self) -> Counts:
        return reduce(Counts.__add__, (launch.total for launch in self.launches), Counts())


_session = contextvars.ContextVar("session", default=None)


@contextlib.contextmanager
def session(orders=("forward",), tolerance: float = 0.0, seed: int = 0):
    """Within it every simulated launch runs in these orders and is recorded: `with session(ORDERS) as ran: ...`."""
    unknown = [order for order in orders if order not in ORDERS]
    if unknown or not orders:
        raise ValueError(f"orders={orders}: each must be one of {ORDERS}, and there must be one")
    token = _session.set(made := Session(tuple(orders), tolerance, seed))
    try:
        yield made
    finally:
        _session.reset(token)


def programs(grid, order, seed):
    """Every place of the grid, the first axis fastest, in the order asked for."""
    places = [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]
    if order == "reversed":
        places.reverse()
    elif order == "shuffled":
        random.Random(seed).shuffle(places)
    return places


def argument(name, value):
    """What the kernel's code sees of one argument that is no constant: pointers and typed numbers."""
    if isinstance(value, torch.Tensor):
        return Pointer(Buffer(name, value), np.int64(0))
    if isinstance(value, float):
        return Block(np.float32(value), FLOAT32)
    if isinstance(value, bool | int):
        kind = of_number(value)
        return Block(kind.numpy(value), kind)
    return value


def checked_grid(grid, meta):
    """Three sizes from whatever stood in the brackets."""
    grid = grid(meta) if callable(grid) else grid
    grid = tuple(int(n) for n in (grid if isinstance(grid, list | tuple) else (grid,)))
    if not 1 <= len(grid) <= 3 or any(n < 0 for n in grid):
        raise ValueError(f"grid {grid}: one to three sizes, none negative")
    return grid + (1,) * (3 - len(grid))


def run(function, name, grid, values, constants):
    """Run `function`, the simulator's copy of a kernel, over a grid; gives the `Launch`.

    `values` are all its arguments by name, `constants` the names of those that are known when it is compiled.
    """
    settings = _session.get() or Session()
    grid = checked_grid(grid, values)
    ready = {n: v if n in constants else argument(n, v) for n, v in values.items()}
    buffers = {n: v.buffer for n, v in ready.items() if isinstance(v, Pointer)}
    launch = Launch(name, grid)
    many = grid[0] * grid[1] * grid[2] > 1
    before = [_snapshot(b) for b in buffers.values()] if many and len(settings.orders) > 1 else None
    _one_order(function, name, grid, ready, programs(grid, settings.orders[0], settings.seed), launch)
    launch.tensors = {n: (b.loaded_bytes, b.stored_bytes) for n, b in buffers.items()}
    if before is not None:
        after = [_snapshot(b) for b in buffers.values()]
        for order in settings.orders[1:]:
            _restore(buffers.values(), before)
            _one_order(function, name, grid, ready, programs(grid, order, settings.seed), None)
            _compare(name, order, settings, buffers.values(), after)
        _restore(buffers.values(), after)
    settings.launches.append(launch)
    return launch


def _one_order(function, name, grid, ready, places, launch):
    outer = now.kernel, now.program, now.grid, now.counts
    now.kernel, now.grid = name, grid
    try:
        with np.errstate(all="ignore"):
            for place in places:
                now.program, now.counts = place, Counts()
                function(**ready)
                if launch is not None:
                    launch.programs[place] = now.counts
    finally:
        now.kernel, now.program, now.grid, now.counts = outer


def _snapshot(buffer):
    return buffer.raw.copy(), None if buffer.written is None else buffer.written.copy()


def _restore(buffers, states):
    for buffer, (raw, written) in zip(buffers, states, strict=True):
        buffer.raw[...] = raw
        if written is not None:
            buffer.written[...] = written


def _compare(name, order, settings, buffers, after):
    for buffer, (raw, _) in zip(buffers, after, strict=True):
        same = np.ascontiguousarray(buffer.raw).view(np.uint8) == raw.view(np.uint8)
        if same.all():
            continue
        differs = ~same.reshape(-1, buffer.itemsize).all(-1)
        if settings.tolerance and buffer.dtype.kind == "f":
            a, b = (np.asarray(buffer.dtype.decode(x), dtype=np.float64) for x in (raw, buffer.raw))
            differs &= ~(np.abs(a - b) <= settings.tolerance * np.maximum(1.0, np.maximum(np.abs(a), np.abs(b))))
        if differs.any():
            at = int(np.argmax(differs))
            values = [np.asarray(buffer.dtype.decode(x[at : at + 1])).item() for x in (raw, buffer.raw)]
            raise OrderDependent(
                f"{name}: element {at} of {buffer.name} is {values[0]} with the programs run {settings.orders[0]} "
                f"and {values[1]} run {order}; {int(differs.sum())} of {buffer.size} elements differ"
            )
