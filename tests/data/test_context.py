"""The stored models find what their maps say, and the record of five seeds says what the README says."""

import json
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.inference.retrieval import Needles, RetrievalMap, retrieval
from minimoe.inference.wavelengths import rotary_pairs
from minimoe.tokenizer import Tokenizer
from minimoe.training.context import extend, plain_config

FOLDER = Path(__file__).parents[2] / "data" / "context"
WAYS = ("yarn", "yarn, betas 1", "slower pairs alone", "sharper softmax alone", "interpolation")
WAYS += ("extrapolation",)


@pytest.fixture(scope="module")
def seeds():
    return json.loads((FOLDER / "retrieval.json").read_text(encoding="utf-8"))["seeds"]


@pytest.fixture(scope="module")
def receipt():
    return json.loads((FOLDER / "receipt.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def needles():
    return Needles.from_tokenizer(Tokenizer.load(FOLDER / "base"))


@pytest.fixture(scope="module")
def base():
    return minimoe.load(FOLDER / "base", dtype=torch.float32)


@pytest.fixture(scope="module")
def extended():
    return minimoe.load(FOLDER / "extended", dtype=torch.float32)


def shares(values):
    return RetrievalMap.from_dict(values).by_length()


def test_the_folder_is_small_and_both_models_are_bfloat16():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 1.5e6
    assert minimoe.load(FOLDER / "base").dtype == minimoe.load(FOLDER / "extended").dtype == torch.bfloat16


def test_the_extended_model_is_the_base_under_yarn_times_eight(base, extended, receipt):
    assert extended.config == extend(base, 8, beta_fast=1).config and plain_config(extended.config) == base.config
    assert (base.config.max_position_embeddings, extended.config.max_position_embeddings) == (64, 512)
    assert receipt["parameters"] == sum(parameter.numel() for parameter in base.parameters())
    pairs = rotary_pairs(extended.config)
    assert (pairs.finished, len(pairs.ramp)) == (5, 8)


def measured(model, needles, length, trials=16):
    """A part of the map: three depths, other rows than the recorded ones."""
    return retrieval(model, needles, [length], [0.0, 0.5, 1.0], trials, seed=7).by_length()[length]


def test_the_base_model_finds_within_its_length_and_not_beyond(base, needles):
    # 48 questions: a share of 0.95 shows 0.85 or less with a probability of 0.5%, one of 0.1 shows 0.3 with 0.01%
    assert measured(base, needles, 64) > 0.85
    assert measured(base, needles, 512) < 0.3


def test_the_extended_model_finds_at_eight_times_the_length(extended, needles):
    assert measured(extended, needles, 64) > 0.85
    assert measured(extended, needles, 512) > 0.85


def test_yarn_alone_reaches_farther_than_nothing(base, needles):
    assert measured(extend(base, 8), needles, 256) > measured(base, needles, 256) + 0.3


def test_storing_in_bfloat16_changed_little(receipt):
    for name in ("base", "extended"):
        for length, share in receipt["float32"][name].items():
            # 100 other questions: three standard deviations of a share of one half are 0.15
            assert abs(share - receipt["stored"][name][length]) < 0.15, (name, length)


def test_every_seed_has_every_map_and_every_step(seeds):
    assert len(seeds) == 5
    for record in seeds.values():
        assert set(record["ways"]) == set(WAYS)
        for way in record["ways"].values():
            assert set(shares(way["before"])) == set(shares(way["after"])) == {32, 64, 128, 256, 512}
            assert max(map(int, way["along"])) == 160 and all(0 <= share <= 1 for share in way["along"].values())
        assert record["ways"]["extrapolation"]["before"] == record["base"]  # nothing was changed, so nothing may differ


def test_before_training_yarn_finds_most_and_its_softmax_does_most_of_it_in_every_seed(seeds):
    for seed, record in seeds.items():
        before = {way: shares(record["ways"][way]["before"]) for way in WAYS}
        assert shares(record["base"])[64] > 0.95 and shares(record["base"])[512] < 0.2, seed
        whole = {way: sum(found.values()) for way, found in before.items()}
        assert min(whole["yarn"], whole["yarn, betas 1"]) > max(whole[way] for way in WAYS[2:]), seed
        assert before["sharper softmax alone"][512] > before["slower pairs alone"][512] + 0.3, seed


def test_after_the_second_phase_the_shipped_way_finds_nearly_all_and_extrapolation_too(seeds):
    for seed, record in seeds.items():
        after = {way: shares(record["ways"][way]["after"]) for way in WAYS}
        assert min(after["yarn, betas 1"].values()) > 0.95 and min(after["extrapolation"].values()) > 0.9, seed
        assert after["interpolation"][32] < after["yarn, betas 1"][32], seed


def test_the_command_kept_to_its_budget(receipt):
    assert receipt["cpu_seconds"]["whole command"] <= 120 and receipt["machine"]["threads"] == 1


def test_the_readme_states_the_receipts_numbers(receipt, seeds):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    numbers = [f"{receipt['parameters']:,}", f"{receipt['cpu_seconds']['whole command']}", receipt["versions"]["torch"]]
    for way in WAYS:
        for when in ("before", "after"):
            mean = [sum(shares(r["ways"][way][when])[n] for r in seeds.values()) / len(seeds) for n in (64, 128, 512)]
            numbers.append(" | ".join(f"{share:.0%}" for share in mean))
    assert [number for number in numbers if number not in readme] == []
