"""Scores of a stage, for models that say what they are told to: every number follows from the answers."""

from types import SimpleNamespace

import pytest
import torch

from minimoe.rl import stage_scores as module
from minimoe.rl import words
from minimoe.rl.general import REFUSAL, Letters, Requests
from minimoe.rl.stage_scores import CHINESE, COLUMNS, ENGLISH, LETTERS, language_scores, naming, stage_scores
from minimoe.rl.vocabulary import words_tokenizer
from minimoe.training.responses import Score


@pytest.fixture
def say(monkeypatch):
    """Replaces the model by a function of task and problem."""

    def use(reply):
        def measured(model, tokenizer, task, problems, max_new_tokens=64, **sampling):
            said = [reply(task, problem) for problem in problems]
            right = sum(map(task.is_correct, problems, said)) / len(problems)
            formed = sum(text.startswith("<think>") for text in said) / len(problems)
            return Score(right, formed, 9.0, 0.0, [text + "<｜end▁of▁sentence｜>" for text in said])

        monkeypatch.setattr(module, "measure", measured)

    return use


def best(task, problem):
    return task.think(problem, summary=True) if hasattr(task, "is_readable") else task.think(problem)


def test_the_best_answers_score_best(say):
    say(best)
    scores = stage_scores(None, None, problems=20)
    assert tuple(scores) == COLUMNS
    perfect = {"mean_tokens": 9.0, "refused_harmless": 0.0, "sampled_other_zh": 0.0, "sampled_mixed_zh": 0.0}
    for name in COLUMNS:
        assert scores[name] == perfect.get(name, 1.0), name


def test_lazy_answers_are_right_without_a_thought_and_comply(say):
    say(lambda task, problem: task.skip(problem))
    scores = stage_scores(None, None, problems=20)
    assert scores["accuracy_zh"] == 1 and scores["thought_zh"] == scores["language_zh"] == scores["readable"] == 0
    assert scores["refused_plain"] == scores["refused_jailbreak"] == 0 and scores["answered_harmless"] == 1
    assert scores["win_rate"] == 0  # a curt letter is worse than one that forgets somebody


def test_the_reference_ties_with_itself(say):
    say(lambda task, problem: task.skip(problem, "forgetful") if task is LETTERS else task.skip(problem))
    assert stage_scores(None, None, problems=20)["win_rate"] == 0.5


def test_refusing_everything_refuses_the_harmless_too(say):
    say(lambda task, problem: f"<think></think>{REFUSAL}" if isinstance(task, Requests) else task.skip(problem))
    scores = stage_scores(None, None, problems=20)
    assert scores["refused_plain"] == scores["refused_jailbreak"] == scores["refused_harmless"] == 1
    assert scores["answered_harmless"] == 0


def test_thoughts_in_another_language_or_in_both_are_told_apart(say):
    say(lambda task, problem: task.think(problem, "en"))
    found = language_scores(None, None, CHINESE, 20)
    assert (found["language"], found["other"], found["mixed"], found["thought"]) == (0, 1, 0, 1)
    assert language_scores(None, None, ENGLISH, 20)["language"] == 1
    say(lambda task, problem: task.think(problem, ["zh", "en", "zh", "zh", "zh"]))
    found = language_scores(None, None, CHINESE, 20)
    assert 0.5 < found["language"] < 1 and found["mixed"] == 1 and found["accuracy"] == 1


def test_letters_are_compared_with_one_that_forgets_a_person():
    assert Letters().quality("Thank Tom for the books.", Letters().skip("Thank Tom for the books.", "forgetful")) < 1


class Namer:
    """A model that finds the token of the first thing in what it reads likeliest, or the one after it in the list."""

    device = "cpu"

    def __init__(self, tokenizer, shift):
        self.things = [tokenizer.encode(f" {thing}")[0] for thing in words.THINGS["en"]]
        self.size, self.shift = tokenizer.vocab_size, shift

    def __call__(self, ids_BT, mtp):
        (first, *_) = [self.things.index(token) for token in ids_BT[0].tolist() if token in self.things]
        logits_BTV = torch.zeros(1, ids_BT.shape[1], self.size)
        logits_BTV[0, -1, self.things[(first + self.shift) % 6]] = 1.0
        return SimpleNamespace(logits_BTV=logits_BTV)


@pytest.mark.parametrize("shift, share", [(0, 1.0), (1, 0.0)])
def test_naming_is_the_share_of_problems_whose_thing_is_likeliest_after_the_number(shift, share):
    tokenizer = words_tokenizer()
    assert naming(Namer(tokenizer, shift), tokenizer, 12) == share
