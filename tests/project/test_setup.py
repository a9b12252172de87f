"""The scripts of the set-up and the Makefile: clear words, no work done twice, an honest exit status."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "BROWSER_PATH"))}


def run(*command, cwd=ROOT, **environment):
    return subprocess.run(command, cwd=cwd, env=CLEAN | environment, capture_output=True, text=True)


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_without_a_suitable_python_the_message_says_what_to_install(tmp_path):
    old = script(tmp_path / "old", "exit 1")
    done = run("sh", "tools/venv.sh", str(tmp_path / "venv"), old)
    assert done.returncode == 1 and not (tmp_path / "venv").exists()
    assert "Python 3.11 or newer" in done.stderr and "apt install" in done.stderr and "conda" in done.stderr


def test_a_given_browser_is_used_if_it_runs(tmp_path):
    browser = script(tmp_path / "browser", "echo Chromium 1")
    assert run("sh", "tools/chromium.sh", "false", BROWSER_PATH=browser).stdout.strip() == browser


def test_without_any_browser_the_message_says_what_to_install(tmp_path):
    """Nothing on PATH, no apt, and a Playwright that cannot download."""
    broken = script(tmp_path / "broken", "exit 1")
    shell = shutil.which("sh")
    done = run(shell, "tools/chromium.sh", broken, PATH=str(tmp_path), BROWSER_PATH=broken)
    if done.returncode == 0:  # only an application folder outside PATH can still hold one
        assert Path(done.stdout.strip()).is_relative_to("/Applications")
    else:
        assert "Install chromium or Google Chrome" in done.stderr and done.stdout == ""


@pytest.fixture
def tree(tmp_path):
    """The Makefile over a tree where the set-up is done."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "tools", "jupyter"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    for stamp in re.findall(r"touch (\S+)$", run("make", "-n", "setup-test", cwd=tmp_path).stdout, re.MULTILINE):
        (tmp_path / stamp).touch()
    return tmp_path


def test_a_second_set_up_does_nothing_until_a_pin_changes(tree):
    assert "install" not in run("make", "-n", "setup-test", cwd=tree).stdout
    with open(tree / "requirements.lock", "a") as lock:
        lock.write("another==1.0\n")
    assert "--editable" in run("make", "-n", "setup-test", cwd=tree).stdout


def test_a_new_package_in_the_tree_installs_again(tree):
    """setuptools lists the packages of an editable install once; a later one would not be found."""
    (tree / "kernels" / "minimoe_new").mkdir(parents=True)
    (tree / "kernels" / "minimoe_new" / "__init__.py").touch()
    assert "--editable" in run("make", "-n", "setup", cwd=tree).stdout


def test_arguments_reach_jupyterlab_and_torch_arguments_reach_pip(tree):
    lab = run("make", "-n", "lab", "ARGS=--no-browser --port 8890", cwd=tree).stdout
    assert "/lab/tree/chapters/00_start.ipynb" in lab and "--no-browser --port 8890" in lab
    shutil.rmtree(tree / ".venv")
    lines = run("make", "-n", "setup", "TORCH_ARGS=--index-url X", cwd=tree).stdout.splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert "torch==" in installs[1] and installs[1].endswith("--index-url X")
    assert ".[lab]" in installs[2] and "--index-url" not in installs[2]


@pytest.mark.parametrize("pytest_command, failed", [("true", None), ("false", "FAILED: unit notebooks browser")])
def test_make_test_runs_every_part_and_fails_if_one_did(tree, pytest_command, failed):
    browser = script(tree / "browser", "exit 0")
    done = run("make", "test", "PY=true", f"PYTEST={pytest_command}", cwd=tree, BROWSER_PATH=browser)
    parts = re.findall(r"^== (\w+)$", done.stdout, re.MULTILINE)
    assert parts == ["lint", "unit", "notebooks", "browser"]
    assert (done.returncode != 0) == bool(failed) and (failed or "") in done.stdout


def test_the_gate_of_continuous_integration_is_make_test_and_nothing_else():
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -e", 'cd "$(dirname "$0")/.."', "exec make test"]
