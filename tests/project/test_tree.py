"""The shape of the repository: names, sizes, what it must not contain, and what a wheel built from it ships."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ("minimoe/", "kernels/", "widgets/")
BINARY = {".png", ".safetensors", ".gz", ".jpg"}
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "base"}


def tracked():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def files():
    return tracked()


@pytest.fixture(scope="module")
def library(files):
    return {name: (ROOT / name).read_text() for name in files if name.startswith(LIBRARY) and name.endswith(".py")}


def test_no_file_or_folder_has_a_name_that_says_nothing(files):
    named = [name for name in files if not name.startswith("data/")]  # where a base model is a base model
    assert [name for name in named if VAGUE & {Path(part).stem for part in Path(name).parts}] == []


def test_library_files_are_one_sitting(library):
    assert {name: lines for name, text in library.items() if (lines := text.count("\n")) > 320} == {}


def test_library_functions_are_one_screen(library):
    long = {}
    for name, text in library.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > 60:
                    long[f"{name}: {node.name}"] = lines
    assert long == {}


def test_library_code_is_finished(library):
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    assert [name for name, text in library.items() if unfinished.search(text)] == []


def test_folders_that_hold_packages_are_not_packages():
    """A top-level package called `kernels` breaks `import transformers`."""
    folders = ("kernels", "widgets", "chapters", "data", "tests")
    assert [name for name in folders if (ROOT / name / "__init__.py").exists()] == []


def test_every_module_of_minimoe_is_tested_by_name(files):
    tests = {Path(name).name for name in files if name.startswith("tests/")}
    missing = [
        name
        for name in files
        if name.startswith("minimoe/") and name.endswith(".py") and not Path(name).stem.startswith("__")
        if not any(f"test_{Path(name).stem}" in test for test in tests)
    ]
    assert missing == []


def texts(files):
    for name in files:
        if Path(name).suffix not in BINARY:
            yield name, (ROOT / name).read_text(encoding="utf-8")


# Written in halves, so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(" + "|".join(["wo" + "rk", "ro" + "ot", "tm" + "p"]) + r")/\w")
REGISTRY = re.compile(r"py" r"pi\.org|python" r"hosted|registry\.npm" r"js|deb\.deb" r"ian|download\.py" r"torch")


def test_no_text_names_a_path_of_one_machine_or_a_registry(files):
    wrong = []
    for name, text in texts(files):
        for number, line in enumerate(text.splitlines(), 1):
            paths = {match[1] for match in MACHINE_PATH.finditer(line)}
            if name.startswith("tests/"):
                paths.discard("tm" + "p")  # the example of a path that a broken or hostile file points to
            if paths or REGISTRY.search(line):
                wrong.append(f"{name}:{number}: {line.strip()[:100]}")
    assert wrong == []


def test_the_patterns_find_what_they_should_and_spare_the_rest():
    assert MACHINE_PATH.search('"/ro' + 'ot/x"') and MACHINE_PATH.search("cd /wo" + "rk/main")
    assert not MACHINE_PATH.search("data/wo" + "rk/x") and not MACHINE_PATH.search("/usr/bin/chromium")
    assert REGISTRY.search("https://py" + "pi.org/simple") and not REGISTRY.search("https://pytorch.org/get-started")


def test_nothing_tracked_is_large(files):
    """nbgitpuller and Binder clone the whole repository for every reader."""
    sizes = {name: (ROOT / name).stat().st_size for name in files}
    assert {name: size for name, size in sizes.items() if size > 20_000_000} == {}
    assert sum(sizes.values()) < 100_000_000


@pytest.fixture(scope="module")
def wheel(files, tmp_path_factory):
    """A wheel of the tracked files, built in a copy because setuptools leaves a build folder behind."""
    copy = tmp_path_factory.mktemp("copy")
    for name in files:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"]
    done = subprocess.run([*command, str(out), str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_ships_only_packages_called_minimoe(wheel):
    tops = {name.split("/")[0] for name in wheel if ".dist-info/" not in name}
    assert "minimoe" in tops
    assert [top for top in tops if not re.fullmatch(r"minimoe(_\w+)?", top)] == []


def test_the_wheel_ships_every_package_file(files, wheel):
    inside = re.compile(r"(?:(?:kernels|widgets|chapters)/)?(minimoe\w*/.*\.(?:py|js|css))$")
    expected = {match[1] for name in files if (match := inside.match(name))}
    assert expected - set(wheel) == set()
