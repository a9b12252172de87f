"""Guesses: what is understood, and what is answered."""

import pytest

from minimoe_course import guess
from minimoe_course.guesses import parse_number, reply


@pytest.mark.parametrize(
    "text, unit, value",
    [
        ("37B", "", 37e9), ("37 billion", "", 37e9), ("37,000", "", 37000), ("3.7e10", "", 3.7e10),
        ("1/18", "", 1 / 18),
        ("5.5%", "", 0.055), ("5.5%", "%", 5.5), ("70 KB", "KB", 70), ("70", "KB", 70),
        ("-.5", "", -0.5), ("2k", "", 2000),
        ("many", "", None), ("1/0", "", None), ("", "", None), ("3 apples", "", None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text, unit, value):
    assert parse_number(text, unit) == (value if value is None else pytest.approx(value, rel=1e-12))


@pytest.mark.parametrize(
    "text, says",
    [
        ("37e9", "You hit it."), ("35B", "Within 10%."), ("60B", "You are 62% too high."),
        ("20B", "You are 46% too low."),
        ("370B", "You are 10 times too high."), ("1B", "You are 37 times too low."), ("-1", "You are off by 3.7e+10."),
        ("lots", "not a number"),
    ],
)  # fmt: skip
def test_the_reply_says_how_far_off_the_guess_was(text, says):
    assert says in reply(text, 37_000_000_000)


def test_an_answer_in_words_is_compared_without_case_and_punctuation():
    assert reply("Experts 1, and 2.", "experts 1 and 2").startswith("You said so.")
    assert "You said so" not in reply("0 and 1", "experts 1 and 2")
    assert "**experts 1 and 2**" in reply("0 and 1", "experts 1 and 2")


def test_the_live_form_keeps_the_answer_back_until_a_guess_is_committed():
    question = guess("00.active", "How many serve `one` token?", 37, unit="billion")
    box = question.box()
    text, button = box.children[1].children
    told = box.children[2]
    assert "<code>one</code>" in box.children[0].value
    button.click()
    assert told.value == ""
    text.value = "74"
    button.click()
    assert told.value == "You are 2 times too high. The answer is <b>37 billion</b>."


def test_without_widgets_the_question_stands_above_a_folded_answer():
    data = guess("00.active", "How many?", 37_000_000_000, unit="parameters")._repr_mimebundle_()
    assert data["text/plain"] == "Guess first. How many?"
    before, _, after = data["text/markdown"].partition("<details>")
    assert "37" not in before and "37,000,000,000 parameters" in after
    assert "application/vnd.jupyter.widget-view+json" in data
