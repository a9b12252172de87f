"""Recorded timings, read and held against what a record must say before anything of it is drawn.

A folder for each GPU, a file for each kernel, a record a line (`kernels/timings/<gpu>/<kernel>.jsonl`). A record
without versions, with a failed comparison or faster than the datasheet's roof is an error, not a point in a picture.

How the production version differs: benchmark tables are pictures; a reader cannot ask them which driver it was.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Record", "TIMINGS", "read_records"]

TIMINGS = Path(__file__).parents[2] / "kernels" / "timings"
VERSIONS = ("gpu", "driver", "torch", "triton")


@dataclass(frozen=True)
class Record:
    """One line. Times are in us: {name: (median, p20, p80)}, the kernel first; peers without spread have None."""

    gpu: str
    kernel: str
    shape: str
    dtype: str
    bytes: int
    flops: int
    times: dict
    datasheet: tuple[float, float]  # TFLOP/s, GB/s
    measured: tuple[float, float]
    env: dict = field(repr=False)
    when: str = ""

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes

    def tflops(self, time_us: float) -> float:
        return self.flops / time_us / 1e6

    @property
    def badge(self) -> str:
        versions = f"driver {self.env['driver']}, torch {self.env['torch']}, Triton {self.env['triton']}"
        return f"Recorded on {self.gpu}, {versions}, {self.when or 'undated'}."


def read_records(folder=TIMINGS) -> list[Record]:
    """Every record below `folder`, in order of file and line; [] where there is no folder.

    Raises `ValueError` naming file and line for a record that lacks something or cannot be true.
    """
    found = []
    for path in sorted(Path(folder).glob("*/*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip():
                try:
                    found.append(_record(json.loads(line)))
                except (KeyError, TypeError, ValueError) as error:
                    lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
                    raise ValueError(f"{path.parent.name}/{path.name} line {number}: {lacks}") from None
    return found


def _record(line: dict) -> Record:
    if line["schema"] != 1:
        raise ValueError(f"schema {line['schema']}, this reads 1")
    env = line["env"]
    missing = [name for name in VERSIONS if not env.get(name)]
    if missing:
        raise ValueError(f"env does not say {', '.join(missing)}")
    if line["correct"]["passed"] is not True:
        raise ValueError("its kernel failed the comparison; a wrong kernel has no time")
    times = {line.get("variant", line["kernel"]): _spread(line["time_us"])}
    times |= {peer["name"]: _spread(peer["time_us"]) for peer in line.get("peers", ())}
    roofs = {kind: (line["roof"]["tflops"][kind], line["roof"]["bw_GBs"][kind]) for kind in ("datasheet", "measured")}
    shape = ", ".join(f"{name} {value}" for name, value in line["shape"].items())
    made = Record(env["gpu"], line["kernel"], shape, line["dtype"], line["bytes"]["ideal"], line["flops"], times,
                  roofs["datasheet"], roofs["measured"], env, line.get("when", ""))  # fmt: skip
    peak, bandwidth = made.datasheet
    floor_us = max(made.bytes / bandwidth / 1e3, made.flops / peak / 1e6)
    for name, (median, _, _) in times.items():
        if median < floor_us:
            raise ValueError(f"{name} took {median:g} us, less than the datasheet's floor of {floor_us:.3g} us")
    return made


def _spread(time_us: dict) -> tuple:
    median, low, high = time_us["median"], time_us.get("p20"), time_us.get("p80")
    if not median > 0 or (low is not None and high is not None and not low <= median <= high):
        raise ValueError(f"times {low}, {median}, {high} us are not p20 <= median <= p80, above 0")
    return median, low, high
