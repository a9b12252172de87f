"""Timing: the cases take turns within one process, so that a slow minute of the machine falls on all of them."""

import os
import statistics
import time


def interleave(cases: dict, rounds: int) -> dict:
    """Run every case once a round, in an order that rotates; give each its CPU and wall milliseconds, round by round.

    CPU time is the whole process's, over all threads. One round of warming up is not counted.
    """
    names, out = list(cases), {name: {"cpu_ms": [], "wall_ms": [], "load": []} for name in cases}
    for r in range(-1, rounds):
        for i in range(len(names)):
            name = names[(i + r) % len(names)]
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            cases[name]()
            cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
            if r >= 0:
                out[name]["cpu_ms"].append(round(cpu_s * 1e3, 3))
                out[name]["wall_ms"].append(round(wall_s * 1e3, 3))
                out[name]["load"].append(round(os.getloadavg()[0], 2))
    return out


def summary(values: list) -> dict:
    """Median, and the spread: the quartiles and the extremes."""
    ordered = sorted(values)
    low, _, high = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else (ordered * 3)
    return {
        "median": statistics.median(ordered),
        "quartiles": [round(low, 3), round(high, 3)],
        "range": [ordered[0], ordered[-1]],
    }


def compare(times: dict, mine: str = "minimoe", clock: str = "cpu_ms") -> dict:
    """Each case's median over ours, and the ratio against the fastest of the others: above 1 means that we are faster.

    `paired` is the median over rounds of that ratio within the round, with its quartiles: it does not move when the
    whole machine slows down between rounds.
    """
    medians = {name: statistics.median(t[clock]) for name, t in times.items()}
    others = {name: m for name, m in medians.items() if not name.startswith(mine)}
    best = min(others, key=others.get)
    paired = [theirs / our for theirs, our in zip(times[best][clock], times[mine][clock], strict=True)]
    return {
        "clock": clock,
        "fastest_other": best,
        "ratio": round(others[best] / medians[mine], 3),
        "paired": {k: v if isinstance(v, list) else round(v, 3) for k, v in summary(paired).items()},
        "all": {name: round(m / medians[mine], 3) for name, m in medians.items()},
    }
