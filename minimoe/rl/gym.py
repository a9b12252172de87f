"""Tasks from reasoning-gym: more than a hundred procedural datasets with verifiers, each plugged in as one task.

Their interface is small: `create_dataset(name, size=, seed=, **config)` gives a sequence of entries with a "question",
an "answer" and "metadata", and the dataset's `score_answer(answer, entry)` a number from 0 to 1. A task here is one
such dataset: drawing a problem is choosing an entry, and judging a response is scoring what stands after its thought.

A verifier there needs its entry, and a task here is handed the problem's text alone; so the entry is looked up by its
question. That is why a dataset has a size, and why two entries with one question count as the first of them.

Verifiers are programs too, and answers are their input. Nine of those in reasoning-gym 0.1.25 hand the answer to
Python's `eval`, or to sympy's, which is the same: an answer "__import__('os').system('...')" is then carried out, in
the process that trains, and `9**9**9` stops it. A policy need not be clever to find that. They are named below, and
used only on request.

How the production version differs: libraries of environments run verifiers as services, with composites of hundreds of
datasets and a curriculum that raises a dataset's numbers as the policy improves. Here a harder task is another task.
"""

import random
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from minimoe.training.reasoning import split_response

__all__ = ["Gym"]

PACKAGE, INSTALL = "reasoning_gym", 'pip install "minimoe[gym]"'
# Whose verifiers ran a command given as an answer, when all 106 of version 0.1.25 were tried; and `composite`, which
# may hold one of them.
EVALUATING = {
    "binary_matrix", "composite", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication",
    "puzzle24", "simple_integration", "spiral_matrix", "string_insertion",
}  # fmt: skip


@dataclass(frozen=True)
class Gym:
    """A dataset of reasoning-gym as a task: `Gym("chain_sum", config={"min_terms": 2, "max_terms": 3})`.

    `size` entries from `seed`; `config` is the dataset's own, and its numbers make it harder. The same arguments are
    the same problems. The dataset is made when it is first needed: then ImportError is raised, with the command that
    installs reasoning-gym, if it is missing, and reasoning-gym's own ValueError for a name that it does not know.
    Raises ValueError for a dataset without an entry, and for one whose verifier runs the answer as Python (EVALUATING)
    unless `evaluate` allows it: do so only where the whole process may be lost. Chapter 10.
    """

    dataset_name: str
    size: int = 500
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    evaluate: bool = False

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size={self.size}: a dataset has at least 1 entry")
        if self.dataset_name in EVALUATING and not self.evaluate:
            raise ValueError(
                f"the verifier of {self.dataset_name!r} runs answers as Python code, in this process; evaluate=True "
                "allows that"
            )

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.dataset_name

    @cached_property
    def dataset(self):
        """The dataset of reasoning-gym."""
        try:
            package = import_module(PACKAGE)
        except ModuleNotFoundError as error:
            if error.name != PACKAGE:
                raise
            raise ImportError(f"{self.name!r} is a dataset of reasoning-gym, which is missing: {INSTALL}") from error
        return package.create_dataset(self.dataset_name, size=self.size, seed=self.seed, **self.config)

    @cached_property
    def entries(self) -> dict[str, dict]:
        """Every entry by its question."""
        entries = {}
        for entry in map(self.dataset.__getitem__, range(self.size)):
            entries.setdefault(entry["question"], entry)
        return entries

    def draw(self, rng: random.Random) -> str:
        """A question of the dataset, each entry equally likely."""
        return self.dataset[rng.randrange(self.size)]["question"]

    def score(self, problem: str, response: str) -> float:
        """What reasoning-gym's verifier gives for the response's answer, 0 to 1: some pay for part of an answer.

        An answer that makes the verifier raise gets 0: it is none that it can read (some call `int` on it).
        Raises ValueError for a problem that is no question of this dataset.
        """
        if problem not in self.entries:
            raise ValueError(f"{problem!r} is none of the {len(self.entries)} questions of {self}")
        answer = split_response(response)[1].strip()
        try:
            return float(self.dataset.score_answer(answer=answer, entry=self.entries[problem]))
        except Exception:  # whatever a verifier raises, a wrong answer must not end a training run
            return 0.0

    def is_correct(self, problem: str, response: str) -> bool:
        """Whether the verifier gives the whole point. Raises ValueError for a problem of another dataset."""
        return self.score(problem, response) >= 1.0

    def think(self, problem: str) -> str:
        """Raises ValueError: reasoning-gym has answers, and no thoughts that lead to them."""
        raise ValueError(f"{self.name!r} has answers and no thoughts: a model has to find its own ways to {problem!r}")

    def skip(self, problem: str) -> str:
        """Raises ValueError, as `think` does: what a lazy response is, only a task with thoughts knows."""
        raise ValueError(f"{self.name!r} has no responses to learn from, lazy or not, for {problem!r}")
