"""Warm-up, plateau, cosine and tails as a function of progress."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimoe.training.schedule import rate_factor


@pytest.mark.parametrize(("progress", "factor"), [(0, 0), (0.05, 0.5), (0.1, 1), (0.55, 0.6), (1, 0.2), (1.7, 0.2)])
def test_five_points_by_hand(progress, factor):
    # halfway down the cosine is halfway between 1 and the floor
    assert rate_factor(progress, warmup=0.1, floor=0.2) == pytest.approx(factor)


V3 = {"warmup": 0.001, "hold": 10 / 14.8, "floor": 0.1, "tails": ((14.3 / 14.8, 0.1), (14.633 / 14.8, 7.3 / 220))}


@pytest.mark.parametrize(
    ("trillion_tokens", "rate"),
    [(5, 2.2e-4), (10, 2.2e-4), (12.15, 1.21e-4), (14.3, 2.2e-5), (14.5, 2.2e-5), (14.64, 7.3e-6), (14.8, 7.3e-6)],
)
def test_v3s_published_rates(trillion_tokens, rate):
    # arXiv 2412.19437 section 4.2; the middle of the cosine is the mean of its ends
    assert 2.2e-4 * rate_factor(trillion_tokens / 14.8, **V3) == pytest.approx(rate, rel=1e-6)


@given(st.floats(0.1, 1), st.floats(0.1, 1))
def test_it_never_rises_after_the_warmup(a, b):
    early, late = sorted((a, b))
    for shape in ({"warmup": 0.1}, V3):
        assert rate_factor(late, **shape) <= rate_factor(early, **shape) + 1e-12


def test_without_a_warmup_it_starts_at_the_peak():
    assert rate_factor(0, warmup=0) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"warmup": 1.5}, "warmup=1.5"),
        ({"floor": -0.1}, "floor=-0.1"),
        ({"tails": ((0.5, 2.0),)}, r"tails\[0\]\[1\]=2.0"),
        ({"hold": 0.8, "tails": ((0.5, 0.1),)}, "hold=0.8"),
        ({"tails": ((0.9, 0.1), (0.8, 0.05))}, "each part must begin after"),
    ],
)
def test_a_share_that_cannot_be_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        rate_factor(0.5, **wrong)
