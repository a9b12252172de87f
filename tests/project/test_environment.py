"""environment.yml is what Binder and hubs build from, far from here: it must parse there and agree with `make test`."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
import rattler
import yaml

# conda name -> the name on the Python package index
CONDA_NAMES = {"pytorch-cpu": "torch", "numpy": "numpy", "python": None, "pip": None}
GATE = ("lab", "hub", "kernels", "test")  # the extras that `make test` installs, and that the lock resolves


@pytest.fixture(scope="module")
def root(pytestconfig):
    return pytestconfig.rootpath


@pytest.fixture(scope="module")
def environment(root):
    return yaml.safe_load((root / "environment.yml").read_text())


@pytest.fixture(scope="module")
def conda_lines(environment):
    return [line for line in environment["dependencies"] if isinstance(line, str)]


@pytest.fixture(scope="module")
def pip_lines(environment):
    (section,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    return section


@pytest.fixture(scope="module")
def lock(root):
    lines = (root / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.fixture(scope="module")
def extras(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def test_every_conda_line_parses_strictly(conda_lines):
    for line in conda_lines:
        assert rattler.MatchSpec(line, strict=True).name is not None, line


@pytest.mark.parametrize("line", ["python==", "numpy>>2", "pytorch-cpu = = 2"])
def test_the_strict_parser_rejects_a_slip(line):
    with pytest.raises(Exception, match=r"."):
        rattler.MatchSpec(line, strict=True)


def test_python_is_one_exact_minor_version(conda_lines):
    """Anything else makes repo2docker fall back to its own default without a word."""
    (line,) = [line for line in conda_lines if line.startswith("python")]
    name, _, minor = line.partition("=")
    assert name == "python" and minor.count(".") == 1 and minor.replace(".", "").isdigit(), line


def test_conda_versions_admit_those_of_the_lock(conda_lines, lock):
    for line in conda_lines:
        spec = rattler.MatchSpec(line, strict=True)
        name = CONDA_NAMES[spec.name.normalized]
        if name:
            allowed = rattler.VersionSpec(str(spec.version))
            assert allowed.matches(rattler.Version(lock[name])), f"{line} does not admit {name} {lock[name]}"


def test_pip_pins_equal_the_lock(pip_lines, lock):
    pins = dict(line.split("==") for line in pip_lines)
    assert pins == {name: lock.get(name) for name in pins}


def test_pip_pins_equal_what_make_test_installed(pip_lines):
    for line in pip_lines:
        name, pin = line.split("==")
        assert version(name) == pin


def test_the_environment_holds_all_that_a_reader_needs(pip_lines, conda_lines, extras):
    def names(lines):
        return {line.split(">")[0].split("=")[0] for line in lines}

    from_conda = {CONDA_NAMES[name] for name in names(conda_lines)} - {None}
    assert names(pip_lines) | from_conda == names(extras[""]) | names(extras["lab"]) | names(extras["hub"])


def test_the_lock_admits_every_requirement_of_pyproject(extras, lock):
    from packaging.requirements import Requirement

    for line in (line for extra in ("", *GATE) for line in extras[extra]):
        requirement = Requirement(line)
        if requirement.name != "minimoe":
            assert lock[requirement.name] in requirement.specifier, line


def test_what_the_gate_does_not_install_is_pinned_by_itself_and_agrees_with_the_lock(extras, lock):
    rest = extras.keys() - {"", *GATE}
    assert rest
    for line in (line for extra in rest for line in extras[extra]):
        name, _, pin = line.partition("==")
        assert pin and lock.get(name, pin) == pin, line


def test_the_pip_section_resolves(pip_lines):
    """Against the packages that `make test` installed, so that no index is asked."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", *pip_lines]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout, done.stdout


def test_the_pip_section_names_no_option_and_no_path(pip_lines):
    """With either, repo2docker copies the repository before the environment, and every commit builds it anew."""
    assert [line for line in pip_lines if line.startswith(("-", ".")) or "/" in line] == []


def test_repo2docker_accepts_the_repository(root):
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    recipe = done.stdout + done.stderr
    assert done.returncode == 0, recipe[-3000:]
    for step in ("environment.yml", "postBuild", "python=3.11", "/start"):
        assert step in recipe, f"the Dockerfile does not use {step}"


def test_no_binder_folder_hides_the_environment(root):
    """repo2docker ignores environment.yml in the root as soon as one of these exists."""
    assert not [name for name in ("binder", ".binder") if (root / name).exists()]


@pytest.mark.parametrize("name", ["postBuild", "start", ".ci/run"])
def test_scripts_are_executable_and_parse(root, name):
    path = root / name
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0


def test_start_hands_over_to_its_arguments_with_one_thread(root):
    done = subprocess.run([str(root / "start"), "sh", "-c", "echo $OMP_NUM_THREADS"], capture_output=True, text=True)
    assert done.stdout.strip() == "1"


def test_settings_and_devcontainer_are_json(root):
    settings = json.loads((root / "jupyter" / "overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"] == {"fetchNews": "false", "checkForUpdates": False}
    container = json.loads((root / ".devcontainer" / "devcontainer.json").read_text())
    assert "environment.yml" in container["postCreateCommand"] and "./postBuild" in container["postCreateCommand"]
