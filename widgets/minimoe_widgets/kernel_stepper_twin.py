"""The static twin of KernelStepper, in matplotlib: three matrices and the bytes loaded so far.

How the production version differs: nothing here is special to production.
"""

import numpy as np
from matplotlib.patches import Rectangle

from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["draw_twin"]


def draw_twin(picture) -> Twin:
    """B above C, A left of C, as the product is written by hand; at the right, bytes loaded by program."""
    sizes, shades, boxes = picture.found.sizes, picture.shades(), {box[0]: box[1:] for box in picture.boxes()}
    twin = Twin(picture.alt(), 9.0, 4.6)
    left, right = twin.subfigures(1, 2, width_ratios=[1.35, 1])
    axes = left.subplots(2, 2, width_ratios=[sizes.D, sizes.F], height_ratios=[sizes.D, sizes.M])
    axes[0, 0].axis("off")
    most = picture.most()
    names = {"C": f"C: written; dark: by the last {picture.together} or fewer"}
    names |= {name: f"{name}: read up to {times}x" for name, times in most.items()}
    for name, ax in (("B", axes[0, 1]), ("A", axes[1, 0]), ("C", axes[1, 1])):
        shape = sizes.shapes[name]
        ax.set_facecolor("#EFEFEF")  # not read, not written
        shown = np.ma.masked_equal(shades[name].reshape(shape), 0)
        ax.imshow(shown, cmap="viridis_r", vmin=0, vmax=255, aspect="auto")
        ax.set(xticks=[], yticks=[])
        ax.set_title(names[name], fontsize=9)
        if name in boxes:
            top, first, bottom, last = boxes[name]
            frame = {"fill": False, "edgecolor": OKABE_ITO["vermillion"], "linewidth": 2.2}
            ax.add_patch(Rectangle((first - 0.5, top - 0.5), last - first, bottom - top, **frame))
    _draw_curves(right.subplots(), picture)
    twin.suptitle(picture.title(), fontsize=10, x=0.01, ha="left", wrap=True)
    return twin


def _draw_curves(ax, picture):
    at, ends = picture.at, []
    for label, values, colour in (
        ("every load", picture.loaded, "blue"),
        (f"shared by {picture.together}", picture.shared, "green"),
    ):
        xs, ys = np.arange(len(values) + 1), np.array([0, *values]) / 1000
        ax.plot(xs, ys, color=OKABE_ITO[colour], linestyle=":", linewidth=1.2)
        ax.plot(xs[: at + 1], ys[: at + 1], color=OKABE_ITO[colour], linewidth=2.2)
        ends.append((label, xs[-1], ys[-1], colour))
    sizes = picture.found.sizes
    once = 2 * sizes.D * (sizes.M + sizes.F) / 1000
    ax.axhline(once, color=OKABE_ITO["grey"], linestyle="--", linewidth=1.2)
    where = {"textcoords": "offset points", "fontsize": 9, "ha": "right"}
    ax.annotate("A and B once", (ends[0][1], once), (0, 3), color=OKABE_ITO["grey"], **where)
    for label, x, y, colour in ends:
        ax.annotate(label, (x, y), (-4, 4), color=OKABE_ITO[colour], **where)
    ax.axvline(at, color="#222222", linewidth=0.8)
    ax.set(xlabel="programs run", ylabel="loaded (1,000 bytes)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(0, 1.12 * max(once, ends[0][2], 1))
