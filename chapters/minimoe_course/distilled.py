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
    "by_skill",
    "difference",
    "over_seconds",
    "prepared",
]
__all__ += ["results", "seconds_to", "spread", "table"]

PREPARATIONS = {"none": 0, "middle": 170, "full": 250}  # steps of the stage of full skill
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


def _above(curve: list, skill: float) -> tuple[list[float], list[float]]:
    """The seconds of a curve, and its accuracies minus the skill."""
    return [s for _, s, _ in curve], [accuracy - skill for _, _, accuracy in curve]


def over_seconds(preparation: str, title: str) -> Figure:
    """Both arms over CPU-seconds: held-out accuracy minus that of the prepared student when made to think.

    Median of the seeds, and from the lowest to the highest.
    """
    series, records = {}, results(preparation)
    for name in ("distilled", "reinforced"):
        series[name] = [
            _above(record["arms"][name]["curve"], record["prepared"]["made_to_think"]) for record in records
        ]
    figure = band_figure(series, title, "CPU-seconds", "right, minus right before when made to think")
    axes = figure.axes[0]
    axes.axhline(0, color=GREY, linestyle="--", linewidth=1.4)
    axes.set_ylabel("right (held out), minus\nright before, made to think")
    axes.get_legend().remove()
    for number, (name, pairs) in enumerate(series.items()):
        at = tuple(np.median([(xs[-1], ys[-1]) for xs, ys in pairs], axis=0))
        axes.annotate(name, at, (6, 6) if number == 0 else (0, 12), textcoords="offset points",
                      color=OKABE_ITO[number], ha="right" if number else "left")  # fmt: skip
    return figure


@mpl.rc_context(STYLE)
def by_skill(title: str) -> Figure:
    """Every student twice, for both arms: where it ended, over what it could do before when it was made to think."""
    figure, axes = blank(title, "right before, when made to think", "right at the end, greedy (held out)")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.4)
    axes.annotate("as much as before", (0.2, 0.2), (8, -10), textcoords="offset points", color=GREY)
    for number, name in enumerate(("distilled", "reinforced")):
        for preparation, mark in zip(PREPARATIONS, MARKS, strict=False):
            style = {"color": OKABE_ITO[number], "alpha": 0.8, "markersize": 7}
            style |= {"markerfacecolor": "none"} if name == "reinforced" else {}
            xs, ys = prepared(preparation, "made_to_think"), arm(preparation, name)
            axes.plot(xs, ys, mark, label=f"{name}, {preparation}", **style)
    axes.set_ylim(0, 1.06)
    axes.legend(frameon=False, fontsize=10, loc="lower right")
    return figure


def seconds_to(accuracy: float, skill: float) -> list[tuple[str, int, float]]:
    """For every student that had this skill (accuracy when made to think) or more: preparation, seed, and the
    CPU-seconds after which it first had `accuracy` when reinforced; infinite if never."""
    found = []
    for preparation in PREPARATIONS:
        for record in results(preparation):
            if record["prepared"]["made_to_think"] >= skill:
                curve = record["arms"]["reinforced"]["curve"]
                first = next((s for _, s, value in curve if value >= accuracy), float("inf"))
                found.append((preparation, record["seed"], first))
    return found
