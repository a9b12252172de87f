"""Tables of numbers that say where they come from.

`compare_table` puts the reader's small model beside DeepSeek-V3; `receipt` lists the claims of a chapter and how each
is known. Both show as an HTML table in a notebook and as aligned text everywhere else, and have the same numbers in
both.

How the production version differs: papers print tables without the code that made them; misprints then live for years.
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Table", "compare_table", "number", "receipt"]

ORIGIN = re.compile(r"(computed|asserted by tests/\S+\.py|source: .{4,})", re.DOTALL)


def number(value: Any) -> str:
    """A number as a reader wants it: whole numbers with commas, others to four digits; text stays."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return (
        f"{value:,.4g}"
        if 1e-4 <= abs(value) < 1e4 or value == 0
        else f"{value:,.0f}"
        if 1e4 <= abs(value) < 1e12
        else f"{value:.3e}"
    )


class Table:
    """Rows under named columns; numbers are formatted by `number`. Shows as HTML, prints as text."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = ""):
        self.columns, self.title = tuple(columns), title
        self.values = [tuple(row) for row in rows]
        for row in self.values:
            if len(row) != len(self.columns):
                raise ValueError(f"row {row!r} has {len(row)} cells; the table has {len(self.columns)} columns")
        self.rows = [tuple(number(cell) for cell in row) for row in self.values]
        # A column of numbers is set flush right, so that digits of equal weight stand below each other.
        self.right = [any(isinstance(row[i], int | float) for row in self.values) for i in range(len(self.columns))]

    def _repr_html_(self) -> str:
        def cells(tag, row):
            sides = ["right" if right else "left" for right in self.right]
            pairs = zip(row, sides, strict=True)
            return "".join(f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>' for cell, side in pairs)

        title = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        return f"<table>{title}<thead><tr>{cells('th', self.columns)}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]

        def line(row):
            cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, self.right, strict=True))
            return "  ".join(cells).rstrip()

        head = [self.title] if self.title else []
        return "\n".join([*head, line(self.columns), "  ".join("-" * w for w in widths), *map(line, self.rows)])


def compare_table(
    rows: Iterable[Sequence[Any]], ours: str = "ours", theirs: str = "DeepSeek-V3", title: str = ""
) -> Table:
    """Our numbers beside the paper's: rows of (what, ours, theirs, source)."""
    return Table(("", ours, theirs, "source"), rows, title)


def receipt(rows: Iterable[Sequence[Any]], title: str = "") -> Table:
    """Where a chapter's numbers come from: rows of (claim, value, origin).

    An origin is "computed" (by a cell above), "asserted by tests/....py", or "source: " and a citation; anything else
    is a ValueError. That the tests named exist is checked by the chapter guards.
    """
    rows = list(rows)
    for claim, _, origin in rows:
        if not ORIGIN.match(origin):
            raise ValueError(
                f"{claim!r} has origin {origin!r}; expected 'computed', 'asserted by tests/....py' or 'source: ...'"
            )
    return Table(("claim", "value", "how it is known"), rows, title)
