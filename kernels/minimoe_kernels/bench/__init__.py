"""The bench: correctness first, then times under roofs of the same process, one JSON record a line.

    python -m minimoe_kernels.bench                     on a GPU: every case, into kernels/timings
    python -m minimoe_kernels.bench --list              anywhere: the cases and their floors on an H100
    python -m minimoe_kernels.bench --goals             anywhere: what the records reach

`run` judges a kernel by its check (`minimoe_kernels.checks`), on the GPU that will time it, and once more at the sizes
that are timed, against PyTorch. Only then does the clock start. `append` writes nothing that `timing_records` refuses,
so what a CPU "measured" cannot enter: it has no GPU, no driver, and no GPU's clock.

How the production version differs: nobody refuses to write a time for a kernel that is wrong.
"""

import contextlib
import datetime
import hashlib
import importlib
import inspect
import json
import math
import subprocess
from pathlib import Path

import torch

from minimoe_kernels import sim
from minimoe_kernels.bench import products, rows
from minimoe_kernels.bench.clock import CudaClock, contest
from minimoe_kernels.bench.peers import version_of
from minimoe_kernels.bench.sides import Case, flat
from minimoe_kernels.checks.agreement import Disagreement
from minimoe_kernels.kernel import compiled, running, simulated
from minimoe_kernels.timing_records import (
    ROUNDS,
    SCHEMA,
    TIMINGS,
    derive,
    folder_of,
    read_records,
    regressions,
    validated,
)
from minimoe_kernels.work import DATASHEETS

__all__ = ["CASES", "apart", "append", "run"]

CASES = rows.CASES + products.CASES
APART = 0.02  # how far two right results in 16 bits may be apart, root mean square; a wrong row in 2500 is further


def run(case: Case, clock=None, device="cuda", rounds: int = ROUNDS, leave_out: tuple[str, ...] = ()) -> dict:
    """Check one case, then time it beside its peers: a record (see `timing_records`).

    `clock` defaults to the GPU's. `leave_out` names peers that are not tried; one that fails, or computes something
    else, is left out by itself, and the record says why. Raises `Disagreement` for a kernel that is wrong, `ValueError`
    for a GPU without a datasheet, `RuntimeError` where there is none or it lacks the kernel's instructions.
    """
    clock = CudaClock(device) if clock is None else clock
    env = clock.env()
    sheet = _datasheet(case, env)
    # the backward passes run on this thread: the watcher is this thread's, and so is the time
    with torch.autograd.set_multithreading_enabled(False):
        _check(case, device)
        torch.manual_seed(0)
        ours, prepared = case.build(device, **case.sizes)
        with watched(device) as launches:
            result = flat(ours.seen(ours.call()))
        sides, out, distances = _peers(prepared, result, leave_out)
        del result
        times = contest({"ours": ours} | sides, clock, rounds)
        peaks = {name: clock.peak_bytes(side.call) for name, side in ({"ours": ours} | sides).items()}
    tflops, gigabytes = clock.roofs(case.work.dtype)
    env["clock_sm_mhz"] = [env.get("clock_sm_mhz"), clock.env().get("clock_sm_mhz")]
    first = next(iter(sides), None)
    correct = {"ref": f"float64, checks.{case.module}", "passed": True, "against": first,
               "rel_rms": distances.get(first)}  # fmt: skip
    line = _described(case, env) | {
        "config": {name: config for name, (config, _) in launches.items()},
        "resources": {name: found for name, (_, found) in launches.items() if found},
        "time_us": times["ours"], "peak_bytes": peaks["ours"], "correct": correct,
        "roof": {"bw_GBs": {"datasheet": sheet[1], "measured": gigabytes},
                 "tflops": {"datasheet": sheet[0], "measured": tflops}},
        "peers": [{"name": name, "version": version_of(name), "time_us": times[name], "peak_bytes": peaks[name],
                   "rel_rms": distances[name]} for name in sides],
        "left_out": out,
    }  # fmt: skip
    return line | {"derived": derive(line)}


