"""Two runs of one prompt: what each call gave is what `generate` says, and the clock is taken in turns."""

import itertools

import pytest

import minimoe
from minimoe_widgets import speculation_run
from minimoe_widgets.speculation_run import Run, Step, race

IDS = [1, 2, 3, 4]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_runs_are_what_generate_gives(model, temperature):
    plain, speculative = race(model, IDS, 20, temperature, seed=3, rounds=1)
    for run, draft in ((plain, False), (speculative, True)):
        expected = minimoe.generate(model, IDS, 20, temperature, seed=3, stop_tokens=[], speculative=draft)
        assert run.tokens == expected.tokens[0]
        assert (len(run.steps), run.drafted, run.kept) == (expected.steps, expected.drafted, expected.accepted)
    assert plain.drafted == 0 < speculative.drafted


def test_a_kept_draft_is_the_first_token_of_its_call_and_a_rejected_one_is_not(model):
    _, speculative = race(model, IDS, 60, 1.5, seed=0, rounds=1)
    drafted = [step for step in speculative.steps if step.draft is not None]
    assert {step.kept for step in drafted} == {True, False}
    assert all((step.tokens[0] == step.draft) == step.kept and 0 <= step.chance <= 1 for step in drafted)


def test_each_call_keeps_the_median_of_its_rounds(model, monkeypatch):
    rounds = itertools.count()
    per_call_s = [0.001, 0.100, 0.003]  # the median of three rounds: 3 ms a call
    timed = speculation_run._timed

    def timed_by_hand(*arguments):
        passes, _ = timed(*arguments)
        step_s = per_call_s[next(rounds) // 2]
        return passes, [step_s * 1e3 * (i + 1) for i in range(len(passes))]

    monkeypatch.setattr(speculation_run, "_timed", timed_by_hand)
    for run in race(model, IDS, 6, 0.0, seed=0, rounds=3):
        assert [step.cpu_ms for step in run.steps] == pytest.approx([3.0] * len(run.steps))


def test_the_two_ways_take_turns_at_going_first(model, monkeypatch):
    order, timed = [], speculation_run._timed
    monkeypatch.setattr(speculation_run, "_timed", lambda *a: order.append(a[-1]) or timed(*a))
    race(model, IDS, 3, 0.0, seed=0, rounds=3)
    assert order == [False, True, True, False, False, True]


def test_a_run_adds_up_its_steps():
    steps = [Step([5], None, False, None, 2.0), Step([6, 7], 6, True, 0.5, 1.0), Step([8], 9, False, 0.1, 1.5)]
    run = Run(steps)
    assert (run.tokens, run.cpu_ms, run.drafted, run.kept) == ([5, 6, 7, 8], 4.5, 2, 1)
