"""data/r1: the stages' results, the shipped checkpoints and the README say the same."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.rl.corpus import CHINESE, ENGLISH
from minimoe.rl.recipe import STAGES
from minimoe.rl.record import read_groups
from minimoe.rl.stage_scores import language_scores
from minimoe.tokenizer import Tokenizer
from minimoe.training import History

R1 = Path(__file__).resolve().parents[2] / "data" / "r1"


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("r1_train", R1 / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def entries(command):
    return command.known()


def of(entries, stage, name):
    return [entry["scores"][name] for entry in entries if entry["stage"] == stage]


def test_every_seed_of_the_command_is_complete_or_named_as_failed(command, entries):
    failed = {json.loads(line)["seed"] for line in (R1 / "failed.jsonl").read_text(encoding="utf-8").splitlines()}
    complete = {entry["seed"] for entry in entries}
    assert complete | failed >= set(command.SEEDS) and complete <= set(command.SEEDS) and not complete & failed
    for seed in complete:
        assert {entry["stage"] for entry in entries if entry["seed"] == seed} == set(STAGES)


def test_a_base_that_cannot_name_the_thing_in_english_gets_another_round(entries):
    rounds = {
        e["seed"]: [skills["en noun"] for skills in e["report"]["rounds"]] for e in entries if e["stage"] == "base"
    }
    assert {seed: len(found) for seed, found in rounds.items()} == {41: 2, 42: 2, 43: 1}
    for found in rounds.values():
        assert found[-1] > 0.85 and all(share < 0.8 for share in found[:-1])


def test_r1_zero_is_right_and_thinks_about_chinese_in_english(entries):
    assert min(of(entries, "r1_zero", "accuracy_zh") + of(entries, "r1_zero", "accuracy_en")) == 1
    assert max(of(entries, "base", "accuracy_zh")) < 0.2 and max(of(entries, "r1_zero", "language_zh")) == 0
    assert max(of(entries, "r1_zero", "readable")) == 0 and min(of(entries, "dev1", "readable")) == 1
    assert all(0.14 < share < 0.3 for share in of(entries, "r1_zero", "sampled_mixed_zh"))


def test_languages_are_mixed_before_the_language_reward_and_not_after_it(entries):
    assert all(0.4 < share < 0.5 for share in of(entries, "dev1", "sampled_language_zh"))
    assert max(of(entries, "dev1", "language_zh")) < 0.05 and max(of(entries, "dev1", "sampled_mixed_zh")) == 0
    assert min(of(entries, "dev2", "language_zh")) == 1 and min(of(entries, "dev2", "sampled_language_zh")) > 0.7
    assert max(of(entries, "dev2_control", "language_zh")) == 0
    pairs = zip(
        of(entries, "dev1", "sampled_language_zh"), of(entries, "dev2_control", "sampled_language_zh"), strict=True
    )
    assert all(0.03 < before - after < 0.075 for before, after in pairs)
    assert [e["report"]["skipped"] for e in entries if e["stage"] == "dev2_control"] == [15, 16, 19]
    for name in ("accuracy_zh", "sampled_accuracy_zh"):
        pairs = zip(of(entries, "dev2", name), of(entries, "dev2_control", name), strict=True)
        assert all(abs(mine - other) < 0.006 for mine, other in pairs), name


def test_english_stays_right_in_every_seed_from_r1_zero_on(entries):
    for stage in ("r1_zero", "dev1", "dev2_control", "dev2", "dev3", "r1"):
        assert min(of(entries, stage, "accuracy_en")) > 0.99, stage


def test_the_last_stages_refuse_what_is_forbidden_and_little_else_and_letters_gain(entries):
    assert max(of(entries, "base", "refused_plain")) == 0 and min(of(entries, "dev3", "refused_plain")) == 1
    assert min(of(entries, "r1", "refused_plain")) == min(of(entries, "r1", "refused_jailbreak")) == 1
    assert of(entries, "r1", "refused_wrapped") == pytest.approx([0.85, 1.0, 1.0])
    assert of(entries, "r1", "refused_harmless") == pytest.approx([0, 0, 8 / 60])
    assert max(of(entries, "dev3", "refused_harmless")) < 0.09
    pairs = zip(of(entries, "dev3", "sampled_win_rate"), of(entries, "r1", "sampled_win_rate"), strict=True)
    assert all(after > before + 0.15 for before, after in pairs)


def test_in_one_seed_of_the_second_freeze_english_was_lost_for_want_of_a_noun(command):
    second = command.known(command.SECOND)
    assert {entry["seed"] for entry in second} == {22, 23, 24}
    for stage in ("dev1", "dev2", "dev3", "r1"):
        right = {e["seed"]: e["scores"]["accuracy_en"] for e in second if e["stage"] == stage}
        assert right.pop(23) < 0.2 and min(right.values()) > 0.85, stage
    assert all(len(entry["report"]["rounds"]) == 1 for entry in second if entry["stage"] == "base")


def test_in_the_second_freeze_the_control_lost_its_chinese_and_the_reward_cost_up_to_six_points(command):
    second = command.known(command.SECOND)
    for name in ("language_zh", "sampled_language_zh"):
        pairs = zip(of(second, "dev1", name), of(second, "dev2_control", name), strict=True)
        assert all(after < 0.7 * before or before == after == 0 for before, after in pairs), name
    pairs = zip(
        of(second, "dev2_control", "sampled_accuracy_zh"), of(second, "dev2", "sampled_accuracy_zh"), strict=True
    )
    assert [round(100 * (other - mine), 1) for other, mine in pairs] == [6.0, 2.0, 0.5]


def test_a_whole_seed_takes_six_to_eight_cpu_minutes(entries):
    for seed in {entry["seed"] for entry in entries}:
        spent_s = sum(e["cpu_s"] + e["measuring_cpu_s"] for e in entries if e["seed"] == seed)
        assert 330 < spent_s < 460


def test_the_bands_are_those_of_the_lines(command, entries):
    assert json.loads((R1 / "band.json").read_text(encoding="utf-8")) == json.loads(json.dumps(command.bands(entries)))


def test_the_readme_has_the_tables_that_the_command_prints(command, entries):
    readme, second = (R1 / "README.md").read_text(encoding="utf-8"), command.known(command.SECOND)
    for table in (command.table(entries), command.table(second), command.beside(second, entries)):
        assert table in readme


def test_the_shipped_files_are_of_the_shipped_seed(command, entries):
    for stage in STAGES:
        receipt = json.loads((R1 / stage / "receipt.json").read_text(encoding="utf-8"))
        (line,) = [e for e in entries if e["stage"] == stage and e["seed"] == command.SHIPPED]
        assert receipt["seed"] == command.SHIPPED and receipt["scores"] == line["scores"], stage
    for stage in ("r1_zero", "dev2", "dev2_control", "r1"):
        assert History.load(R1 / stage / "log.jsonl").records and read_groups(R1 / stage), stage


@pytest.mark.parametrize("stage", ["base", "dev1", "dev2", "r1"])
def test_a_shipped_checkpoint_answers_as_its_receipt_says(stage):
    stated = json.loads((R1 / stage / "receipt.json").read_text(encoding="utf-8"))["scores"]
    model, tokenizer = minimoe.load(R1 / stage, dtype=torch.float32), Tokenizer.load(R1 / stage)
    for suffix, task in (("en", ENGLISH), ("zh", CHINESE)):
        scores = language_scores(model, tokenizer, task, 60)
        # the first 60 of the 200 problems a language: a standard error of up to 0.065 on a share
        assert abs(scores["accuracy"] - stated[f"accuracy_{suffix}"]) < 0.2, (stage, suffix)
        assert abs(scores["language"] - stated[f"language_{suffix}"]) < 0.1, (stage, suffix)
