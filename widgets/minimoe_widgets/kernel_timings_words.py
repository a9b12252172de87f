"""What KernelTimings shows, before it is drawn: roofs, points, times or floors, and all of it in words.

How the production version differs: nothing here is special to production.
"""

import html
import math
from dataclasses import dataclass, field

from minimoe_kernels.bench.sides import Case
from minimoe_kernels.sim import Counts
from minimoe_kernels.timing_records import Record
from minimoe_kernels.work import floors_us
from minimoe_widgets.kernel_timings_bounds import DATASHEET, in_words, key

__all__ = ["NOT_MEASURED", "Picture", "resource_table", "short"]

NOT_MEASURED = "Not measured yet"


def short(value: float, digits: int = 4) -> str:
    """A number as it is read: 15,348 and 181.6, never 1.535e+04."""
    return f"{value:,.0f}" if value >= 10**digits / 10 else f"{value:.{digits}g}"


@dataclass(frozen=True)
class Picture:
    """A case with its small count, or a record of it with its times; the reader's own intensities.

    `older` counts the records that this one replaces; `slower` says if it is a regression.
    """

    case: Case
    small: Counts | None
    record: Record | None
    own: dict = field(default_factory=dict)
    older: int = 0
    slower: str = ""

    @property
    def work(self):
        """What has the least `bytes` and the `flops`."""
        return self.record or self.case.work

    @property
    def roofs(self) -> dict:
        """{name: (TFLOP/s, GB/s)}: the datasheet's, and the measured ones where there is a record."""
        if self.record:
            return {"datasheet": self.record.datasheet, "measured": self.record.measured}
        return {"H100 datasheet": DATASHEET[self.work.dtype]}

    def roof(self, intensity: float) -> float:
        """TFLOP/s at most, by the datasheet."""
        peak, bandwidth = next(iter(self.roofs.values()))
        return min(peak, intensity * bandwidth / 1e3)

    @property
    def ridge(self) -> float:
        """FLOPs a byte where the two parts of the datasheet's roof meet."""
        peak, bandwidth = next(iter(self.roofs.values()))
        return 1e3 * peak / bandwidth

    @property
    def name(self) -> str:
        return ", ".join(key(self.record or self.case))

    @property
    def marks(self) -> dict:
        """What stands on the roof because no time belongs to it: {label: FLOPs a byte}. None where nothing is
        computed: 0 has no place on a logarithmic axis."""
        marks = {}
        if not self.record:
            marks = {
                "least traffic": self.work.intensity,
                "counted, small sizes": self.small.intensity if self.small else 0,
            }
        return {name: at for name, at in marks.items() if at} | {f"{own}, counted": at for own, at in self.own.items()}

    @property
    def points(self) -> dict:
        """What was measured: {label: (FLOPs a byte, TFLOP/s, least, most)}."""
        if not self.record or not self.work.flops:
            return {}
        made = {}
        for name, (median, low, high) in self.record.times.items():
            ends = [self.record.tflops(t or median) for t in (high, low)]
            made[name] = (self.record.intensity, self.record.tflops(median), *ends)
        return made

    @property
    def bars(self) -> dict:
        """{label: (us, p20, p80)}: times of a record, else the floors; of arithmetic where there is any."""
        if self.record:
            return self.record.times
        memory, arithmetic = self._floors()
        bars = {"floor: memory": (memory, None, None), "floor: arithmetic": (arithmetic, None, None)}
        return bars if self.work.flops else {"floor: memory": bars["floor: memory"]}

    def _floors(self):
        return floors_us(self.work, *next(iter(self.roofs.values())))

    @property
    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The ends of FLOPs a byte and of TFLOP/s around all that is drawn: two powers of ten or more each."""
        points, roofs = self.points.values(), self.roofs.values()
        at = [*self.marks.values(), *(x for x, *_ in points), *(1e3 * peak / wide for peak, wide in roofs)]
        left, right = 10.0 ** math.floor(math.log10(min(at) / 1.5)), 10.0 ** math.ceil(math.log10(max(at) * 1.5))
        least = min(*(left * wide / 1e3 for _, wide in roofs), *(low for _, _, low, _ in points), math.inf)
        top, bottom = 2 * max(peak for peak, _ in roofs), 10.0 ** math.floor(math.log10(least))
        return (left, right), (bottom if top > 10 * bottom else bottom / 10, top)

    @property
    def placeless(self) -> str:
        """Why there is no point of the kernel, or ""."""
        return "" if self.work.flops else "0 FLOPs: no place under this roof"

    def title(self) -> str:
        if self.record:
            (own, (median, _, _)) = next(iter(self.record.times.items()))
            shares = [self.record.share(kind) for kind in ("datasheet", "measured")]
            head = (
                f"{own}: {short(median)} us, {shares[0]:.0%} of the datasheet's roof, {shares[1]:.0%} of the measured"
            )
            return f"{head} ({self.name})"
        memory, arithmetic = self._floors()
        which, least = "bandwidth" if memory >= arithmetic else "compute", max(memory, arithmetic)
        return f"{NOT_MEASURED}. {self.name}: {which}-bound, at least {short(least)} us on an H100"

    def badge(self) -> str:
        if not self.record:
            said = f"{NOT_MEASURED}: no time of this kernel is recorded."
            return f"{said} Floors by the H100's datasheet; they are no times."
        said = [self.record.badge]
        if self.older:
            said.append(f"It is the newest; {self.older} older {'record' if self.older == 1 else 'records'} of it.")
        return " ".join([*said, *([f"Slower than before: {self.slower}."] if self.slower else [])])

    def state(self) -> str:
        work = self.work
        said = f"Least traffic {short(work.bytes / 1e6)} MB, {short(work.flops / 1e9)} GFLOP: "
        said += f"{short(work.intensity, 3)} FLOPs a byte; ridge at {self.ridge:.0f}."
        if not work.flops:
            said += " It moves and computes nothing, so memory's floor is the only one, and a roofline has no place"
            said += " for it."
        if self.record:
            wide = self.record.line["roof"]["bw_GBs"]["measured"]
            said += f" It moved {short(self.record.line['derived']['GBs'])} GB/s; a copy reaches {short(wide)}."
        elif self.small:
            moved = f"{self.small.bytes:,} bytes and {self.small.flops:,} FLOPs"
            said += f" The simulator, on {in_words(self.case.small)}: {moved}, "
            said += f"{short(self.small.intensity, 3)} FLOPs a byte."
        for name, value in self.own.items():
            side = "left" if value < self.ridge else "right"
            said += f" {name}: {short(value, 3)} FLOPs a byte, counted, {side} of the ridge."
        return said

    def alt(self) -> str:
        roofs = "; ".join(f"{name} {peak:g} TFLOP/s and {wide:g} GB/s" for name, (peak, wide) in self.roofs.items())
        bars = "; ".join(f"{name} {short(value)} us" for name, (value, _, _) in self.bars.items())
        kind = "Measured" if self.record else "Floors, not times"
        return f"{self.title()}. Left, a roofline: {roofs}. {self.state()} Right. {kind}: {bars}. {self.badge()}"


def _sizes(launch: str) -> str:
    """The constants of a launch without its types: "BLOCK_H=64, BLOCK_S=32"."""
    return ", ".join(word for word in launch[:-1].split(", ") if word.startswith(("BLOCK", "TILE", "SPLITS")))


def resource_table(found: dict, triton: str, record: Record | None = None) -> str:
    """HTML of what the compiler said: {launch: {arch: resources or why none}}, and above it what a record says."""
    rows = []
    if record:
        on = f"{record.gpu}, as recorded"
        for name, said in record.line["resources"].items():
            rows.append([on, name, *_cells(said | {"spills": f"{said.get('spills', '?')} by Triton's count"})])
    for launch, by_arch in found.items():
        name = f"{launch.split('(')[0]} {_sizes(launch)}"
        rows += [[arch, name, *([said, "", "", ""] if isinstance(said, str) else _cells(said))]
                 for arch, said in by_arch.items()]  # fmt: skip
    if not rows:
        return "<p>The compiler's report has no launch of this kernel.</p>"
    names = ("for", "launch", "registers a thread", "spill instructions", "shared memory, bytes", "tensor core")
    cell = "padding:0 .6em;text-align:left"
    head = "".join(f'<th scope="col" style="{cell}">{name}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td style="{cell}">{html.escape(str(word))}</td>' for word in row) + "</tr>" for row in rows
    )
    said = f"Compiled without a GPU by Triton {html.escape(triton)} (kernels/resources.json)"
    if any(launch.startswith("like ") for launch in found):
        said += "; like: the compiled launch that comes nearest to the one at these sizes"
    return (
        f'<div class="minimoe-resources" style="line-height:1.4"><div style="white-space:normal">{said}</div>'
        f'<div style="overflow-x:auto;width:0;min-width:100%"><table><tr>{head}</tr>{body}</table></div></div>'
    )


def _cells(said: dict) -> list:
    shared = said.get("shared_bytes")
    unit = " ".join(said["tensor_core"]) or "none" if "tensor_core" in said else ""
    return [said.get("registers", ""), said.get("spills", ""), "" if shared is None else f"{shared:,}", unit]
