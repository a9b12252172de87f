"""Exercises of chapter 10, R1-Zero."""

from math import comb

import torch

from minimoe.rl import rewards, scoring
from minimoe.rl.rollout import Answer
from minimoe.rl.tasks import Question
from minimoe.training.reasoning import Chain
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]


# --- the reward -------------------------------------------------------------------------------------------------------

RIGHT = "<think>7+3=0*4=0-2=8</think>8"


def _reward_inputs(g: torch.Generator):
    yield {"text": RIGHT, "ended": True, "truth": "8"}
    yield {"text": RIGHT, "ended": False, "truth": "8"}  # right so far, and cut at the limit
    yield {"text": "<think></think>8", "ended": True, "truth": "8"}  # an empty thought has the form too
    yield {"text": "8", "ended": True, "truth": "8"}
    yield {"text": "5", "ended": True, "truth": "8"}
    yield {"text": "<think>7+3=0*4=0-2=8</think>3", "ended": True, "truth": "8"}
    yield {"text": "<think>7+3=0*4=0-2=8</think>38", "ended": True, "truth": "8"}
    yield {"text": "<think>7+3=0*4=0-2=8", "ended": True, "truth": "8"}
    yield {"text": "8</think>", "ended": True, "truth": "8"}
    yield {"text": "<think>7+3=0</think>", "ended": True, "truth": "8"}


def zero_reward(text, ended, truth):
    """`R1_ZERO` of `minimoe.rl.rewards` on a chain whose value is `truth`: accuracy, and 0.1 for the form."""
    question = Question(Chain(1), f"{truth} + 0")
    answer = Answer([], [], text, ended)
    return rewards.R1_ZERO.total(rewards.R1_ZERO.score(question, answer))


def _split(text):
    head, mark, tail = text.partition("</think>")
    closed = bool(mark) and head.startswith("<think>")
    return closed, tail if closed else text


def _reward(right=None, formed=None, cut=True, gate=False, weight=0.1):
    def reward(text, ended, truth):
        closed, said = _split(text)
        is_right = (right or (lambda text, said, truth: said == truth))(text, said, truth)
        has_form = (formed or (lambda text, closed, said: closed and said != ""))(text, closed, said)
        if cut and not ended:
            return 0.0
        return float(is_right) + (weight * has_form if is_right or not gate else 0.0)

    return reward


ZERO_REWARD = Exercise(
    key="10.zero_reward",
    reference=zero_reward,
    source=rewards.well_formed,
    inputs=_reward_inputs,
    tolerance=1e-9,
    because="one addition of a whole number and 0.1",
    wrong=(
        Wrong("anywhere", _reward(right=lambda text, said, truth: truth in text), "you look for the truth in the whole text, where it stands among the running values by chance: compare what follows </think>."),
        Wrong("contained", _reward(right=lambda text, said, truth: truth in said), "you accept an answer that contains the truth: 38 is not 8. A policy would soon write all ten digits."),
        Wrong("last letter", _reward(right=lambda text, said, truth: text.endswith(truth)), "you look at the last letter only: 38 is not 8."),
        Wrong("cut is fine", _reward(cut=False), "you reward an answer that was cut at the limit; without its end it is worth 0, whatever it says so far."),
        Wrong("form by the end mark", _reward(formed=lambda text, closed, said: "</think>" in text and said != ""), "your form asks for </think> alone: a thought that was never opened is no thought."),
        Wrong("form by the mark", _reward(formed=lambda text, closed, said: "<think>" in text), "your form asks for <think> alone: a thought must be closed, and something must follow it."),
        Wrong("no answer needed", _reward(formed=lambda text, closed, said: closed), "you give the form to a thought without an answer behind it."),
        Wrong("thought must say something", _reward(formed=lambda text, closed, said: closed and said != "" and not text.startswith("<think></think>")), "you refuse the form to an empty thought. It has the form; that it is no use is the accuracy's business."),
        Wrong("form only if right", _reward(gate=True), "you give the form only to right answers. It is earned by itself, so that a model that solves nothing yet can learn it."),
        Wrong("equal weight", _reward(weight=1.0), "your form weighs as much as a right answer; here it weighs 0.1."),
    ),
    hints=(
        "Two independent questions, asked of an answer that ended: is what follows the thought exactly the truth? Is there a closed thought with something behind it?",
        "```text\nif it did not end: 0\nhead, mark, said = text.partition('</think>')\nclosed = the mark is there and head starts with <think>\n"
        "if not closed: said = the whole text\nreturn (said == truth) + 0.1 * (closed and said is not empty)\n```",
    ),
    solution=(
        "def zero_reward(text, ended, truth):\n"
        "    if not ended:\n"
        "        return 0.0\n"
        "    head, mark, said = text.partition('</think>')\n"
        "    closed = mark != '' and head.startswith('<think>')\n"
        "    said = said if closed else text\n"
        "    return float(said == truth) + 0.1 * (closed and said != '')\n"
    ),
    differs="This is the rule for the form; `accuracy` stands beside it, and `Rewards` adds them up with their weights.",
)  # fmt: skip


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
    ),
    hints=(
        "A group teaches nothing if all its rewards are equal. In how many ways can that happen?",
        "```text\nall right: p to the power of O\nall wrong: (1 - p) to the power of O\nreturn 1 - both\n```",
    ),
    solution="def learnable_share(p, answers):\n    return 1 - p**answers - (1 - p) ** answers\n",
    differs="It also refuses a chance outside 0 to 1. The trainer counts such groups in every step (`learnable`).",
)  # fmt: skip

EXERCISES = (ZERO_REWARD, PASS_AT_K, LEARNABLE_SHARE)
