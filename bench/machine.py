"""What a measurement was taken on: written beside every number."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).parent
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    return found.stdout.strip() or None


def describe(seed: int) -> dict:
    """Machine, versions, command and load, as a dictionary for JSON."""
    import torch

    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "vector_unit": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in ("torch", "transformers", "trl", "triton", "numpy")},
        "commit": _commit(),
        "command": " ".join(["python", *map(os.path.relpath, sys.argv[:1]), *sys.argv[1:]]),
        "seed": seed,
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }
