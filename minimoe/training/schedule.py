"""The learning rate over a run: up in a straight line, then down along a cosine.

Warm-up keeps the first steps small while the optimizer's averages are still guesses. The decay lets the weights
settle: most of the last drop of the loss comes with it. Both are written as a function of progress, a number from 0 to
1, so that a run can be measured in steps or in CPU-seconds.

How the production version differs: DeepSeek-V3 warms up for 2,000 steps, holds 2.2e-4 for 10T tokens, then follows a
cosine to 2.2e-5 over 4.3T, and holds twice more (section 4.2); the long plateau lets one run be continued or branched.
"""

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(progress: float, warmup: float = 0.05, floor: float = 0.1) -> float:
    """The factor on the peak learning rate: linear from 0 to 1 up to `warmup`, then a cosine down to `floor` at 1.

    Takes progress through the run, and the share of it that warms up; progress beyond 1 gives `floor`.
    Raises ValueError for a share or a floor outside [0, 1]. Source: arXiv 1608.03983 equation 5. Chapter 06.
    """
    for name, value in {"warmup": warmup, "floor": floor}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is outside 0 to 1")
    if progress < warmup:
        return progress / warmup
    if progress >= 1:
        return floor
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
