"""What FP8Explorer says: titles, the words beside each map, the bits of an element, the picture in words.

How the production version differs: nothing here is special to production.
"""

from dataclasses import dataclass

from minimoe_widgets.fp8_bits import Pattern, bfloat16
from minimoe_widgets.fp8_canvas import shade
from minimoe_widgets.fp8_scales import Scaled
from minimoe_widgets.fp8_sums import INTERVALS, LENGTHS, PAPER_INTERVAL, SumError, sum_errors
from minimoe_widgets.twin import OKABE_ITO

__all__ = ["FIELDS", "ScalesPicture", "SumsPicture", "number"]

FIELDS = {"sign": OKABE_ITO["orange"], "exponent": OKABE_ITO["sky"], "mantissa": OKABE_ITO["yellow"]}
COUNTS = {"One scale for the tensor": "", "Blocks of 128 x 128": "block", "Tiles of 1 x 128": "tile"}


def number(x: float) -> str:
    """Four digits, thousands with commas."""
    return f"{x:,.0f}" if 10_000 <= abs(x) < 1e9 else f"{x:.4g}"


def percent(share: float) -> str:
    """A share as percent: two digits below 10%, one behind the point above, and 0% or 100% for nothing else."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{100 * share:#.2g}%" if share < 0.0995 else "over 99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


@dataclass(frozen=True)
class ScalesPicture:
    """The three choices of who shares a scale, the outlier, and the element that was chosen."""

    choices: list[Scaled]
    kind: str
    outlier: tuple[int, int]
    factor: float
    at: tuple[int, int]

    @property
    def patterns(self) -> list[Pattern]:
        """The chosen element's byte under each choice."""
        return [choice.pattern(*self.at) for choice in self.choices]

    def title(self) -> str:
        tensor, blocks, tiles = (percent(choice.rms_error) for choice in self.choices)
        name = self.choices[0].format.name
        return f"{name}, one value times {self.factor:,}: RMS error {tensor}, in blocks {blocks}, in tiles {tiles}"

    def words(self, choice: Scaled) -> str:
        """What a choice costs."""
        count, unit = choice.numbers.scale_IJ.numel(), COUNTS[choice.name]
        scales = f" ({count} {unit}{'s' * (count > 1)})" if unit else ""
        clamped = f", {choice.clamped} clamped at {number(choice.format.largest)}" if choice.clamped else ""
        return (
            f"{choice.name}{scales}: {percent(choice.zero_share)} became zero, {percent(choice.subnormal_share)} "
            f"subnormal{clamped}; RMS error {percent(choice.rms_error)}"
        )

    def element(self) -> str:
        """The chosen element, before FP8 and in bfloat16."""
        (row, column), exact = self.at, self.patterns[0].exact
        bits, value = bfloat16(exact)
        error = abs(value - exact) / abs(exact) if exact else 0.0
        return (
            f"Row {row}, column {column}: {number(exact)}. In bfloat16, without a scale: {number(value)}, "
            f"error {percent(error)}, bits {' '.join(bits)}."
        )

    def steps(self, pattern: Pattern) -> list[str]:
        """How the byte came about, one sentence a line."""
        near = " and ".join(number(x + 0.0) for x in pattern.neighbours)
        one = f"beyond {near}" if pattern.kind.startswith("clamped") else f"a number of {pattern.format.name}"
        where = f"between {near}" if len(pattern.neighbours) == 2 else one
        return [
            f"{number(pattern.exact)} / scale {number(pattern.scale)} = {number(pattern.quotient)}, {where}",
            f"stored: 2^{pattern.power} x {pattern.significand:g} = {number(pattern.value)}",
            f"times the scale: {number(pattern.back)}, error {percent(pattern.error)}",
        ]

    def cards(self) -> str:
        """The bits of the element under each choice, as HTML."""
        cards = []
        for choice, pattern in zip(self.choices, self.patterns, strict=True):
            bits = "".join(_field(name, bits) for name, bits in zip(FIELDS, pattern.fields, strict=True))
            lines = "".join(f"<div>{line}</div>" for line in self.steps(pattern))
            cards.append(
                f'<div style="flex:1 1 250px;max-width:100%"><b>{choice.name}: {pattern.kind}</b>'
                f'<div style="display:flex;gap:3px;margin:2px 0">{bits}</div>{lines}</div>'
            )
        flow = "display:flex;flex-wrap:wrap;gap:8px 18px;line-height:1.4;white-space:normal"
        cards = f'<div class="mm-bits" style="{flow}">{"".join(cards)}</div>'
        return f'<div role="status" style="line-height:1.4"><b>{self.element()}</b>{cards}</div>'

    def strip_alt(self, choice: Scaled) -> str:
        rows, columns = choice.exact_XZ.shape
        return f"{rows} rows and {columns} columns, the relative error of each element. {self.words(choice)}."

    def alt(self) -> str:
        rows, columns = self.choices[0].exact_XZ.shape
        each = " ".join(f"{self.words(choice)}." for choice in self.choices)
        bits = " ".join(
            f"{choice.name}: {'; '.join(self.steps(pattern))}; {pattern.kind}, bits {' '.join(pattern.fields)}."
            for choice, pattern in zip(self.choices, self.patterns, strict=True)
        )
        return (
            f"{self.title()}. Three maps, one above the other, of the same {rows} x {columns} numbers, "
            f"scales in {self.kind}; colour is the relative error of an element, lines "
            f"part what shares a scale. The value multiplied is in row {self.outlier[0]}, column {self.outlier[1]}. "
            f"{each} {self.element()} {bits}"
        )

    def frame(self) -> dict:
        """What `fp8.js` reads."""
        rows, columns = self.choices[0].exact_XZ.shape
        strips = [
            {
                "words": self.words(choice),
                "alt": self.strip_alt(choice),
                "block": list(choice.numbers.block),
                "shade": shade(choice.error_XZ.numpy(), choice.flushed_XZ.numpy()).tobytes(),
            }
            for choice in self.choices
        ]
        return {
            "title": self.title(), "rows": rows, "columns": columns, "strips": strips,
            "outlier": list(self.outlier), "jump": 128,
        }  # fmt: skip


