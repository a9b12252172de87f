"""The course's base model is what its receipt says: its size, its losses, its balance, and that it writes entries."""

import json
import re
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.tokenizer import Tokenizer
from minimoe.training import History, evaluate, load_corpus
from minimoe.training.data import encode_documents, pack

FOLDER = Path(__file__).parents[2] / "data" / "nano"
ENTRY = re.compile(r"[^():]+ \((noun|verb|adjective|adverb)\): [^:]{12,}\.( \"[^\"]+\"?)*")


@pytest.fixture(scope="module")
def receipt():
    return json.loads((FOLDER / "receipt.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return minimoe.load(FOLDER, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(FOLDER)


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(FOLDER.parent / "wordnet")


@pytest.fixture(scope="module")
def validation(corpus, tokenizer, receipt):
    return pack(encode_documents(tokenizer, corpus.validation), receipt["batch"]["row_tokens"])


def test_the_folder_is_small_and_its_config_is_nano(model, receipt):
    assert (FOLDER / "model.safetensors").stat().st_size <= 4e6
    assert model.config == minimoe.NANO
    assert receipt["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_the_stored_weights_are_bfloat16(receipt):
    assert minimoe.load(FOLDER).dtype == torch.bfloat16


def test_the_run_kept_to_its_budget_and_to_one_thread(receipt):
    assert receipt["cpu_seconds"]["whole_command"] <= 120
    assert receipt["machine"]["threads"] == 1


def test_the_stored_loss_is_the_receipts(model, validation, receipt):
    # float32 sums in another order on another machine; the receipt is rounded to 4 digits
    stated = receipt["loss_nats_per_token"]["validation, as stored"]
    assert evaluate(model, validation) == pytest.approx(stated, abs=1e-3)


def test_the_model_knows_more_than_neighbouring_tokens(receipt):
    loss = receipt["loss_nats_per_token"]
    assert loss["validation, as stored"] < loss["validation, 2-gram"] - 0.1 < loss["validation, 1-gram"]


def test_storing_in_bfloat16_cost_next_to_nothing(receipt):
    loss = receipt["loss_nats_per_token"]
    assert abs(loss["validation, as stored"] - loss["validation, float32 in training"]) < 0.01


def test_every_layer_routes_and_stays_balanced(model, validation, receipt):
    with torch.no_grad():
        routing = model(validation[:32]).routing
    assert [str(layer) for layer in routing] == list(receipt["maxvio"]["validation by layer"])
    for layer, decision in routing.items():
        assert decision.load_E.min() > 0, layer
        # a fresh batch of 32 rows: loads scatter around the balance that training kept
        assert minimoe.model.router.max_violation(decision.load_E) < 1.0, layer
    worst = receipt["maxvio"]
    assert worst["worst layer, mean of the last 50 steps"] < worst["worst layer, mean of the first 20 steps"]


def test_the_history_has_every_step_and_ends_at_the_receipts_losses(receipt):
    history = History.load(FOLDER / "history.jsonl")
    assert len(history) == receipt["steps"]
    assert history["tokens"][-1] == receipt["tokens"]
    stated = receipt["loss_nats_per_token"]
    assert history["validation"][-1] == pytest.approx(stated["validation, float32 in training"], abs=1e-3)
    last = history["next_token"][-50:]
    assert sum(last) / 50 == pytest.approx(stated["training, mean of the last 50 steps"], abs=1e-3)


def test_the_receipt_names_the_corpus_and_the_tokenizer_fits_the_model(receipt, corpus, tokenizer, model):
    assert receipt["corpus_sha256"] == corpus.sha256
    assert tokenizer.vocab_size == model.config.vocab_size
    assert (tokenizer.bos_id, tokenizer.eos_id) == (model.config.bos_token_id, model.config.eos_token_id)


def test_the_tokenizer_is_the_one_that_the_corpus_gives(corpus, tokenizer):
    assert Tokenizer.train(corpus.train, tokenizer.vocab_size).merges == tokenizer.merges


def test_it_writes_dictionary_entries(model, tokenizer):
    prompts = [f"{w}:" for w in ("tree (noun)", "run (verb)", "happy (adjective)", "slowly (adverb)", "water (noun)")]
    ids = [tokenizer.encode(prompt, bos=True) for prompt in prompts]
    result = minimoe.generate(model, ids, max_new_tokens=60, stop_tokens=[tokenizer.eos_id])
    written = [tokenizer.decode(a + b, skip_special=True) for a, b in zip(ids, result.tokens, strict=True)]
    assert sum(bool(ENTRY.fullmatch(text)) for text in written) >= 4, written


def test_the_readme_states_the_receipts_numbers(receipt):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    loss = receipt["loss_nats_per_token"]
    numbers = [f"{receipt['parameters']:,}", f"{receipt['tokens']:,}", str(receipt["cpu_seconds"]["whole_command"])]
    numbers += [f"{loss[f'validation, {key}']:.2f}" for key in ("as stored", "1-gram", "2-gram", "3-gram")]
    numbers += [receipt["machine"]["cpu"], receipt["versions"]["torch"], f"{receipt['steps']} steps"]
    assert [number for number in numbers if number not in readme] == []


def test_the_shipped_run_lies_inside_the_band_of_five_seeds(receipt):
    band = json.loads((FOLDER / "band.json").read_text(encoding="utf-8"))
    assert sorted(band["runs"]) == ["0", "1", "2", "3", "4"] and band["steps"] == receipt["steps"]
    assert band["corpus_sha256"] == receipt["corpus_sha256"]
    finals = [run["validation"] for run in band["runs"].values()]
    assert min(finals) <= receipt["loss_nats_per_token"]["validation, float32 in training"] <= max(finals)
    history = History.load(FOLDER / "history.jsonl")["next_token"]
    means = [sum(history[i : i + 10]) / 10 for i in range(0, len(history), 10)]
    curves = [run["next_token"] for run in band["runs"].values()]
    # the same text in another order makes one step easier or harder than another: a band of five has gaps
    for i, value in enumerate(means):
        assert min(c[i] for c in curves) - 0.1 < value < max(c[i] for c in curves) + 0.1, 10 * i


def test_the_readme_states_the_band():
    band = json.loads((FOLDER / "band.json").read_text(encoding="utf-8"))
    finals = [run["validation"] for run in band["runs"].values()]
    assert f"{min(finals):.3f} to {max(finals):.3f}" in (FOLDER / "README.md").read_text(encoding="utf-8")
