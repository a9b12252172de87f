"""Run every hostile program in the sandbox, and measure what a sandbox costs.

    python data/sandbox/measure.py                 # writes table.json, and the tables in README.md
    python data/sandbox/measure.py --out FILE      # the records alone, as another user for example

The programs are those of tests/minimoe/rl/hostile.py; what they could harm is set up and looked at by witness.py beside
it. Linux. About 30 CPU-seconds, of which the programs that never end use the half.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "minimoe" / "rl"))

from hostile import HOSTILE  # noqa: E402
from witness import Witness  # noqa: E402

from minimoe.rl.sandbox import Limits, not_held, run_program  # noqa: E402

CPU_S, RUNS = 1, 50
BARE = [sys.executable, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", "print(1)"]
BEGIN, END = "<!-- written by measure.py -->", "<!-- to here -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "table.json")
    arguments = parser.parse_args()
    if not_held():
        raise SystemExit(f"nothing is run here: the sandbox would not hold {', '.join(not_held())}")
    records = {
        "command": "python data/sandbox/measure.py",
        "machine": {"cpu": cpu_name(), "architecture": platform.machine(), "kernel": platform.release().split("-")[0]},
        "python": platform.python_version(),
        "root": os.geteuid() == 0,
        "cpu_s_limit": CPU_S,
        "overhead": overhead(),
        "programs": [run(hostile) for hostile in HOSTILE],
    }
    arguments.out.write_text(json.dumps(records, indent=1) + "\n")
    if arguments.out.parent == HERE:
        write_readme()


def run(hostile) -> dict:
    """One program's record."""
    with Witness() as witness:
        limits = Limits(cpu_s=CPU_S, wall_s=hostile.wall_s)
        outcome = run_program(witness.aim(hostile.source), "one\ntwo\n", limits)
        harm = witness.harm(outcome.stdout + outcome.stderr)
        # Names of this run's folder and process are of no use to a reader.
        reason = outcome.reason.replace(str(witness.folder), "FOLDER").replace(str(os.getpid()), "PARENT")
        reason = reason.replace(witness.token, "TOKEN")
    return {
        "name": hostile.name,
        "attempt": hostile.attempt,
        "status": outcome.status,
        "as_expected": outcome.status in hostile.expected.split(" or "),
        "reason": reason,
        "harm": harm,
        "cpu_s": round(outcome.cpu_seconds, 3),
        "wall_s": round(outcome.seconds, 3),
    }


def overhead() -> dict:
    """Processor seconds of a program that prints 1: sandboxed, and in a bare interpreter with the same options."""

    def used():
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
        return [usage.ru_utime + usage.ru_stime for usage in usages]

    def measure(action):
        before = used()
        for _ in range(RUNS):
            action()
        return [round((after - start) / RUNS, 4) for start, after in zip(before, used(), strict=True)]

    sandboxed = measure(lambda: run_program("print(1)"))
    bare = measure(lambda: subprocess.run(BARE, env={}, stdout=subprocess.DEVNULL, check=True))
    return {"runs": RUNS, "sandboxed_cpu_s": sandboxed[0], "bare_cpu_s": bare[0], "parent_cpu_s": sandboxed[1]}


def cpu_name() -> str:
    """The processor, as Linux names it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def tables(folder: Path = HERE) -> str:
    """What README.md shows of table.json and ordinary_user.json."""
    records = json.loads((folder / "table.json").read_text())
    other = json.loads((folder / "ordinary_user.json").read_text())
    programs, cost = records["programs"], records["overhead"]
    statuses = [program["status"] for program in programs]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
    same = sum(a["status"] == b["status"] for a, b in zip(programs, other["programs"], strict=True))
    harmed = sum(bool(program["harm"]) for program in programs + other["programs"])
    lines = [
        f"{len(programs)} programs: {counts}.",
        f"This is as root; as an ordinary user {same} of them end with the same status.",
        f"Runs in which anything was harmed, of both: {harmed}.",
        "",
        f"On an {records['machine']['cpu']} core shared with other work, Linux {records['machine']['kernel']}, "
        f"Python {records['python']}; limits {records['cpu_s_limit']} s of processor time, 256 MiB, 64 KiB of output.",
        "",
        f"| processor time of `print(1)`, mean of {cost['runs']} runs | ms |",
        "|---|---:|",
        f"| sandboxed, the whole process | {1000 * cost['sandboxed_cpu_s']:.1f} |",
        f"| a bare interpreter, same options | {1000 * cost['bare_cpu_s']:.1f} |",
        f"| the parent, for one sandboxed run | {1000 * cost['parent_cpu_s']:.1f} |",
        "",
        "| program | tries to | ended as | because of | CPU-s | s |",
        "|---|---|---|---|---:|---:|",
    ]
    for program in programs:
        cells = [program["name"], program["attempt"], program["status"], program["reason"]]
        cells = [cell.replace("|", "\\|").replace("<", "&lt;").replace("__del__", "`__del__`") for cell in cells]
        lines.append(f"| {' | '.join(cells)} | {program['cpu_s']:.2f} | {program['wall_s']:.2f} |")
    return "\n".join(lines)


def write_readme() -> None:
    """Put the tables into README.md, between its marks."""
    path = HERE / "README.md"
    text = path.read_text()
    head, rest = text.split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
