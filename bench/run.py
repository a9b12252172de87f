"""minimoe beside transformers: `python bench/run.py train|loop|decode|experts|speculation|import|grpo|
simulator|all`.

Every measurement runs in a process of its own with the number of threads it is told, and writes bench/results/NAME.json
and a table NAME.md. Nothing here asserts a time: the results of both sides are asserted to agree, the times are written
down.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
THREADS = {
    "train": (1, 2),
    "loop": (1, 2),
    "decode": (1,),
    "experts": (1,),
    "speculation": (1,),
    "import": (1,),
    "grpo": (1,),
    "simulator": (1,),
}
# `all`; grpo asks for TRL, simulator for Triton
MEASUREMENTS = ("train", "loop", "decode", "experts", "speculation", "import")


def in_process(name: str, rounds: int, seed: int, detail: bool) -> dict:
    """Run one measurement in this process, with the threads that the environment set."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(seed)
    module = importlib.import_module({"import": "import_time"}.get(name, name))
    extra = {"detail": detail} if name == "train" else {}
    return module.run(rounds, seed, **extra)


def in_new_process(name: str, threads: int, options) -> dict:
    """Run one measurement in a fresh process with `threads` threads; gives what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, name, "--worker", str(answer), "--rounds", str(options.rounds)]
        command += ["--seed", str(options.seed)] + ([] if options.detail else ["--no-detail"])
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stderr=subprocess.PIPE, text=True
        )
        # torch's profiler announces itself on stderr
        said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("USDT:"))
        if said:
            print(said, file=sys.stderr)
        done.check_returncode()
        return json.loads(answer.read_text())


def measure(name: str, options) -> None:
    """Run one measurement for every number of threads and write its results."""
    from machine import describe
    from report import table

    result = {"machine": describe(options.seed)}
    result["runs"] = [in_new_process(name, t, options) for t in options.threads or THREADS[name]]
    result["machine"]["load_average_after"] = [round(x, 2) for x in os.getloadavg()]
    text = table(name, result)
    print(text)
    if options.keep:
        folder = HERE / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / f"{name}.md").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=[*THREADS, "all"])
    parser.add_argument("--rounds", type=int, default=9, help="how often each case runs (default 9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, nargs="*", help="thread counts (default: what the table needs)")
    parser.add_argument("--no-detail", dest="detail", action="store_false", help="times only, no profile")
    parser.add_argument("--no-keep", dest="keep", action="store_false", help="print, do not write bench/results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        answer = in_process(options.what, options.rounds, options.seed, options.detail)
        Path(options.worker).write_text(json.dumps(answer))
        return
    for name in MEASUREMENTS if options.what == "all" else [options.what]:
        measure(name, options)


if __name__ == "__main__":
    main()
