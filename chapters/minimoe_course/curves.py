"""The five-seed study in a chapter: bands instead of single curves, and only the statistics that five seeds allow.

Every variant of the study was trained with the same five seeds, and a seed fixes both the initial weights and the order
of the data. Two variants are therefore compared seed by seed: the difference within a seed is free of what that seed
does to both. Five differences give a mean, a 95% interval by Student's t with four degrees of freedom (2.78 standard
errors wide, not 1.96), and the number of seeds that agree in sign. Even five of five has a two-sided probability of
1/16 under no effect: it never reaches 0.05 on signs alone, and the course never says that it does.

How the production version differs: a run that costs millions is made once, and its error bars come from small runs.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from minimoe_course.figures import GREY, OKABE_ITO, STYLE, blank
from minimoe_course.start import data_path
from minimoe_course.tables import Table

__all__ = ["Paired", "band", "band_figure", "paired", "runs", "table", "value"]

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
LAST = 5  # points of ten steps: "at the end" is the mean of the last fifty steps


def runs(variant: str) -> list[dict]:
    """The records of one variant, by seed. Raises ValueError naming the variants that there are."""
    text = (data_path("curves") / "results.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    mine = sorted((record for record in records if record["variant"] == variant), key=lambda record: record["seed"])
    if not mine:
        known = ", ".join(dict.fromkeys(record["variant"] for record in records))
        raise ValueError(f"no variant {variant!r} in data/curves/results.jsonl; there are {known}")
    return mine


def value(record: dict, name: str) -> float:
    """A number of a run: one of its fields, such as "validation" or "cpu_s", or the end of one of its curves."""
    if name in record["curves"] and name != "cpu_s":
        return statistics.fmean(record["curves"][name][-LAST:])
    return record[name]


@dataclass(frozen=True)
class Paired:
    """Differences first minus second, seed by seed; `low` and `high` bound their mean with 95% confidence."""

    differences: list[float]
    mean: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        below = sum(d < 0 for d in self.differences)
        interval = f"{self.mean:+.4f} (95% interval {self.low:+.4f} to {self.high:+.4f})"
        return f"{interval}; lower in {below} of {len(self.differences)} seeds"


def paired(first: str, second: str, name: str = "validation") -> Paired:
    """Compare two variants in one number, over the seeds that both have. Raises ValueError with fewer than two."""
    a, b = ({record["seed"]: value(record, name) for record in runs(variant)} for variant in (first, second))
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    if len(differences) < 2:
        raise ValueError(f"{first} and {second} share {len(differences)} seeds: a spread needs at least 2")
    mean, n = statistics.fmean(differences), len(differences)
    reach = T_95[n - 1] * statistics.stdev(differences) / n**0.5
    return Paired(differences, mean, mean - reach, mean + reach)


def band(variants: Mapping[str, str], name: str, title: str, y: str, x: str = "step", **options) -> Figure:
    """The curves {label: variant} of the study: median over the seeds, and from the lowest to the highest.

    `x`: "step" or "cpu_s", the CPU-seconds. `name`: a curve, such as "next_token" or "maxvio". The options are those of
    `band_figure`.
    """
    series = {
        label: [(record["curves"][x], record["curves"][name]) for record in runs(variant)]
        for label, variant in variants.items()
    }
    return band_figure(series, title, {"step": "step", "cpu_s": "CPU-seconds"}[x], y, **options)


@mpl.rc_context(STYLE)
def band_figure(
    series: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    title: str, x: str, y: str,
    grey: Sequence[str] = (), log: str = "",
    single: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Several runs a label, drawn as their median with a band from lowest to highest; `single` curves lie on top.

    Runs of one label need the same number of points; their x values (CPU-seconds differ) are averaged. `bounds` limits
    the y axis.
    """
    figure, axes = blank(title, x, y)
    axes.set_xscale("log" if "x" in log else "linear")
    axes.set_yscale("log" if "y" in log else "linear")
    styles = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
    for number, (label, pairs) in enumerate(series.items()):
        colour = GREY if label in grey else OKABE_ITO[number % len(OKABE_ITO)]
        xs, ys = np.mean([p[0] for p in pairs], axis=0), np.array([p[1] for p in pairs], dtype=float)
        axes.fill_between(xs, ys.min(0), ys.max(0), color=colour, alpha=0.2, linewidth=0)
        axes.plot(xs, np.median(ys, axis=0), color=colour, linestyle=styles[number % len(styles)], label=label)
    for label, (xs, ys) in (single or {}).items():
        axes.plot(xs, ys, color="black", linewidth=1.4, marker="o", markersize=3, label=label)
    if "x" not in log and all(float(at).is_integer() for pairs in series.values() for p in pairs for at in p[0]):
        axes.xaxis.get_major_locator().set_params(integer=True)  # there is no step 2.5
    axes.legend(frameon=False, fontsize=11)
    if bounds is not None:
        axes.set_ylim(*bounds)
    return figure


def table(variants: Mapping[str, str], names: Mapping[str, str], reference: str | None = None) -> Table:
    """A row for each {label: variant}, a column for each {heading: number}: median and range over the seeds.

    With a `reference` variant each row ends in the paired difference from it in the first number: mean, 95% interval.
    """
    first, rows = next(iter(names.values())), []
    for label, variant in variants.items():
        cells = [label]
        for name in names.values():
            values = [value(record, name) for record in runs(variant)]
            cells.append(f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        if reference:
            d = None if variant == reference else paired(variant, reference, first)
            cells.append(f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" if d else "")
        rows.append(cells)
    return Table(["", *names] + ([f"{next(iter(names))}, difference"] if reference else []), rows)
