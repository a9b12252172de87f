"""Write requirements.lock: the exact version of every package that `make lab`, `make test` and the extra `gym` install.

    make lock

pip resolves pyproject.toml with all its extras as if nothing were installed, and the answer is written down. The file
is used as constraints (`pip install -c`), so a package that only another platform needs is left to pip. CUDA packages
are not listed: which of them PyTorch needs is its own affair, and the CPU build needs none.
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
TORCH = "torch==2.13.0"
CUDA = re.compile(r"(nvidia|cuda)([-_].*)?$")


def resolve():
    """What pip would install into an empty environment: {name: version}."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), TORCH, f"{ROOT}[test,gym]"], check=True)
        found = json.loads(report.read_text())["install"]
    pairs = [(entry["metadata"]["name"], entry["metadata"]["version"]) for entry in found]
    return {re.sub(r"[-_.]+", "-", name).lower(): version.split("+")[0] for name, version in pairs}


def main():
    versions = {name: v for name, v in resolve().items() if name != "minimoe" and not CUDA.match(name)}
    head = [
        "# Written by `make lock`: the versions that are tested together. Used as constraints by the Makefile.",
        f"# Resolved with Python {platform.python_version()} on {platform.system()}.",
    ]
    LOCK.write_text("\n".join([*head, *(f"{name}=={versions[name]}" for name in sorted(versions))]) + "\n")
    print(f"{LOCK.name}: {len(versions)} packages")


if __name__ == "__main__":
    main()
