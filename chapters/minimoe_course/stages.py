"""The stages of R1 in a chapter: what every seed of the recipe came to, and the paper's table of the same stages.

The stored results hold a line a seed and stage. Two stages that differ in one thing are compared within a seed; three
seeds give a lowest and a highest value, and no interval is claimed from them.

How the production version differs: the paper has one run, and so one number a cell.
"""

import json
import statistics
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator

from minimoe_course.curves import band_figure
from minimoe_course.figures import GREY, MARKS, OKABE_ITO, STYLE, blank
from minimoe_course.start import data_path
from minimoe_course.tables import Table

__all__ = [
    "NAMES",
    "PAPER",
    "SOURCE",
    "changes",
    "difference",
    "failed",
    "mean",
    "over_steps",
    "pipeline",
    "results",
    "scores",
]
__all__ += ["languages", "seconds", "seeds", "shipped", "side_by_side", "spread", "table"]

NAMES = {
    "base": "base",
    "r1_zero": "R1-Zero",
    "dev1": "Dev1",
    "dev2_control": "Dev2, no language reward",
    "dev2": "Dev2",
    "dev3": "Dev3",
    "r1": "R1",
}
CHAIN = ("r1_zero", "dev1", "dev2", "dev3", "r1")  # the columns of the paper's table
SOURCE = "arXiv 2501.12948v2, table of stages"
PAPER = {
    "AIME 2024": (77.9, 59.0, 74.0, 78.1, 79.8),
    "CNMO 2024": (88.1, 58.0, 73.9, 77.3, 78.8),
    "MATH-500": (95.9, 94.2, 95.9, 95.4, 97.3),
    "IF-Eval": (46.6, 71.7, 72.0, 78.1, 83.3),
    "AlpacaEval 2.0": (24.7, 50.1, 55.8, 62.1, 87.6),
    "ArenaHard": (53.6, 77.0, 73.2, 75.6, 92.3),
}


def results(stage: str) -> list[dict]:
    """The stored seeds of one stage. Raises ValueError naming the stages that there are."""
    entries = _read("results")
    mine = sorted((entry for entry in entries if entry["stage"] == stage), key=lambda entry: entry["seed"])
    if not mine:
        known = ", ".join(dict.fromkeys(entry["stage"] for entry in entries))
        raise ValueError(f"no stage {stage!r} in data/r1/results.jsonl; there are {known}")
    return mine


