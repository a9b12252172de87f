"""The notice of a run in which nothing is learned: when it is given, and what it shows."""

import pytest
from tiny_policy import TOKENIZER, ask

from minimoe.rl.rollout import Answer, Group
from minimoe.rl.silence import PATIENCE, notice_of, silence
from minimoe.training.reasoning import encode_prompt

QUESTIONS = ask("3 1", "7 2")


def a_step(skipped=True, accuracy=0.0, ended=1.0, **parts):
    return {
        "skipped": skipped,
        "accuracy": accuracy,
        "ended": ended,
        "parts": parts or {"accuracy": 0.0, "format": 0.0},
    }


def groups(text="so it is 2"):
    answers = [Answer([58], [-1.0], text, True), Answer([59], [-1.0], "no", True)]
    return [Group(question, encode_prompt(TOKENIZER, question.problem), answers) for question in QUESTIONS]


def said(before, record, text="so it is 2"):
    return silence(before, record, groups(text), TOKENIZER, 48)


def test_it_is_said_once_at_the_third_skipped_step_in_a_row():
    assert PATIENCE == 3
    heard, records = [], []
    for skipped in (True, True, False, True, True, True, True, True, False, False, True, True, True):
        record = a_step(skipped)
        if skipped and said(records, record):
            heard.append(len(records) + 1)
        records.append(record)
    assert heard == [6, 13]


def test_it_shows_what_the_rules_gave_a_prompt_and_an_answer():
    notice = said([a_step()] * 2, a_step(ended=0.25, accuracy=0.0, form=0.0, length=-0.5))
    assert "3 steps in a row taught nothing" in notice and "(form 0, length -0.5; 25% ended)" in notice
    assert "<｜begin▁of▁sentence｜><｜User｜>7 2<｜Assistant｜>" in notice and "'so it is 2'" in notice


def test_a_long_answer_is_cut():
    notice = said([a_step()] * 2, a_step(), "x" * 81)
    assert f"'{'x' * 80}...'" in notice
    assert f"'{'x' * 80}'" in said([a_step()] * 2, a_step(), "x" * 80)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (a_step(ended=0.0), "No answer came to its end mark within max_new_tokens=48"),
        (a_step(), "may read another form than the model writes, or the prompt has another"),
        (a_step(form=1.0), "do not tell these answers apart"),
        (a_step(ended=0.0, form=1.0), "do not tell these answers apart"),
    ],
)
def test_it_names_what_is_likely(record, words):
    assert words in said([a_step()] * 2, record)


def test_a_run_that_has_nothing_left_to_learn_is_left_in_peace():
    assert said([a_step()] * 2, a_step(accuracy=1.0, correct=1.0)) is None
    assert said([a_step()] * 2, a_step(accuracy=0.99, correct=1.0)) is not None


def test_a_notice_stands_until_something_is_learned():
    spoken = a_step() | {"notice": "look"}
    assert notice_of([]) is None and notice_of([a_step()]) is None
    assert notice_of([a_step(), spoken]) == "look" == notice_of([spoken, a_step(), a_step()])
    assert notice_of([spoken, a_step(skipped=False)]) is None
    assert notice_of([spoken, a_step(skipped=False), a_step()]) is None
