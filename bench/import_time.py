"""(e): how long `import minimoe` takes beyond `import torch`, in fresh interpreters that take turns."""

import statistics
import subprocess
import sys

CODE = """
import time
{before}
start_s, start_cpu_s = time.perf_counter(), time.process_time()
{timed}
print(time.perf_counter() - start_s, time.process_time() - start_cpu_s)
"""


def once(before: str, timed: str) -> tuple[float, float]:
    """Wall and CPU seconds of the timed line in a fresh interpreter."""
    out = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before, timed=timed)], capture_output=True, text=True, check=True
    )
    wall_s, cpu_s = map(float, out.stdout.split())
    return wall_s, cpu_s


def run(rounds: int, seed: int) -> dict:
    """Medians over fresh interpreters; the first round, which fills the file cache, is not counted."""
    cases = {
        "import torch": ("", "import torch"),
        "import minimoe after torch": ("import torch", "import minimoe"),
        "import minimoe.training.loop after minimoe": ("import minimoe", "import minimoe.training.loop"),
        "import transformers' DeepseekV3ForCausalLM after torch": (
            "import torch",
            "from transformers import DeepseekV3ForCausalLM",
        ),
    }
    seconds = {name: [] for name in cases}
    for r in range(rounds + 1):
        for name, lines in cases.items():
            took = once(*lines)
            if r:
                seconds[name].append(took)
    return {
        "what": "import times in fresh interpreters, seconds",
        "threads": 1,
        "imports": {
            name: {"wall_s": statistics.median(w for w, _ in took), "cpu_s": statistics.median(c for _, c in took)}
            for name, took in seconds.items()
        },
    }
