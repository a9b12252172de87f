"""Noticing that the machine is busy with something else, and saying so.

Two clocks tell: the process's CPU time stands still while another program runs, the wall clock does not. A run that
gets half a core takes twice as long and is not slower. With several threads it is worse than that: the threads of one
matrix product wait for each other, the one that lost its core holds up the rest, and the others burn CPU time waiting
(66 steps of a model of 1.4M parameters were seen to take 293 s with two threads on a machine that had eight programs
running; one thread stayed usable).

How the production version differs: GPUs are not shared, and a monitor watches for the slowest one.
"""

import os

import torch

__all__ = ["Contention"]

WINDOW_S = 3.0
FAIR_SHARE = 0.75
SLOWDOWN = 1.6


class Contention:
    """`note(cpu_s, wall_s)` after every step; `message` says what is wrong at the moment, or is None."""

    def __init__(self, threads: int | None = None, load=None, cores: int | None = None):
        self.threads = torch.get_num_threads() if threads is None else threads
        self.load = _load if load is None else load
        self.cores = (os.cpu_count() or 1) if cores is None else cores
        self.message: str | None = None
        self.cpu_s = self.wall_s = 0.0
        self.steps, self.fastest_s = 0, float("inf")

    def note(self, cpu_s: float, wall_s: float) -> None:
        """Take the CPU and wall time of one step; every few seconds the message is made anew."""
        self.cpu_s, self.wall_s, self.steps = self.cpu_s + cpu_s, self.wall_s + wall_s, self.steps + 1
        if self.wall_s < WINDOW_S:
            return
        step_s, share = self.wall_s / self.steps, self.cpu_s / self.wall_s
        self.fastest_s = min(self.fastest_s, step_s)
        busy = self.load() > 1.25 * self.cores
        if self.threads > 1 and busy and step_s > SLOWDOWN * self.fastest_s:
            self.message = (
                f"machine busy: steps take {step_s / self.fastest_s:.1f} times as long as before; "
                f"torch uses {self.threads} threads, torch.set_num_threads(1) would lose less"
            )
        elif share < FAIR_SHARE:
            self.message = f"machine busy: this run gets {share:.0%} of one core"
        else:
            self.message = None
        self.cpu_s = self.wall_s = 0.0
        self.steps = 0


def _load() -> float:
    """Programs that want to run, averaged over a minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
