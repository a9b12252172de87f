"""The committed tuning runs: the search is complete, and its winners are what the library uses."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from minimoe.training import Settings
from minimoe.training.optimizer import TABLE_RATE

CURVES = Path(__file__).parents[2] / "data" / "curves"


@pytest.fixture(scope="module")
def tuning():
    spec = importlib.util.spec_from_file_location("tuning", CURVES / "tuning.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NoMoreRuns:
    def run(self, recipe, steps, seed):
        raise AssertionError(f"not in tuning.jsonl: {recipe}, {steps} steps, seed {seed}")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_search_is_complete_and_its_best_table_rate_is_the_default(tuning, optimizer):
    winner = tuning.tune(NoMoreRuns(), optimizer)
    assert winner.table_rate == TABLE_RATE[optimizer]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_best_rates_lie_inside_the_grid_and_not_at_its_edge(tuning, optimizer):
    winner, grid = tuning.tune(NoMoreRuns(), optimizer), tuning.GRID[optimizer]
    assert min(grid) < winner.table_rate < max(grid)
    assert min(grid[winner.table_rate]) < winner.lr < max(grid[winner.table_rate])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_rate_of_the_longer_race_lies_between_rates_that_were_worse(tuning, optimizer):
    winner = tuning.tune(NoMoreRuns(), optimizer)
    for factor in (0.5, 2):
        other = dataclasses.replace(winner, lr=winner.lr * factor)
        loss, worse = (tuning.loss_of(recipe, tuning.LONG, tuning.LONG_SEEDS[0]) for recipe in (winner, other))
        assert loss < worse


def test_the_study_runs_both_optimizers_at_their_best(tuning):
    spec = importlib.util.spec_from_file_location("study", CURVES / "study.py")
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    adamw, muon = (tuning.tune(NoMoreRuns(), optimizer) for optimizer in ("adamw", "muon"))
    assert study.ADAMW == {"optimizer": "adamw", "lr": adamw.lr} | adamw.changes
    assert muon.lr == Settings(steps=1).lr and not muon.changes


def test_both_optimizers_get_the_same_search(tuning):
    for rates_of in tuning.GRID.values():
        assert max(len(rates) for rates in rates_of.values()) >= 4
        for rates in rates_of.values():
            assert all(b == pytest.approx(2 * a) for a, b in zip(rates, rates[1:], strict=False))


def test_no_run_is_listed_twice(tuning):
    names = [field.name for field in dataclasses.fields(tuning.Recipe)] + ["steps", "seed"]
    runs = [tuple(line[name] for name in names) for line in tuning.results()]
    assert len(runs) == len(set(runs))
