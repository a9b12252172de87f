"""What the kernels are to reach on an H100, and whether the records say that they do.

Shares are of the roof measured in the same process: what a copy or cuBLAS reaches on that GPU, that minute.

How the production version differs: a goal is a date.
"""

from collections.abc import Callable
from dataclasses import dataclass

from minimoe_kernels.timing_records import Record, latest

__all__ = ["GOALS", "Goal", "report"]


@dataclass(frozen=True)
class Goal:
    """`of` chooses the records; `judge(record)` gives (whether it is met, what it reaches in words)."""

    name: str
    of: Callable[[Record], bool]
    judge: Callable[[Record], tuple[bool, str]]


def share(least: float):
    def judge(record):
        return record.share() >= least, f"{record.share():.0%}"

    return judge


def faster_than(peer: str, least: float):
    """At least this share of the roof, and a median below the peer's."""

    def judge(record):
        met, said = share(least)(record)
        if peer not in record.times:
            return False, f"{said}, {peer} was not timed"
        ratio = record.times[peer][0] / record.median_us
        return met and ratio > 1, f"{said}, {ratio:.2f}x as fast as {peer}"

    return judge


def lean(record):
    """No slower than PyTorch, at a tenth of its memory at most."""
    peer = next((peer for peer in record.line["peers"] if peer["name"] == "torch"), None)
    if peer is None:
        return False, "torch was not timed"
    ratio, memory = (peer["time_us"]["median"] / record.median_us, record.line["peak_bytes"] / peer["peak_bytes"])
    return ratio >= 1 and memory <= 0.1, f"{ratio:.2f}x as fast as torch, {memory:.0%} of its memory"


def bandwidth_bound(record):
    """All that memory binds, but for MLA at 128 heads, which stands near the ridge and has its own goal."""
    own = record.kernel == "mla_decode" and record.line["shape"]["H"] >= 128
    return record.line["derived"]["bound"] == "bandwidth" and not own


def kernels(*names, **sizes):
    def of(record):
        return record.kernel in names and sizes.items() <= record.line["shape"].items()

    return of


def grouped(record):
    return record.kernel.startswith("grouped_gemm") and record.line["derived"]["bound"] == "compute"


GOALS = (
    Goal("bandwidth-bound: 90% of the roof", bandwidth_bound, share(0.9)),
    Goal("grouped GEMM: 60%, and faster than torch._grouped_mm", grouped, faster_than("torch._grouped_mm", 0.6)),
    Goal("FP8 GEMM: 45%", kernels("fp8_gemm"), share(0.45)),
    Goal("MLA decoding, 128 heads: 60%", kernels("mla_decode", H=128), share(0.6)),
    Goal("MLA prefill: 55%", kernels("mla_prefill"), share(0.55)),
    Goal("log-probs, cross-entropy: as fast as torch, a tenth of its memory", kernels("log_probs", "token_loss"), lean),
)


def report(records: list[Record]) -> str:
    """A line for every goal and the newest record under it, a block for each GPU; goals without a record say so."""
    records, lines = latest(records), []
    for gpu in list(dict.fromkeys(record.gpu for record in records)) or [None]:
        lines.append(f"{gpu or 'No GPU has been measured'}. Goals are for an H100, shares of its measured roof.")
        for goal in GOALS:
            under = [record for record in records if record.gpu == gpu and goal.of(record)]
            lines.append(f"  {goal.name}" + ("" if under else ": not measured"))
            for record in under:
                met, said = goal.judge(record)
                lines.append(f"    {record.kernel} ({record.shape}): {'met' if met else 'not met'} ({said})")
    return "\n".join(lines)
