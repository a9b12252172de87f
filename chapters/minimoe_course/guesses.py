"""`guess`: the reader commits to a number, then sees the answer and how far off they were.

Live, it is a text box and a button. Committed, or where no widgets run, it is the question with the answer folded
below it: both are in one output, and the builder drops the widget from what is committed. Nothing is stored outside
the kernel.

How the production version differs: quiz tools keep the answer in the page's JSON, where a typo survives every change
of the code. Here the answer is whatever the cell has computed.
"""

import math
import re
from typing import Any

from minimoe_course.folded import Folded

__all__ = ["guess", "parse_number", "reply"]

SUFFIXES = {
    "k": 1e3,
    "thousand": 1e3,
    "m": 1e6,
    "million": 1e6,
    "b": 1e9,
    "billion": 1e9,
    "g": 1e9,
    "t": 1e12,
    "%": 1e-2,
}
SUFFIXES |= {"trillion": 1e12, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "": 1.0}


def parse_number(text: str, unit: str = "") -> float | None:
    """The number a reader typed: "37B", "37 billion", "37,000", "3.7e10", "1/18", "5.5%"; None if it is none.

    A suffix that belongs to `unit` ("KB" where the answer is in KB, "%" where it is a percentage) is the unit itself.
    """
    words = text.strip().lower().replace(",", "").replace("_", "")
    if unit and words.endswith(unit.lower()):
        words = words.removesuffix(unit.lower()).strip()
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
    found = re.fullmatch(rf"({number})(?:\s*/\s*({number}))?\s*([a-z%]*)", words)
    if not found or found[3] not in SUFFIXES or (found[2] and float(found[2]) == 0):
        return None
    return float(found[1]) / float(found[2] or 1) * SUFFIXES[found[3]]


def reply(text: str, answer: Any, unit: str = "", tolerance: float = 0.1) -> str:
    """What to say to a guess: the answer, and how far off the guess was."""
    shown = f"The answer is **{_shown(answer, unit)}**."
    if isinstance(answer, str):
        return shown if _plain(text) != _plain(answer) else f"You said so. {shown}"
    mine = parse_number(text, unit)
    if mine is None:
        return f"`{text}` is not a number; try `37`, `3.7e10`, `37B` or `1/18`."
    return f"{_how_far(mine, float(answer), tolerance)} {shown}"


def _how_far(mine: float, answer: float, tolerance: float) -> str:
    if mine == answer:
        return "You hit it."
    if math.isclose(mine, answer, rel_tol=tolerance):
        return f"Within {tolerance:.0%}."
    if answer == 0 or mine / answer <= 0:
        return f"You are off by {abs(mine - answer):.4g}."
    ratio = mine / answer
    if 0.5 < ratio < 2:
        return f"You are {abs(ratio - 1):.0%} too {'high' if ratio > 1 else 'low'}."
    return f"You are {max(ratio, 1 / ratio):.3g} times too {'high' if ratio > 1 else 'low'}."


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\d+(?:\.\d+)?|[a-z]+", text.lower()))


def _shown(answer: Any, unit: str) -> str:
    if isinstance(answer, str):
        text = answer
    elif isinstance(answer, int) and abs(answer) < 10**15:
        text = f"{answer:,}"
    else:
        text = f"{answer:,.4g}" if abs(answer) < 1e4 else f"{answer:.4g}" if abs(answer) >= 1e15 else f"{answer:,.0f}"
    return f"{text} {unit}".strip() if unit != "%" else f"{text}%"


class Guess:
    """A question that is a text box where widgets run, and a folded answer everywhere else."""

    def __init__(self, key: str, prompt: str, answer: Any, unit: str, tolerance: float):
        self.key, self.prompt, self.answer, self.unit, self.tolerance = key, prompt, answer, unit, tolerance

    def box(self):
        """The live form, an ipywidgets box."""
        import ipywidgets as widgets

        text = widgets.Text(placeholder=f"your guess{f', in {self.unit}' if self.unit else ''}")
        text.layout.width = "16em"
        button, told = widgets.Button(description="Commit"), widgets.HTML()

        def commit(_):
            if text.value.strip():
                told.value = _html(reply(text.value, self.answer, self.unit, self.tolerance))

        button.on_click(commit)
        return widgets.VBox(
            [widgets.HTML(_html(f"**Guess first.** {self.prompt}")), widgets.HBox([text, button]), told]
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        answer = Folded(("Answer", f"**{_shown(self.answer, self.unit)}**"))
        bundle = {
            "text/plain": f"Guess first. {self.prompt}",
            "text/markdown": f"**Guess first.** {self.prompt}\n\n{answer._repr_markdown_()}",
        }
        return self.box()._repr_mimebundle_() | bundle


def _html(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)


def guess(key: str, prompt: str, answer: Any, unit: str = "", tolerance: float = 0.1) -> Guess:
    """Ask for a guess before showing `answer`: a number computed by the code above, or a short text.

        guess("00.activated", "How many of 671 billion parameters serve one token?", answer=activated, unit="")

    `tolerance` is relative. Stand it last in its cell, and talk about the answer only below it.
    """
    return Guess(key, prompt, answer, unit, tolerance)
