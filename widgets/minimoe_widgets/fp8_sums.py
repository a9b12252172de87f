"""What adding up costs on a Hopper tensor core: dot products of length K, promoted to float32 every so many products.

    error = largest |sum - exact| / root mean square of the exact sums,  over 8 x 8 outputs

`minimoe.training.fp8_product.limited_sum` adds as the tensor core does, 13 fraction bits and the rest cut off; every
`interval` products its sum goes to float32 and it starts again from zero. The sum of the first K products is on the way
to that of 4,096, so one pass an interval answers for every K.

How the production version differs: DeepGEMM promotes every 128 products because there the scales are applied anyway.
"""

from dataclasses import dataclass
from functools import cache

import torch

from minimoe.training.fp8_product import limited_sum

__all__ = ["DRAWS", "INTERVALS", "LENGTHS", "PAPER_INTERVAL", "SumError", "operands", "sum_errors"]

INTERVALS = tuple(2**n for n in range(5, 13))  # 32 to 4096
LENGTHS = INTERVALS[2:]
PAPER_INTERVAL = 128  # arXiv 2412.19437 section 3.3.2
DRAWS = {"bell-shaped": torch.randn, "all positive": torch.rand}
SIDE = 8


@dataclass(frozen=True)
class SumError:
    """Errors over the root mean square of the exact outputs: the largest of 64, and their own root mean square."""

    largest: float
    typical: float


def operands(draw: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two 8 x 4096 matrices in e4m3, seeded, the largest number of each 448: one scale a matrix."""
    g = torch.Generator().manual_seed(0)
    drawn = [DRAWS[draw](SIDE, LENGTHS[-1], generator=g) for _ in "ab"]
    a_XZ, b_YZ = ((x / x.abs().max() * 448).to(torch.float8_e4m3fn) for x in drawn)
    return a_XZ, b_YZ


@cache
def sum_errors(draw: str, joint: bool) -> dict[tuple[int, int], SumError]:
    """{(K, interval): error} for every interval of at most K; `joint` as in `limited_sum`. A fifth of a second."""
    a_XZ, b_YZ = operands(draw)
    exact = {k: a_XZ[:, :k].double() @ b_YZ[:, :k].double().t() for k in LENGTHS}
    found = {}
    for interval in INTERVALS:
        sum_XY = torch.zeros(SIDE, SIDE)
        for end in range(interval, LENGTHS[-1] + 1, interval):
            part = slice(end - interval, end)
            sum_XY = sum_XY + limited_sum(a_XZ[:, part], b_YZ[:, part], joint)
            if end in exact:
                off_XY, rms = (sum_XY.double() - exact[end]).abs(), exact[end].square().mean().sqrt()
                found[end, interval] = SumError(float(off_XY.max() / rms), float(off_XY.square().mean().sqrt() / rms))
    return found
