"""What an exercise is: a library function to write again, inputs to compare on, and the mistakes people make.

An exercise is data, not code: it names the library function that is its answer key, draws inputs, and lists the
plausible wrong answers, each with the sentence that a reader who gave it needs. A chapter's exercises live in one
module, `chNN.py`, as a tuple called `EXERCISES`; `find("01.rms_norm")` looks there.

How the production version differs: nbgrader and otter keep tests as hidden notebook cells, which can only say pass or
fail. Here a check knows the mistakes by name.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Exercise", "Law", "Wrong", "all_exercises", "find"]

Case = dict[str, Any]


@dataclass(frozen=True)
class Wrong:
    """A plausible wrong answer: its name, its code, and what to tell the reader who gave it.

    `says` speaks to the reader about the result ("your gates change when only the bias changes"), never about tests.
    """

    name: str
    fn: Callable
    says: str


@dataclass(frozen=True)
class Law:
    """A property of the right answer, for mistakes that no single wrong answer covers, or for how it is reached.

    `holds(fn, case)` is False when `fn` breaks the law on `case`; call `fn(*case.values())`. Laws are asked when no
    `Wrong` matched, and also of an answer whose numbers are right.
    """

    says: str
    holds: Callable[[Callable, Case], bool]


@dataclass(frozen=True)
class Exercise:
    """One exercise: re-implement `reference`.

    key: "01.rms_norm": the chapter's two digits and the name of the function that the reader writes.
    reference: the library's function (or an adapter of a few lines around a library module; then set `source`).
    inputs: takes a seeded `torch.Generator`, gives cases from small to large. A case is a dict from argument
        names (with axes: "x_MD") to values, passed in this order. The first case that fails is shown to the reader, so
        start with numbers one can follow by hand; the last has pairwise different sizes.
    wrong: three or more `Wrong`. The first whose results equal the reader's on every case gives the message.
    hints: two; the first points at the idea, the second is pseudocode. Markdown.
    differs: one sentence: how the library's source, shown as the solution, differs from what the reader wrote.
    tolerance, because: largest difference allowed, relative to the largest number of the result, and the reason for it.
    solution: what a reader would type; needed where the library's source is not a function that stands alone.
    source: what "Solution" shows; `reference` by default.
    laws: see `Law`.
    may_use: library functions and classes that the reader may call. All other library code is refused.
    forbid: functions from elsewhere that would be the answer, e.g. `torch.nn.functional.rms_norm`.
    canonical: brings a result into a form that can be compared, e.g. sorts chosen experts whose order is free.
    returns: names of the results when there are several.
    """

    key: str
    reference: Callable
    inputs: Callable[[torch.Generator], Iterable[Case]]
    wrong: tuple[Wrong, ...]
    hints: tuple[str, str]
    differs: str
    tolerance: float
    because: str
    solution: str = ""
    source: Any = None
    laws: tuple[Law, ...] = ()
    may_use: tuple[Any, ...] = ()
    forbid: tuple[Any, ...] = ()
    canonical: Callable[[Any], Any] | None = None
    returns: tuple[str, ...] = ()

    def __post_init__(self):
        if not re.fullmatch(r"\d\d\.[a-z_][a-z0-9_]*", self.key):
            raise ValueError(f"key {self.key!r} is not two digits, a dot and a function's name, like '01.rms_norm'")
        if len(self.wrong) < 3:
            raise ValueError(
                f"{self.key} lists {len(self.wrong)} wrong answers; a check needs at least 3 to be tested against"
            )
        if len(self.hints) != 2:
            raise ValueError(f"{self.key} has {len(self.hints)} hints; an exercise has 2")
        if not self.because:
            raise ValueError(f"{self.key}: the tolerance {self.tolerance} has no reason")

    @property
    def name(self) -> str:
        """The name of the function that the reader writes: the key without its chapter."""
        return self.key.split(".")[1]

    def cases(self) -> list[Case]:
        """The cases, the same ones at every call."""
        return list(self.inputs(torch.Generator().manual_seed(0)))


def find(key: str) -> Exercise:
    """The exercise registered under `key`; a KeyError that lists the chapter's exercises if there is none."""
    chapter = key.split(".")[0]
    try:
        module = importlib.import_module(f"minimoe_course.ch{chapter}")
    except ModuleNotFoundError as error:
        if error.name != f"minimoe_course.ch{chapter}":
            raise
        raise KeyError(f"no exercise {key!r}: there is no module minimoe_course/ch{chapter}.py") from None
    known = {exercise.key: exercise for exercise in module.EXERCISES}
    if key not in known:
        raise KeyError(f"no exercise {key!r}; chapter {chapter} has {', '.join(sorted(known))}")
    return known[key]


def all_exercises() -> list[Exercise]:
    """Every exercise of every chapter, in order."""
    names = sorted(
        m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if re.fullmatch(r"ch\d\d", m.name)
    )
    return [exercise for name in names for exercise in importlib.import_module(f"minimoe_course.{name}").EXERCISES]
