"""The static twin of BalanceExplorer: a run as a matplotlib figure, with the steps at which something was switched.

How the production version differs: nothing here is special to production.
"""

from matplotlib.ticker import MaxNLocator

from minimoe_widgets.balance_stream import Window
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["draw_twin"]


def draw_twin(window: Window, title: str, alt: str, worst: float) -> Twin:
    """Above, experts x steps; below, MaxVio (other layers grey, `worst` dashed) and the loss."""
    experts = window.load.shape[1]
    twin = Twin(alt, 8.4, 4.6 + 0.06 * min(experts, 32))
    above, middle, below = twin.subplots(3, 1, sharex=True, height_ratios=[1.7, 1, 1])
    ends = (window.steps[0] - 0.5, window.last_step + 0.5)
    image = above.imshow(
        window.of_mean.T, cmap="viridis_r", aspect="auto", interpolation="nearest", vmin=0,
        vmax=min(worst + 1, 4.0), extent=(*ends, experts - 0.5, -0.5),
    )  # fmt: skip
    twin.colorbar(image, ax=above, label="load / mean load", fraction=0.04, pad=0.01)
    above.set(ylabel="expert", yticks=range(0, experts, max(1, experts // 8)))
    centre = window.steps + (window.stride - 1) / 2
    _draw_maxvio(middle, window, centre, worst)
    below.plot(centre, window.loss, color="black", linewidth=1.2)
    below.set(ylabel="loss (nats)", xlabel="step", xlim=ends)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (middle, below):
        ax.spines[["top", "right"]].set_visible(False)
    for step, label in window.marks:
        _draw_mark((above, middle, below), step, label, ends)
    twin.suptitle(title, fontsize=9.5, x=0.01, ha="left", wrap=True)
    return twin


def _draw_maxvio(ax, window, centre, worst):
    for layer, values in window.maxvio.items():
        if layer != window.layer:
            ax.plot(centre, values, color=OKABE_ITO["grey"], linewidth=0.8)
    own = window.maxvio[window.layer]
    ax.plot(centre, own, color=OKABE_ITO["blue"], linewidth=1.6)
    ax.set(ylabel="MaxVio", ylim=(0, None))
    if worst <= 1.3 * max(values.max() for values in window.maxvio.values()):
        ax.axhline(worst, color=OKABE_ITO["grey"], linestyle="--", linewidth=1)
        ax.text(centre[-1], worst, "a few experts serve all", ha="right", va="bottom", fontsize=8, color="#555555")
        ax.set_ylim(0, 1.2 * worst)


def _draw_mark(axes, step, label, ends):
    if not ends[0] <= step <= ends[1]:
        return
    if step > ends[0] + 1:
        for ax in axes:
            ax.axvline(step - 0.5, color=OKABE_ITO["vermillion"], linewidth=1.5)
    axes[0].annotate(label, (step - 0.5, 1.0), (2, 3), xycoords=axes[0].get_xaxis_transform(),
                     textcoords="offset points", fontsize=8)  # fmt: skip
