"""The static twins of RefusalExplorer's two views, in matplotlib.

How the production version differs: nothing here is special to production.
"""

import textwrap

from matplotlib.font_manager import FontProperties, findfont, get_font

from minimoe_widgets.refusal_figure import LINES, spread_out
from minimoe_widgets.refusal_words import merged
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["guard_twin", "tuning_twin"]

MOST_ROWS, UNDRAWN = 9, "□"


def tuning_twin(run, step: int, request: tuple[str, int], title: str, alt: str) -> Twin:
    """A panel for each group, refused and right code over steps, a line at `step`; below, one request's answers."""
    group, place = request
    rows = merged(run, group, place)[:MOST_ROWS]
    twin = Twin(alt, 8.4, 3.2 + 0.22 * (len(rows) + 2))
    above, below = twin.subfigures(2, 1, height_ratios=[2.6, 0.22 * (len(rows) + 2)])
    axes = above.subplots(1, len(run.asked), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, run.asked, strict=True):
        for (label, colour, symbol, dash), values in zip(LINES, run.shares(name), strict=True):
            style = {"linestyle": {"solid": "-", "dash": "--"}[dash], "marker": {"circle": "o", "square": "s"}[symbol]}
            ax.plot(values, color=OKABE_ITO[colour], markersize=4, **style)
            end, side = (0, "left") if label == "refused" else (len(values) - 1, "right")
            where = {"textcoords": "offset points", "ha": side, "fontsize": 9}
            ax.annotate(label, (end, values[end]), (0, 5), color=OKABE_ITO[colour], **where)
        ax.axvline(step, color="#222222", linewidth=0.8)
        ax.set_title(f"{name} requests", fontsize=10)
        ax.set(xlabel="steps", ylim=(-0.06, 1.22), yticks=(0, 0.5, 1))
        ax.spines[["top", "right"]].set_visible(False)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_yticklabels(["0%", "50%", "100%"])
    axes[0].set_ylabel("share")
    ax = below.subplots()
    ax.axis("off")
    ax.set(xlim=(0, 1), ylim=(len(rows) + 0.5, -0.7))
    texts = [drawable(text if len(text) < 90 else text[:88] + "…") for *_, text in rows]
    note = f"   ({UNDRAWN}: a character that this picture has no type for)" if UNDRAWN in "".join(texts) else ""
    ax.text(0, 0, f"{group}: {run.asked[group][place]}{note}", fontsize=9, va="center")
    for number, ((first, last, _), text) in enumerate(zip(rows, texts, strict=True), start=1):
        when = f"step {first}" if first == last else f"steps {first} to {last}"
        here = {"fontweight": "bold"} if first <= step <= last else {}
        ax.text(0.02, number, when, fontsize=9, va="center", **here)
        ax.text(0.16, number, text.replace("$", r"\$"), fontsize=9, va="center", family="monospace", **here)
    twin.suptitle(title, fontsize=9.5, x=0.01, ha="left", wrap=True)
    return twin


def drawable(text: str) -> str:
    """The text as matplotlib's monospaced type can draw it, which has no Chinese: a box for each letter it lacks."""
    font = get_font(findfont(FontProperties(family="monospace")))
    return "".join(letter if font.get_char_index(ord(letter)) else UNDRAWN for letter in text)


def guard_twin(scores: dict, wrong: dict, threshold: float, rule: str, title: str, alt: str) -> Twin:
    """Every request at its score, those that the guard is wrong about as crosses, a line at the threshold."""
    twin = Twin(alt, 8.4, 1.6 + 0.7 * len(scores))
    ax = twin.subplots()
    for row, (name, each) in enumerate(scores.items()):
        places = spread_out(len(each), row)
        good = [place for place in range(len(each)) if place not in wrong[name]]
        looks = ((good, {"marker": "o", "facecolors": "none", "edgecolors": OKABE_ITO["grey"]}),
                 (wrong[name], {"marker": "x", "color": OKABE_ITO["vermillion"]}))  # fmt: skip
        for chosen, look in looks:
            ax.scatter([each[place] for place in chosen], [places[place] for place in chosen], s=22, **look)
    ax.axvline(threshold, color=OKABE_ITO["blue"], linewidth=2.5)
    ticks = [f"{name}\n{len(wrong[name])} of {len(scores[name])} wrong" for name in scores]
    ax.set_yticks(range(len(scores)), ticks)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(scores) - 0.5, -0.5))
    told = textwrap.fill(rule, 105)
    ax.set_xlabel(f"score of a request; what is on the line or right of it is blocked\n{told}", fontsize=8.5)
    ax.spines[["top", "right"]].set_visible(False)
    twin.suptitle(title, fontsize=9.5, x=0.01, ha="left", wrap=True)
    return twin
