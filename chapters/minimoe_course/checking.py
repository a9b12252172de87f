"""`check`: run a reader's function beside the library's and say in one line what is the matter.

The order of the questions: is it written at all; does it run; does it call the answer key; does it write into its
inputs; does it give the right numbers. A wrong result is first looked up among the exercise's known wrong answers,
then held against its laws, and described from its numbers last.

How the production version differs: a grader records a score. `check` hands back a function, so that the notebook goes
on: the reader's own if it is right, else the library's. `grade` is for instructors and raises.
"""

import copy
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from minimoe_course.compare import as_text, difference, edited, same
from minimoe_course.exercise import Case, Exercise, find
from minimoe_course.watch import watched

__all__ = ["Verdict", "check", "grade", "judge"]

GOES_ON = "The notebook goes on with the library's version."
NOTHING = "your function gives nothing back for this input: on the way that it takes here there is no result."


@dataclass(frozen=True)
class Verdict:
    """What `judge` found. `kind` is "unwritten", "right" or "wrong"; `example` shows the smallest failing input."""

    kind: str
    message: str
    example: str = ""


def check(exercise: str | Exercise, fn: Callable) -> Callable:
    """Print one line on `fn`; give the function to go on with: `fn` if it is right, else the library's.

    A wrong answer gets a sentence about its result and, indented below, the smallest input on which it fails.

        rms_norm = check("01.rms_norm", rms_norm)
    """
    exercise = find(exercise) if isinstance(exercise, str) else exercise
    verdict = judge(exercise, fn)
    mark = {"right": "\N{CHECK MARK}", "wrong": "\N{BALLOT X}", "unwritten": "\N{HORIZONTAL ELLIPSIS}"}[verdict.kind]
    print(f"{mark} {exercise.name}: {verdict.message}" + verdict.example)
    return fn if verdict.kind == "right" else exercise.reference


def grade(exercise: str | Exercise, fn: Callable) -> None:
    """For instructors: AssertionError with the verdict unless `fn` is right. Prints nothing."""
    exercise = find(exercise) if isinstance(exercise, str) else exercise
    verdict = judge(exercise, fn)
    if verdict.kind != "right":
        raise AssertionError(f"{exercise.key}: {verdict.message}{verdict.example}")


def judge(exercise: Exercise, fn: Callable, may_call_library: bool = False) -> Verdict:
    """The verdict on `fn`. `may_call_library` is for tests, whose wrong answers may be built from library parts."""
    if not callable(fn):
        return Verdict("wrong", f"expected a function, got {type(fn).__name__} {as_text(fn)}")
    cases = exercise.cases()
    expected = [_run(exercise.reference, case) for case in cases]
    given, nothing = [], None
    for case in cases:
        try:
            answer, problem = _supervised(exercise, fn, case, may_call_library)
        except Exception as error:  # whatever the reader's code raises is theirs to see
            if isinstance(error, NotImplementedError) or "ellipsis" in str(error).lower():
                return Verdict("unwritten", f"not yet. {GOES_ON}")
            return Verdict("wrong", _raised(fn, error), _example(case))
        if _blank(answer):
            nothing = case if nothing is None else nothing
        elif problem:
            return Verdict("wrong", problem)
        else:
            given.append(answer)
    if not given:
        return Verdict("unwritten", f"not yet. {GOES_ON}")
    if nothing is not None:
        return Verdict("wrong", NOTHING, _example(nothing))
    return _compare(exercise, fn, cases, given, expected)


def _blank(answer: Any) -> bool:
    return answer is None or any(leaf is Ellipsis for leaf in tree_flatten(answer)[0])


def _supervised(exercise: Exercise, fn: Callable, case: Case, may_call_library: bool) -> tuple[Any, str]:
    inputs = _copied(case)
    versions = [leaf._version for leaf in tree_flatten(inputs)[0] if isinstance(leaf, torch.Tensor)]
    if may_call_library:
        answer, called = _run(fn, inputs, copied=True), None
    else:
        answers = (exercise.reference, exercise.source, *exercise.forbid)
        answer, called = watched(lambda: _run(fn, inputs, copied=True), answers, exercise.may_use)
    if called:
        return answer, f"your function calls {called}; the exercise is to write it"
    for name in case:
        leaves = [leaf for leaf in tree_flatten(inputs[name])[0] if isinstance(leaf, torch.Tensor)]
        if edited(case[name], inputs[name], versions[: len(leaves)]):
            return answer, f"your function writes into its input {name}; its caller still needs the old values"
        versions = versions[len(leaves) :]
    return answer, ""


def _compare(exercise: Exercise, fn: Callable, cases: list[Case], given: list, expected: list) -> Verdict:
    form = exercise.canonical or (lambda result: result)
    try:
        given = [form(answer) for answer in given]
    except Exception:  # a result of the wrong kind cannot be brought into form: compare it as it is
        form = lambda result: result  # noqa: E731
    expected = [form(answer) for answer in expected]
    told = [difference(a, b, exercise.tolerance, exercise.returns) for a, b in zip(given, expected, strict=True)]
    if not any(told):
        broken = _broken_law(exercise, fn, cases)
        return (
            Verdict("wrong", broken) if broken else Verdict("right", f"equal to the library's on {len(cases)} inputs.")
        )
    first = next(i for i, text in enumerate(told) if text)
    message = _known_mistake(exercise, cases, given, form) or _broken_law(exercise, fn, cases) or told[first] + "."
    example = _example(cases[first], yours=given[first], library=expected[first])
    return Verdict("wrong", message, example)


def _known_mistake(exercise: Exercise, cases: list[Case], given: list, form: Callable) -> str:
    for wrong in exercise.wrong:
        try:
            if all(
                same(answer, form(_run(wrong.fn, case)), exercise.tolerance)
                for case, answer in zip(cases, given, strict=True)
            ):
                return wrong.says
        except Exception:  # a wrong answer may well fail on a hard case; then it is not this one
            continue
    return ""


def _broken_law(exercise: Exercise, fn: Callable, cases: list[Case]) -> str:
    for law in exercise.laws:
        for case in cases:
            try:
                if not law.holds(fn, _copied(case)):
                    return law.says
            except Exception:  # the law presumes a result of the right form
                break
    return ""


def _copied(case: Case) -> Case:
    return {
        name: tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else copy.deepcopy(leaf), value)
        for name, value in case.items()
    }


def _run(fn: Callable, case: Case, copied: bool = False) -> Any:
    """`fn` on the case, always from the same random state, without moving the notebook's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fn(*(case if copied else _copied(case)).values())


def _raised(fn: Callable, error: Exception) -> str:
    filename = getattr(getattr(fn, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if not frames:
        return text
    line = linecache.getline(filename, frames[-1].lineno).strip()
    return f"line {frames[-1].lineno} of the cell" + (f", `{line}`" if line else "") + f": {text}"


def _example(case: Case, **results: Any) -> str:
    rows = [("given", ", ".join(f"{name} = {as_text(value)}" for name, value in case.items()))]
    rows += [(name, as_text(value)) for name, value in results.items()]
    return "".join(f"\n    {name:8} {text}" for name, text in rows)
