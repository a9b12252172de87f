"""The static twin of RolloutExplorer: the curves of a stage and the answers of one step, as a matplotlib figure.

How the production version differs: nothing here is special to production.
"""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from minimoe_widgets.rollout_log import Stage
from minimoe_widgets.rollout_view import LIMIT, is_wrong, panels, piece_label, span
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["MARKED", "draw_twin"]

COLUMNS = 132  # characters of the monospaced type in one line of tokens
LINE = 0.235  # inches
MARKED = 0.05  # nats; a token that moved less has no bar above or below it
SIGNED = LinearSegmentedColormap.from_list("signed", ["#F0945C", "#FFFFFF", "#6BAED6"])
COLOURS = [OKABE_ITO["blue"], OKABE_ITO["orange"]]


def draw_twin(stage: Stage, group: dict | None, title: str, alt: str, only_wrong: bool = False) -> Twin:
    """Above, the four curves with the step marked; below, one row of tokens for each answer."""
    answers = [] if group is None else list(enumerate(group["answers"], start=1))
    answers = [(number, answer) for number, answer in answers if is_wrong(answer) or not only_wrong]
    rows = [(number, answer, _chips(answer["pieces"])) for number, answer in answers]
    lines = sum(2 + chips[-1][0] if chips else 2 for *_, chips in rows)
    below = LINE * (lines + 1.2)
    drawn = panels(stage)
    high = 1.75 * -(-len(drawn) // 2)
    twin = Twin(alt, 9.0, 0.4 + high + below)
    above, rest = twin.subfigures(2, 1, height_ratios=[high, below])
    _draw_curves(above, drawn, stage, None if group is None else group["step"])
    _draw_rows(rest.subplots(), rows, lines)
    twin.suptitle(title.replace("$", r"\$"), fontsize=10, x=0.01, ha="left", wrap=True)
    return twin


def _draw_curves(figure, drawn, stage, step):
    rows, (first, last) = -(-len(drawn) // 2), span(stage, drawn)
    air = 0.03 * max(last - first, 1)
    for at, panel in enumerate(drawn, start=1):
        ax = figure.add_subplot(rows, 2, at)
        if panel.band:
            _, steps, lowest, highest = panel.band
            low, high = np.array(lowest, dtype=float), np.array(highest, dtype=float)
            name = f"lowest to highest{f' of {stage.band.seeds} seeds' if stage.band.seeds else ''}"
            ax.fill_between(steps, low, high, color=OKABE_ITO["grey"], alpha=0.35, linewidth=0, label=name)
        for (name, steps, values), colour in zip(panel.series, COLOURS, strict=False):
            ax.plot(steps, values, color=colour, linewidth=1.6, label=name, marker="." if len(steps) < 30 else None)
        if len(panel.series) > 1 or panel.band:
            ax.legend(fontsize=7.5, frameon=False, loc="best", handlelength=1.2)
        if not panel.series:
            ax.text(0.5, 0.5, "not recorded", transform=ax.transAxes, ha="center", va="center", fontsize=8)
        if step is not None:
            ax.axvline(step, color="black", linestyle="--", linewidth=1)
        ax.set(ylim=(panel.bottom, panel.bottom + 1.03 * (panel.top - panel.bottom)))  # a line at the top stays whole
        ax.set_xlim(first - air, last + air)
        ax.set_title(panel.title, fontsize=8.5, loc="left")
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if at > len(drawn) - 2:
            ax.set_xlabel("step", fontsize=8)


def _chips(pieces) -> list[tuple[int, int, str]]:
    """Every token as (line, column, text), wrapped at `COLUMNS`."""
    out, line, column = [], 0, 0
    for piece in pieces:
        text = piece_label(piece)
        if column and column + len(text) > COLUMNS:
            line, column = line + 1, 0
        out.append((line, column, text))
        column += len(text) + 1
    return out


def _draw_rows(ax, rows, lines):
    ax.set(xlim=(0, COLUMNS), ylim=(lines + 0.7, -0.6))
    ax.axis("off")
    y = 0
    for number, answer, chips in rows:
        ax.text(0, y, _heading(number, answer), fontsize=8.5, fontweight="bold", va="center")
        ratios = np.array(answer["logprobs"]) - np.array(answer["reference"])
        for (line, column, text), ratio in zip(chips, ratios, strict=True):
            _draw_chip(ax, column, y + 1 + line, text, ratio)
        y += 2 + chips[-1][0] if chips else 2
    low, high = "less likely than at the start of the run (bar below)", "more likely (bar above)"
    ax.text(0, lines + 0.35, f"orange: {low}; blue: {high}; full colour from {LIMIT:g} nat", fontsize=8, va="center")


def _draw_chip(ax, column, y, text, ratio):
    colour = SIGNED(0.5 + 0.5 * float(np.clip(ratio / LIMIT, -1, 1)))
    style = {"fontsize": 8, "family": "monospace", "va": "center", "ha": "left", "color": "black"}
    drawn = ax.text(column, y, text.replace("$", r"\$"), backgroundcolor=colour, **style)
    drawn.get_bbox_patch().set_boxstyle("square", pad=0.1)
    if abs(ratio) >= MARKED:
        at = y - 0.38 if ratio > 0 else y + 0.38
        ends = (column - 0.1, column + 0.97 * len(text))
        ink = OKABE_ITO["blue"] if ratio > 0 else OKABE_ITO["vermillion"]
        ax.plot(ends, [at] * 2, color=ink, linewidth=1.6, zorder=5)


def _heading(number, answer) -> str:
    verdict = {True: "wrong, ", False: "right, ", None: ""}[is_wrong(answer)]
    parts = " ".join(f"{name} {value:g}" for name, value in answer["parts"].items())
    ended = "" if answer["ended"] else ", cut off"
    reward = f"reward {answer['reward']:.2f} ({parts})"
    return f"{number}: {verdict}{reward}, advantage {answer['advantage']:+.2f}{ended}".replace("$", r"\$")