@dataclass(frozen=True)
class SumsPicture:
    """Errors of dot products by the interval of promotion, one line for each K; a K and an interval chosen."""

    draw: str
    joint: bool
    length: int
    chosen: int

    @property
    def interval(self) -> int:
        """The interval that acts: beyond K there is nothing to promote in between."""
        return min(self.chosen, self.length)

    def line(self, length: int) -> list[tuple[int, float]]:
        """(interval, largest error) of one K."""
        errors = sum_errors(self.draw, self.joint)
        return [(interval, errors[length, interval].largest) for interval in INTERVALS if interval <= length]

    def error(self, interval: int) -> SumError:
        """At the chosen K."""
        return sum_errors(self.draw, self.joint)[self.length, interval]

    def title(self) -> str:
        if self.interval == self.length:
            return f"K = {self.length:,} in one piece: off by up to {percent(self.error(self.length).largest)}"
        found, whole = self.error(self.interval).largest, self.error(self.length).largest
        return (
            f"K = {self.length:,}, promoted every {self.interval}: off by up to {percent(found)}; "
            f"in one piece up to {percent(whole)}, {whole / found:.1f} times as much"
        )

    def notice(self) -> str:
        typical = percent(self.error(self.interval).typical)
        return (
            "A thin line is another K and ends at it. Errors are of 64 outputs of one seeded draw, over these outputs' "
            f"root mean square; the typical one is {typical}. DeepSeek-V3 promotes every {PAPER_INTERVAL} and reports "
            "nearly 2% at K = 4,096 without (arXiv 2412.19437 section 3.3.2); it says neither of which matrices nor "
            "relative to what."
        )

    def alt(self) -> str:
        ends = ", ".join(f"{percent(self.line(k)[-1][1])} at K = {k:,}" for k in LENGTHS)
        sofar = "is aligned with the products" if self.joint else "is added unaligned"
        return (
            f"{self.title()}. Numbers {self.draw}; the sum so far {sofar}. Error by the interval at which partial sums "
            f"go to float32, both axes logarithmic, one line for each K up to where nothing is promoted: {ends}. "
            f"An upright line marks the paper's interval of {PAPER_INTERVAL}. {self.notice()}"
        )


def _field(name, bits):
    box = f"background:{FIELDS[name]};color:#000;padding:0 4px;font-family:monospace;font-size:14px;letter-spacing:1px"
    return f'<span style="text-align:center"><span style="{box}">{bits}</span><br><small>{name}</small></span>'
