"""A figure for paired differences: one dot a seed, and the 95% interval of their mean.

Five dots show what a bar hides: whether the seeds agree, and whether one of them makes the mean.

How the production version differs: papers print the mean in bold; whether the next row differs from it is left to the
reader.
"""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from minimoe_course.curves import Paired
from minimoe_course.figures import GREY, MARKS, OKABE_ITO, STYLE, blank

__all__ = ["dots"]


@mpl.rc_context(STYLE)
def dots(pairs: Mapping[str, Paired], title: str, x: str) -> Figure:
    """A row for every {label: differences}: a dot a seed, above it their mean and its 95% interval; zero in grey.

    Rows stand in the given order, the first on top.
    """
    figure, axes = blank(title, x, size=(6.4, 1.5 + 0.62 * len(pairs)))
    axes.axvline(0.0, color=GREY, linestyle="--", linewidth=1.2)
    for row, pair in enumerate(pairs.values()):
        colour, ys = OKABE_ITO[row % len(OKABE_ITO)], np.full(len(pair.differences), row + 0.14)
        axes.plot(pair.differences, ys, MARKS[row % len(MARKS)], color=colour, alpha=0.75, markersize=6)
        axes.plot([pair.low, pair.high], [row - 0.18] * 2, color=colour, linewidth=2.4)
        axes.plot([pair.mean], [row - 0.18], "|", color=colour, markersize=13, markeredgewidth=2.4)
    axes.set_yticks(range(len(pairs)), list(pairs))
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.margins(x=0.08)
    return figure
