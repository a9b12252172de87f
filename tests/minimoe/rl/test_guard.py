"""A guard outside the model: what a rule reads, what a classifier learns, what its errors cost, how sure a share is."""

import random

import pytest

from minimoe.rl.general import HELD_OUT_WRAPPERS, PUBLIC, SECRET, Requests
from minimoe.rl.guard import WordGuard, blocks, error_rates, guard_cost, train_guard, wilson
from minimoe.rl.refusal import asking

CODES = {code for _, _, code in SECRET.values()}
TASK = Requests()


def labelled(count, seed):
    rng = random.Random(seed)
    requests = [TASK.draw(rng) for _ in range(count)]
    return requests, [TASK.is_forbidden(request) for request in requests]


@pytest.mark.parametrize(
    "text",
    ["The code is 471.", "4.7.1.", "4 - 7 - 1", "4\n7\n1", "24718", "code471code", "9_3_8", "<think>9</think>471"],
)
def test_a_code_is_found_whatever_stands_between_its_digits_but_a_letter(text):
    assert blocks(text, CODES)


@pytest.mark.parametrize(
    "text", ["", "305", "4 apples, 7 coins and 1 egg", "4个苹果7个硬币1个鸡蛋", "four seven one", "174"]
)
def test_what_is_no_code_passes_and_so_do_spellings_that_the_rule_does_not_read(text):
    assert not blocks(text, CODES)


def test_the_public_codes_pass_and_the_secret_ones_do_not():
    answers = {thing: TASK.comply(f"What is the code of the {thing}?") for thing in (*SECRET, *PUBLIC)}
    assert {thing for thing, text in answers.items() if blocks(text, CODES)} == set(SECRET)


def test_a_score_is_the_sigmoid_of_the_words_that_occur_each_counted_once():
    guard = WordGuard(-1.0, {"code": 1.0, "vault": 2.0})
    assert guard.score("Code code, of the VAULT!") == pytest.approx(1 / (1 + 2.718281828**-2))
    assert guard.score("nothing known") == pytest.approx(1 / (1 + 2.718281828))


def test_the_classifier_learns_the_rule_from_labels_and_wrappers_that_it_never_met_do_not_matter():
    guard = train_guard(*labelled(300, seed=1))
    risky = [guard.score(request) for request in asking(SECRET, HELD_OUT_WRAPPERS)]
    harmless = [guard.score(request) for request in asking(PUBLIC, HELD_OUT_WRAPPERS)]
    missed, blocked = error_rates(risky, harmless, 0.5)
    assert missed < 0.03 and blocked < 0.05


def test_the_classifier_is_the_same_every_time():
    assert train_guard(*labelled(40, seed=2), steps=20) == train_guard(*labelled(40, seed=2), steps=20)


def test_labels_of_one_kind_or_of_another_number_are_errors():
    with pytest.raises(ValueError, match="2 requests, 2 forbidden of 2 labels"):
        train_guard(["a", "b"], [True, True])
    with pytest.raises(ValueError, match="2 requests, 1 forbidden of 3 labels"):
        train_guard(["a", "b"], [True, False, False])


def test_error_rates_and_cost_by_hand():
    risky, harmless = [0.9, 0.4], [0.1, 0.2, 0.6, 0.3]
    assert error_rates(risky, harmless, 0.5) == (0.5, 0.25)
    assert guard_cost(risky, harmless, 0.5, prevalence=0.5, miss_cost=1) == pytest.approx(0.375)
    assert guard_cost(risky, harmless, 0.5, prevalence=0.01, miss_cost=50) == pytest.approx(0.25 + 0.2475)
    assert error_rates([0.5], [0.5], 0.5) == (0.0, 1.0)  # a score at the threshold blocks


def test_a_higher_threshold_misses_no_less_and_blocks_no_more():
    rng = random.Random(0)
    risky, harmless = [[rng.random() for _ in range(50)] for _ in range(2)]
    found = [error_rates(risky, harmless, place / 20) for place in range(22)]
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in zip(found, found[1:], strict=False))
    assert found[0] == (0.0, 1.0) and found[-1] == (1.0, 0.0)


def test_no_scores_or_a_share_that_is_none_are_errors():
    with pytest.raises(ValueError, match="0 risky and 1 harmless"):
        error_rates([], [0.1], 0.5)
    with pytest.raises(ValueError, match="prevalence=1.5"):
        guard_cost([0.1], [0.1], 0.5, 1.5, 1.0)


def test_wilsons_interval_by_hand():
    assert wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson(0, 10) == pytest.approx((0.0, 0.27754), abs=1e-5)
    assert wilson(10, 10) == pytest.approx((0.72246, 1.0), abs=1e-5)


def test_the_ends_of_wilsons_interval_are_the_shares_that_lie_z_deviations_off():
    low, high = wilson(7, 41)
    for share in (low, high):
        assert abs(7 / 41 - share) == pytest.approx(1.96 * (share * (1 - share) / 41) ** 0.5)


@pytest.mark.parametrize("hits, trials", [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_errors(hits, trials):
    with pytest.raises(ValueError, match=f"hits={hits} of trials={trials}"):
        wilson(hits, trials)
