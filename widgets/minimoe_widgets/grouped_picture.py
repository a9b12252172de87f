"""GroupedExplorer's picture: what is drawn, live as SVG and as a static twin, and what is said of it.

Both drawings are made from the same rectangles, each with its expert's number written in it where it fits.

How the production version differs: Nsight Systems draws such bars from a recorded run, without the experts.
"""

import html
from dataclasses import dataclass, field

from matplotlib.patches import Rectangle

from minimoe_widgets.grouped_schedule import Schedule, Tile, schedule, tiles_of
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["Picture"]

COLOURS = [OKABE_ITO[name] for name in ("blue", "orange", "green", "purple", "sky", "vermillion", "yellow", "grey")]
TEXT = 13  # pixels
LEFT, RIGHT, GAP = 6, 99.5, 0.15  # where bars begin, where they end, what parts them: in percent of the width
TIGHT = "<style>@media (max-width: 600px) { .mm-grouped .mm-tight { display: none } }</style>"  # on a phone
DARK = {OKABE_ITO["blue"], OKABE_ITO["vermillion"]}  # a number in them is white


@dataclass(frozen=True)
class Picture:
    """Loads, tiles and their schedule: numbers and sentences."""

    name: str
    load_E: tuple[int, ...]
    tile: int
    across: int
    processors: int
    way: str
    tiles: list[Tile] = field(init=False)
    plan: Schedule = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "tiles", tiles_of(self.load_E, self.tile))
        object.__setattr__(self, "plan", schedule(self.load_E, self.tile, self.across, self.processors, self.way))

    @property
    def padding(self) -> float:
        """The share of the tiles' rows that belong to nobody."""
        made = len(self.tiles) * self.tile
        return 1 - sum(self.load_E) / made if made else 0.0

    def title(self) -> str:
        return (
            f"{self.way}: {self.plan.length} units, {self.plan.busy:.0%} of the multiprocessors' time is work; "
            f"{self.padding:.0%} of the tiles' rows are padding"
        )

    def alt(self) -> str:
        most, idle = max(self.load_E), sum(load == 0 for load in self.load_E)
        return (
            f"{self.title()}. Above, {sum(self.load_E)} rows of {len(self.load_E)} experts ({self.name}), a bar an "
            f"expert, cut into {len(self.tiles)} tiles of {self.tile}; the longest bar has {most} rows and {idle} have "
            f"none. Padding is hatched or pale. Below, {self.processors} multiprocessors as lines and time to the "
            f"right: {len(self.plan.runs)} programs in their expert's colour, gaps where a multiprocessor waits."
        )

    def bars(self):
        """(expert, first row within the expert, rows, padding behind them) of every tile."""
        out, seen = [], {}
        for t in self.tiles:
            at = seen.get(t.expert, 0)
            out.append((t.expert, at, t.rows, self.tile - t.rows))
            seen[t.expert] = at + self.tile
        return out

    @property
    def longest(self) -> int:
        """Rows of the longest bar, its padding included."""
        return max((at + self.tile for _, at, _, _ in self.bars()), default=1)

    def svg(self) -> str:
        """The picture as an SVG: as wide as its cell, with bars in percent of it and letters that keep their size."""
        high, low = max(7, min(14, 200 // len(self.load_E))), max(6, min(14, 200 // self.processors))
        top, gap = 22, 56
        second = top + high * len(self.load_E) + gap
        total = second + low * self.processors + 22
        parts = [_text(0, 14, "rows of each expert, in tiles (pale: padding)")]
        row, unit = (RIGHT - LEFT) / self.longest, (RIGHT - LEFT) / max(1, self.plan.length)
        for expert in range(len(self.load_E)):
            parts.append(_text(LEFT - 0.7, top + high * expert + high - 2, str(expert), "end", min(TEXT, high)))
        for expert, at, rows, padding in self.bars():
            y = top + high * expert
            parts.append(_box(LEFT + at * row, y, rows * row, high - 1, expert))
            if padding:
                parts.append(_box(LEFT + (at + rows) * row, y, padding * row, high - 1, expert, pale=True))
        parts += _ends(second - gap + TEXT + 2, f"{self.longest} rows")
        parts.append(_text(0, second - 8, "programs on each multiprocessor over time"))
        for run in self.plan.runs:
            x, y, wide = LEFT + run.start * unit, second + low * run.processor, run.length * unit
            parts.append(_box(x, y, wide, low - 1, run.expert))
            if low >= 9 and wide >= 2:
                ink, tight = _ink(run.expert), wide < 5.5
                parts.append(_text(x + wide / 2, y + low - 3, str(run.expert), "middle", low - 2, ink, tight))
        parts += _ends(total - 6, f"{self.plan.length} units")
        label = html.escape(self.alt(), quote=True)
        return (
            f'<svg class="mm-grouped" role="img" aria-label="{label}" style="width:100%;max-width:760px;'
            f'height:{total}px;display:block;color:var(--jp-ui-font-color1, CanvasText)">{TIGHT}{"".join(parts)}</svg>'
        )

    def twin(self) -> Twin:
        """The picture in matplotlib."""
        twin = Twin(self.alt(), 8.0, 5.4)
        above, below = twin.subplots(2, 1)
        for expert, at, rows, padding in self.bars():
            above.add_patch(_patch(at, expert, rows, expert))
            if padding:
                pale = {"facecolor": "none", "hatch": "////", "edgecolor": COLOURS[expert % 8], "linewidth": 0.5}
                above.add_patch(Rectangle((at + rows, expert - 0.42), padding, 0.84, **pale))
        for run in self.plan.runs:
            below.add_patch(_patch(run.start, run.processor, run.length, run.expert))
            if self.processors <= 24 and self.plan.length <= 40:
                where = (run.start + run.length / 2, run.processor)
                below.text(*where, str(run.expert), ha="center", va="center", fontsize=7, color=_ink(run.expert))
        above.set(xlim=(0, 1.03 * self.longest), xlabel="rows (tokens sent to the expert, and padding)")
        above.set(ylim=(len(self.load_E) - 0.5, -0.5), ylabel="expert", yticks=_ticks(self.load_E))
        above.set_title("rows of each expert, in tiles (hatched: padding)", fontsize=9, loc="left")
        below.set(
            xlim=(0, 1.03 * max(1, self.plan.length)), ylim=(self.processors - 0.5, -0.5), ylabel="multiprocessor"
        )
        below.set(xlabel="time (units: one tile's product)", yticks=_ticks(range(self.processors)))
        below.set_title("programs on each multiprocessor, with their expert", fontsize=9, loc="left")
        for ax in (above, below):
            ax.spines[["top", "right"]].set_visible(False)
        twin.suptitle(f"{self.name}, {self.title()}", fontsize=10, x=0.01, ha="left", wrap=True)
        return twin


def _ink(expert):
    return "#fff" if COLOURS[expert % 8] in DARK else "#000"


def _ticks(things):
    return range(0, len(things), 1 if len(things) <= 8 else 4)


def _patch(x, y, width, expert):
    return Rectangle((x, y - 0.42), width, 0.84, facecolor=COLOURS[expert % 8], edgecolor="white", linewidth=0.8)


def _box(x, y, width, height, expert, pale=False):
    opacity = 0.25 if pale else 1
    return (
        f'<rect x="{x:.2f}%" y="{y}" width="{max(0.1, width - GAP):.2f}%" height="{height}" '
        f'fill="{COLOURS[expert % 8]}" fill-opacity="{opacity}"/>'
    )


def _ends(y, last):
    return [_text(LEFT, y, "0"), _text(RIGHT, y, last, "end")]


def _text(x, y, words, anchor="start", size=TEXT, colour="currentColor", tight=False):
    mark = ' class="mm-tight"' if tight else ""
    return (
        f'<text{mark} x="{x:.2f}%" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-family="sans-serif">{html.escape(words)}</text>'
    )
