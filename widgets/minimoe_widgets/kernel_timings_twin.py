"""The static twin of KernelTimings, in matplotlib.

How the production version differs: nothing here is special to production.
"""

from minimoe_widgets.kernel_timings_bars import colour
from minimoe_widgets.kernel_timings_figure import ROOFS, SYMBOLS
from minimoe_widgets.kernel_timings_words import short
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["draw_twin"]


def draw_twin(picture) -> Twin:
    """A roofline at the left, times or floors at the right; hollow is what nobody measured."""
    twin = Twin(picture.alt(), 9.0, 4.2)
    roofs, bars = twin.subplots(1, 2, width_ratios=(1.8, 1))
    (left, right), (bottom, top) = picture.axes
    for (name, (peak, wide)), (shade, _, dash) in zip(picture.roofs.items(), ROOFS, strict=False):
        xs, ys = [left, 1e3 * peak / wide, right], [left * wide / 1e3, peak, peak]
        roofs.plot(xs, ys, dash, color=OKABE_ITO[shade], label=name)
    shapes = [*SYMBOLS.values()]
    for number, (name, intensity) in enumerate(picture.marks.items()):
        style = {"color": "black", "markerfacecolor": "none", "linestyle": "none", "markersize": 8}
        roofs.plot(intensity, picture.roof(intensity), shapes[number % len(shapes)], label=name, **style)
    for number, (name, (x, y, least, most)) in enumerate(picture.points.items()):
        style = {"color": colour(number), "linestyle": "none", "label": name, "zorder": 3 - 0.1 * number}
        roofs.errorbar(x, y, [[y - least], [most - y]], fmt=shapes[(number + 3) % len(shapes)], **style)
    if picture.placeless:
        roofs.text(0.5, 0.06, picture.placeless, transform=roofs.transAxes, ha="center")
    roofs.set(xscale="log", yscale="log", xlabel="FLOPs a byte", ylabel="TFLOP/s")
    roofs.set(xlim=(left, right), ylim=(bottom, top))
    roofs.xaxis.set_major_formatter("{x:,g}")
    roofs.yaxis.set_major_formatter("{x:,g}")
    roofs.grid(color="#e6e6e6")
    roofs.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=9)
    _draw_bars(bars, picture)
    for ax in (roofs, bars):
        ax.spines[["top", "right"]].set_visible(False)
    twin.suptitle(picture.title(), fontsize=9.5, x=0.01, ha="left", wrap=True)
    return twin


def _draw_bars(ax, picture):
    for row, (value, low, high) in enumerate(picture.bars.values()):
        if picture.record:
            spread = [[value - (low or value)], [(high or value) - value]]
            ax.barh(row, value, height=0.5, color=colour(row), xerr=spread)
        else:
            ax.barh(row, value, height=0.5, facecolor="white", edgecolor="black")
        ax.annotate(
            f"{short(value)}", (high or value, row), (5, 0), textcoords="offset points", va="center", fontsize=9
        )
    ax.set_yticks(range(len(picture.bars)), list(picture.bars))
    ax.set_xlabel("median, p20 to p80 (us)" if picture.record else "at least (us)")
    ax.margins(x=0.3)
    ax.set_ylim(max(1.6, len(picture.bars) - 0.4), -0.6)
    ax.locator_params(axis="x", nbins=4)
