"""Hints and solutions, folded: they cost the reader a click, and need no kernel to be read.

Each is a `<details>` block inside a Markdown output. Committed with the notebook it opens in JupyterLab, on GitHub, in
nbviewer and in nbconvert's HTML; run live, the solution is the source of the library that is installed, so it cannot
go stale.

How the production version differs: most courses keep solutions in a second notebook, which then drifts from the first.
"""

import ast
import inspect
import textwrap
from typing import Any

from minimoe_course.exercise import Exercise, find

__all__ = ["Folded", "hints", "source_without_docstring"]


class Folded:
    """Blocks of (summary, Markdown body), shown folded. As plain text the bodies are left out."""

    def __init__(self, *blocks: tuple[str, str]):
        self.blocks = blocks

    def _repr_markdown_(self) -> str:
        return "\n\n".join(
            f"<details>\n<summary>{summary}</summary>\n\n{body.strip()}\n\n</details>" for summary, body in self.blocks
        )

    def __repr__(self) -> str:
        return "Folded: " + ", ".join(summary for summary, _ in self.blocks)


def hints(exercise: str | Exercise) -> Folded:
    """Hint 1, Hint 2 and Solution of an exercise, folded: the answer in a few lines, then the library's own source.

    Stand it alone in the cell below the exercise:  hints("01.rms_norm")
    """
    exercise = find(exercise) if isinstance(exercise, str) else exercise
    shown = exercise.source or exercise.reference
    short = f"```python\n{exercise.solution.strip()}\n```\n\n" if exercise.solution else ""
    origin = f"The library's own, from `{inspect.getmodule(shown).__name__}`. {exercise.differs}"
    solution = f"{short}{origin}\n\n```python\n{source_without_docstring(shown)}\n```"
    return Folded(("Hint 1", exercise.hints[0]), ("Hint 2", exercise.hints[1]), ("Solution", solution))


def source_without_docstring(thing: Any) -> str:
    """The source of a function or class, dedented, without its own docstring and those of its methods."""
    source = textwrap.dedent(inspect.getsource(thing))
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
            and len(node.body) > 1
        ):
            docstring = node.body[0]
            for number in range(docstring.lineno - 1, docstring.end_lineno):
                lines[number] = None
    return "\n".join(line for line in lines if line is not None)
