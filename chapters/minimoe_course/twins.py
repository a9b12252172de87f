"""`show`: a figure with alt text, or an explorer with its static twin below it.

A figure is drawn once, as a PNG: GitHub, nbviewer, nbconvert and a phone show what JupyterLab shows. Its alt text goes
into the output's metadata, which some of them read, and for the others folds open below the picture. An explorer is
shown live and then once more as a picture of the state it opens in. What is committed keeps the picture and loses the
live part, whose saved state would weigh five megabytes, so a reader without a kernel sees the twin alone.

How the production version differs: dashboards assume a server. A course is read in places that have none.
"""

import io
from typing import Any

from matplotlib.figure import Figure

from minimoe_course.folded import Folded

__all__ = ["png", "show"]


def png(picture: Figure | bytes, dpi: int = 150) -> bytes:
    """PNG bytes of a matplotlib figure, on opaque white and without a date or version in them; PNG bytes pass
    through."""
    if isinstance(picture, bytes):
        if not picture.startswith(b"\x89PNG"):
            raise ValueError(f"expected the bytes of a PNG, got bytes that begin with {picture[:8]!r}")
        return picture
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=dpi, facecolor="white", transparent=False, metadata={"Software": None})
    return buffer.getvalue()


def show(what: Any, alt: str = "") -> None:
    """Show a matplotlib figure, or an explorer (anything with `.static()`), so that it can be read without a kernel.

    `alt` says what is to be seen, in a sentence or more; a picture with an `alt` of its own, as explorers' twins have,
    needs none. The last line of a cell.
    """
    from IPython.display import display

    picture = what
    if hasattr(what, "static"):
        picture = what.static()
    if not isinstance(picture, Figure | bytes):
        raise TypeError(f"show takes a matplotlib Figure or an explorer with .static(), got {type(picture).__name__}")
    alt = alt or getattr(picture, "alt", "")
    if len(alt) < 20:
        raise ValueError(f"alt text {alt!r} has {len(alt)} characters; say in a sentence what is to be seen")
    if picture is not what:
        display(what)
    display({"image/png": png(picture), "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)
    # JupyterLab and nbconvert's default template give a PNG output no alt attribute, whatever its metadata says.
    display(Folded(("The figure in words", alt)))
