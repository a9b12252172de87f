"""Errors of limited accumulation: against sums made for one K and one interval, and what is to be seen."""

import math
from fractions import Fraction

import pytest
import torch

from minimoe.training.fp8_product import limited_sum
from minimoe_widgets.fp8_sums import DRAWS, INTERVALS, LENGTHS, operands, sum_errors


def slow(draw, joint, length, interval):
    """(largest, root-mean-square) error over the exact outputs' root mean square, exact in fractions."""
    a, b = (x[:, :length] for x in operands(draw))
    total = torch.zeros(8, 8)
    for z in range(0, length, interval):
        total += limited_sum(a[:, z : z + interval], b[:, z : z + interval], joint)
    off, size = [], []
    for x, row in enumerate(a.double().tolist()):
        for y, column in enumerate(b.double().tolist()):
            exact = sum(Fraction(p) * Fraction(q) for p, q in zip(row, column, strict=True))
            off.append(abs(float(Fraction(float(total[x, y])) - exact)))
            size.append(float(exact) ** 2)
    rms = math.sqrt(sum(size) / 64)
    return max(off) / rms, math.sqrt(sum(e**2 for e in off) / 64) / rms


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("length, interval", [(128, 32), (256, 256), (512, 128)])
@pytest.mark.parametrize("joint", [True, False])
def test_an_error_is_that_of_the_sum_made_alone(draw, length, interval, joint):
    found = sum_errors(draw, joint)[length, interval]
    assert (found.largest, found.typical) == pytest.approx(slow(draw, joint, length, interval), rel=1e-9)


def test_there_is_an_error_for_every_interval_up_to_the_length():
    wanted = {(length, interval) for length in LENGTHS for interval in INTERVALS if interval <= length}
    assert sum_errors("bell-shaped", True).keys() == wanted
    assert (LENGTHS[0], LENGTHS[-1], INTERVALS[0]) == (128, 4096, 32)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("joint", [True, False])
def test_one_piece_gets_worse_with_the_length_and_intervals_of_128_do_not(draw, joint):
    errors = sum_errors(draw, joint)
    assert errors[4096, 4096].largest > 10 * errors[128, 128].largest
    assert errors[4096, 128].largest < 2 * errors[128, 128].largest
    assert errors[4096, 4096].largest > 15 * errors[4096, 128].largest
    assert all(error.typical <= error.largest for error in errors.values())


def test_the_paper_s_two_percent_lies_between_what_our_draws_give():
    ends = [sum_errors(draw, joint)[4096, 4096].largest for draw in DRAWS for joint in (True, False)]
    assert min(ends) < 0.02 < max(ends)


def test_the_operands_are_e4m3_and_fill_it():
    for draw in DRAWS:
        for x in operands(draw):
            assert x.dtype == torch.float8_e4m3fn and x.shape == (8, 4096) and x.float().abs().max() == 448
    assert operands("all positive")[0].float().min() >= 0 > operands("bell-shaped")[0].float().min()
