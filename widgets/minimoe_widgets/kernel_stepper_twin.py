"""The static twin of KernelStepper, in matplotlib: three matrices and the bytes loaded so far.

How the production version differs: nothing here is special to production.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["NOTHING", "draw_curves", "draw_twin", "shade"]

NOTHING = "#EFEFEF"  # not read, not written


def shade(part: float):
    """The colour of `part` of the most, 0 to 1: the darker the more, and pale for nothing."""
    return colormaps["viridis_r"](part) if part else NOTHING


def draw_twin(picture) -> Twin:
    """B above C, A left of C, as the product is written by hand; at the right, bytes loaded by program."""
    sizes, shades, boxes = picture.found.sizes, picture.shades(), {box[0]: box[1:] for box in picture.boxes()}
    twin = Twin(picture.alt(), 9.0, 5.0)
    left, right = twin.subfigures(1, 2, width_ratios=[1.35, 1])
    axes = left.subplots(2, 2, width_ratios=[sizes.D, sizes.F], height_ratios=[sizes.D, sizes.M])
    axes[0, 0].axis("off")
    for name, ax in (("B", axes[0, 1]), ("A", axes[1, 0]), ("C", axes[1, 1])):
        shape = sizes.shapes[name]
        ax.set_facecolor(NOTHING)
        shown = np.ma.masked_equal(shades[name].reshape(shape), 0)
        ax.imshow(shown, cmap="viridis_r", vmin=0, vmax=255, aspect="auto")
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize=9)
        if name in boxes:
            top, first, bottom, last = boxes[name]
            frame = {"fill": False, "edgecolor": OKABE_ITO["vermillion"], "linewidth": 2.2}
            ax.add_patch(Rectangle((first - 0.5, top - 0.5), last - first, bottom - top, **frame))
    lines = (("every load", picture.loaded, "blue"), (f"shared by {picture.together}", picture.shared, "green"))
    lines = [(label, [0, *values], colour) for label, values, colour in lines]
    once = ("A and B once", 2 * sizes.D * (sizes.M + sizes.F))
    draw_curves(right.subplots(), lines, picture.at, once, ("programs run", "loaded"))
    _draw_key(twin, picture)
    twin.suptitle(picture.title(), fontsize=10, x=0.01, ha="left", wrap=True)
    return twin


def _draw_key(twin, picture):
    """What the colours mean, below everything."""
    rows = [Patch(color=NOTHING, label="not read, not written")]
    for name, most in picture.most().items():
        for times in sorted({1, most}):
            rows.append(Patch(color=shade(times / most), label=f"{name}: read {times}x"))
    rows += [Patch(color=shade(110 / 255), label="C: written"),
             Patch(color=shade(235 / 255), label=f"C: by the last {picture.together} or fewer")]  # fmt: skip
    what = "touched before it was stopped" if picture.stopped else "program at work"
    rows += [Patch(facecolor="none", edgecolor=OKABE_ITO["vermillion"], linewidth=2, label=what)]
    rows += [Line2D([], [], color=OKABE_ITO["grey"], linestyle=":", label="to come")]
    twin.legend(handles=rows, loc="outside lower left", ncols=5, fontsize=8, frameon=False)


def draw_curves(ax, lines, at: int, once: tuple, axes: tuple):
    """Bytes by step: `lines`: (label, values from step 0, colour), dotted after `at`; `once` (label or "", bytes)."""
    where = {"textcoords": "offset points", "fontsize": 9, "ha": "right"}
    end = len(lines[0][1]) - 1
    ax.axhline(once[1] / 1000, color=OKABE_ITO["grey"], linestyle="--", linewidth=1.2)
    if once[0]:
        ax.annotate(once[0], (end, once[1] / 1000), (0, 3), color=OKABE_ITO["grey"], **where)
    for label, values, colour in lines:
        ys = np.array(values) / 1000
        ax.plot(ys, color=OKABE_ITO[colour], linestyle=":", linewidth=1.2)
        ax.plot(ys[: at + 1], color=OKABE_ITO[colour], linewidth=2.2)
        ax.annotate(label, (end, ys[-1]), (-4, 4), color=OKABE_ITO[colour], **where)
    ax.axvline(at, color="#222222", linewidth=0.8)
    ax.set(xlabel=axes[0], ylabel=f"{axes[1]} (1,000 bytes)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(0, 1.12 * max(once[1], lines[0][1][-1], 1) / 1000)
