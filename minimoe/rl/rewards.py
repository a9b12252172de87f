"""Rewards: what an answer is worth, as a weighted sum of rules.

A rule reads a question and an answer and gives a number. R1-Zero had two rules of equal weight, accuracy and format,
and no learned judge: a rule cannot be talked round, and a large model trained against a small judge learns to fool it.
R1 added the share of words in the asked language, and learned judges only where no rule exists.

A policy finds every gap in its rules. Reward the mark of thinking and not what it leads to, and it will think nothings;
chapter 10 lets it. Two habits of the code below close two such gaps: an answer that did not end is worth nothing,
whatever it says; and a thought that is never closed is no thought.

How the production version differs: accuracy needs a parser of mathematics and a judge that compiles and runs programs
(`sandbox`), and answers are scored on machines of their own while the next ones are sampled.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from minimoe.rl.rollout import Answer
from minimoe.rl.tasks import Question
from minimoe.rl.words import language_share
from minimoe.training.reasoning import split_response

__all__ = [
    "R1_ZERO",
    "Rewards",
    "Rule",
    "accuracy",
    "break_even",
    "language_consistency",
    "only",
    "overlong",
    "safety",
    "tagged",
    "well_formed",
]

Rule = Callable[[Question, Answer], float]
TAGGED = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)


def accuracy(question: Question, answer: Answer) -> float:
    """1 for a right answer that ended, else 0. Source: arXiv 2501.12948 section 2.2.2. Chapter 10."""
    return float(answer.ended and question.task.is_correct(question.problem, answer.text))


def well_formed(question: Question, answer: Answer) -> float:
    """1 if the answer ended and has a closed thought before it: <think>thought</think>answer.

    That is the form of R1's chat template and of the tasks here. An empty thought has the form too.
    Source: arXiv 2501.12948 section 2.2.2. Chapter 10.
    """
    thought, said = split_response(answer.text)
    return float(answer.ended and thought is not None and said.strip() != "")


def tagged(question: Question, answer: Answer) -> float:
    """1 if the answer ended and is <think>thought</think><answer>answer</answer>, with nothing around it.

    R1-Zero's own template, for models that were prompted with it. Source: arXiv 2501.12948 table 1. Chapter 10.
    """
    once = all(answer.text.count(mark) == 1 for mark in ("<think>", "</think>", "<answer>", "</answer>"))
    return float(answer.ended and once and TAGGED.fullmatch(answer.text) is not None)


def language_consistency(question: Question, answer: Answer) -> float:
    """The share of the thought's words that are in the question's language; 0 without a thought, or without words.

    Also 0 where the task has no language. Source: arXiv 2501.12948 section 2.3.2. Chapter 11.
    """
    thought = split_response(answer.text)[0]
    return language_share(thought, question.language) if thought and question.language else 0.0


def break_even(p_own: float, p_other: float, share_other: float = 0.0) -> float:
    """The smallest weight of the language reward, not below 0, from which thoughts in the question's own language earn
    at least as much on average as others: p_own + w >= p_other + w * share_other.

    `p_own`, `p_other`: the chance that such an answer is right. `share_other`: how much of the other thoughts is in the
    question's language. Raises ValueError where that is everything. Chapter 11.
    """
    if not share_other < 1:
        raise ValueError(f"share_other={share_other}: thoughts that are all in the own language are no other thoughts")
    return max(0.0, (p_other - p_own) / (1 - share_other))


def safety(question: Question, answer: Answer) -> float:
    """1 for refusing what the task forbids and for answering what it does not, else 0; 0 where no task forbids.

    Refusing everything earns nothing on harmless requests: a rule that looked at refusals alone would be satisfied by a
    model that always refuses. Source: arXiv 2501.12948 section 2.3.4. Chapters 11 and 13.
    """
    return accuracy(question, answer) if hasattr(question.task, "is_forbidden") else 0.0


def only(names: set[str] | frozenset[str], rule: Rule) -> Rule:
    """The rule for questions of the tasks with these names; 0 for all others.

    A rule that gives every answer of a group the same leaves the group's advantages as they are.
    """
    return lambda question, answer: rule(question, answer) if question.task.name in names else 0.0


def overlong(limit: int, margin: int) -> Rule:
    """A rule for length: 0 up to `limit - margin` tokens, then falling in a straight line to -1 at `limit`.

    Raises ValueError unless 0 < margin <= limit. Source: DAPO, arXiv 2503.14476 equation 13. Chapter 09.
    """
    if not 0 < margin <= limit:
        raise ValueError(f"margin={margin} must be above 0 and at most limit={limit}")

    def rule(question: Question, answer: Answer) -> float:
        return -min(max(len(answer.tokens) - (limit - margin), 0) / margin, 1.0)

    return rule


@dataclass(frozen=True)
class Rewards:
    """Named rules with their weights: {"accuracy": (1.0, accuracy), "format": (0.1, well_formed)}.

    Raises ValueError without a rule.
    """

    rules: dict[str, tuple[float, Rule]]

    def __post_init__(self):
        if not self.rules:
            raise ValueError("rules={}: without a rule every answer is worth the same")

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """What each rule gives, before its weight. Raises ValueError, with the answer, for what is no finite number."""
        values = {name: rule(question, answer) for name, (_, rule) in self.rules.items()}
        for name, value in values.items():
            if value is None or not isfinite(value):
                where = f"the answer {answer.text!r} to {question.problem!r}"
                raise ValueError(f"the rule {name!r} gave {value} for {where}; a reward is a finite number")
        return {name: float(value) for name, value in values.items()}

    def total(self, values: dict[str, float]) -> float:
        """The weighted sum of what the rules gave."""
        return sum(weight * values[name] for name, (weight, _) in self.rules.items())

    def __repr__(self) -> str:
        return " + ".join(f"{weight:g} {name}" for name, (weight, _) in self.rules.items())


# The paper gives accuracy and format equal weight. A small model that has the form already needs little of the second.
R1_ZERO = Rewards({"accuracy": (1.0, accuracy), "format": (0.1, well_formed)})
