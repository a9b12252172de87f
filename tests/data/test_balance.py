"""The three siblings of data/balance are what their receipt says, and differ in nothing but how they were balanced."""

import json
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.model.router import max_violation
from minimoe.tokenizer import Tokenizer
from minimoe.training import History, evaluate, load_corpus
from minimoe.training.data import encode_documents, pack

FOLDER = Path(__file__).parents[2] / "data" / "balance"
MODES = ("loss_free", "aux", "none")
each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def receipt():
    return json.loads((FOLDER / "receipt.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def band():
    return json.loads((FOLDER / "band.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models():
    return {mode: minimoe.load(FOLDER / mode, dtype=torch.float32).requires_grad_(False) for mode in MODES}


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(FOLDER.parent / "wordnet")


@pytest.fixture(scope="module")
def validation(corpus, receipt):
    documents = encode_documents(Tokenizer.load(FOLDER / "none"), corpus.validation)
    return pack(documents, receipt["batch"]["row_tokens"])


def ends(mode_receipt):
    return mode_receipt["maxvio"]["worst layer, mean of the last 50 steps"]


def test_the_models_are_small_alike_and_stored_in_bfloat16(models, receipt):
    assert len({model.config for model in models.values()}) == 1
    for mode, model in models.items():
        assert sum(parameter.numel() for parameter in model.parameters()) == receipt["parameters"]
        assert minimoe.load(FOLDER / mode).dtype == torch.bfloat16
        assert (FOLDER / mode / "model.safetensors").stat().st_size <= 1.25e6


def test_the_runs_kept_to_their_budget_and_to_one_thread(receipt, band):
    assert receipt["cpu_seconds"]["whole_command"] <= 120
    assert receipt["machine"]["threads"] == band["machine"]["threads"] == 1


@each_mode
def test_the_stored_loss_is_the_receipts(mode, models, validation, receipt):
    # float32 sums in another order on another machine; the receipt is rounded to 4 digits
    stated = receipt["modes"][mode]["loss_nats_per_token"]["validation, as stored"]
    assert evaluate(models[mode], validation) == pytest.approx(stated, abs=1e-3)


@each_mode
def test_the_stored_balance_is_the_receipts(mode, models, validation, receipt):
    routing = models[mode](validation[:32]).routing
    stated = receipt["modes"][mode]["maxvio"]["validation by layer"]
    for layer, decision in routing.items():
        # a token whose experts tie to rounding may go elsewhere: one of 4,096 moves MaxVio by 0.001
        assert max_violation(decision.load_E) == pytest.approx(stated[str(layer)], abs=0.01), layer


def test_only_the_bias_rule_moved_a_bias(models):
    for mode, model in models.items():
        moved = [bool(router.e_score_correction_bias.any()) for router in model.routers().values()]
        assert moved == [mode == "loss_free"] * len(moved)


def test_left_alone_the_experts_collapse_and_both_methods_balance_them(receipt):
    modes = receipt["modes"]
    assert ends(modes["none"]) > 2.5 > 1 > ends(modes["aux"]) > ends(modes["loss_free"])


@each_mode
def test_the_history_has_every_step_and_ends_at_the_receipts_numbers(mode, receipt):
    history, stated = History.load(FOLDER / mode / "history.jsonl"), receipt["modes"][mode]
    assert len(history) == receipt["steps"] and history["tokens"][-1] == receipt["tokens"]
    losses = stated["loss_nats_per_token"]
    assert history["validation"][-1] == pytest.approx(losses["validation, float32 in training"], abs=1e-4)
    assert sum(history["maxvio"][-50:]) / 50 == pytest.approx(ends(stated), abs=0.01)


@each_mode
def test_the_run_ends_inside_the_band_of_five_seeds(mode, receipt, band):
    assert band["seeds"] == [0, 1, 2, 3, 4] and band["batch"] == receipt["batch"] and band["steps"] == receipt["steps"]
    seeds, stated = band["modes"][mode], receipt["modes"][mode]
    loss = stated["loss_nats_per_token"]["validation, float32 in training"]
    assert min(seeds["validation"]) - 1e-3 <= loss <= max(seeds["validation"]) + 1e-3
    maxvio = seeds["maxvio, mean of the last 50 steps"]
    assert min(maxvio) - 0.01 <= ends(stated) <= max(maxvio) + 0.01


def test_the_band_holds_five_runs_a_mode_and_its_curves_are_ordered(band):
    for mode in MODES:
        seeds = band["modes"][mode]
        assert len(seeds["validation"]) == 5
        for curve in seeds["curves, means of 10 steps: lowest, median, highest"].values():
            assert len(curve) == band["steps"] // 10
            assert all(low <= middle <= high for low, middle, high in curve)


def test_the_tokenizers_fit_and_are_one(models, receipt, corpus):
    tokenizers = {mode: Tokenizer.load(FOLDER / mode) for mode in MODES}
    assert len({tuple(tokenizer.merges) for tokenizer in tokenizers.values()}) == 1
    assert all(tokenizers[mode].vocab_size == models[mode].config.vocab_size for mode in MODES)
    assert receipt["corpus_sha256"] == corpus.sha256


def test_the_switched_run_collapses_and_recovers(models):
    lines = (FOLDER / "switched.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    marks = [record["step"] for record in records if "mark" in record]
    switch = marks[1]
    worst = [max(record["maxvio_by_layer"].values()) for record in records]
    assert marks[0] == 1 and switch == len(records) // 2 + 1
    assert worst[switch - 2] > 2.5 > 1 > worst[-1]
    # chapter 04 says so: tokens come back within 7 steps of the switch, MaxVio is below 0.5 after some 30
    for layer in records[0]["load"]:
        shares = [min(record["load"][layer]) / (sum(record["load"][layer]) / 16) for record in records]
        assert max(shares[switch - 1 : switch - 1 + 7]) > 0.1, layer
    assert min(min(load) for load in records[switch - 2]["load"].values()) < 0.1 * 256
    below = next(i for i in range(switch, len(records)) if max(worst[i : i + 5]) < 0.5)
    assert 25 <= below - switch <= 35
    assert sorted(records[0]["load"], key=int) == [str(layer) for layer in models["none"].routers()]


def test_the_routing_explorer_opens_each_of_them(models):
    from minimoe_widgets import RoutingExplorer

    for mode in MODES:
        explorer = RoutingExplorer(models[mode], Tokenizer.load(FOLDER / mode), text="a small animal")
        assert "expert" in explorer.alt_text()


def test_the_readme_states_the_receipts_numbers(receipt, band):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    numbers = [f"{receipt['parameters']:,}", f"{receipt['tokens']:,}", str(receipt["cpu_seconds"]["whole_command"])]
    numbers += [receipt["machine"]["cpu"], receipt["versions"]["torch"], f"{receipt['steps']} steps"]
    for mode in MODES:
        stated, seeds = receipt["modes"][mode], band["modes"][mode]
        numbers += [f"{stated['loss_nats_per_token']['validation, as stored']:.3f}", f"{ends(stated):.2f}"]
        for name, digits in (("validation", 3), ("maxvio, mean of the last 50 steps", 2)):
            numbers += [f"{f(seeds[name]):.{digits}f}" for f in (min, max)]
    assert [number for number in numbers if number not in readme] == []
