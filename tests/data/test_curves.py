"""The five-seed study is complete, its lines agree with the library's counts, and a short rerun meets its curves."""

import dataclasses
import importlib.util
import json
import statistics
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.accounting import parameters
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, load_corpus, train
from minimoe.training.data import encode_documents

FOLDER = Path(__file__).parents[2] / "data" / "curves"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("study", FOLDER / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def records():
    return [json.loads(line) for line in (FOLDER / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_variant_has_every_seed_once(study, records):
    found = sorted((record["variant"], record["seed"]) for record in records)
    assert found == sorted((name, seed) for name in study.VARIANTS for seed in study.SEEDS)


def test_a_line_says_what_the_command_would_run(study, records):
    for record in records:
        changes, settings, steps = study.VARIANTS[record["variant"]]
        assert record["changes"] == changes and record["steps"] == steps
        wanted = json.loads(json.dumps(Settings(**({"steps": steps, "evaluate_every": 50} | settings)).to_dict()))
        assert record["settings"] == {name: wanted[name] for name in record["settings"]}, record["variant"]


def test_counts_are_those_of_the_config_and_the_text_is_the_shipped_one(records):
    sha256 = load_corpus(FOLDER.parent / "wordnet").sha256
    for record in records:
        count = parameters(dataclasses.replace(minimoe.NANO, **record["changes"]))
        assert record["activated"] == count.activated.with_head
        assert record["tokens"] == record["steps"] * 8 * 128 and record["corpus_sha256"] == sha256


def test_curves_have_a_point_every_ten_steps_and_end_below_where_they_began(records):
    for record in records:
        curve = record["curves"]
        assert curve["step"] == list(range(10, record["steps"] + 1, 10))
        assert len(curve["next_token"]) == len(curve["maxvio"]) == len(curve["cpu_s"]) == len(curve["step"])
        assert curve["next_token"][-1] < curve["next_token"][0] - 2
        assert record["validation"] == pytest.approx(list(record["validation_curve"].values())[-1], abs=1e-4)


def test_dense_and_expert_variants_use_equally_many_weights_a_token(records):
    activated = {record["variant"]: record["activated"] for record in records}
    for name in ("dense", "coarse", "no_shared", "no_groups"):
        # the routers' own weights make the difference
        assert activated[name] == pytest.approx(activated["reference"], rel=0.02), name


def test_ten_steps_run_again_meet_the_recorded_curve(records):
    recorded = next(record for record in records if (record["variant"], record["seed"]) == ("reference", 0))
    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(FOLDER.parent / "nano")
    documents = encode_documents(tokenizer, load_corpus(FOLDER.parent / "wordnet").train)
    model = minimoe.Transformer(minimoe.NANO, seed=0)
    settings = Settings(steps=recorded["steps"])
    history = train(
        model, Batches(documents, 8, 128, 0), settings, on_step=lambda record: record["step"] < 10, label=None
    )
    # another processor sums in another order; ten steps let such differences grow to about 1e-3
    assert statistics.fmean(history["next_token"]) == pytest.approx(recorded["curves"]["next_token"][0], abs=5e-3)
