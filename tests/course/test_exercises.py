"""Every exercise of every chapter: its check accepts the solution and tells each mistake apart."""

import functools
import inspect
import math
import re

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch.utils._pytree import tree_flatten

from minimoe_course.checking import check, judge
from minimoe_course.exercise import all_exercises
from minimoe_course.folded import hints

EXERCISES = all_exercises()
WRONG = [(exercise, wrong) for exercise in EXERCISES for wrong in exercise.wrong]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.key)


def retyped(exercise):
    """The solution as a reader would type it into a notebook: its text, executed where only the usual names exist."""
    text = exercise.solution
    names = {
        "__name__": "__main__",
        "torch": torch,
        "F": F,
        "math": math,
        "rearrange": rearrange,
        "einsum": torch.einsum,
    }
    if not text:
        text = inspect.getsource(exercise.reference)
        names = {**exercise.reference.__globals__, "__name__": "__main__"}
    else:
        names |= {thing.__name__: thing for thing in exercise.may_use if hasattr(thing, "__name__")}
    exec(compile(text, "<solution>", "exec"), names)  # noqa: S102 (our own text)
    return names[exercise.name]


def tensors_of(value):
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, torch.Tensor)]


@each_exercise
def test_the_retyped_solution_passes(exercise):
    verdict = judge(exercise, retyped(exercise))
    assert verdict.kind == "right", verdict.message + verdict.example


@pytest.mark.parametrize("exercise, wrong", WRONG, ids=[f"{e.key}-{w.name}" for e, w in WRONG])
def test_each_wrong_answer_is_rejected_with_its_own_sentence(exercise, wrong):
    verdict = judge(exercise, wrong.fn, may_call_library=True)
    assert verdict.kind == "wrong"
    assert verdict.message == wrong.says
    assert "library" in verdict.example


@each_exercise
def test_an_edit_of_any_input_is_rejected_even_if_the_result_is_right(exercise):
    solve = retyped(exercise)
    names = [name for name, value in exercise.cases()[0].items() if tensors_of(value)]
    for place, name in [(list(exercise.cases()[0]).index(n), n) for n in names]:

        def careless(*arguments, place=place):
            result = solve(*arguments)
            for tensor in tensors_of(arguments[place]):
                tensor.copy_(tensor.clone())  # even an edit that changes no value
            return result

        verdict = judge(exercise, careless)
        assert verdict.kind == "wrong" and f"writes into its input {name}" in verdict.message


@each_exercise
def test_the_librarys_function_is_rejected_however_it_is_reached(exercise):
    reference = exercise.reference

    def in_disguise(*arguments):
        try:
            return reference(*arguments)
        except Exception:  # a reader who expects a trap
            return retyped(exercise)(*arguments)

    for answer in (
        reference,
        lambda *a: reference(*a),
        functools.partial(reference),
        functools.wraps(reference)(in_disguise),
    ):
        verdict = judge(exercise, answer)
        assert verdict.kind == "wrong" and "which is the answer" in verdict.message


@each_exercise
def test_an_unwritten_stub_prints_one_line_and_the_notebook_goes_on_with_the_library(exercise, capsys):
    def stub(*arguments): ...

    assert check(exercise, stub) is exercise.reference
    assert (
        capsys.readouterr().out
        == f"\u2026 {exercise.name}: not yet. The notebook goes on with the library's version.\n"
    )


@each_exercise
def test_a_right_answer_prints_one_line_and_is_handed_back(exercise, capsys):
    solve = retyped(exercise)
    assert check(exercise.key, solve) is solve
    assert re.fullmatch(rf"\u2713 {exercise.name}: [^\n]+\n", capsys.readouterr().out)


@each_exercise
def test_in_the_last_case_one_letter_means_one_size_and_no_two_sizes_agree(exercise):
    sizes = {}
    for name, value in exercise.cases()[-1].items():
        axes = name.rpartition("_")[2]
        if isinstance(value, torch.Tensor) and axes.isupper():  # a merged axis has no letter, and its tensor no suffix
            assert len(axes) == value.ndim, f"{name} has shape {tuple(value.shape)}"
            for letter, size in zip(axes, value.shape, strict=True):
                assert sizes.setdefault(letter, size) == size, f"{letter} is {sizes[letter]} and {size}"
    assert len(set(sizes.values())) == len(sizes), sizes


@each_exercise
def test_cases_come_from_small_to_large_and_are_the_same_at_every_call(exercise):
    first, again = exercise.cases(), exercise.cases()
    elements = [sum(tensor.numel() for tensor in tensors_of(case)) for case in first]
    assert elements == sorted(elements)
    for a, b in zip(tensors_of(first), tensors_of(again), strict=True):
        assert torch.equal(a, b)


@each_exercise
def test_the_answer_key_is_the_librarys_and_is_shown_as_the_solution(exercise):
    shown = exercise.source or exercise.reference
    assert inspect.getmodule(shown).__name__.split(".")[0] in ("minimoe", "minimoe_kernels")
    folded = hints(exercise)._repr_markdown_()
    assert [folded.count(f"<summary>{part}</summary>") for part in ("Hint 1", "Hint 2", "Solution")] == [1, 1, 1]
    assert exercise.differs in folded and '"""' not in folded


@each_exercise
def test_hints_and_messages_have_no_filler(exercise):
    from minimoe_course.anatomy import filler

    for text in (
        *exercise.hints,
        exercise.differs,
        *(w.says for w in exercise.wrong),
        *(law.says for law in exercise.laws),
    ):
        assert filler(text) == []


def test_keys_are_unique():
    keys = [exercise.key for exercise in EXERCISES]
    assert len(set(keys)) == len(keys) > 0
