"""Seeing whether a function calls the answer key.

A check that compares with the library can be fooled by calling the library. Replacing the library's function by one
that raises does not help: the reader may have imported it by name, wrapped it, or catch the exception. So `watched`
looks at every Python frame and every built-in that runs while the reader's function runs, through the interpreter's
profile hook, and knows functions by their code object, under whatever name they are reached.

How the production version differs: autograders run submissions in a container in which the solution does not exist.
"""

import sys
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

__all__ = ["code_of", "watched"]

LIBRARY = {"minimoe", "minimoe_kernels", "minimoe_widgets"}


def code_of(thing: Any) -> set[CodeType]:
    """The code objects behind a function, a wrapped function, a method, a property, or a class with all of these."""
    if isinstance(thing, type):
        return set().union(*(code_of(part) for part in vars(thing).values() if not isinstance(part, type)), set())
    codes = set()
    while thing is not None:
        thing = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
        if hasattr(thing, "__code__"):
            codes.add(thing.__code__)
        thing = getattr(thing, "__wrapped__", None)
    return codes


def watched(call: Callable[[], Any], answers: Iterable[Any], may_use: Iterable[Any]) -> tuple[Any, str | None]:
    """Run `call`; give its result and what to say of the first forbidden function that ran under it, or None.

    Forbidden are `answers` (functions, classes, built-ins) and all library code that is not running under one of
    `may_use`. What `call` raises passes through.
    """
    answers = list(answers)
    answer_codes = set().union(*(code_of(answer) for answer in answers), set())
    allowed = set().union(*(code_of(thing) for thing in may_use), set())
    builtins = {id(answer) for answer in answers if not code_of(answer)}
    caught: list[str] = []

    def under_allowed(frame) -> bool:
        while frame is not None and frame.f_code is not code_of_call:
            if frame.f_code in allowed:
                return True
            frame = frame.f_back
        return False

    def look(frame, event, argument):
        if event == "c_call" and id(argument) in builtins:
            caught.append(f"{argument.__name__}, which is the answer")
        if event != "call" or caught:
            return
        module = frame.f_globals.get("__name__", "")
        if frame.f_code in answer_codes:
            caught.append(f"{module}.{frame.f_code.co_qualname}, which is the answer")
        elif module.split(".")[0] in LIBRARY and not under_allowed(frame):
            caught.append(f"{module}.{frame.f_code.co_qualname} of the library")

    code_of_call = call.__code__
    before = sys.getprofile()
    sys.setprofile(look)
    try:
        result = call()
    finally:
        sys.setprofile(before)
    return result, caught[0] if caught else None
