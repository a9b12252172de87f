"""The static twin of KernelTimings, in matplotlib.

How the production version differs: nothing here is special to production.
"""

from minimoe_widgets.kernel_timings_figure import reach
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["draw_twin"]


def draw_twin(picture) -> Twin:
    """A roofline at the left, times or floors at the right; hollow is what nobody measured."""
    twin = Twin(picture.alt(), 9.0, 4.0)
    roofs, bars = twin.subplots(1, 2, width_ratios=(1.8, 1))
    low, high = reach(picture)
    for number, (name, (peak, wide)) in enumerate(picture.roofs.items()):
        colour = OKABE_ITO["grey" if number else "blue"]
        xs, ys = [low, 1e3 * peak / wide, high], [low * wide / 1e3, peak, peak]
        roofs.plot(xs, ys, "--" if number else "-", color=colour)
        style = {"ha": "right", "va": "top" if number else "bottom", "color": colour}
        roofs.annotate(name, (high, peak), (0, -4 if number else 3), textcoords="offset points", **style)
    for number, (name, intensity) in enumerate(picture.marks.items()):
        at = intensity, picture.roof(intensity)
        roofs.plot(*at, "D", color="black", markerfacecolor="white", markersize=7)
        roofs.annotate(name, at, (9, -3 - 9 * (number % 3)), textcoords="offset points", va="top", fontsize=9)
    for number, (name, (x, y, least, most)) in enumerate(picture.points.items()):
        roofs.errorbar(x, y, [[y - least], [most - y]], fmt="o" if number == 0 else "s", color=_colour(number))
        roofs.annotate(name, (x, y), (9, -4), textcoords="offset points", fontsize=9, va="top")
    roofs.set(xscale="log", yscale="log", xlabel="FLOPs a byte", ylabel="TFLOP/s", xlim=(low, high))
    roofs.set_ylim(top=4 * max(peak for peak, _ in picture.roofs.values()))
    _draw_bars(bars, picture)
    for ax in (roofs, bars):
        ax.spines[["top", "right"]].set_visible(False)
    twin.suptitle(picture.title(), fontsize=9.5, x=0.01, ha="left", wrap=True)
    return twin


def _draw_bars(ax, picture):
    for row, (value, low, high) in enumerate(picture.bars.values()):
        if picture.record:
            spread = [[value - (low or value)], [(high or value) - value]]
            ax.barh(row, value, color=_colour(row), xerr=spread)
        else:
            ax.barh(row, value, facecolor="white", edgecolor="black")
        ax.annotate(f"{value:,.4g}", (value, row), (5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(range(len(picture.bars)), list(picture.bars))
    ax.set_xlabel("us, median, p20 to p80" if picture.record else "us at least, by the datasheet")
    ax.margins(x=0.3)
    ax.invert_yaxis()


def _colour(number: int) -> str:
    return OKABE_ITO["vermillion" if number == 0 else "grey"]
