"""The recipe, made tiny: every stage runs, a stopped run goes on, and a folder keeps to one recipe."""

import json
from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.rl import recipe as module
from minimoe.rl import stage_scores
from minimoe.rl.recipe import RECIPE, STAGES, run_recipe
from minimoe.rl.rewards import Rewards
from minimoe.rl.settings import RLSettings
from minimoe.rl.stage_scores import COLUMNS
from minimoe.training import History, Settings

pytestmark = pytest.mark.no_axis_check  # what the stages call is checked elsewhere; here it would take minutes


def _steps(n):
    return RLSettings(steps=n, prompts=6, answers=3, max_new_tokens=8)


TINY = replace(
    RECIPE,
    sequences=4,
    skill=Settings(steps=3, lr=2e-2),
    habit=Settings(steps=2, lr=5e-3, balance="none"),
    min_skill=0.0,
    zero=_steps(2),
    cold_start_documents=6,
    cold_start=Settings(steps=1, lr=3e-3, balance="none"),
    reasoning=_steps(1),
    verified_documents=6,
    demonstrations=12,
    fine_tune=Settings(steps=2, lr=3e-3, balance="none"),
    pairs=20,
    held_out_pairs=10,
    reward_model_steps=2,
    scenarios=_steps(1),
    last_part=_steps(1),
    problems=4,
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(stage_scores, "SIZES", dict.fromkeys(stage_scores.SIZES, 2))
    monkeypatch.setattr(module, "_evaluation", lambda tokenizer: None)
    # An untrained model has no right answers to learn from: the texts come from the tasks.
    problems = module.draw_problems(module.WORDS, 8, 0)
    texts = [module.curation.document(p, module.WORDS.think(p, summary=True)) for p in problems]
    monkeypatch.setattr(module.curation, "cold_start", lambda groups, count, *_: texts[:count])
    monkeypatch.setattr(module.curation, "verified", lambda groups, count: texts[:count])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("r1")


def test_all_stages_run_and_leave_checkpoints_scores_and_logs(folder):
    seen = []
    entries = run_recipe(folder, TINY, on_stage=seen.append)
    assert [entry["stage"] for entry in entries] == list(STAGES) and entries == seen
    for entry in entries:
        assert set(COLUMNS) <= set(entry["scores"]) and entry["cpu_s"] > 0
        assert minimoe.load(folder / entry["stage"]).dtype == torch.bfloat16
    log = History.load(folder / "r1_zero" / "log.jsonl").records
    assert [record["stage"] for record in log] == ["r1_zero"] * 2 and set(log[0]["parts"]) == {"accuracy", "format"}
    assert set(History.load(folder / "dev2" / "log.jsonl").records[0]["parts"]) == {"accuracy", "format", "language"}
    last = [History.load(folder / "r1" / part / "log.jsonl").records for part in ("rules", "preference")]
    assert "preference" not in last[0][0]["parts"] and "preference" in last[1][0]["parts"]
    assert 0 <= entries[-1]["report"]["reward_model"]["held_out_pair_accuracy"] <= 1


def test_finished_stages_are_left_alone_and_a_missing_one_is_made_again(folder):
    before = {stage: (folder / stage / "model.safetensors").read_bytes() for stage in STAGES}
    (folder / "dev1" / "scores.json").unlink()
    run_recipe(folder, TINY)
    after = {stage: (folder / stage / "model.safetensors").read_bytes() for stage in STAGES}
    assert before == after


def test_a_folder_with_another_recipe_is_refused(folder):
    with pytest.raises(ValueError, match="another recipe: seed is 0 there, 1 here"):
        run_recipe(folder, replace(TINY, seed=1))
    assert json.loads((folder / "recipe.json").read_text())["seed"] == "0"


def test_reinforcement_killed_in_the_middle_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch):
    task, rewards = module.WORDS, module._reasoning_rewards(0.5)
    settings = replace(_steps(3), save_every=1)
    whole = module._reinforce(folder / "base", tmp_path / "whole", task, rewards, settings, TINY)
    calls = []

    def killed(question, answer):
        calls.append(question)
        if len(calls) > 2 * 18 + 5:
            raise KeyboardInterrupt
        return 0.0

    rules = rewards.rules | {"killed": (0.0, killed)}
    quiet = rewards.rules | {"killed": (0.0, lambda question, answer: 0.0)}
    with pytest.raises(KeyboardInterrupt):
        module._reinforce(folder / "base", tmp_path / "cut", task, Rewards(rules), settings, TINY)
    module._reinforce(folder / "base", tmp_path / "cut", task, Rewards(quiet), settings, TINY)
    assert whole["steps"] == 3
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_base_without_the_skill_stops_the_run(tmp_path):
    with pytest.raises(ValueError, match="lacks a skill"):
        run_recipe(tmp_path, replace(TINY, min_skill=0.8), stages=("base",))


def test_a_base_gets_further_rounds_until_it_has_the_skills_and_no_more_than_allowed(tmp_path, monkeypatch):
    found = iter([0.7, 0.9, 0.5, 0.6, 0.7])
    monkeypatch.setattr(module, "_skills", lambda *_: {"en": 1.0, "zh": next(found)})
    report = module.pretrain(tmp_path, replace(TINY, min_skill=0.8, skill_rounds=3))
    assert [skills["zh"] for skills in report["rounds"]] == [0.7, 0.9] and report["skill"]["zh"] == 0.9
    stages = [record["stage"] for record in History.load(tmp_path / "history.jsonl").records]
    assert stages == ["skill"] * 6 + ["habit"] * 2
    with pytest.raises(ValueError, match="lacks a skill .en 1.00, zh 0.70; min_skill=0.8"):
        module.pretrain(tmp_path, replace(TINY, min_skill=0.8, skill_rounds=3))
