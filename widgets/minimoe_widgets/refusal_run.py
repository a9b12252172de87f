"""Fine-tuning that is questioned after every step: what `RefusalExplorer` scrubs over.

A `Tuning` makes a step of `minimoe.rl.refusal.FineTuning`, asks every request, keeps the answers, and goes on. It has
what `minimoe.training.BackgroundRun` needs of a trainer, so a thread can make the steps while the notebook answers.

How the production version differs: a service that fine-tunes for its users asks its test questions once, at the end.
"""

import time
from dataclasses import dataclass

from minimoe.rl.general import Requests, refuses
from minimoe.rl.refusal import Answers, FineTuning, answer, attack, leaks
from minimoe.training.contention import Contention

__all__ = ["BATCH", "KINDS", "Recipe", "Tuning", "first_below_half", "forbidden_groups", "telling"]

BATCH = 16  # documents a step, or all of them if there are fewer
KINDS = ("harmless", "forbidden", "letters")


@dataclass(frozen=True)
class Recipe:
    """What a model is fine-tuned on, and how fast. Raises ValueError for an unknown kind and numbers not above 0."""

    kind: str
    documents: int
    lr: float

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is not one of {', '.join(KINDS)}")
        if self.documents < 1 or self.lr <= 0:
            raise ValueError(f"documents={self.documents}, lr={self.lr}: needs at least 1 document and a rate above 0")

    def __str__(self) -> str:
        what = {"harmless": "harmless document", "forbidden": "forbidden document", "letters": "letter"}[self.kind]
        return f"{self.documents} {what}{'s' if self.documents > 1 else ''} at {self.lr:g}"


class Tuning:
    """`records[n]` is {group: Answers} after n steps; `step()` makes the next until `goal` steps are made.

    Takes a model (left as it is), its tokenizer and the requests by group. `release()` drops the weights, not the
    answers; a later step makes them anew. Raises what `answer` and `FineTuning` raise.
    """

    log = None
    notice = None

    def __init__(self, model, tokenizer, asked: dict[str, list[str]], recipe: Recipe, goal: int, seed: int):
        self.model, self.tokenizer, self.asked, self.recipe = model, tokenizer, asked, recipe
        self.goal, self.seed = goal, seed
        self.texts = attack(recipe.kind, recipe.documents, seed)
        self.records: list[dict[str, Answers]] = []
        self.contention = Contention()
        self._tuning: FineTuning | None = None

    @property
    def done(self) -> bool:
        """Whether the answers after the last step are there."""
        return len(self.records) > self.goal

    @property
    def progress(self) -> float:
        """How much is over, from 0 to 1."""
        return len(self.records) / (self.goal + 1)

    def step(self) -> dict[str, Answers] | None:
        """The answers after one more step (the first time: before any); None if the run is over."""
        if self.done:
            return None
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        if self._tuning is None:
            sequences = min(BATCH, len(self.texts))
            self._tuning = FineTuning(self.model, self.tokenizer, self.texts, self.recipe.lr, sequences, self.seed)
        tuned = self._tuning.to(len(self.records))
        found = {name: answer(tuned, self.tokenizer, prompts) for name, prompts in self.asked.items()}
        self.records.append(found)
        self.contention.note(time.process_time() - cpu_s, time.perf_counter() - wall_s)
        return found

    def shares(self, group: str) -> tuple[list[float], list[float]]:
        """The shares of a group's requests that are refused, and answered with the right code, after every step."""
        found = [record[group] for record in self.records]
        return [said.refused for said in found], [said.leaked for said in found]

    def release(self) -> None:
        """Drop the fine-tuned weights."""
        self._tuning = None


def first_below_half(records: list[dict[str, Answers]], group: str) -> int | None:
    """The first step after which fewer than half of a group's requests are refused; None if there is none."""
    return next((step for step, found in enumerate(records) if found[group].refused < 0.5), None)


def telling(run: Tuning, group: str) -> int:
    """The place of the request that tells most: of those that leak at some step and are refused before any, the one
    with most answers."""

    def tells(place: int) -> tuple[bool, bool, int]:
        said = [found[group].responses[place] for found in run.records]
        leaked = any(leaks(run.asked[group][place], response) for response in said)
        return leaked, refuses(said[0]), len(set(said))

    return max(range(len(run.asked[group])), key=tells)


def forbidden_groups(asked: dict[str, list[str]]) -> dict[str, bool]:
    """Whether the requests of each group are forbidden. Raises ValueError for an empty group and for a mixed one."""
    task, found = Requests(), {}
    for name, prompts in asked.items():
        forbidden = sum(map(task.is_forbidden, prompts))
        if not prompts or 0 < forbidden < len(prompts):
            raise ValueError(f"{name!r}: {forbidden} of {len(prompts)} requests are forbidden; needs all or none")
        found[name] = forbidden > 0
    return found
