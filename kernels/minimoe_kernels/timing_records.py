"""Recorded timings: one JSON record a line in kernels/timings/<gpu>/<kernel>.jsonl, and what a record must say.

A record holds what was measured (times with their spread, two roofs from the same process, peers) and on what (GPU,
driver, versions, the source's checksum). Everything that follows from those, `derive` computes, here and nowhere else.
Reading is refusing: least bytes and FLOPs are computed again from the sizes, derived fields from the raw ones, and a
record that lacks a version, failed its check, was taken on zeros, or is faster than the datasheet allows is an error
that names file, line, what stands there and what would be right. Nothing that a CPU measured passes.

How the production version differs: benchmark tables are pictures; a reader cannot ask them which driver it was.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from minimoe_kernels.work import DATASHEETS, WORK, Work, floors_us

__all__ = ["Record", "TIMINGS", "derive", "folder_of", "latest", "read_records", "regressions", "validated"]

TIMINGS = Path(__file__).parents[1] / "timings"
SCHEMA, ROUNDS, METHODS, DATA = 1, 3, ("events",), ("randn",)
VERSIONS = ("gpu", "driver", "cuda", "torch", "triton", "python")
DRIFTS = ("clock_sm_mhz", "power_w")  # of the environment, what may change from minute to minute
SLOWER = 1.15  # a time of the same kernel in the same environment may grow by this much without a warning


@dataclass(frozen=True)
class Record:
    """One line. Times are in us: {name: (median, p20, p80)}, the kernel first; a peer without spread has None there.

    `datasheet` and `measured` are (TFLOP/s, GB/s). `line` is the JSON object itself.
    """

    gpu: str
    kernel: str
    shape: str
    dtype: str
    bytes: int
    flops: int
    times: dict
    datasheet: tuple[float, float]
    measured: tuple[float, float]
    env: dict = field(repr=False)
    when: str
    line: dict = field(repr=False)

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes

    @property
    def median_us(self) -> float:
        return self.line["time_us"]["median"]

    def tflops(self, time_us: float) -> float:
        return self.flops / time_us / 1e6

    def share(self, roof: str = "measured") -> float:
        """The floor under the time by one of the roofs, over the time: 1 is at the roof."""
        return max(floors_us(self, *getattr(self, roof))) / self.median_us

    @property
    def badge(self) -> str:
        versions = f"driver {self.env['driver']}, torch {self.env['torch']}, Triton {self.env['triton']}"
        return f"Recorded on {self.gpu}, {versions}, {self.when}."


def folder_of(gpu: str) -> str:
    """The name of a GPU's folder: small letters, figures and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def derive(line: dict) -> dict:
    """The derived fields of a record from its raw ones: rates, shares of both roofs in percent, what binds."""
    work, us = Work(line["bytes"]["ideal"], line["flops"]), line["time_us"]["median"]
    made = {"GBs": work.bytes / us / 1e3, "tflops": work.flops / us / 1e6}
    for kind in ("datasheet", "measured"):
        floors = floors_us(work, line["roof"]["tflops"][kind], line["roof"]["bw_GBs"][kind])
        made[f"pct_of_roof_{kind}"] = 100 * max(floors) / us
    memory, arithmetic = floors_us(work, line["roof"]["tflops"]["datasheet"], line["roof"]["bw_GBs"]["datasheet"])
    return made | {"bound": "bandwidth" if memory >= arithmetic else "compute"}


def read_records(folder=TIMINGS) -> list[Record]:
    """Every record below `folder`, in order of file and line; [] where there is none.

    Raises `ValueError` naming file, line, what is wrong and what would be right.
    """
    found = []
    for path in sorted(Path(folder).glob("*/*.jsonl")):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if text.strip():
                try:
                    record = validated(json.loads(text))
                    want = f"{folder_of(record.gpu)}/{record.kernel}.jsonl"
                    if f"{path.parent.name}/{path.name}" != want:
                        raise ValueError(f"a record of {record.kernel} on {record.gpu} belongs into {want}")
                except ValueError as error:
                    raise ValueError(f"{path.parent.name}/{path.name} line {number}: {error}") from None
                found.append(record)
    return found


def validated(line: dict) -> Record:
    """The record, if it can be true. Raises `ValueError` saying what is wrong and what would be right."""
    try:
        return _validated(line)
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a field has the wrong kind of value ({error})") from None


def _validated(line):
    if line["schema"] != SCHEMA:
        raise ValueError(f"schema {line['schema']}, this reads {SCHEMA}")
    gpu = _check_origin(line)
    work = _check_work(line)
    roofs = _check_roofs(line, gpu, work)
    times = {line["variant"]: _spread(line["variant"], line["time_us"])}
    for peer in line["peers"]:
        times[peer["name"]] = _spread(peer["name"], peer["time_us"])
    _check_method(line["time_us"])
    floor = max(floors_us(work, *roofs["datasheet"]))
    fastest = {name: median for name, (median, _, _) in times.items()} | {line["variant"]: line["time_us"]["min"]}
    for name, us in fastest.items():
        if us < floor:
            raise ValueError(f"{name} took {us:g} us, less than the datasheet's floor of {floor:.3g} us")
    _check_derived(line)
    shape = ", ".join(f"{name} {value}" for name, value in line["shape"].items())
    return Record(gpu, line["kernel"], shape, line["dtype"], work.bytes, work.flops, times, roofs["datasheet"],
                  roofs["measured"], line["env"], line["when"], line)  # fmt: skip


