"""The static twins of ContextExplorer's two views, in matplotlib.

How the production version differs: nothing here is special to production.
"""

import numpy as np

from minimoe_widgets.context_words import human_tokens
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["angles_twin", "retrieval_twin"]


def angles_twin(pairs, title: str, alt: str) -> Twin:
    """Above, tokens a turn, before and with YaRN, against the two lengths; below, the ramp."""
    twin = Twin(alt, 7.4, 4.8)
    above, below = twin.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    places = np.arange(len(pairs.ramp))
    above.plot(places, pairs.plain_tokens, "o--", color=OKABE_ITO["grey"], markerfacecolor="white", markersize=5)
    above.plot(places, pairs.now_tokens, "o-", color=OKABE_ITO["blue"], markersize=4)
    levels = {"trained": (pairs.trained_tokens, "vermillion"), "to read": (pairs.read_tokens, "green")}
    if pairs.read_tokens == pairs.trained_tokens:
        del levels["to read"]
    else:
        above.annotate("with YaRN", (places[-1], pairs.now_tokens[-1]), (0, 8), textcoords="offset points", ha="right",
                       color=OKABE_ITO["blue"])  # fmt: skip
        above.annotate("before", (places[-2], pairs.plain_tokens[-2]), (8, -12), textcoords="offset points",
                       color="#555555")  # fmt: skip
    for name, (tokens, colour) in levels.items():
        above.axhline(tokens, color=OKABE_ITO[colour], linestyle=":")
        above.text(-0.4, tokens * 1.1, f"{name}: {human_tokens(tokens)}", color=OKABE_ITO[colour], va="bottom")
    above.set(yscale="log", ylabel="tokens a turn")
    above.set_ylim(top=max(pairs.now_tokens[-1], pairs.read_tokens) * 4)
    below.bar(places, pairs.ramp, color=OKABE_ITO["orange"])
    below.set(xlabel="rotary pair, fastest first", ylabel="slowed\ndown", ylim=(0, 1.05))
    below.spines[["top", "right"]].set_visible(False)
    return _finish(twin, above, title)


def retrieval_twin(found, trained: int, title: str, alt: str) -> Twin:
    """Right answers by length (rows, the shortest above) and depth, with a line below the trained length."""
    twin = Twin(alt, 7.0, 3.6)
    ax = twin.subplots()
    shares = np.array(found.accuracy)
    image = ax.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        ax.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color="k" if share > 0.6 else "w")
    edge = sum(length <= trained for length in found.lengths) - 0.5
    ax.axhline(edge, color=OKABE_ITO["vermillion"], linewidth=3)
    ax.set_xticks(range(len(found.depths)), [f"{depth:g}" for depth in found.depths])
    ax.set_yticks(range(len(found.lengths)), [str(length) for length in found.lengths])
    ax.set(xlabel="depth: 0 is the row's beginning", ylabel="tokens in the row")
    twin.colorbar(image, ax=ax, label="right", shrink=0.9)
    return _finish(twin, ax, title)


def _finish(twin: Twin, ax, title: str) -> Twin:
    ax.spines[["top", "right"]].set_visible(False)
    twin.suptitle(title, fontsize=9.5, x=0.01, ha="left", wrap=True)
    return twin
