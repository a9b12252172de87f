"""data/terms: what was run is what the script and the README name, from one base."""

import json
import re
import runpy
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "data" / "terms"
VARIANTS = runpy.run_path(str(FOLDER / "study.py"))["VARIANTS"]
RECORDS = [json.loads(line) for line in (FOLDER / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_variant_was_run_and_nothing_else():
    assert {record["variant"] for record in RECORDS} == set(VARIANTS)
    runs = [(record["variant"], record["seed"]) for record in RECORDS]
    assert len(runs) == len(set(runs))


def test_all_runs_start_from_one_model_and_have_a_value_for_every_step():
    assert len({record["before"]["accuracy"] for record in RECORDS}) == 1
    assert all(len({len(curve) for curve in record["curves"].values()}) == 1 for record in RECORDS)


@pytest.mark.parametrize("name", [name for name in VARIANTS if "rollout" not in name and name != "reference"])
def test_the_readme_says_what_is_different(name):
    said = (FOLDER / "README.md").read_text(encoding="utf-8")
    short = re.sub("^no baseline, all rewards - 1$", "- 1", name)
    assert f"`{short}`" in said


def test_where_every_answer_gets_the_same_the_rewards_are_not_looked_at():
    variant = VARIANTS["all rewards 1, per token"]
    advantages_PO = variant["advantages"](torch.tensor([[0.0, 0.1, 1.1]]), "std")
    assert advantages_PO.tolist() == [[1.0, 1.0, 1.0]]
    assert variant["settings"].objective.average == "token"
