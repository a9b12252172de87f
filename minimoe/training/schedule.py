"""The learning rate over a run: up in a straight line, level, down along a cosine, level again.

Warm-up keeps the first steps small while the optimizer's averages are still guesses. The decay lets the weights
settle: most of the last drop of the loss comes with it. All is written as a function of progress, a number from 0 to
1, so that a run can be measured in steps or in CPU-seconds.

How the production version differs: DeepSeek-V3 warms up for 2,000 steps, holds 2.2e-4 for 10T tokens, then follows a
cosine to 2.2e-5 over 4.3T, and holds twice more (section 4.2); the long plateau lets one run be continued or branched.
"""

import math

__all__ = ["rate_factor"]


def rate_factor(
    progress: float,
    warmup: float = 0.05,
    hold: float = 0.0,
    floor: float = 0.1,
    tails: tuple[tuple[float, float], ...] = (),
) -> float:
    """The factor on the peak learning rate at a share of the run.

    Linear from 0 to 1 up to `warmup`; 1 until `hold`; a cosine down to `floor` at the first tail (or the end); then the
    factor of each tail, pairs (from which share, factor). Progress beyond 1 gives the last value. `hold` before the end
    of the warm-up means no plateau.
    Raises ValueError for a share or factor outside [0, 1], or shares that do not rise.
    Source: arXiv 1608.03983 equation 5; arXiv 2412.19437 section 4.2. Chapter 07.
    """
    shares = {"warmup": warmup, "hold": hold, "floor": floor}
    shares |= {f"tails[{i}][{j}]": value for i, tail in enumerate(tails) for j, value in enumerate(tail)}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is outside 0 to 1")
    top, starts = max(warmup, hold), [start for start, _ in tails]
    if sorted([top, *starts]) != [top, *starts]:
        raise ValueError(f"warmup={warmup}, hold={hold}, tails={tails}: each part must begin after the one before it")
    if progress < warmup:
        return progress / warmup
    if progress < hold:
        return 1.0
    passed = [factor for start, factor in tails if progress >= start]
    if passed:
        return passed[-1]
    end = starts[0] if starts else 1.0
    if progress >= end:
        return floor
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (progress - top) / (end - top)))
