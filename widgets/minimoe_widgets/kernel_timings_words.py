"""What KernelTimings shows, before it is drawn: roofs, points, times or floors, and all of it in words.

How the production version differs: nothing here is special to production.
"""

import html
from dataclasses import dataclass, field

from minimoe_kernels.sim import Counts
from minimoe_kernels.timing_records import Record
from minimoe_widgets.kernel_timings_bounds import DATASHEET, Case

__all__ = ["Picture", "resource_table"]

NOT_MEASURED = "Not measured yet"


@dataclass(frozen=True)
class Picture:
    """A case (formula and small count) or a record (times), with the reader's own intensities."""

    case: Case | None
    small: Counts | None
    record: Record | None
    own: dict = field(default_factory=dict)

    @property
    def roofs(self) -> dict:
        """{name: (TFLOP/s, GB/s)}: the datasheet's, and the measured ones where there is a record."""
        if self.record:
            return {"datasheet": self.record.datasheet, "measured": self.record.measured}
        return {"H100 datasheet": DATASHEET[self.case.dtype]}

    def roof(self, intensity: float) -> float:
        peak, bandwidth = next(iter(self.roofs.values()))
        return min(peak, intensity * bandwidth / 1e3)

    @property
    def name(self) -> str:
        shown = self.record or self.case
        return f"{shown.kernel}, {shown.shape}, {shown.dtype}"

    @property
    def marks(self) -> dict:
        """What stands on the roof because no time belongs to it: {label: FLOPs a byte}."""
        marks = {"least traffic": self.case.intensity} if self.case and not self.record else {}
        if self.small and not self.record:
            marks["counted, small"] = self.small.intensity
        return marks | {f"{name}, counted": value for name, value in self.own.items()}

    @property
    def points(self) -> dict:
        """What was measured: {label: (FLOPs a byte, TFLOP/s, least, most)}."""
        if not self.record:
            return {}
        made = {}
        for name, (median, low, high) in self.record.times.items():
            ends = [self.record.tflops(t or median) for t in (high, low)]
            made[name] = (self.record.intensity, self.record.tflops(median), *ends)
        return made

    @property
    def bars(self) -> dict:
        """{label: (us, p20, p80)}: times of a record, else the two floors."""
        if self.record:
            return self.record.times
        memory, work = self.case.at_least_us(*next(iter(self.roofs.values())))
        return {"floor: memory": (memory, None, None), "floor: arithmetic": (work, None, None)}

    def title(self) -> str:
        if self.record:
            (own, (median, _, _)) = next(iter(self.record.times.items()))
            shares = [self.record.share(kind) for kind in ("datasheet", "measured")]
            head = f"{own}: {median:,.4g} us, {shares[0]:.0%} of the datasheet's roof, {shares[1]:.0%} of the measured"
            return f"{head} ({self.name})"
        memory, work = (value for value, _, _ in self.bars.values())
        which = "bandwidth" if memory > work else "compute"
        return f"{NOT_MEASURED}. {self.name}: {which}-bound, at least {max(memory, work):,.4g} us on an H100"

    def badge(self) -> str:
        if self.record:
            return self.record.badge
        return f"{NOT_MEASURED}: no time of this kernel is recorded. Floors by the H100's datasheet; they are no times."

    def state(self) -> str:
        shown = self.record or self.case
        said = f"Least traffic {shown.bytes / 1e6:,.4g} MB, {shown.flops / 1e9:,.4g} GFLOP: "
        said += f"{shown.intensity:.3g} FLOPs a byte; ridge at {self.ridge:.0f}."
        if self.small and not self.record:
            moved = f"{self.small.bytes:,} bytes and {self.small.flops:,} FLOPs"
            said += f" The simulator, on {self.case.small_shape}: {moved}, {self.small.intensity:.3g} FLOPs a byte."
        for name, value in self.own.items():
            side = "left" if value < self.ridge else "right"
            said += f" {name}: {value:.3g} FLOPs a byte, counted, {side} of the ridge."
        return said

    @property
    def ridge(self) -> float:
        peak, bandwidth = next(iter(self.roofs.values()))
        return 1e3 * peak / bandwidth

    def alt(self) -> str:
        roofs = "; ".join(f"{name} {peak:g} TFLOP/s and {wide:g} GB/s" for name, (peak, wide) in self.roofs.items())
        bars = "; ".join(f"{name} {value:,.4g} us" for name, (value, _, _) in self.bars.items())
        kind = "Measured" if self.record else "Floors, not times"
        return f"{self.title()}. Left, a roofline: {roofs}. {self.state()} Right. {kind}: {bars}. {self.badge()}"


def _sizes(launch: str) -> str:
    """The constants of a launch without its types: "BLOCK_H=64, BLOCK_S=32"."""
    return ", ".join(word for word in launch[:-1].split(", ") if word.startswith(("BLOCK", "TILE")))


def resource_table(found: dict, triton: str) -> str:
    """HTML of what the compiler said: {launch: {arch: resources or why none}}."""
    if not found:
        return "<p>The compiler's report has no launch of this kernel.</p>"
    rows = []
    for launch, by_arch in found.items():
        for arch, said in by_arch.items():
            cells = [arch, launch.split("(")[0] + " " + _sizes(launch)]
            if isinstance(said, str):
                cells += [said, "", "", ""]
            else:
                unit = " ".join(said["tensor_core"]) or "none"
                cells += [said["registers"], said["spills"], f"{said['shared_bytes']:,}", unit]
            rows.append("".join(f'<td style="padding:0 .6em">{html.escape(str(cell))}</td>' for cell in cells))
    names = ("for", "launch", "registers a thread", "spill instructions", "shared memory, bytes", "tensor core")
    head = "".join(f'<th scope="col" style="padding:0 .6em;text-align:left">{name}</th>' for name in names)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    said = f"Compiled without a GPU by Triton {html.escape(triton)} (kernels/resources.json)"
    return (
        '<div class="minimoe-resources" style="overflow-x:auto;line-height:1.4"><table>'
        f'<caption style="text-align:left">{said}</caption><tr>{head}</tr>{body}</table></div>'
    )
