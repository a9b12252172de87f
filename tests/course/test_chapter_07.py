"""What chapter 07 says in words about the stored runs is what they say."""

import json

import torch

import minimoe
from minimoe.model.router import max_violation
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, load_corpus
from minimoe.training.data import encode_documents
from minimoe.training.fim import fill_in_the_middle
from minimoe_course import curves, data_path


def tuned(optimizer, table_rate):
    """The best loss after 100 steps over the learning rates."""
    runs = map(json.loads, (data_path("curves") / "tuning.jsonl").read_text().splitlines())
    plain = [r for r in runs if r["steps"] == 100 and (r["warmup"], r["weight_decay"]) == (0.03, 0.1)]
    return min(r["validation"] for r in plain if (r["optimizer"], r["table_rate"]) == (optimizer, table_rate))


def test_the_rate_of_two_tables_is_worth_half_a_nat_and_the_optimizer_a_tenth_of_that():
    assert 0.4 < tuned("adamw", 1) - tuned("adamw", 10) < 0.6
    assert 0 < tuned("adamw", 10) - tuned("muon", 3) < 0.1


def test_by_the_step_the_optimizers_are_level_and_by_the_second_adamw_is_ahead():
    by_step, by_second = (curves.paired(variant, "reference") for variant in ("adamw", "adamw_long"))
    assert not by_step.clear and by_step.low > -0.02 and by_step.high < 0.02
    assert by_second.clear and max(by_second.differences) < 0 and -0.06 < by_second.mean < -0.04
    assert [run["steps"] for run in curves.runs("adamw_long")] == [228] * 5


def test_at_half_its_rate_adamw_would_have_lost_in_all_seeds():
    half = curves.paired("adamw_half", "reference")
    assert half.clear and min(half.differences) > 0


def test_the_rates_of_the_race_are_those_that_the_chapter_names():
    adamw = ("adamw", 0.004)
    named = {"reference": ("muon", 0.01), "adamw": adamw, "adamw_long": adamw, "adamw_half": ("adamw", 0.002)}
    for variant, (optimizer, lr) in named.items():
        for run in curves.runs(variant):
            assert (run["settings"]["optimizer"], run["settings"]["lr"]) == (optimizer, lr)


def test_each_of_the_five_runs_of_the_band_clears_the_trigram():
    band = json.loads((data_path("nano") / "band.json").read_text())
    trigram = json.loads((data_path("nano") / "receipt.json").read_text())["loss_nats_per_token"]["validation, 3-gram"]
    assert sorted(band["runs"]) == list("01234")
    assert all(run["validation"] < trigram for run in band["runs"].values())


def test_a_batch_meets_about_four_hundred_different_tokens():
    tokenizer = Tokenizer.load(data_path("nano"))
    documents = encode_documents(tokenizer, load_corpus(data_path("wordnet")).train)
    batches = Batches(documents, 8, 128)
    assert all(370 < len(batches.take().unique()) < 450 for _ in range(5))


def test_the_entries_are_as_long_as_the_chapter_says_and_a_rearranged_one_grows_by_five_tokens():
    tokenizer, corpus = Tokenizer.load(data_path("nano")), load_corpus(data_path("wordnet"))
    documents = encode_documents(tokenizer, corpus.train)
    lengths = [len(document) for document in documents]
    assert round(sum(lengths) / len(lengths)) == 26 and max(lengths) == 79 and sum(lengths) == 427_053
    rearranged = fill_in_the_middle(documents, tokenizer, rate=0.1, seed=0)
    growth = [len(b) - len(a) for a, b in zip(documents, rearranged, strict=True) if a != b]
    assert 4.8 < sum(growth) / len(growth) < 5.2
    ids = tokenizer.encode("\n".join(corpus.validation[:30]))
    assert [tokenizer.decode([token]) for token in ids].count(" of") == 20


def test_the_longer_warm_up_of_adamw_had_been_a_hundredth_better():
    runs = map(json.loads, (data_path("curves") / "tuning.jsonl").read_text().splitlines())
    of = {
        run["warmup"]: run["validation"] for run in runs
        if (run["optimizer"], run["lr"], run["table_rate"], run["weight_decay"], run["steps"])
        == ("adamw", 0.002, 10, 0.1, 100)
    }  # fmt: skip
    assert 0.005 < of[0.03] - of[0.1] < 0.015


def test_padding_looks_like_imbalance_and_a_random_router_sorts_words():
    model, tokenizer = minimoe.load(data_path("nano"), dtype=torch.float32), Tokenizer.load(data_path("nano"))
    entries = encode_documents(tokenizer, load_corpus(data_path("wordnet")).validation)[:64]
    pad = tokenizer.special_id("<｜▁pad▁｜>")
    padded_BT = torch.tensor([(entry + [pad] * 128)[:128] for entry in entries])
    words_M = (padded_BT != pad).flatten()
    with torch.no_grad():
        routing = model(padded_BT, mtp=False).routing
        ids_BT = torch.tensor([[token for entry in entries[:30] for token in entry]])
        fresh_MK = minimoe.Transformer(minimoe.NANO, seed=7)(ids_BT, mtp=False).routing[1].chosen_MK
    for decision in routing.values():
        load_E = torch.bincount(decision.chosen_MK[words_M].flatten(), minlength=16)
        assert max_violation(decision.load_E) > 2 * max_violation(load_E)
    of = tokenizer.encode(" of")[0]
    teams = [set(team) for team, token in zip(fresh_MK.tolist(), ids_BT[0].tolist(), strict=True) if token == of]
    shared = [len(a & b) for i, a in enumerate(teams) for b in teams[:i]]
    assert sum(shared) / len(shared) > 3  # of 4; 1 by chance
