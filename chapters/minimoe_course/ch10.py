"""Exercises of chapter 10, R1-Zero."""

from math import comb

import torch

from minimoe.rl import scoring
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]


# --- pass@k -----------------------------------------------------------------------------------------------------------


def _pass_inputs(g: torch.Generator):
    yield {"right": 1, "answers": 4, "k": 2}
    yield {"right": 0, "answers": 4, "k": 4}
    yield {"right": 3, "answers": 4, "k": 2}
    yield {"right": 2, "answers": 16, "k": 1}
    yield {"right": 5, "answers": 64, "k": 16}


def _independent(right, answers, k):
    return 1 - (1 - right / answers) ** k


PASS_AT_K = Exercise(
    key="10.pass_at_k",
    reference=scoring.pass_at_k,
    inputs=_pass_inputs,
    tolerance=1e-9,
    because="whole numbers and one division in float64",
    wrong=(
        Wrong("with replacement", _independent, "you draw the k answers with replacement, as if one could come twice: 1 - (1 - c/n)^k is too small. Count choices of k different ones."),
        Wrong("k times the share", lambda right, answers, k: min(1.0, k * right / answers), "you add up the chances of k answers; two right ones in one choice count only once."),
        Wrong("share", lambda right, answers, k: right / answers, "your result does not depend on k; that is pass@1."),
        Wrong("any", lambda right, answers, k: float(right > 0), "you answer 1 as soon as one of all n answers is right; only k of them are looked at."),
        Wrong("all wrong", lambda right, answers, k: comb(answers - right, k) / comb(answers, k), "you return the chance that all k are wrong; subtract it from 1."),
        Wrong("all right", lambda right, answers, k: comb(right, k) / comb(answers, k), "you return the chance that all k are right; one is enough."),
        Wrong("exactly one", lambda right, answers, k: right * comb(answers - right, k - 1) / comb(answers, k), "you count choices with exactly one right answer; two are as good."),
    ),
    hints=(
        "The opposite is easier to count: in how many of the choices of k answers is every one of them wrong?",
        "```text\nwrong = answers - right\nchance that all k are wrong = C(wrong, k) / C(answers, k)     # math.comb\nreturn 1 - that\n```",
    ),
    solution="from math import comb\n\n\ndef pass_at_k(right, answers, k):\n    return 1 - comb(answers - right, k) / comb(answers, k)\n",
    differs="It also refuses numbers that make no sense, such as more right answers than answers.",
)  # fmt: skip


# --- which questions teach --------------------------------------------------------------------------------------------


def _learnable_inputs(g: torch.Generator):
    yield {"p": 0.5, "answers": 2}
    yield {"p": 0.1, "answers": 2}
    yield {"p": 0.0, "answers": 16}
    yield {"p": 1.0, "answers": 16}
    yield {"p": 0.01, "answers": 16}
    yield {"p": 0.9, "answers": 5}


LEARNABLE_SHARE = Exercise(
    key="10.learnable_share",
    reference=scoring.learnable_share,
    inputs=_learnable_inputs,
    tolerance=1e-9,
    because="two powers and two subtractions in float64",
    wrong=(
        Wrong("one right", lambda p, answers: 1 - (1 - p) ** answers, "you forget the groups in which every answer is right: they teach nothing either."),
        Wrong("one wrong", lambda p, answers: 1 - p**answers, "you forget the groups in which every answer is wrong: they teach nothing either."),
        Wrong("variance", lambda p, answers: p * (1 - p), "p (1 - p) is the variance of one answer; the question is about the whole group."),
        Wrong("teaching nothing", lambda p, answers: p**answers + (1 - p) ** answers, "you return the chance that a group teaches nothing; subtract it from 1."),
        Wrong("two answers", lambda p, answers: 2 * p * (1 - p), "your result holds for groups of two only."),
        Wrong("exactly one right", lambda p, answers: answers * p * (1 - p) ** (answers - 1), "you count groups with exactly one right answer; every mixture of right and wrong teaches."),
    ),
    hints=(
        "A group teaches nothing if all its rewards are equal. In how many ways can that happen?",
        "```text\nall right: p to the power of O\nall wrong: (1 - p) to the power of O\nreturn 1 - both\n```",
    ),
    solution="def learnable_share(p, answers):\n    return 1 - p**answers - (1 - p) ** answers\n",
    differs="It also refuses a chance outside 0 to 1. The trainer counts such groups in every step (`learnable`).",
)  # fmt: skip

# --- a reward that is earned in another way ---------------------------------------------------------------------------


