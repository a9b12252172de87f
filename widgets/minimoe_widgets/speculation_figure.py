"""The race of plain and speculative decoding in words, and as a static figure: title, alt text, matplotlib twin.

The title is the message, and the message may be that speculation lost: fewer calls of the trunk are not yet less time.

How the production version differs: there the same two numbers, acceptance and calls saved, are a line in a log.
"""

from itertools import accumulate

from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["alt_text", "draw_twin", "title"]

COLUMNS = 112  # characters of the twin's monospaced type in one line of boxes
LINE = 0.28  # inches
LOOKS = {
    "kept": {"color": "white", "backgroundcolor": OKABE_ITO["blue"]},
    "rejected": {"color": "#5a2000", "backgroundcolor": "#F3C7A6"},
    "own": {"color": "black", "backgroundcolor": "#EFEFEF"},
}


def title(plain, speculative) -> str:
    """How many drafts were kept, how many calls were saved, and what became of the time."""
    ratio = plain.cpu_ms / speculative.cpu_ms
    pace = f"{ratio:.2f} times as fast" if ratio >= 1 else f"{1 / ratio:.2f} times the processor time"
    return (
        f"{speculative.kept} of {speculative.drafted} drafts kept: {len(speculative.steps)} calls of the trunk instead "
        f"of {len(plain.steps)}, {pace}"
    )


def alt_text(plain, speculative, temperature: float) -> str:
    """What is to be seen, for a reader who does not see it."""
    said = "the same text" if plain.tokens == speculative.tokens else "different texts"
    return (
        f"{title(plain, speculative)}. Two lanes of tokens at temperature {temperature:g} with {said}: plain decoding "
        f"gives one token a call, {len(plain.tokens)} in {plain.cpu_ms:.0f} ms; speculative decoding gives two where "
        f"a draft is kept and one where it is struck out, {len(speculative.tokens)} in {speculative.cpu_ms:.0f} ms."
    )


def draw_twin(runs, label, heading: str, alt: str) -> Twin:
    """The lanes, filled to the end, over the race: tokens against processor time. `runs`: (plain, speculative)."""
    lanes = [_chips(run, label) for run in runs]
    heights = [LINE * (1 + max(line for line, *_ in chips) + 1) for chips in lanes]
    twin = Twin(alt, 9.0, sum(heights) + 3.1)
    *tops, race = twin.subplots(3, 1, height_ratios=[*heights, 2.4])
    for ax, chips, height, name in zip(tops, lanes, heights, ("plain", "speculative"), strict=True):
        _draw_lane(ax, chips, height, name)
    _draw_race(race, runs)
    twin.suptitle(heading, fontsize=10, x=0.01, ha="left", wrap=True)
    return twin


def _chips(run, label) -> list[tuple[int, int, str, str]]:
    """Every box of a lane as (line, column, text, look), wrapped at `COLUMNS`."""
    out, line, column = [], 0, 0
    for step in run.steps:
        parts = [(label(token), "kept" if step.kept and i == 0 else "own") for i, token in enumerate(step.tokens)]
        if step.draft is not None and not step.kept:
            parts.insert(0, (label(step.draft), "rejected"))
        width = sum(len(text) for text, _ in parts) + 2 + len(parts) - 1
        if column and column + width > COLUMNS:
            line, column = line + 1, 0
        at = column
        for text, look in parts:
            out.append((line, at, text, look))
            at += len(text) + 1
        column += width
    return out


def _draw_lane(ax, chips, height, name):
    lines = height / LINE
    ax.set(xlim=(0, COLUMNS), ylim=(lines - 0.3, -0.7))
    ax.axis("off")
    ax.text(0, -0.4, name, fontsize=9, fontweight="bold", va="center")
    for line, column, text, look in chips:
        style = {"fontsize": 8.5, "family": "monospace", "va": "center", "ha": "left"} | LOOKS[look]
        drawn = ax.text(column, line + 0.55, text.replace("$", r"\$"), **style)
        drawn.get_bbox_patch().set_boxstyle("square", pad=0.12)
        if look == "rejected":
            ends = (column - 0.1, column + len(text) * 0.97)
            ax.plot(ends, [line + 0.55] * 2, color="#5a2000", linewidth=0.9, zorder=5)


def _draw_race(ax, runs):
    for run, name, colour in zip(runs, ("plain", "speculative"), ("grey", "blue"), strict=True):
        ends_ms = [0.0, *accumulate(step.cpu_ms for step in run.steps)]
        tokens = [0, *accumulate(len(step.tokens) for step in run.steps)]
        ax.step(ends_ms, tokens, where="post", color=OKABE_ITO[colour], linewidth=1.8)
        ax.annotate(f" {name}", (ends_ms[-1], tokens[-1]), color=OKABE_ITO[colour], va="center", fontsize=9)
        missed = [i for i, step in enumerate(run.steps, start=1) if step.draft is not None and not step.kept]
        at_ms, at_token = [ends_ms[i] for i in missed], [tokens[i] for i in missed]
        ax.plot(at_ms, at_token, "x", color=OKABE_ITO["vermillion"], markersize=6)
    ax.set(xlabel="processor time (ms), the prompt included; × a rejected draft", ylabel="tokens")
    ax.margins(x=0.1)
    ax.spines[["top", "right"]].set_visible(False)
