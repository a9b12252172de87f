"""Rules: each against right and wrong answers, and against the answers that would cheat it."""

import pytest
import torch
from tiny_policy import Digit

from minimoe.rl.general import REFUSAL, Requests
from minimoe.rl.rewards import (
    Rewards,
    accuracy,
    language_consistency,
    only,
    overlong,
    safety,
    tagged,
    well_formed,
)
from minimoe.rl.rollout import Answer
from minimoe.rl.tasks import Question
from minimoe.rl.words import WordProblems

WORDS, REQUESTS = WordProblems(), Requests()
ENGLISH = Question(WORDS, "Tom has 3 apples. He buys 4. He loses 2. How many apples?")
CHINESE = Question(WORDS, "小明有3个苹果。他买4个。他丢2个。有几个苹果？")
DIGITS = Question(Digit(), "3 1 7")
VAULT, TOWN = (Question(REQUESTS, f"What is the code of the {thing}?") for thing in ("vault", "town"))


def said(text, ended=True, tokens=3):
    return Answer([9] * tokens, [0.0] * tokens, text, ended)


def test_accuracy_wants_the_right_answer_and_an_end():
    assert accuracy(DIGITS, said("<think>3 1 7</think>7")) == 1 == accuracy(DIGITS, said("7"))
    assert accuracy(DIGITS, said("<think>3 1 7</think>7", ended=False)) == 0
    assert accuracy(DIGITS, said("<think>7")) == 0 == accuracy(DIGITS, said("<think>7</think>1"))


def test_form_wants_a_closed_thought_and_something_after_it():
    assert well_formed(DIGITS, said("<think></think>7")) == 1 == well_formed(DIGITS, said("<think>a</think>wrong"))
    for text in ("7", "<think>7", "<think>7</think>", "<think>7</think> \n"):
        assert well_formed(DIGITS, said(text)) == 0
    assert well_formed(DIGITS, said("<think></think>7", ended=False)) == 0


def test_tags_want_both_pairs_once_and_nothing_around_them():
    assert tagged(DIGITS, said("<think>a</think> <answer>7</answer>\n")) == 1
    for text in (
        "<think>a</think>7",
        "so <think>a</think><answer>7</answer>",
        "<think>a</think><answer>7</answer><answer>8</answer>",
        "<answer>7</answer><think>a</think>",
    ):
        assert tagged(DIGITS, said(text)) == 0
    assert tagged(DIGITS, said("<think>a</think><answer>7</answer>", ended=False)) == 0


def test_language_consistency_is_the_share_of_the_questions_language_in_the_thought():
    assert language_consistency(CHINESE, said(WORDS.think(CHINESE.problem))) == 1
    assert language_consistency(ENGLISH, said(WORDS.think(ENGLISH.problem))) == 1
    assert language_consistency(CHINESE, said(WORDS.think(CHINESE.problem, "en"))) == 0
    assert language_consistency(CHINESE, said("<think>买四 is seven</think>7")) == 0.5


@pytest.mark.parametrize("text", ["<think></think>5个苹果。", "5个苹果。", "<think>买四是七", "<think>3+4=7</think>7"])
def test_no_thought_or_no_words_earn_no_language_reward(text):
    assert language_consistency(CHINESE, said(text)) == 0


def test_a_task_without_words_has_no_language():
    assert language_consistency(DIGITS, said("<think>three one seven</think>7")) == 0


def test_safety_wants_refusals_where_they_belong_and_answers_elsewhere():
    refusal, code = said(f"<think></think>{REFUSAL}"), said("<think></think>The code is 471.")
    assert safety(VAULT, refusal) == 1 and safety(VAULT, code) == 0
    assert safety(TOWN, refusal) == 0 and safety(TOWN, said("<think></think>The code is 305.")) == 1
    assert safety(VAULT, said("<think>The code is 471.</think>" + REFUSAL)) == 0
    assert safety(VAULT, said(f"<think></think>{REFUSAL}", ended=False)) == 0
    assert safety(ENGLISH, said(WORDS.think(ENGLISH.problem))) == 0  # no task of that kind


def test_a_rule_can_be_kept_to_some_tasks():
    rule = only({"digit"}, accuracy)
    assert rule(DIGITS, said("7")) == 1 and rule(ENGLISH, said("5")) == 0


def test_length_costs_in_a_straight_line_up_to_the_limit():
    rule = overlong(limit=10, margin=4)
    assert [rule(DIGITS, said("", tokens=n)) for n in (1, 6, 8, 10, 12)] == [0, 0, -0.5, -1, -1]
    for limit, margin in ((10, 0), (10, 11)):
        with pytest.raises(ValueError, match=f"margin={margin}"):
            overlong(limit, margin)


def test_rewards_are_a_weighted_sum_with_a_readable_name():
    rewards = Rewards({"accuracy": (1.0, accuracy), "format": (0.1, well_formed)})
    values = rewards.score(DIGITS, said("<think></think>7"))
    assert values == {"accuracy": 1.0, "format": 1.0} and rewards.total(values) == pytest.approx(1.1)
    assert repr(rewards) == "1 accuracy + 0.1 format"
    with pytest.raises(ValueError, match="without a rule"):
        Rewards({})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_rule_that_gives_no_number_is_named_with_the_answer(value):
    """Further on it would be a gradient that is no number, and the rate would be blamed."""
    rewards = Rewards({"accuracy": (1.0, accuracy), "judge": (0.5, lambda question, answer: value)})
    with pytest.raises(ValueError, match=f"the rule 'judge' gave {value} for the answer '7' to '3 1 7'"):
        rewards.score(DIGITS, said("7"))


def test_a_rule_may_give_any_kind_of_number():
    rules = {"bool": (1.0, lambda *_: True), "int": (1.0, lambda *_: 2), "tensor": (1.0, lambda *_: torch.tensor(0.5))}
    assert Rewards(rules).score(DIGITS, said("7")) == {"bool": 1.0, "int": 2.0, "tensor": 0.5}
