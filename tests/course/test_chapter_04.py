"""What chapter 04 says in words about the five-seed study is what the stored runs say."""

from statistics import median

import pytest

from minimoe_course import curves

OTHERS = ("none", "aux_weak", "aux", "aux_strong")


def maxvio(variant):
    return median(curves.value(record, "maxvio") for record in curves.runs(variant))


def test_every_way_was_run_with_the_same_five_seeds():
    for variant in (*OTHERS, "reference"):
        assert [record["seed"] for record in curves.runs(variant)] == [0, 1, 2, 3, 4], variant


@pytest.mark.parametrize("variant", OTHERS)
def test_no_way_differs_clearly_in_loss_and_none_by_a_hundredth(variant):
    pair = curves.paired(variant, "reference")
    assert not pair.clear
    assert -0.013 < pair.low < 0 < pair.high < 0.013
    assert 0 < sum(difference < 0 for difference in pair.differences) < 5  # the seeds disagree about the sign


def test_the_published_difference_fits_the_interval_at_the_published_alpha_and_not_those_of_the_stronger_losses():
    weak, *stronger = (curves.paired(variant, "reference") for variant in ("aux_weak", "aux", "aux_strong"))
    assert weak.low < 0.0063 < weak.high
    assert all(pair.high < 0.0063 for pair in stronger)


def test_the_strongest_auxiliary_loss_is_worse_than_the_bias_rule_in_a_minority_of_seeds():
    assert sum(difference > 0 for difference in curves.paired("aux_strong", "reference").differences) <= 2


def test_balance_differs_by_a_factor_of_ten():
    assert maxvio("none") > 10 * maxvio("reference")
    assert maxvio("aux_weak") > 2 > 1 > maxvio("aux") > maxvio("aux_strong") > maxvio("reference")
