"""The setup of a chapter, and where it finds the data."""

import random

import numpy as np
import pytest
import torch

from minimoe_course import data_path, setup


def test_setup_makes_every_random_stream_repeat_and_uses_one_thread():
    draws = []
    for _ in range(2):
        setup(seed=3)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1] and torch.get_num_threads() == 1
    setup(seed=4)
    assert torch.rand(1).item() != draws[0][2]


def test_data_is_found_from_a_notebooks_folder_and_from_below_it(tmp_path, monkeypatch):
    (tmp_path / "data" / "tiny").mkdir(parents=True)
    (tmp_path / "chapters" / "deep").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "chapters", tmp_path / "chapters" / "deep"):
        monkeypatch.chdir(folder)
        assert data_path("tiny") == tmp_path / "data" / "tiny"


def test_a_named_data_folder_wins(tmp_path, monkeypatch):
    for place in ("data", "mine"):
        (tmp_path / place / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIMOE_DATA", str(tmp_path / "mine"))
    assert data_path("tiny") == tmp_path / "mine" / "tiny"


def test_missing_data_is_an_error_that_lists_the_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no data/no_such_thing; looked in .*data.*MINIMOE_DATA"):
        data_path("no_such_thing")