def append(record: dict, folder=TIMINGS) -> list[str]:
    """Write a record at the end of its file; gives warnings of times that grew by more than 15%.

    Raises `ValueError`, and writes nothing, for a record that `timing_records` refuses.
    """
    found = validated(json.loads(json.dumps(record)))
    path = Path(folder) / folder_of(found.gpu) / f"{found.kernel}.jsonl"
    before = [old for old in read_records(folder) if (old.gpu, old.kernel) == (found.gpu, found.kernel)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    known = set(regressions(before))
    return [said for said in regressions([*before, found]) if said not in known]


def _datasheet(case, env):
    """(TFLOP/s, GB/s), or why this GPU cannot be measured."""
    gpu = env.get("gpu")
    if gpu not in DATASHEETS:
        raise ValueError(f"no datasheet of {gpu!r} in minimoe_kernels.work.DATASHEETS; add its roofs and their source")
    if env["arch"] < case.min_arch:
        raise RuntimeError(f"{case.kernel} needs compute capability {case.min_arch}; {gpu} has {env['arch']}")
    return DATASHEETS[gpu][case.work.dtype], DATASHEETS[gpu]["GBs"]


def _check(case, device):
    """The kernel's own check, on this device, with strips of known bytes around what it writes."""
    ops = importlib.import_module(f"minimoe_kernels.{case.module}")
    with sim.red_zones():
        importlib.import_module(f"minimoe_kernels.checks.{case.module}").check(ops, device)


def _peers(prepared, result, leave_out):
    """The peers that run and agree with our result at these sizes: (sides, why others are left out, distances)."""
    sides, out, distances = {}, {}, {}
    for name, prepare in prepared.items():
        if name in leave_out:
            out[name] = "not asked for"
            continue
        try:
            side = prepare()
            distance = apart(flat(side.seen(side.call())), result)
        except Exception as error:  # whatever a peer may fail with: it is reported, and the others go on
            out[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            continue
        if distance <= APART:
            sides[name], distances[name] = side, distance
        else:
            out[name] = f"{distance:.2g} apart from ours, root mean square; two right results are at most {APART}"
    if not sides and any("apart from ours" in why for why in out.values()):
        raise Disagreement(f"at the sizes to be timed no peer agrees: {out}")
    return sides, out, distances


def apart(theirs: list[torch.Tensor], ours: list[torch.Tensor]) -> float:
    """The largest distance of two lists of tensors: of floats the relative root mean square, of whole numbers the share
    that differs; infinite where shapes disagree or ours is not finite. In float64, piece by piece."""
    if [t.shape for t in theirs] != [t.shape for t in ours]:
        return math.inf
    most = 0.0
    for a, b in zip(theirs, ours, strict=True):
        off = size = 0.0
        for x, y in zip(a.reshape(-1).split(2**26), b.reshape(-1).split(2**26), strict=True):
            if b.is_floating_point():
                x, y = x.double(), y.double()
                off, size = off + float((x - y).square().sum()), size + float(x.square().sum())
            else:
                off, size = off + int((x != y).sum()), size + len(y)
        distance = off / max(size, 1e-300)
        distance = distance**0.5 if b.is_floating_point() else distance
        most = max(most, distance if math.isfinite(distance) else math.inf)
    return most


@contextlib.contextmanager
def watched(device):
    """Within it launches run as ever and are noted: {kernel: (constants and options, what the compiler says)}."""
    seen, real = {}, compiled if torch.device(device).type == "cuda" else simulated

    def watch(kernel, grid, values, options):
        made = real(kernel, grid, values, options)
        constants = {name: values[name] for name in values if name in kernel.constants} | options
        plain = {name: v if isinstance(v, bool | int | float | str | None) else str(v) for name, v in constants.items()}
        seen[kernel.name] = plain, _resources(made)
        return made

    with running(watch):
        yield seen


def _resources(made) -> dict:
    """Registers, spilled bytes and shared memory of a launch, where Triton made it."""
    found = {
        "registers": getattr(made, "n_regs", None), "spills": getattr(made, "n_spills", None),
        "shared_bytes": getattr(getattr(made, "metadata", None), "shared", None),
    }  # fmt: skip
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _described(case, env) -> dict:
    """What a record says before anything is timed."""
    source = inspect.getsource(importlib.import_module(f"minimoe_kernels.{case.module}"))
    backward = case.kernel.endswith("_backward")
    return {
        "schema": SCHEMA, "kernel": case.kernel, "variant": "minimoe", "op": "backward" if backward else "forward",
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(), "commit": _commit(), "shape": case.sizes,
        "dtype": case.work.dtype, "data": "randn", "env": env, "bytes": {"ideal": case.work.bytes},
        "flops": case.work.flops, "when": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip


def _commit():
    """The commit of the source, with "-dirty" behind it where files differ; None outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None
