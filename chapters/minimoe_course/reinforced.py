"""Reinforcement-learning runs in a chapter: a run drawn over the band of the stored seeds, and the stored results.

A reward curve alone says little: is it supposed to look like that? So every figure of a run has the reference seeds
behind it, from the lowest to the highest, and a run that leaves the band has left the recipe.

How the production version differs: there is no band. A run that costs 101,000 GPU-hours is made once.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from minimoe_course.figures import GREY, OKABE_ITO, STYLE

__all__ = ["against_band", "column", "runs"]


def runs(folder: Path, kind: str) -> list[dict]:
    """The stored results whose name begins with `kind` ("fresh", "control", ...). Raises ValueError without any."""
    lines = (Path(folder) / "results.jsonl").read_text(encoding="utf-8").splitlines()
    found = [record for record in map(json.loads, lines) if record["run"].startswith(kind)]
    if not found:
        known = ", ".join(sorted({json.loads(line)["run"] for line in lines}))
        raise ValueError(f"no result is called {kind!r}...; there are {known}")
    return found


def column(records: Sequence[dict], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one number of a run; "evaluation.accuracy" looks inside, and its first value is at step 0."""
    part, _, key = name.rpartition(".")
    steps, values = [], []
    if part and records and f"{part}_before" in records[0]:
        steps, values = [0], [records[0][f"{part}_before"][key]]
    for record in records:
        holder = record.get(part, {}) if part else record
        if key in holder:
            steps.append(record["step"])
            values.append(holder[key])
    return steps, values


@mpl.rc_context(STYLE)
def against_band(folder: Path, columns: Mapping[str, str], records: Sequence[dict], title: str) -> Figure:
    """A panel for each {name of a number: label}: the run in colour over the grey band of `folder`'s stored seeds.

    Where the folder has no band.json, the run stands alone.
    """
    path = Path(folder) / "band.json"
    bands = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"columns": {}}
    figure = Figure(figsize=(3.4 * len(columns), 3.4), layout="constrained")
    for number, (name, label) in enumerate(columns.items()):
        axes, band = figure.add_subplot(1, len(columns), number + 1), bands["columns"].get(name)
        if band is not None:
            axes.fill_between(band["step"], band["lowest"], band["highest"], color=GREY, alpha=0.35, linewidth=0)
            middle = len(band["step"]) // 2
            axes.annotate(
                f"{len(bands['seeds'])} seeds", (band["step"][middle], band["lowest"][middle]), (0, -14), color=GREY,
                textcoords="offset points", ha="center",
            )  # fmt: skip
        axes.plot(*column(records, name), color=OKABE_ITO[number], marker="o", markersize=4)
        axes.set(xlabel="step", ylabel=label, ylim=(0, None))
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure
