"""Small figures side by side, one a variant, on common axes: what differs between neighbours is the message.

Curves that lie on each other in one figure are told apart in several. What all panels are compared with is grey and
dashed in each.

How the production version differs: papers print the panels of a figure too small to read.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from minimoe_course.figures import GREY, OKABE_ITO, STYLE

__all__ = ["panels"]

COLUMNS = 3


@mpl.rc_context(STYLE)
def panels(
    each: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], title: str, x: str, y: str,
    grey: Sequence[str] = (), xticks: Sequence[float] | None = None, yticks: Sequence[float] | None = None,
) -> Figure:  # fmt: skip
    """A panel for every {heading: {label: (xs, ys)}}, three in a row; all have the same labels, in one legend.

    With `xticks` (all above 0) the x axis is logarithmic, with `yticks` the y axis is linear between -1 and 1 and
    logarithmic outside; ticks stand where they say.
    """
    rows = -(-len(each) // COLUMNS)
    figure = Figure(figsize=(8.4, 1.3 + 2.15 * rows), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    grid = figure.subplots(rows, min(COLUMNS, len(each)), sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(each) :]:
        axes.set_visible(False)
    for number, (axes, (heading, curves)) in enumerate(zip(grid.flat, each.items(), strict=False)):
        axes.set_title(heading, fontsize=12, fontweight="normal")
        for place, (label, (xs, ys)) in enumerate(curves.items()):
            style = {"color": OKABE_ITO[place % len(OKABE_ITO)], "linestyle": ["-", "-."][place % 2]}
            style = {"color": GREY, "linestyle": ":", "linewidth": 1.3} if label in grey else style
            axes.plot(xs, ys, label=label if number == 0 else None, **style)
        if xticks is not None:
            axes.set_xscale("log")
            axes.set_xticks(xticks, [f"{tick:g}" for tick in xticks])
            axes.xaxis.set_minor_locator(NullLocator())
        if yticks is not None:
            axes.set_yscale("symlog", linthresh=1.0)
            axes.set_yticks(yticks, [f"{tick:g}" for tick in yticks])
            axes.yaxis.set_minor_locator(NullLocator())
    figure.supxlabel(x, fontsize=12)
    figure.supylabel(y, fontsize=12)
    figure.legend(loc="outside lower right", ncols=3, frameon=False, fontsize=11)
    return figure