def _hacked_inputs(g: torch.Generator):
    yield {"rewards": [0.2, 0.9, 1.0, 1.0], "accuracies": [0.25, 0.5, 0.75, 0.5], "drop": 0.125}
    yield {"rewards": [0.2, 0.9, 1.0, 1.0], "accuracies": [0.25, 0.5, 0.75, 0.875], "drop": 0.125}
    yield {"rewards": [0.2, 0.9, 0.5, 0.3], "accuracies": [0.25, 0.75, 0.5, 0.25], "drop": 0.125}  # both fall: broken
    yield {"rewards": [0.5, 0.6, 0.7, 0.8, 0.9], "accuracies": [0.75, 0.6875, 0.625, 0.5625, 0.5], "drop": 0.125}
    yield {"rewards": [0.5, 0.6, 0.7, 0.65, 0.8], "accuracies": [0.25, 0.5, 1.0, 0.5, 0.875], "drop": 0.125}
    yield {"rewards": [0.5, 0.9, 0.6, 0.7, 0.8], "accuracies": [0.25, 0.5, 0.75, 0.25, 0.25], "drop": 0.125}
    yield {"rewards": [0.5, 0.6, 0.9, 0.7], "accuracies": [0.25, 0.75, 0.6875, 0.5], "drop": 0.125}
    yield {"rewards": [1.0, 1.0], "accuracies": [1.0, 0.875], "drop": 0.125}
    yield {"rewards": [0.5, 0.6, 0.7, 0.8], "accuracies": [0.5, 0.75, 0.5, 1.0], "drop": 0.125}  # the best comes later


def _hacked(compare="best", reward_at="best", strict=False, ignore_reward=False, accuracy_of=None):
    def first(rewards, accuracies, drop):
        for i in range(1, len(rewards)):
            before = accuracies[:i]
            top = {"best": before.index(max(before)), "last": i - 1, "first": 0}[compare]
            at = {"best": top, "last": i - 1, "first": 0, "highest": rewards.index(max(rewards[:i]))}[reward_at]
            fallen = accuracies[i] < accuracies[top] - drop if strict else accuracies[i] <= accuracies[top] - drop
            if fallen and (ignore_reward or rewards[i] >= rewards[at]):
                return i
        return -1

    return first


def _best_of_all(rewards, accuracies, drop):
    top = accuracies.index(max(accuracies))
    return next((i for i in range(top, len(rewards)) if accuracies[i] <= accuracies[top] - drop and rewards[i] >= rewards[top]), -1)  # fmt: skip


FIRST_HACKED = Exercise(
    key="10.first_hacked",
    reference=scoring.first_hacked,
    inputs=_hacked_inputs,
    tolerance=1e-9,
    because="the result is a whole number; all accuracies and drops are sums of powers of two",
    wrong=(
        Wrong("reward ignored", _hacked(ignore_reward=True), "you do not look at the reward: where both fall, the run has broken, and nobody was fooled."),
        Wrong("from one to the next", _hacked(compare="last", reward_at="last"), "you compare with the place before: a slow decay slips through. Compare with the best accuracy so far."),
        Wrong("from the start", _hacked(compare="first", reward_at="first"), "you compare with the start; a run can rise and then decay and still be above its start."),
        Wrong("the whole run", _best_of_all, "you compare with the best of the whole run; an alarm knows only what came before it."),
        Wrong("strictly", _hacked(strict=True), "a fall of exactly `drop` counts."),
        Wrong("highest reward", _hacked(reward_at="highest"), "you compare with the highest reward so far; compare with the reward at the place of the best accuracy."),
        Wrong("reward of the place before", _hacked(reward_at="last"), "you compare with the reward of the place before; compare with that at the place of the best accuracy."),
        Wrong("where it was best", lambda rewards, accuracies, drop: (lambda i: accuracies.index(max(accuracies[:i])) if i >= 0 else -1)(_hacked()(rewards, accuracies, drop)), "you return the place of the best accuracy, where the run should have stopped; the question is when it shows."),
    ),
    hints=(
        "Walk along the run and remember the place of the best accuracy so far. What do you ask at every later place?",
        "```text\nbest = 0\nfor every place i:\n    if accuracies[i] is above accuracies[best]: best = i\n"
        "    else if accuracies[i] <= accuracies[best] - drop and rewards[i] >= rewards[best]: return i\nreturn -1\n```",
    ),
    solution=(
        "def first_hacked(rewards, accuracies, drop):\n"
        "    best = 0\n"
        "    for i in range(len(rewards)):\n"
        "        if accuracies[i] > accuracies[best]:\n"
        "            best = i\n"
        "        elif accuracies[i] <= accuracies[best] - drop and rewards[i] >= rewards[best]:\n"
        "            return i\n"
        "    return -1\n"
    ),
    differs="It has a default for `drop`, and refuses lists of different lengths.",
)  # fmt: skip


EXERCISES = (PASS_AT_K, LEARNABLE_SHARE, FIRST_HACKED)
