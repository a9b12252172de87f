"""Questions: a task, and a problem that it drew.

A task makes problems from a random generator and knows, exactly, which responses are right. That is all that
reinforcement learning with verifiable rewards needs, and it is why R1 began with mathematics and code. `Chain` and
`Clock` (`minimoe.training.reasoning`) are tasks, and so are the bilingual word problems, the prompts without a right
answer, and every dataset of reasoning-gym.

A batch may mix tasks, so a question carries its task along. `Questions` is where the batches of a run come from: the
questions of step i follow from the seed and i alone, so that a run that was stopped meets, when it goes on, the ones
that it would have met. Problems that the split holds out are never drawn for training.

How the production version differs: R1-Zero was trained on some 145,000 collected problems in several epochs; here a
problem costs nothing to make, and hardly any comes twice.
"""

import random
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from minimoe.training.reasoning import is_held_out

__all__ = ["Question", "Questions", "Task"]

TRIES = 1000


@runtime_checkable
class Task(Protocol):
    """What every task has. `think` gives the full response and `skip` the lazy one, where the task knows them.

    Tasks are frozen dataclasses: their numbers make them harder, and two of equal numbers are the same task.
    """

    name: str

    def draw(self, rng: random.Random) -> str:
        """A problem, as text."""

    def is_correct(self, problem: str, response: str) -> bool:
        """Whether the response's answer is right; what was thought does not count."""


@dataclass(frozen=True)
class Question:
    """A problem and the task that can judge its answers."""

    task: Task
    problem: str

    @property
    def language(self) -> str | None:
        """The language that the problem is asked in, "en" or "zh"; None where the task has no words."""
        language = getattr(self.task, "language", None)
        return None if language is None else language(self.problem)


class Questions:
    """An endless source: `draw(step, count)` gives the questions of one step.

    Takes one task, or a dict from tasks to their shares (any positive numbers). `held_out` draws from the other side
    of the split. Raises ValueError for an empty mixture or a share that is not positive.
    """

    def __init__(self, tasks: Task | dict[Task, float], seed: int = 0, held_out: bool = False):
        self.tasks = dict(tasks) if isinstance(tasks, dict) else {tasks: 1.0}
        self.seed, self.held_out = seed, held_out
        if not self.tasks:
            raise ValueError("tasks={}: a mixture needs at least one task")
        for task, share in self.tasks.items():
            if not share > 0:
                raise ValueError(f"the share of {task} is {share}; it must be greater than 0")

    def draw(self, step: int, count: int) -> list[Question]:
        """`count` questions, the same ones for the same seed and step."""
        rng = random.Random(f"questions {self.seed} {step} {self.held_out}")
        tasks = rng.choices(list(self.tasks), weights=list(self.tasks.values()), k=count)
        return [Question(task, self._problem(task, rng)) for task in tasks]

    def _problem(self, task: Task, rng: random.Random) -> str:
        for _ in range(TRIES):
            problem = task.draw(rng)
            if is_held_out(problem) == self.held_out:
                return problem
        side = "held out" if self.held_out else "not held out"
        raise ValueError(f"{task} drew {TRIES} problems and none that is {side}")

    def __repr__(self) -> str:
        shares = ", ".join(f"{task!r}: {share:g}" for task, share in self.tasks.items())
        return f"Questions({{{shares}}}, seed={self.seed}, held_out={self.held_out})"
