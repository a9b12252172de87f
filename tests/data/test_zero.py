"""data/zero: the stored run, seeds, controls and weak rewards are what the README says of them."""

import json
import re
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.rl.record import read_groups
from minimoe.rl.zero import greedy_evaluation, sampled_scores
from minimoe.tokenizer import Tokenizer
from minimoe.training import History
from minimoe.training.reasoning import Chain, draw_problems, is_held_out

DATA = Path(__file__).resolve().parents[2] / "data"
ZERO = DATA / "zero"
TASK = Chain(operations=6)


@pytest.fixture(scope="module")
def results():
    lines = (ZERO / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["run"]: record for record in map(json.loads, lines)}


@pytest.fixture(scope="module")
def receipt():
    return json.loads((ZERO / "receipt.json").read_text(encoding="utf-8"))


def greedy(record):
    return record["curves"]["evaluation.accuracy"]["value"]


def tokens(record):
    return record["curves"]["evaluation.mean_tokens"]["value"]


def kind(results, name):
    return [record for run, record in results.items() if run.startswith(name)]


def test_all_five_fresh_seeds_go_from_below_a_quarter_to_above_95_percent_and_grow_longer(results):
    fresh = kind(results, "fresh")
    assert len(fresh) == 5
    for record in fresh:
        assert greedy(record)[0] < 0.25 and greedy(record)[-1] > 0.95, record["run"]
        assert tokens(record)[-1] > 4 * tokens(record)[0], record["run"]
        assert record["base_cpu_seconds"] + record["rl_cpu_seconds"] < 120, record["run"]
        assert record["after"]["pass"]["1"] > 0.8 > 0.4 > record["before"]["pass"]["1"], record["run"]


def test_a_base_without_the_skill_stays_where_it_was(results):
    control = kind(results, "control")
    assert len(control) == 3
    for record in control:
        assert abs(greedy(record)[-1] - greedy(record)[0]) < 0.05 and tokens(record)[-1] < 6, record["run"]


def test_the_reward_for_the_look_of_working_is_earned_while_the_accuracy_falls(results):
    hacked, repaired = results["weak: workings"], results["repaired: workings"]
    rewards = hacked["curves"]["reward"]["value"]
    assert min(rewards[5:]) > 0.95 * 1.1, "the reward stays at its top"
    assert max(greedy(hacked)) > 0.95 and greedy(hacked)[-1] < max(greedy(hacked)) - 0.25
    assert greedy(repaired)[-1] > greedy(repaired)[0] + 0.25


def test_the_true_rules_hold_the_accuracy_at_the_rate_at_which_the_weak_one_lets_it_fall(results):
    weak, true = results["weak: workings"], results["true rules: rate of the weak run"]
    assert (true["lr"], true["steps"], true["seed"]) == (weak["lr"], weak["steps"], weak["seed"])
    assert min(greedy(true)[1:]) > 0.95 > 0.7 > greedy(weak)[-1]


def test_a_reward_for_length_alone_elicits_the_skill_too(results):
    assert max(greedy(results["weak: length"])) > 0.95


def test_the_band_holds_every_fresh_seed_and_touches_them(results):
    band = json.loads((ZERO / "band.json").read_text(encoding="utf-8"))
    fresh = kind(results, "fresh")
    assert band["seeds"] == [record["seed"] for record in fresh]
    for name, column in band["columns"].items():
        values = list(zip(*(record["curves"][name]["value"] for record in fresh), strict=True))
        assert column["lowest"] == [min(v) for v in values] and column["highest"] == [max(v) for v in values]
        assert column["step"] == fresh[0]["curves"][name]["step"]


def test_the_stored_model_answers_as_its_receipt_says(receipt):
    model, tokenizer = minimoe.load(ZERO, dtype=torch.float32), Tokenizer.load(ZERO)
    problems = draw_problems(TASK, 64, seed=99, held_out=True)
    assert greedy_evaluation(tokenizer, TASK, problems, 48)(model)["accuracy"] > 0.95
    sampled = sampled_scores(model, tokenizer, TASK, problems, answers=4, max_new_tokens=48)
    # 256 answers of one problem set: a standard error of 0.02 on a share near 0.92
    assert abs(sampled["pass"]["1"] - receipt["after"]["pass"]["1"]) < 0.08


def test_the_log_and_the_groups_belong_to_one_run(receipt):
    records = History.load(ZERO / "log.jsonl").records
    assert [record["step"] for record in records] == list(range(1, receipt["settings"]["steps"] + 1))
    groups = read_groups(ZERO)
    assert {group["step"] for group in groups} == {0, *range(2, 21, 2)}
    assert all(is_held_out(group["problem"]) for group in groups)
    for group in groups:
        for answer in group["answers"]:
            told = TASK.is_correct(group["problem"], answer["text"]) and answer["ended"]
            assert answer["parts"]["accuracy"] == float(told)
            assert len(answer["pieces"]) == len(answer["logprobs"]) == len(answer["reference"])
    first = [answer for group in groups if group["step"] == 0 for answer in group["answers"]]
    assert all(abs(a - b) < 1e-3 for x in first for a, b in zip(x["logprobs"], x["reference"], strict=True))


def test_every_result_says_where_it_was_made_and_what_it_cost(results):
    for record in results.values():
        assert record["machine"]["torch"] and record["machine"]["cpu"] and record["rl_cpu_seconds"] > 0
    assert all(record["base_cpu_seconds"] > 0 for record in kind(results, "fresh"))


def test_the_readmes_table_is_the_results(results):
    text = (ZERO / "README.md").read_text(encoding="utf-8")
    for record in kind(results, "fresh"):
        row = re.search(rf"^\| {record['seed']} \|(.*)\|$", text, re.MULTILINE)
        assert row is not None, f"no row for seed {record['seed']}"
        cells = [cell.strip() for cell in row[1].split("|")]
        cost = record["base_cpu_seconds"] + record["rl_cpu_seconds"]
        assert cells == [
            f"{greedy(record)[0]:.3f}", f"{greedy(record)[-1]:.3f}", f"{tokens(record)[0]:.1f}",
            f"{tokens(record)[-1]:.1f}", f"{record['before']['pass']['1']:.2f}", f"{record['after']['pass']['1']:.2f}",
            f"{record['before']['pass']['16']:.2f}", f"{record['before']['cons']:.2f}", f"{cost:.0f}",
        ]  # fmt: skip
