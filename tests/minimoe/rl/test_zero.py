"""R1-Zero on a checkpoint: from folder to folder, resumable; and the two measures of a model."""

import json
from itertools import combinations

import pytest
import torch
from tiny_policy import ODD, TOKENIZER, Digit, policy, same, timeless, weights

import minimoe
from minimoe.rl import zero
from minimoe.rl.rollout import Answer, Group, rollout
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Question
from minimoe.rl.zero import greedy_evaluation, r1_zero, sampled_scores
from minimoe.tokenizer import Tokenizer
from minimoe.training.responses import measure

PROBLEMS = ["3 1", "4", "1 5 9"]
SETTINGS = RLSettings(steps=5, prompts=3, answers=4, max_new_tokens=6, lr=1e-3, evaluate_every=2, save_every=2)


def answer(text, ended=True):
    return Answer(tokens=[58, 1], logprobs=[-1.0, -1.0], text=text, ended=ended)


def scored(monkeypatch, *texts, problem="2 7"):
    """`sampled_scores` of one problem with these answers; None did not end."""
    given = [answer("<think></think>7" if text is None else text, text is not None) for text in texts]
    group = Group(Question(Digit(), problem), [0, 6, 7], given)
    monkeypatch.setattr(zero, "rollout", lambda *_, **__: [group])
    return sampled_scores(None, TOKENIZER, Digit(), [problem], answers=len(texts))


def test_the_evaluation_is_what_measure_finds():
    model = policy()
    found = greedy_evaluation(TOKENIZER, Digit(), PROBLEMS, max_new_tokens=7)(model)
    score = measure(model, TOKENIZER, Digit(), PROBLEMS, 7)
    assert found == {name: getattr(score, name) for name in ("accuracy", "well_formed", "mean_tokens", "waits")}
    assert 1 < found["mean_tokens"] <= 7


def test_scores_by_hand(monkeypatch):
    found = scored(monkeypatch, "7", "3", "<think>2</think>7", "3", "3", None)
    assert found["answers"] == 6 and list(found["pass"]) == ["1", "2", "4"]
    assert found["pass"]["1"] == pytest.approx(2 / 6)
    assert found["pass"]["2"] == pytest.approx(1 - 4 / 6 * 3 / 5) and found["pass"]["4"] == pytest.approx(1 - 1 / 15)
    assert found["cons"] == 0  # three of six say 3


def test_equal_answers_vote_together_however_they_were_thought_of(monkeypatch):
    assert scored(monkeypatch, "<think>2</think>7", "3", "7", "4")["cons"] == 1
    assert scored(monkeypatch, "7", "3")["cons"] == 0.5


def test_answers_that_did_not_end_vote_together_and_are_wrong(monkeypatch):
    assert scored(monkeypatch, "7", None, None, "3")["cons"] == 0
    assert scored(monkeypatch, "7", "7", None, "3")["cons"] == 1
    nothing = scored(monkeypatch, None, None)
    assert nothing["cons"] == 0 and set(nothing["pass"].values()) == {0.0}


def test_the_vote_and_the_verifier_judge_the_same_text(monkeypatch):
    """Two thoughts make an answer that is wrong; cutting off the first must not turn it into a right one."""
    twice = "<think>2</think><think>7</think>7"
    found = scored(monkeypatch, twice, twice)
    assert found["pass"]["1"] == 0 and found["cons"] == 0


def test_scores_are_means_over_sampled_groups():
    model = policy()
    found = sampled_scores(model, TOKENIZER, Digit(), PROBLEMS, answers=5, max_new_tokens=2, temperature=2.0, seed=4)
    questions = [Question(Digit(), problem) for problem in PROBLEMS]
    groups = rollout(model, TOKENIZER, questions, 5, 2, 2.0, seed=4)
    chances = []
    for group in groups:
        right = [a.ended and Digit().is_correct(group.question.problem, a.text) for a in group.answers]
        pairs = list(combinations(right, 2))
        chances.append(sum(map(any, pairs)) / len(pairs))
    assert found["pass"]["2"] == pytest.approx(sum(chances) / 3)


def test_the_powers_of_two_do_not_stop_early(monkeypatch):
    assert list(scored(monkeypatch, *["7"] * 256)["pass"])[-2:] == ["128", "256"]


def checkpoint(folder, seed=0):
    minimoe.save(policy(seed), folder)
    TOKENIZER.save(folder)
    return folder


def zero_run(base, out, settings=SETTINGS):
    return r1_zero(base, out, Digit(), settings, ODD, held_out=7, watched=2, label=None)


def test_a_checkpoint_becomes_a_checkpoint_with_its_log(tmp_path):
    base = checkpoint(tmp_path / "base")
    trainer = zero_run(base, tmp_path / "out")
    stored = minimoe.load(tmp_path / "out", dtype=torch.float32)
    for mine, theirs in zip(weights(trainer.model), weights(stored), strict=True):
        torch.testing.assert_close(theirs, mine.bfloat16().float(), atol=0, rtol=0)  # the shipped precision
    assert Tokenizer.load(tmp_path / "out").encode("3 1") == TOKENIZER.encode("3 1")
    records = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert records == trainer.records and len(records) == 5
    assert [r["step"] for r in records if "evaluation" in r] == [2, 4, 5] and "evaluation_before" in records[0]
    groups = [json.loads(line) for line in (tmp_path / "out" / "groups.jsonl").read_text().splitlines()]
    assert [group["step"] for group in groups] == [0, 0, 2, 2, 4, 4, 5, 5]
    assert same(weights(trainer.start), weights(minimoe.load(base)))


def test_called_again_it_changes_nothing(tmp_path):
    base = checkpoint(tmp_path / "base")
    first = zero_run(base, tmp_path / "out")
    again = zero_run(base, tmp_path / "out")
    assert same(weights(first.model), weights(again.model)) and again.records == first.records
    assert timeless(again.records) == timeless(zero_run(base, tmp_path / "other").records)


def test_another_base_is_not_passed_off_as_the_run_that_is_there(tmp_path):
    zero_run(checkpoint(tmp_path / "base"), tmp_path / "out")
    with pytest.raises(ValueError, match="holds another run: .*weights"):
        zero_run(checkpoint(tmp_path / "second", seed=1), tmp_path / "out")
