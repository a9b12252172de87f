"""Timing on a shared laptop: processor time, interleaved, with its spread.

Wall-clock time on a shared machine measures the neighbours. Processor time of this process measures the work, and
interleaving the candidates lets a slow second hurt all of them alike. Even so only ratios within one run mean anything.

How the production version differs: kernels are timed with device events, cold caches and locked clocks.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["cpu_us"]


def cpu_us(
    calls: Mapping[str, Callable[[], object]], rounds: int = 15, at_least_us: float = 5000.0
) -> dict[str, np.ndarray]:
    """Microseconds of processor time of each call: {label: (20th percentile, median, 80th percentile)} over `rounds`
    rounds.

    Every round runs every call, repeated until `at_least_us` has passed, so that the clock's own grain does not count,
    and once before that untimed, so that no call pays for the caches and the memory that the one before it left behind.
    """
    repeats = {}
    for label, call in calls.items():
        call()
        start = time.process_time()
        call()
        repeats[label] = max(1, int(at_least_us / max((time.process_time() - start) * 1e6, 1.0)))
    times_us = {label: [] for label in calls}
    for _ in range(rounds):
        for label, call in calls.items():
            call()
            start = time.process_time()
            for _ in range(repeats[label]):
                call()
            times_us[label].append((time.process_time() - start) * 1e6 / repeats[label])
    return {label: np.percentile(times, [20, 50, 80]) for label, times in times_us.items()}
