"""The distillation study in a chapter: what each arm came to, at the end and after equal CPU-seconds.

Arms of one seed start from the same student, so they are compared within the seed; five differences give a mean and a
95% interval (see `curves`).

How the production version differs: R1's report compares one distilled model with one reinforced one.
"""

import json
import statistics

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from minimoe_course.curves import T_95, Paired, band_figure
from minimoe_course.figures import GREY, MARKS, OKABE_ITO, STYLE, blank
from minimoe_course.start import data_path
from minimoe_course.tables import Table

__all__ = [
    "ARMS",
    "PREPARATIONS",
    "arm",
    "at_equal_seconds",
    "by_preparation",
    "difference",
    "over_seconds",
    "prepared",
]
__all__ += ["results", "seconds_to", "table"]

PREPARATIONS = ("none", "middle", "full")
ARMS = ("distilled", "reinforced", "true traces", "more corpus")


def results(preparation: str) -> list[dict]:
    """The stored seeds of one preparation. Raises ValueError naming the preparations that there are."""
    text = (data_path("distill") / "results.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    mine = sorted((r for r in records if r["preparation"] == preparation), key=lambda record: record["seed"])
    if not mine:
        known = ", ".join(dict.fromkeys(record["preparation"] for record in records))
        raise ValueError(f"no preparation {preparation!r} in data/distill/results.jsonl; there are {known}")
    return mine


def prepared(preparation: str, number: str = "accuracy") -> list[float]:
    """A number of the prepared students, seed by seed: "accuracy" or "made_to_think"."""
    return [record["prepared"][number] for record in results(preparation)]


def arm(preparation: str, name: str, number: str = "accuracy") -> list[float]:
    """A number of an arm at its end, seed by seed. Raises ValueError if that preparation has no such arm."""
    records = results(preparation)
    if name not in records[0]["arms"]:
        raise ValueError(f"preparation {preparation!r} has no arm {name!r}; it has {', '.join(records[0]['arms'])}")
    return [record["arms"][name][number] for record in records]


def at_equal_seconds(preparation: str) -> tuple[list[float], list[float], list[float]]:
    """Seed by seed: the CPU-seconds of the distilled arm, sampling included, its last accuracy along the way, and the
    reinforced arm's last accuracy within as many CPU-seconds."""
    seconds, ours, theirs = [], [], []
    for record in results(preparation):
        distilled, reinforced = record["arms"]["distilled"], record["arms"]["reinforced"]
        seconds.append(distilled["cpu_seconds"])
        ours.append(distilled["curve"][-1][2])
        theirs.append([accuracy for _, s, accuracy in reinforced["curve"] if s <= seconds[-1]][-1])
    return seconds, ours, theirs


def difference(first: list[float], second: list[float]) -> Paired:
    """First minus second, seed by seed, with the 95% interval of the mean."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, n = statistics.fmean(differences), len(differences)
    reach = T_95[n - 1] * statistics.stdev(differences) / n**0.5
    return Paired(differences, mean, mean - reach, mean + reach)


def table() -> Table:
    """A row a preparation: mean (lowest to highest) of the prepared students and of every arm at its end."""
    rows = []
    for preparation in PREPARATIONS:
        cells = [preparation, spread(prepared(preparation)), spread(prepared(preparation, "made_to_think"))]
        known = results(preparation)[0]["arms"]
        rows.append(cells + [spread(arm(preparation, name)) if name in known else "" for name in ARMS])
    return Table(("preparation", "prepared", "made to think", *ARMS), rows, "Right on held-out chains, five seeds")


def spread(values: list[float]) -> str:
    """Mean (lowest to highest)."""
    return f"{statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def over_seconds(preparation: str, title: str) -> Figure:
    """Held-out accuracy of both arms over CPU-seconds, and what the prepared student can do when made to think."""
    series = {}
    for name in ("distilled", "reinforced"):
        paths = [record["arms"][name]["curve"] for record in results(preparation)]
        series[name] = [([point[1] for point in path], [point[2] for point in path]) for path in paths]
    figure = band_figure(series, title, "CPU-seconds", "right, greedy (held out)", bounds=(0, 1.03))
    skill = statistics.fmean(prepared(preparation, "made_to_think"))
    axes = figure.axes[0]
    axes.axhline(skill, color=GREY, linestyle="--", linewidth=1.4)
    right = axes.get_xlim()[1]
    axes.annotate("the prepared student, made to think", (right, skill), (0, -14), textcoords="offset points",
                  ha="right", color=GREY)  # fmt: skip
    axes.get_legend().remove()
    for number, (name, pairs) in enumerate(series.items()):
        end = [(xs[-1], ys[-1]) for xs, ys in pairs]
        at = tuple(np.median(end, axis=0))
        axes.annotate(name, at, (0, 10 if number else -18), textcoords="offset points", color=OKABE_ITO[number],
                      ha="right" if number else "left")  # fmt: skip
    return figure


@mpl.rc_context(STYLE)
def by_preparation(title: str) -> Figure:
    """A dot a seed for each preparation: both arms, and the prepared student when it is made to think."""
    figure, axes = blank(title, "steps of the stage of full skill", "right, greedy (held out)")
    columns = {
        "distilled": [arm(p, "distilled") for p in PREPARATIONS],
        "reinforced": [arm(p, "reinforced") for p in PREPARATIONS],
        "made to think": [prepared(p, "made_to_think") for p in PREPARATIONS],
    }
    places = np.arange(len(PREPARATIONS))
    for number, (label, groups) in enumerate(columns.items()):
        grey = label == "made to think"
        colour, shift = GREY if grey else OKABE_ITO[number], (number - 1) * 0.16
        for place, values in zip(places, groups, strict=True):
            xs = np.full(len(values), place + shift)
            axes.plot(xs, values, MARKS[number], color=colour, alpha=0.7, markersize=5)
        means = [statistics.fmean(values) for values in groups]
        axes.plot(places + shift, means, color=colour, linestyle="--" if grey else "-", linewidth=1.4, label=label)
    axes.set_xticks(places, [f"{p}" for p in PREPARATIONS])
    axes.set_ylim(0, 1.05)
    axes.legend(frameon=False, fontsize=11, loc="lower right")
    return figure


def seconds_to(preparation: str, accuracy: float) -> float:
    """The mean CPU-seconds after which the reinforced student first has this accuracy; infinite if one never has."""
    firsts = [
        next((s for _, s, value in record["arms"]["reinforced"]["curve"] if value >= accuracy), float("inf"))
        for record in results(preparation)
    ]
    return statistics.fmean(firsts)
