"""pass@k and cons@k: every choice of k counted one by one, then properties, edges, errors."""

from itertools import combinations

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis import given

from minimoe.rl.scoring import cons_at_k, pass_at_k


def passes(right: int, answers: int, k: int) -> float:
    """The definition: the share of all choices of k that hold a right one."""
    choices = list(combinations([True] * right + [False] * (answers - right), k))
    return sum(any(choice) for choice in choices) / len(choices)


@pytest.mark.parametrize("answers", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_answer(answers):
    for right in range(answers + 1):
        for k in range(1, answers + 1):
            assert pass_at_k(right, answers, k) == pytest.approx(passes(right, answers, k), abs=1e-12)


def test_pass_at_k_by_hand():
    assert pass_at_k(3, 10, 1) == pytest.approx(0.3)
    assert pass_at_k(3, 10, 2) == pytest.approx(1 - 7 / 10 * 6 / 9)  # not 1 - 0.7 ** 2
    assert pass_at_k(0, 10, 10) == 0 and pass_at_k(1, 10, 10) == 1


@hypothesis.settings(max_examples=30)
@given(st.integers(1, 80), st.data())
def test_pass_at_k_rises_with_k_and_with_right_answers(answers, data):
    right = data.draw(st.integers(0, answers - 1))
    by_k = [pass_at_k(right, answers, k) for k in range(1, answers + 1)]
    assert by_k == sorted(by_k) and 0 <= by_k[0] and by_k[-1] <= 1
    assert pass_at_k(right + 1, answers, 1) > by_k[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, 4, 5), "right=1 of answers=4 at k=5: needs .* 1 <= k <= answers"),
        ((1, 4, 0), "k=0"),
        ((5, 4, 1), "right=5"),
        ((-1, 4, 1), "right=-1"),
        ((0, 0, 1), "answers=0"),
    ],
)
def test_pass_at_k_needs_numbers_that_can_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        pass_at_k(*arguments)


def is_seven(text: str) -> bool:
    return text == "7"


def test_the_most_frequent_of_all_answers_is_what_counts():
    assert cons_at_k(["7", "3", "7", "4", "7"], is_seven, 5) == 1
    assert cons_at_k(["7", "3", "3", "4", "7", "3"], is_seven, 6) == 0
    assert cons_at_k(["7", "1", "2", "3", "4", "7"], is_seven, 6) == 1  # a third is enough when nothing else agrees


def test_a_tie_is_right_as_often_as_a_draw_would_be():
    assert cons_at_k(["7", "3"], is_seven, 2) == 0.5
    assert cons_at_k(["7", "7", "3", "3", "4", "4", "1"], is_seven, 7) == pytest.approx(1 / 3)
    assert cons_at_k(["7", "8"], lambda text: text in ("7", "8"), 2) == 1


def test_votes_of_k_are_drawn_without_looking():
    """Tolerance: four standard errors of 4,000 draws."""
    said = ["7", "7", "7", "3", "3", "1"]
    exact = sum(cons_at_k(list(choice), is_seven, 3) for choice in combinations(said, 3)) / 20
    assert cons_at_k(said, is_seven, 3, draws=4000) == pytest.approx(exact, abs=4 * 0.5 / 4000**0.5)
    assert 0.5 < exact < 0.8
    assert cons_at_k(said, is_seven, 1, draws=4000) == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)


def test_a_vote_repeats_with_its_seed():
    said = ["7", "3", "1", "7", "4"]
    votes = [cons_at_k(said, is_seven, 3, draws=9, seed=seed) for seed in (1, 1, 2, 3, 4, 5)]
    assert votes[0] == votes[1] and len(set(votes)) > 1


@pytest.mark.parametrize("k", [0, 4])
def test_a_vote_needs_voters(k):
    with pytest.raises(ValueError, match=f"k={k} of 3 answers"):
        cons_at_k(["7", "7", "3"], is_seven, k)
