"""The static twins of CompressionExplorer's three views, in matplotlib.

How the production version differs: nothing here is special to production.
"""

import numpy as np

from minimoe_widgets.cache_bill import GPU_BYTES, human_bytes
from minimoe_widgets.compression_figure import bar_colour
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["attention_twin", "bill_twin", "rank_twin"]


def bill_twin(lines, title: str, alt: str) -> Twin:
    """One bar a line on a logarithmic scale; existing models hatched in grey."""
    twin = Twin(alt, 8.0, 3.8)
    ax = twin.subplots()
    sizes = [line.cache_bytes for line in lines]
    names = [f"{line.name}\n{human_bytes(line.token_bytes)} a token" for line in lines]
    hatches = ["//" if line.exists else "" for line in lines]
    bars = ax.barh(
        names, sizes, color=[bar_colour(line) for line in lines], hatch=hatches, edgecolor="white", linewidth=0
    )
    ax.bar_label(bars, [human_bytes(size) for size in sizes], padding=4, fontsize=9)
    ax.set_xscale("log")
    ax.set_xlim(min(sizes) / 5, max(sizes) * 12)
    ax.invert_yaxis()
    if min(sizes) / 5 < GPU_BYTES < max(sizes) * 12:
        ax.axvline(GPU_BYTES, color=OKABE_ITO["grey"], linestyle="--", zorder=0)
        ax.text(GPU_BYTES * 1.1, -0.55, "80 GB: one H100", ha="left", va="bottom", fontsize=8, color="#555555")
    ax.set_xlabel("bytes of cache (logarithmic)")
    ax.tick_params(axis="y", labelsize=8)
    return _finish(twin, ax, title)


def attention_twin(weights_TS, labels, title: str, alt: str) -> Twin:
    """Row t: where token t looks."""
    tokens = len(labels)
    twin = Twin(alt, 6.4, 5.4)
    ax = twin.subplots()
    shown = np.where(np.tri(tokens, dtype=bool), weights_TS, np.nan)
    image = ax.imshow(
        shown, cmap="viridis", vmin=0, vmax=weights_TS[min(3, tokens - 1) :].max(), interpolation="nearest"
    )
    every = max(1, tokens // 36)
    places, texts = range(0, tokens, every), labels[::every]
    ax.set_xticks(places, texts, rotation=60, ha="right", fontsize=7)
    ax.set_yticks(places, texts, fontsize=7)
    ax.set(xlabel="looked at", ylabel="looks")
    twin.colorbar(image, ax=ax, label="weight", shrink=0.7)
    return _finish(twin, ax, title)


def rank_twin(spectra, ranks, losses, rank: int, title: str, alt: str) -> Twin:
    """Above, the singular values of each part of the entry; below, the loss by rank with `rank` marked."""
    twin = Twin(alt, 7.2, 4.8)
    above, below = twin.subplots(2, 1, sharex=True)
    for (name, values), colour, marker in zip(spectra.items(), ("blue", "vermillion"), "os", strict=True):
        x = np.arange(1, len(values) + 1)
        above.plot(x, values, marker=marker, markersize=3, color=OKABE_ITO[colour])
        place = -1 if colour == "blue" else 1  # the two curves may meet in the middle
        above.annotate(name, (x[place], values[place]), (6, 6), textcoords="offset points", color=OKABE_ITO[colour])
    above.axvline(rank + 0.5, color=OKABE_ITO["grey"], linestyle="--")
    above.set(ylabel="singular value", ylim=(0, None))
    below.plot(ranks, losses, marker="o", markersize=3, color="black")
    below.plot(
        [rank], [losses[ranks.index(rank)]], "D", markersize=9, color=OKABE_ITO["orange"], markeredgecolor="black"
    )
    below.axhline(losses[-1], color=OKABE_ITO["grey"], linestyle="--")
    below.text(ranks[-1], losses[-1], "uncut", ha="right", va="bottom", fontsize=8, color="#555555")
    below.set(xlabel="direction, strongest first (above); directions kept in every layer (below)", ylabel="loss (nats)")
    below.spines[["top", "right"]].set_visible(False)
    return _finish(twin, above, title)


def _finish(twin: Twin, ax, title: str) -> Twin:
    ax.spines[["top", "right"]].set_visible(False)
    twin.suptitle(title, fontsize=9.5, x=0.01, ha="left", wrap=True)
    return twin
