"""Static twins: what an explorer shows, as a picture that needs no kernel.

A notebook on GitHub, in nbviewer or on a hub with other widget versions shows no live widget. Below each explorer
stands its twin, a matplotlib figure of the same state, stored as PNG with a text for those who do not see it. Colours
are Okabe and Ito's, told apart by readers with any colour vision; sequences are viridis.

How the production version differs: dashboards take screenshots of themselves; a twin drawn from the same arrays stays
sharp, small and testable.
"""

import io

from matplotlib.figure import Figure

__all__ = ["OKABE_ITO", "Twin"]

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#8A8A8A",
}


class Twin(Figure):
    """A matplotlib figure that shows itself in a notebook once, without pyplot, and carries its alt text."""

    def __init__(self, alt: str, width: float = 8.0, height: float = 4.0):
        super().__init__(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
        self.alt = alt

    def png(self) -> bytes:
        """The figure as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": self.png(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}
