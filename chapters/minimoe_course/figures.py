"""The few kinds of figure that chapters are told with, in one style.

The title states the message. Lines are labelled where they end, not in a legend; what is compared with (a paper, a
baseline, a bound) is grey. Colours are Okabe and Ito's, which colour-blind readers can tell apart, and no meaning
hangs on colour alone. The background is opaque white, so that a figure stays legible in dark mode; type is large
enough for a phone.

How the production version differs: a paper's figure is drawn once for one column width; these are redrawn by every
reader.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["GREY", "OKABE_ITO", "STYLE", "bars", "blank", "heatmap", "lines"]

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
GREY = "#777777"
MARKS = "osD^vPX*"
STYLE = {
    "axes.prop_cycle": mpl.cycler(color=OKABE_ITO),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.labelsize": 12,
    "figure.figsize": (6.4, 3.8),
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "font.size": 12,
    "image.cmap": "viridis",
    "lines.linewidth": 2.0,
    "savefig.facecolor": "white",
    "savefig.transparent": False,
}


def blank(title: str, x: str = "", y: str = "", size: tuple[float, float] | None = None) -> tuple[Figure, Any]:
    """An empty figure in the course's style, outside pyplot (so no window and no second copy); gives (figure, axes)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size or STYLE["figure.figsize"], layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, wrap=True)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return figure, axes


@mpl.rc_context(STYLE)
def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, x: str, y: str,
    grey: Sequence[str] = (), log: str = "", marks: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:  # fmt: skip
    """Curves {label: (xs, ys)}, each labelled at its right end. Those named in `grey` are references.

    `log` is "", "x", "y" or "xy". `marks` are single points {label: (x, y)}, such as a crossover or a real model.
    """
    figure, axes = blank(title, x, y)
    axes.set_xscale("log" if "x" in log else "linear")
    axes.set_yscale("log" if "y" in log else "linear")
    ends, colours = {}, {}
    for number, (label, (xs, ys)) in enumerate(curves.items()):
        colours[label] = GREY if label in grey else OKABE_ITO[number % len(OKABE_ITO)]
        xs, ys = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
        few = MARKS[number % len(MARKS)] if len(xs) <= 12 else None
        axes.plot(xs, ys, color=colours[label], linestyle="--" if label in grey else "-", marker=few, markersize=5)
        ends[label] = (xs[xs.argmax()], ys[xs.argmax()])
    for label, at in (marks or {}).items():
        axes.plot(*at, "o", color="black", markersize=6)
        axes.annotate(label, at, (6, 6), textcoords="offset points")
    for label, rise in _apart(axes, ends).items():
        style = {"color": colours[label], "va": "center", "annotation_clip": False}
        axes.annotate(label, ends[label], (8, rise), textcoords="offset points", **style)
    _plain_ticks(axes, {value for xs, _ in curves.values() for value in xs}, log)
    return figure


def _apart(axes: Any, ends: Mapping[str, tuple[float, float]], gap: float = 15.0) -> dict[str, float]:
    """How far each end label is moved up, in points, so that no two stand closer than `gap` and none on the x axis."""
    height = 0.75 * 72 * axes.figure.get_figheight()  # of the axes, in points; the layout decides later, within a few
    axes.get_ylim()  # matplotlib works the limits out when they are asked for, and `transData` does not ask
    to_share = axes.transData + axes.transAxes.inverted()
    at = {label: to_share.transform(end)[1] * height for label, end in ends.items()}
    moved, last = {}, -np.inf
    for label in sorted(at, key=at.get):
        last = max(at[label], last + gap)
        moved[label] = last - at[label]
    # Only upwards would push the top labels away from their lines: each crowd is centred on its own again.
    crowds: list[list[str]] = []
    for label in sorted(at, key=at.get):
        touches = crowds and at[label] + moved[label] - at[crowds[-1][-1]] - moved[crowds[-1][-1]] <= gap + 1e-6
        crowds[-1].append(label) if touches else crowds.append([label])
    for crowd in crowds:
        down = sum(moved[label] for label in crowd) / len(crowd)
        down = max(0.0, min(down, at[crowd[0]] - gap / 2))
        moved |= {label: moved[label] - down for label in crowd}
    return moved


def _plain_ticks(axes: Any, places: set[float], log: str) -> None:
    """On a logarithmic x axis with a handful of measured places, write these out instead of powers of ten."""
    if "x" in log and len(places) <= 8:
        axes.set_xticks(
            sorted(places), [f"{place:,.4g}" if place < 1e4 else f"{place:,.0f}" for place in sorted(places)]
        )
        axes.minorticks_off()


@mpl.rc_context(STYLE)
def bars(
    values: Mapping[str, float], title: str, x: str, grey: Sequence[str] = (), form: str = "{:,.4g}", log: bool = False
) -> Figure:
    """One horizontal bar a label, with its value written at its end; the first on top."""
    figure, axes = blank(title, x, size=(6.4, 1.4 + 0.42 * len(values)))
    labels, widths = list(values), [float(v) for v in values.values()]
    axes.barh(labels, widths, color=[GREY if label in grey else OKABE_ITO[0] for label in labels])
    for row, width in enumerate(widths):
        axes.annotate(form.format(width), (width, row), (4, 0), textcoords="offset points", va="center")
    axes.set_xscale("log" if log else "linear")
    axes.margins(x=0.18)
    axes.invert_yaxis()
    return figure


@mpl.rc_context(STYLE)
def heatmap(
    z: Any, title: str, x: str, y: str, xticks: Sequence[str] | None = None, yticks: Sequence[str] | None = None,
    signed: bool = False, unit: str = "",
) -> Figure:  # fmt: skip
    """A matrix as colours, row 0 on top: viridis, or for `signed` data a diverging map centred on zero."""
    z = np.asarray(z, dtype=float)
    figure, axes = blank(title, x, y, size=(6.4, float(np.clip(1.4 + 6.0 * z.shape[0] / z.shape[1], 2.6, 6.4))))
    reach = np.nanmax(np.abs(z)) if signed else None
    limits = {"vmin": -reach, "vmax": reach, "cmap": "RdBu_r"} if signed else {"cmap": "viridis"}
    image = axes.imshow(z, aspect="auto", interpolation="nearest", **limits)
    figure.colorbar(image, ax=axes, label=unit, shrink=0.9)
    for axis, names in ((axes.xaxis, xticks), (axes.yaxis, yticks)):
        if names is None:
            axis.set_major_locator(MaxNLocator(integer=True))
        else:
            axis.set_ticks(range(len(names)), names)
    if xticks is not None and max(map(len, xticks)) > 3:
        axes.tick_params(axis="x", labelrotation=45)
    return figure
