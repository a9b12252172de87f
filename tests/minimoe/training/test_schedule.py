"""Warm-up and cosine as a function of progress."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimoe.training.schedule import warmup_cosine


@pytest.mark.parametrize(("progress", "factor"), [(0, 0), (0.05, 0.5), (0.1, 1), (0.55, 0.6), (1, 0.2), (1.7, 0.2)])
def test_five_points_by_hand(progress, factor):
    # halfway down the cosine is halfway between 1 and the floor
    assert warmup_cosine(progress, warmup=0.1, floor=0.2) == pytest.approx(factor)


@given(st.floats(0.1, 1), st.floats(0.1, 1))
def test_it_never_rises_after_the_warmup(a, b):
    early, late = sorted((a, b))
    assert warmup_cosine(late, warmup=0.1) <= warmup_cosine(early, warmup=0.1) + 1e-12


def test_without_a_warmup_it_starts_at_the_peak():
    assert warmup_cosine(0, warmup=0) == 1


@pytest.mark.parametrize("wrong", [{"warmup": 1.5}, {"floor": -0.1}])
def test_a_share_outside_0_to_1_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        warmup_cosine(0.5, **wrong)
