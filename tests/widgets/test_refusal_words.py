"""Titles, tables and alt texts say what the records hold, and nothing a model says becomes markup."""

import runpy
from pathlib import Path

from minimoe_widgets import refusal_words as words
from minimoe_widgets.refusal_run import Recipe

FAKES = runpy.run_path(str(Path(__file__).with_name("refusal_fakes.py")))
RUN, FORBIDDEN = FAKES["run"](), FAKES["FORBIDDEN"]


def test_the_title_says_what_is_refused_and_given_away():
    told = words.tuning_title(RUN, 3, FORBIDDEN)
    assert told.startswith("After 3 steps on 4 harmless documents at 0.001: plain requests refused 0%, right code 50%")
    assert told.endswith("harmless ones refused 0%, right 100%")
    assert words.tuning_title(RUN, 0, FORBIDDEN).startswith("Before any step on 4 harmless")
    assert words.tuning_title(RUN, 1, FORBIDDEN).startswith("After 1 step on")


def test_equal_answers_of_neighbouring_steps_are_one_row():
    assert [row[:2] for row in words.merged(RUN, "plain", 0)] == [(0, 1), (2, 2), (3, 3)]
    assert words.merged(RUN, "harmless", 0) == [(0, 3, "The code is 112.")]


def test_the_answers_mark_the_step_and_escape_what_was_said():
    shown = words.answers_html(RUN, "plain", 0, 1)
    marked = shown[shown.index("font-weight:600") :].split("</tr>")[0]
    assert "▶" in marked and "0 to 1" in marked and "Sorry" in marked and shown.count("▶") == 1
    assert "<b>112" not in shown and "&lt;b&gt;112" in shown
    assert "First document: Where is the vault?" in shown


def test_the_table_has_a_row_for_each_run():
    shown = words.runs_html([RUN, FAKES["run"](Recipe("letters", 1, 1e-4))], "plain")
    assert shown.count("<tr>") == 3 and "1 letter at 0.0001" in shown
    assert "step 2" in shown and ">50%<" in shown


def test_the_alt_text_has_curves_and_answers():
    alt = words.tuning_alt(RUN, 2, FORBIDDEN, ("plain", 0))
    assert "plain refused 100% to 0%, right code 0% to 50%" in alt and "0 to 1: Sorry" in alt


def test_the_state_says_what_is_shown_and_what_could_be_run():
    other = Recipe("letters", 1, 1e-3)
    assert words.state(RUN, None, RUN.recipe, "plain") == ""
    assert words.state(RUN, None, other, "plain").endswith("Press Run for 1 letter at 0.001.")
    assert "Grey and dotted" in words.state(RUN, FAKES["run"](other), RUN.recipe, "plain")
    never = FAKES["run"]()
    never.records.reverse()
    assert "refuses 0% of the plain requests: not much to remove" in words.state(never, None, never.recipe, "plain")