def _check_origin(line):
    """A GPU with a datasheet, all versions, a passed check, random data, a source and a date."""
    env = line["env"]
    missing = [name for name in VERSIONS if not env.get(name)]
    if missing:
        raise ValueError(f"env does not say {', '.join(missing)}; it must name {', '.join(VERSIONS)}")
    if env["gpu"] not in DATASHEETS:
        raise ValueError(f"no datasheet of {env['gpu']!r} in minimoe_kernels.work; there are: {'; '.join(DATASHEETS)}")
    if line["correct"]["passed"] is not True:
        raise ValueError(f"passed is {line['correct']['passed']!r}, not true: a wrong kernel has no time")
    if line["data"] not in DATA:
        raise ValueError(f"data {line['data']!r}: times on anything but random numbers flatter; want {DATA[0]!r}")
    if not re.fullmatch("[0-9a-f]{64}", line["source_sha256"]):
        raise ValueError(f"source_sha256 {line['source_sha256']!r} is not 64 hexadecimal figures")
    if not re.match(r"\d{4}-\d\d-\d\d", line["when"]):
        raise ValueError(f"when {line['when']!r} is no date like 2026-12-01T09:30:00Z")
    line["commit"], line["config"], line["resources"], line["op"]  # they must be there; a commit may be null
    return env["gpu"]


def _check_work(line):
    """Bytes and FLOPs are those of the sizes."""
    if line["kernel"] not in WORK:
        raise ValueError(f"kernel {line['kernel']!r} is not one of {', '.join(WORK)}")
    try:
        want = WORK[line["kernel"]](**line["shape"])
    except TypeError as error:
        raise ValueError(f"shape {line['shape']} does not fit: {error}") from None
    for name, said, right in (
        ("dtype", line["dtype"], want.dtype),
        ("bytes.ideal", line["bytes"]["ideal"], want.bytes),
        ("flops", line["flops"], want.flops),
    ):
        if said != right:
            raise ValueError(f"{name} {said!r}; {line['kernel']} of {line['shape']} has {right!r}")
    return want


def _check_roofs(line, gpu, work):
    """The datasheet's roofs are the datasheet's, and what was measured lies under them."""
    roofs, sheet = {}, DATASHEETS[gpu]
    for unit, key in (("tflops", work.dtype), ("bw_GBs", "GBs")):
        said = line["roof"][unit]
        if said["datasheet"] != sheet[key]:
            raise ValueError(f"roof {unit} {said['datasheet']!r}; the datasheet of {gpu} says {sheet[key]!r}")
        if not _positive(f"roof {unit} measured", said["measured"]) <= said["datasheet"]:
            raise ValueError(f"roof {unit}: measured {said['measured']:g} is above the datasheet's {sheet[key]:g}")
    for kind in ("datasheet", "measured"):
        roofs[kind] = line["roof"]["tflops"][kind], line["roof"]["bw_GBs"][kind]
    return roofs


def _positive(name, value):
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}; want a finite number above 0")
    return value


def _spread(name, time_us):
    """(median, p20, p80) in order; a peer may have no spread."""
    median = _positive(f"the median of {name}", time_us["median"])
    low, high = time_us.get("p20"), time_us.get("p80")
    if low is not None and high is not None and not low <= median <= high:
        raise ValueError(f"{name}: {low}, {median}, {high} us are not p20 <= median <= p80")
    return median, low, high


def _check_method(time_us):
    """How the kernel's own time was taken: all that makes a spread a spread."""
    least, low = _positive("min", time_us["min"]), _positive("p20", time_us["p20"])
    if _positive("p80", time_us["p80"]) < low or least > low:
        raise ValueError(f"min {least}, p20 {low}, p80 {time_us['p80']} us are not min <= p20 <= p80")
    if time_us["method"] not in METHODS or time_us["l2"] not in ("cold", "warm"):
        said = f"method {time_us['method']!r}, l2 {time_us['l2']!r}"
        raise ValueError(f"{said}: want a GPU's own clock ({', '.join(METHODS)}) and cold or warm")
    rounds = len(time_us["rounds"])
    if rounds < ROUNDS or time_us["n"] < rounds:
        raise ValueError(f"{time_us['n']} launches in {rounds} rounds; want at least {ROUNDS} rounds of one")


def _check_derived(line):
    for name, want in derive(line).items():
        said = line["derived"][name]
        same = said == want if isinstance(want, str) else math.isclose(said, want, rel_tol=1e-6)
        if not same:
            raise ValueError(f"derived {name} is {said!r}; the raw fields make it {want!r}")


def latest(records: list[Record]) -> list[Record]:
    """Of every GPU, kernel, variant, shape and kind of cache the last record, in the order of their first."""
    return list({_same(record): record for record in records}.values())


def _same(record):
    line = record.line
    return record.gpu, record.kernel, line["variant"], record.shape, record.dtype, line["time_us"]["l2"]


def regressions(records: list[Record]) -> list[str]:
    """A sentence for every record that is 15% slower than the one before it in an equal environment."""
    said, before = [], {}
    for record in records:
        env = {name: value for name, value in record.env.items() if name not in DRIFTS}
        key = (*_same(record), json.dumps(env, sort_keys=True))
        if key in before and record.median_us > SLOWER * before[key].median_us:
            was, growth = before[key], record.median_us / before[key].median_us - 1
            change = f"{record.median_us:,.4g} us, was {was.median_us:,.4g} us on {was.when}: {growth:.0%} slower"
            said.append(f"{record.kernel} ({record.shape}) on {record.gpu}: {change}")
        before[key] = record
    return said
