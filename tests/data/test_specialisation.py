"""The study behind chapter 08: its lines are complete and agree with themselves, and its code measures what it says."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.inference.specialisation import information_bits
from minimoe.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[2] / "data" / "specialisation"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("specialisation_study", FOLDER / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs():
    return [json.loads(line) for line in (FOLDER / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_way_of_balancing_has_every_seed_once(study, runs):
    assert [(r["variant"], r["seed"]) for r in runs] == [(v, s) for v in study.VARIANTS for s in study.SEEDS]
    assert {r["steps"] for r in runs} == {study.STEPS}
    assert all((r["sequence_alpha"], r["settings"]) == study.VARIANTS[r["variant"]] for r in runs)


def test_the_numbers_of_a_line_agree_with_its_loads(runs):
    for run in runs:
        tokens = torch.tensor(run["tokens_held_out"], dtype=torch.float64)
        for layer in run["layers"].values():
            share = torch.tensor(layer["load_by_domain"], dtype=torch.float64)
            assert torch.allclose(share.sum(0), torch.ones(3, dtype=torch.float64), atol=1e-3)
            load = (share * tokens).sum(1)
            assert layer["maxvio"] == pytest.approx((load.max() / load.mean() - 1).item(), abs=0.01)
            by_domain = (share.max(0).values * 16 - 1).tolist()
            assert layer["maxvio_by_domain"] == pytest.approx(by_domain, abs=0.01)
            bits = information_bits((share * tokens * 1000).round())
            assert layer["information_bits"]["domain"] == pytest.approx(bits, abs=0.003)  # chance is below that


def test_all_runs_were_measured_on_the_same_documents(runs):
    assert len({tuple(r["tokens_held_out"]) for r in runs}) == 1
    assert {tuple(r["domains"]) for r in runs} == {("dictionary", "sums", "code")}


def test_a_batch_has_rows_of_one_domain_each(study):
    documents = {"dictionary": [[1] * 500], "sums": [[2] * 500], "code": [[3] * 500]}
    batch = next(study.rows(documents, seed=0))
    assert batch.shape == (8, 128)
    assert [row.unique().tolist() for row in batch] == [[1]] * 3 + [[2]] * 2 + [[3]] * 3


def test_an_untrained_model_can_be_measured(study):
    tokenizer = Tokenizer.train("some text to learn a few pairs from, some text to learn " * 9, 290)
    held_out = {name: [[i, i + 1, i + 2, 40 + i] for i in range(first, first + 6)] for name, first in
                (("dictionary", 10), ("sums", 100), ("code", 200))}  # fmt: skip
    measured = study.measure(minimoe.Transformer(study.CONFIG, seed=0), tokenizer, held_out)
    assert measured["tokens_held_out"] == [24, 24, 24] and set(measured["layers"]) == {1, 2}
    assert len(measured["layers"][1]["load_by_domain"]) == 16


def test_a_sum_is_written_without_marks(study):
    assert study.spoken(study.Chain(operations=2), "1 - 3 + 1") == "1-3=8+1=9 is 9"


def test_the_table_has_a_line_for_each_variant(study):
    assert all(any(line.startswith(name) for line in study.table().splitlines()) for name in study.VARIANTS)