def _read(file: str) -> list[dict]:
    return [json.loads(line) for line in (data_path("r1") / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]


def failed() -> dict[int, str]:
    """The seeds that ended before their last stage, and why."""
    return {entry["seed"]: entry["error"] for entry in _read("failed")}


def seeds(stage: str = "r1") -> list[int]:
    """The seeds that went as far as this stage."""
    return [entry["seed"] for entry in results(stage)]


def scores(stage: str, name: str) -> list[float]:
    """A number of a stage, seed by seed; "skills.zh" looks inside."""
    found = []
    for entry in results(stage):
        value = entry["scores"]
        for part in name.split("."):
            value = value[part]
        found.append(value)
    return found


def mean(stage: str, name: str) -> float:
    """The mean of a number of a stage over the seeds."""
    return statistics.fmean(scores(stage, name))


def seconds(stage: str) -> float:
    """The mean CPU-seconds that a stage took, its measuring not counted."""
    return statistics.fmean(entry["cpu_s"] for entry in results(stage))


def difference(first: str, second: str, name: str) -> list[float]:
    """First minus second, for every seed that has both."""
    a, b = (dict(zip(seeds(stage), scores(stage, name), strict=True)) for stage in (first, second))
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and the lowest and the highest where they differ: 0.95 (0.92 to 1.00)."""
    middle, low, high = (f"{v:.{digits}f}" for v in (statistics.fmean(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(columns: Mapping[str, str], stages: Sequence[str], title: str = "") -> Table:
    """A row a stage, a column for each {heading: score}: the mean, and lowest to highest."""
    rows = []
    for stage in stages:
        cells = [spread(scores(stage, name), 1 if name == "mean_tokens" else 2) for name in columns.values()]
        rows.append([NAMES[stage], *cells])
    return Table(("", *columns), rows, title or f"{_counted(seeds(stages[-1]))}: mean (lowest to highest)")


def _counted(of: Sequence) -> str:
    return f"{len(of)} seed{'s' * (len(of) != 1)}"


def shipped() -> int:
    """The seed whose checkpoints and logs are in data/r1."""
    return json.loads((data_path("r1") / "r1" / "receipt.json").read_text(encoding="utf-8"))["seed"]


def languages() -> Table:
    """Chinese problems, seed by seed: how often the base is right in each language, and what R1-Zero then thinks in."""
    columns = {
        "seed": seeds("r1_zero"),
        "base: right, begun in English": scores("base", "skills.zh in en"),
        "begun in Chinese": scores("base", "skills.zh"),
        "R1-Zero: Chinese words, greedy": scores("r1_zero", "language_zh"),
        "sampled": scores("r1_zero", "sampled_language_zh"),
    }
    rows = [[seed, *(f"{value:.2f}" for value in values)] for seed, *values in zip(*columns.values(), strict=True)]
    return Table(tuple(columns), rows, "Chinese problems: what works for the base, and what R1-Zero came to")


def changes(ours: Mapping[str, str], paper: Sequence[str] = tuple(PAPER)) -> Table:
    """What each stage changed, in points of 100: the paper's benchmarks, then {label: score} of ours, means."""
    heads = [f"to {NAMES[stage]}" for stage in CHAIN[1:]]
    rows = [[name, f"{PAPER[name][0]:.1f}", *_steps(PAPER[name])] for name in paper]
    for label, name in ours.items():
        values = [100 * mean(stage, name) for stage in CHAIN]
        rows.append([f"ours: {label}", f"{values[0]:.1f}", *_steps(values)])
    return Table(("", NAMES[CHAIN[0]], *heads), rows, "Change of a stage, in points of 100")


def _steps(values: Sequence[float]) -> list[str]:
    return [f"{after - before:+.1f}" for before, after in zip(values, values[1:], strict=False)]


def over_steps(parts: Mapping[str, str], column: str, title: str, y: str) -> Figure:
    """A curve of the reinforced parts {label: "dev2", "r1/preference", ...}: median over the seeds, lowest to highest.

    `column`: "reward", "evaluation.language_zh", ...
    """
    series = {}
    for label, part in parts.items():
        curves = [entry["curves"][part][column] for entry in results(part.split("/")[0])]
        series[label] = [(curve["step"], curve["value"]) for curve in curves]
    figure = band_figure(series, title, "step", y, bounds=(0, 1.05))
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@mpl.rc_context(STYLE)
def side_by_side(paper: Sequence[str], ours: Mapping[str, str], title: str) -> Figure:
    """The paper's benchmarks over its stages on the left, our scores on the right with a mark for every seed."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(CHAIN))
    for number, name in enumerate(paper):
        left.plot(places, PAPER[name], marker=MARKS[number], color=OKABE_ITO[number], label=name)
    for number, (label, name) in enumerate(ours.items()):
        values = [[100 * value for value in scores(stage, name)] for stage in CHAIN]
        means = [statistics.fmean(of_stage) for of_stage in values]
        right.plot(places, means, color=OKABE_ITO[number], label=label, marker=MARKS[number])
        for place, of_stage in zip(places, values, strict=True):
            right.plot([place] * len(of_stage), of_stage, MARKS[number], color=OKABE_ITO[number], alpha=0.4)
    for axes, heading in ((left, "DeepSeek, one run"), (right, f"ours, {_counted(seeds())} and the mean")):
        axes.set_title(heading, fontsize=12, fontweight="normal")
        axes.set_xticks(places, [NAMES[stage] for stage in CHAIN])
        axes.set_ylim(-3, 105)
        axes.legend(frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    left.set_ylabel("points of 100")
    return figure


# Where a model of the diagram stands, what it is called, and what made it.
BOXES = {
    "base": (0.0, 1.0, "V3-Base", "2,788K GPU-hours"),
    "r1_zero": (1.5, 2.1, "R1-Zero", "RL: accuracy, format"),
    "dev1": (1.5, 1.0, "Dev1", "SFT: cold start"),
    "dev2": (3.3, 1.0, "Dev2", "RL: + language"),
    "dev3": (1.5, 0.0, "Dev3", "SFT: 600K + 200K texts"),
    "r1": (3.3, 0.0, "R1", "RL: + safety, preference"),
}
WEIGHTS = (("base", "r1_zero"), ("base", "dev1"), ("dev1", "dev2"), ("base", "dev3"), ("dev3", "r1"))
TEXTS = (("r1_zero", "dev1"), ("dev2", "dev3"))


def pipeline(title: str = "R1's pipeline: what each model starts from, and what it learns from") -> Figure:
    """R1's pipeline: a solid arrow where a stage starts from weights, a dashed one where it learns from texts."""
    figure, axes = blank(title, size=(8.2, 4.0))
    axes.set_xlim(-0.55, 4.1)
    axes.set_ylim(-0.5, 2.55)
    axes.axis("off")
    for name, (x, y, label, made) in BOXES.items():
        on_the_way = name in ("base", "dev3", "r1")
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "linewidth": 2.5 if on_the_way else 1.2}
        axes.text(x, y, label, ha="center", va="center", fontweight="bold", bbox=box, zorder=3)
        axes.text(x, y - 0.33, made, ha="center", va="center", fontsize=10, color="#444444", zorder=3,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
    for dashed, arrows in ((False, WEIGHTS), (True, TEXTS)):
        for start, end in arrows:
            _arrow(axes, start, end, dashed)
    axes.annotate("texts, rewritten", (1.58, 1.4), fontsize=10, color=OKABE_ITO[1])
    axes.annotate("texts, sampled, verified", (1.86, 0.53), fontsize=10, color=OKABE_ITO[1])
    axes.plot([], [], color="black", label="weights, on the way to R1")
    axes.plot([], [], color=GREY, label="weights, other ways")
    axes.plot([], [], color=OKABE_ITO[1], linestyle="--", label="texts")
    axes.legend(frameon=False, loc="upper right", fontsize=11)
    return figure


def _arrow(axes, start: str, end: str, dashed: bool) -> None:
    """From one box to the next; the tails and heads keep clear of names and of what is written below them."""
    (x0, y0), (x1, y1) = BOXES[start][:2], BOXES[end][:2]
    down = y1 < y0 and dashed
    tail = (x0 - (0.3 if x0 > x1 else 0.0), y0 - 0.45) if down else (x0 + 0.3, y0)
    head = (x1 + (0.22 if x0 > x1 else 0.0), y1 + 0.17) if down else (x1 - 0.32, y1)
    axes.add_patch(
        FancyArrowPatch(
            tail, head, arrowstyle="-|>", mutation_scale=15, linewidth=1.6, shrinkA=0, shrinkB=0,
            color=OKABE_ITO[1] if dashed else "black" if {start, end} <= {"base", "dev3", "r1"} else GREY,
            linestyle="--" if dashed else "-",
        )
    )  # fmt: skip
