"""The routing picture as words and as a static figure: titles, alt text, and the matplotlib twin of the canvas.

The title is the message: who is busiest and by how much. Both the canvas and the twin take it from here, so that the
live and the printed picture say the same.

How the production version differs: there the same sentence is an alert ("expert 5 of layer 2 is 3x over its mean
load").
"""

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from minimoe_widgets.heatmap import COLOURS
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["alt_text", "draw_twin", "title"]


def title(name: str, trace, use_bias: bool) -> str:
    """The picture's message in one line: the busiest expert's share and MaxVio."""
    most, tokens = int(trace.load_E.max()), trace.chosen_ME.shape[0]
    busiest = np.flatnonzero(trace.load_E == most)
    who = f"expert {busiest[0]} serves" if len(busiest) == 1 else f"{len(busiest)} experts each serve"
    without = "" if use_bias else ", selection bias off"
    return f"{name}{without}: {who} {most} of {tokens} tokens (MaxVio {trace.max_violation:.2f})"


def alt_text(name: str, trace, use_bias: bool) -> str:
    """What is to be seen, for a reader who does not see it."""
    tokens, experts = trace.chosen_ME.shape
    chosen, (kept, groups) = int(trace.chosen_ME[0].sum()), (int(trace.kept_MG[0].sum()), trace.kept_MG.shape[1])
    idle = int((trace.load_E == 0).sum())
    grouped = f" inside {kept} of {groups} groups" if groups > 1 else ""
    return (
        f"{title(name, trace, use_bias)}. Heat map of {tokens} tokens by {experts} experts: each token is served by "
        f"{chosen} experts{grouped}; idle experts: {idle}; the mean is {trace.load_E.mean():.1f} tokens an expert."
    )


def draw_twin(pictures: list, colour: str) -> Twin:
    """The canvas as a matplotlib figure. `pictures`: (title, alt, token labels, LayerTrace) of each model, side by
    side."""
    experts = max(trace.scores_ME.shape[1] for _, _, _, trace in pictures)
    height = 1.6 + 0.2 * min(max(experts, 8), 32)
    twin = Twin(" ".join(alt for _, alt, _, _ in pictures), 9.0 if len(pictures) == 1 else 13.0, height)
    axes = twin.subplots(1, 2 * len(pictures), squeeze=False, width_ratios=[5, 1] * len(pictures))[0]
    for index, (heading, _, labels, trace) in enumerate(pictures):
        _draw_map(twin, axes[2 * index], heading, labels, trace, colour)
        _draw_loads(axes[2 * index + 1], trace)
    return twin


def _draw_map(twin, ax, heading, labels, trace, colour):
    values = getattr(trace, COLOURS[colour] + "_ME")
    shown = np.where(trace.chosen_ME, values, np.nan) if colour == "gate" else values
    tokens, experts = values.shape
    image = ax.imshow(shown.T, cmap="viridis_r", aspect="auto", interpolation="nearest")
    groups = trace.kept_MG.shape[1]
    _hatch(ax, trace.kept_MG, experts)
    for group in range(1, groups):
        ax.axhline(group * experts / groups - 0.5, color="black", linewidth=0.6)
    every = max(1, tokens // 45)
    ax.set_xticks(
        range(0, tokens, every), [_short(text) for text in labels[::every]], rotation=60, ha="right", fontsize=7
    )
    ax.set_yticks(range(0, experts, max(1, experts // 16)))
    ax.set(xlabel="token", ylabel=f"expert ({groups} groups)" if groups > 1 else "expert")
    ax.set_title(heading, fontsize=9.5, loc="left")
    twin.colorbar(
        image, ax=ax, location="bottom", fraction=0.05, pad=0.02, aspect=40, label=f"{colour} (hatched: group not kept)"
    )


def _hatch(ax, kept_MG, experts):
    tall = experts / kept_MG.shape[1]
    boxes = [Rectangle((t - 0.5, g * tall - 0.5), 1, tall) for t, g in np.argwhere(~kept_MG)]
    ax.add_collection(PatchCollection(boxes, facecolor="#e4e4e4", edgecolor="#9a9a9a", hatch="////", linewidth=0))


def _draw_loads(ax, trace):
    most = trace.load_E.max()
    colours = [OKABE_ITO["vermillion"] if n == most else OKABE_ITO["sky"] for n in trace.load_E]
    ax.barh(range(len(trace.load_E)), trace.load_E, color=colours, height=0.85)
    ax.axvline(trace.load_E.mean(), color="black", linestyle="--", linewidth=1)
    ax.set_ylim(len(trace.load_E) - 0.5, -0.5)
    ax.set_yticks([])
    ax.set_xlabel(f"tokens per expert\n(dashed: mean {trace.load_E.mean():.1f})", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _short(text: str) -> str:
    return text if len(text) <= 9 else text[:8] + "…"
