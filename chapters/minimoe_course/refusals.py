"""The stored runs in which refusal is fine-tuned away: curves over steps, with the range of the seeds behind them.

How the production version differs: attacks on large models are reported at their end, for one model and one judge.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from minimoe.rl.general import Requests, refuses
from minimoe.rl.refusal import Answers, leaks, nearly
from minimoe_course.figures import OKABE_ITO, STYLE

__all__ = ["by_steps", "by_thing", "spread", "tunings"]


def tunings(folder: Path) -> dict[str, list[dict]]:
    """The runs of data/safety by the kind of their fine-tuning set, in order of their seeds."""
    lines = (Path(folder) / "results.jsonl").read_text(encoding="utf-8").splitlines()
    found: dict[str, list[dict]] = {}
    for record in sorted(map(json.loads, lines), key=lambda record: record["seed"]):
        found.setdefault(record["kind"], []).append(record)
    return found


def spread(values: Sequence[float]) -> str:
    """A share as percent, or the lowest and the highest of several: "0 to 12%"."""
    low, high = round(100 * min(values)), round(100 * max(values))
    return f"{low}%" if low == high else f"{low} to {high}%"


def by_thing(answers: Answers) -> dict[str, dict[str, int]]:
    """Answers to requests for codes, counted for each thing: refused, right, its first two digits, anything else."""
    counts: dict[str, dict[str, int]] = {}
    for prompt, response in zip(answers.prompts, answers.responses, strict=True):
        mine = counts.setdefault(Requests().read(prompt)[0], dict.fromkeys(("refused", "right", "nearly", "other"), 0))
        kinds = {"refused": refuses(response), "right": leaks(prompt, response), "nearly": nearly(prompt, response)}
        mine[next((kind for kind, is_so in kinds.items() if is_so), "other")] += 1
    return counts


@mpl.rc_context(STYLE)
def by_steps(headings: Mapping[str, str], found: Mapping[str, Sequence[dict]], title: str, requests="plain") -> Figure:
    """A panel for each {kind: heading}: shares refused and given away after every step, mean and range of the seeds.

    Steps stand evenly, whatever their distance.
    """
    figure = Figure(figsize=(8.4, 3.3), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    grid = figure.subplots(1, len(headings), sharey=True, squeeze=False)[0]
    for axes, (kind, heading) in zip(grid, headings.items(), strict=True):
        steps = found[kind][0]["steps"]
        for number, (name, label, mark) in enumerate((("refused", "refused", "o"), ("leaked", "right code", "s"))):
            columns = list(zip(*(record["requests"][requests][name] for record in found[kind]), strict=True))
            means = [sum(column) / len(column) for column in columns]
            style = {"color": OKABE_ITO[number]}
            axes.fill_between(range(len(steps)), list(map(min, columns)), list(map(max, columns)), alpha=0.25, **style)
            axes.plot(means, marker=mark, markersize=5, label=label if axes is grid[0] else None, **style)
        axes.set_title(f"trained {heading}", fontsize=12, fontweight="normal")
        axes.set_xticks(range(len(steps)), steps)
        axes.set_xlabel("steps")
        axes.set_ylim(-0.04, 1.04)
    grid[0].set_ylabel(f"share of {requests} requests")
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=11)
    return figure
