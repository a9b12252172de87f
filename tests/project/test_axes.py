"""The axis rule of tests/conftest.py rejects what it exists to reject."""

import importlib.util
import subprocess
import sys

import pytest
import torch

SOURCE = '''
def honest(gates_MK, scores_ME):
    chosen_MK = gates_MK.sort(-1).indices
    return chosen_MK, scores_ME

def wrong_rank(gates_MK):
    flat_MK = gates_MK.reshape(-1)
    return flat_MK

def two_sizes(gates_MK, scores_ME):
    pairs_EK = gates_MK[:2]
    return pairs_EK

def inner_lies(gates_MK):
    def flatten():
        flat_MK = gates_MK.flatten()
        return flat_MK
    return flatten()

def refuses(ids_BT):
    if ids_BT.ndim != 2:
        raise ValueError(f"ids_BT has {ids_BT.ndim} axes")

def yields(rows_MK):
    for row_MK in rows_MK:
        yield row_MK

def not_a_tensor(prompts_P, N_K=3):
    return prompts_P
'''


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("sample", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def watched(sample, tmp_path, axis_rule):
    def call(name, *arguments):
        rule = axis_rule(tmp_path)
        with rule:
            result = getattr(sample, name)(*arguments)
            list(result) if name == "yields" else None
        return rule.broken

    return call


def test_true_names_pass(watched):
    assert watched("honest", torch.rand(5, 2), torch.rand(5, 8)) == []
    assert watched("not_a_tensor", ["a", "b"]) == []


def test_a_suffix_of_the_wrong_length_is_reported_with_the_shape(watched):
    (message,) = watched("wrong_rank", torch.rand(5, 2))
    assert "wrong_rank: flat_MK names 2 axes and has 1, of shape (10,)" in message


def test_one_letter_with_two_sizes_is_reported_with_both(watched):
    (message,) = watched("two_sizes", torch.rand(5, 3), torch.rand(5, 8))
    assert "E is 8 in scores_ME and 2 in pairs_EK" in message


def test_functions_inside_functions_and_generators_are_watched(watched):
    assert any("inner_lies" in message for message in watched("inner_lies", torch.rand(5, 2)))
    assert watched("yields", torch.rand(5, 2))


def test_a_function_that_rejects_a_bad_shape_is_not_blamed_for_it(axis_rule, sample, tmp_path):
    rule = axis_rule(tmp_path)
    with rule, pytest.raises(ValueError, match="3 axes"):
        sample.refuses(torch.rand(2, 3, 4))
    assert rule.broken == []
    with rule:
        sample.honest(torch.rand(5, 2), torch.rand(4, 8))
    assert len(rule.broken) == 1, "and the rule was on"


def test_code_outside_the_folder_is_left_alone(axis_rule, tmp_path):
    def local_lie(gates_MK):
        return gates_MK

    rule = axis_rule(tmp_path)
    with rule:
        local_lie(torch.rand(3))
    assert rule.broken == []


LIBRARY_TEST = '''
import importlib.util
import pytest

spec = importlib.util.spec_from_file_location("lib", {library!r})
lib = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lib)

class Tensor:
    shape = (3,)

def test_that_meets_a_lie():
    lib.take(Tensor())

@pytest.mark.no_axis_check
def test_that_is_exempt():
    lib.take(Tensor())
'''


def test_a_library_test_fails_when_a_name_lies_and_the_marker_exempts_it(tmp_path, pytestconfig):
    """The rule is switched on where it should be: a copy of conftest.py over a small library and its tests."""
    (tmp_path / "minimoe").mkdir()
    library = tmp_path / "minimoe" / "lib.py"
    library.write_text("def take(x_MK):\n    return x_MK\n")
    tests = tmp_path / "tests" / "minimoe"
    tests.mkdir(parents=True)
    conftest = pytestconfig.rootpath / "tests" / "conftest.py"
    (tmp_path / "tests" / "conftest.py").write_text(conftest.read_text())
    (tests / "test_lib.py").write_text(LIBRARY_TEST.format(library=str(library)))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = no_axis_check\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "x_MK names 2 axes and has 1" in done.stdout
