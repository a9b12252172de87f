"""The static twins of FP8Explorer's two views, in matplotlib.

How the production version differs: nothing here is special to production.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from minimoe_widgets.fp8_canvas import FLUSHED, shade
from minimoe_widgets.fp8_curve import HIGH, LOW, PAPER_ERROR
from minimoe_widgets.fp8_sums import INTERVALS, LENGTHS, PAPER_INTERVAL
from minimoe_widgets.fp8_words import FIELDS, ScalesPicture, SumsPicture, percent
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["scales_twin", "sums_twin"]


def scales_twin(picture: ScalesPicture) -> Twin:
    """Three maps, one above the other, each with the bits of the chosen element at its foot."""
    twin = Twin(picture.alt(), 8.0, 6.4)
    axes = twin.subplots(6, 1, height_ratios=[2.6, 1] * 3)
    colours = colormaps["viridis_r"].with_extremes(over=OKABE_ITO["vermillion"], bad="#F5F5F5")
    for choice, pattern, ax, foot in zip(picture.choices, picture.patterns, axes[::2], axes[1::2], strict=True):
        shades = shade(choice.error_XZ.numpy(), choice.flushed_XZ.numpy())
        shown = np.ma.masked_equal(shades, 0)
        image = ax.imshow(shown, cmap=colours, vmin=1, vmax=FLUSHED - 1, aspect="auto", interpolation="nearest")
        _borders(ax, choice)
        for (row, column), marker in ((picture.outlier, "o"), (picture.at, "s")):
            for colour, thick in (("white", 4), ("black", 1.6)):
                look = {"markersize": 9, "fillstyle": "none", "color": colour, "markeredgewidth": thick}
                ax.plot(column, row, marker, clip_on=False, **look)
        ax.set_title(picture.words(choice), fontsize=8.5, loc="left")
        ax.set(xticks=[], yticks=[])
        _bits(foot, picture, pattern)
    bar = twin.colorbar(image, ax=list(axes), extend="max", shrink=0.6, pad=0.01)
    bar.set_ticks([1, 1 + 253 / 3, 1 + 2 * 253 / 3, 254], labels=["0.1%", "1%", "10%", "100%"], fontsize=8)
    bar.set_label("relative error (tip: became zero)", fontsize=8)
    words = f"{picture.title()}\nCircle: the value multiplied. Square, and bits below each map: {picture.element()}"
    twin.suptitle(words, fontsize=9, x=0.01, ha="left", wrap=True)
    return twin


def _borders(ax, choice):
    rows, columns = choice.exact_XZ.shape
    tall, wide = choice.numbers.block
    for r in range(tall, rows, tall):
        ax.axhline(r - 0.5, color="black", linewidth=0.4)
    for c in range(wide, columns, wide):
        ax.axvline(c - 0.5, color="black", linewidth=1)


def _bits(ax, picture, pattern):
    """Sign, exponent and mantissa as boxes, and in words how they came about."""
    ax.set(xlim=(0, 100), ylim=(0, 1))
    ax.axis("off")
    at = 0
    for bits, colour in zip(pattern.fields, FIELDS.values(), strict=True):
        for bit in bits:
            ax.add_patch(Rectangle((at, 0.15), 2.2, 0.75, facecolor=colour))
            ax.text(at + 1.1, 0.5, bit, ha="center", va="center", fontsize=8, family="monospace")
            at += 2.3
        at += 0.8
    first, second, third = picture.steps(pattern)
    ax.text(at + 0.5, 0.5, f"{pattern.kind}; {first}\n{second}; {third}", va="center", fontsize=7.5)


def sums_twin(picture: SumsPicture) -> Twin:
    """One line for each K, the chosen one thick."""
    twin = Twin(picture.alt(), 7.2, 4.2)
    ax, near = twin.subplots(), {"textcoords": "offset points", "fontsize": 9}
    for length in LENGTHS:
        own = length == picture.length
        colour, thick = (OKABE_ITO["blue"], 2.5) if own else ("#9A9A9A", 1)
        line = picture.line(length)
        ax.plot(*zip(*line, strict=True), marker="." if own else None, color=colour, linewidth=thick, zorder=thick)
        if own:
            ax.annotate(f"K = {length:,}", line[-1], (7, -3), color=colour, **near)
    found, colour = picture.error(picture.interval).largest, OKABE_ITO["vermillion"]
    ax.plot(picture.interval, found, "o", color=colour, markersize=10, markeredgecolor="black", zorder=4)
    ax.annotate(percent(found), (picture.interval, found), (9, -13), color=colour, fontweight="bold", **near)
    ax.axvline(PAPER_INTERVAL, color=OKABE_ITO["grey"], linestyle="--", linewidth=1)
    ax.axhline(PAPER_ERROR, color=OKABE_ITO["grey"], linestyle="--", linewidth=1)
    ax.annotate("the paper's 2%, in one piece", (INTERVALS[0], PAPER_ERROR), (0, 4), **near)
    ax.annotate("V3: every 128", (PAPER_INTERVAL, 0), (4, 5), xycoords=("data", "axes fraction"), **near)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(INTERVALS, [str(n) for n in INTERVALS])
    ax.set(xlim=(INTERVALS[0] * 0.9, INTERVALS[-1] * 2.2), ylim=(10.0**LOW, 10.0**HIGH))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * error:g}%"))
    ax.set(xlabel="products between two promotions to float32", ylabel="largest error / size of the outputs")
    ax.spines[["top", "right"]].set_visible(False)
    title = f"{picture.title()}\nA thin line is another K and ends at it."
    twin.suptitle(title, fontsize=10, x=0.01, ha="left", wrap=True)
    return twin
