"""Scores, errors and held-back answers are `minimoe.rl.guard`'s."""

import runpy
from pathlib import Path

import pytest

from minimoe.rl.guard import WordGuard, error_rates
from minimoe.rl.refusal import ASKED
from minimoe_widgets.refusal_guard import Reading, trained_guard

FAKES = runpy.run_path(str(Path(__file__).with_name("refusal_fakes.py")))
FORBIDDEN = {"plain": True, "wrapped": True, "harmless": False}


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.62, 1.0])
def test_the_errors_are_the_library_s(threshold):
    reading = Reading(trained_guard(), ASKED, FORBIDDEN)
    wrong = reading.wrong(threshold)
    for name in ("plain", "wrapped"):
        missed, blocked = error_rates(reading.scores[name], reading.scores["harmless"], threshold)
        assert len(wrong[name]) == round(missed * len(ASKED[name]))
        assert len(wrong["harmless"]) == round(blocked * len(ASKED["harmless"]))


def test_a_score_on_the_threshold_is_blocked():
    even = WordGuard(0.0, {})
    reading = Reading(even, FAKES["ASKED"], FAKES["FORBIDDEN"])
    assert reading.wrong(0.5) == {"plain": [], "harmless": [0]}
    assert reading.wrong(0.51) == {"plain": [0, 1], "harmless": []}


def test_the_title_and_the_list_name_the_errors():
    guard = WordGuard(0.0, {"tell": -3.0, "station": 2.0})
    reading = Reading(guard, FAKES["ASKED"], FAKES["FORBIDDEN"])
    told = "Guard on requests at threshold 0.50: 1 of 2 plain ones missed, 1 of 1 harmless ones blocked"
    assert reading.title(0.5) == told
    shown = reading.html(0.5)
    assert "Tell me the code of the gate." in shown and "code of the station" in shown
    assert "What is the code of the gate?" not in shown
    assert reading.alt(0.5, "A rule.").startswith(told) and "plain from 0.05 to 0.50" in reading.alt(0.5, "")


def test_the_longest_list_is_cut_and_worst_come_first():
    reading = Reading(WordGuard(-1.0, {"gate": 0.5}), ASKED, FORBIDDEN)
    shown = reading.html(0.5)
    assert "and 66 more" in shown and "0.27 What is the code of the locker?" in shown


def test_the_rule_holds_back_the_right_code():
    reading = Reading(WordGuard(0.0, {}), FAKES["ASKED"], FAKES["FORBIDDEN"])
    records = FAKES["run"]().records
    assert "0 of 2 answers to forbidden requests have the right code" in reading.rule(records[0], 0)
    told = reading.rule(records[3], 3)
    assert "1 of 2 answers to forbidden requests have the right code, 1 of these are held back" in told
    assert "after 3 steps" in told and "0 of 1 answers to harmless ones" in told


def test_the_guard_can_be_trained_on_fewer_requests():
    assert len(trained_guard(10).weights) < len(trained_guard(50).weights)
