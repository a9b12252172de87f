"""What chapter 11 says in words of the stages is what every stored seed says."""

import json

import pytest

from minimoe.rl.recipe import RECIPE
from minimoe.rl.rewards import break_even
from minimoe_course import data_path, stages

SEEDS = stages.seeds()


def each(stage, name):
    return stages.scores(stage, name)


def test_no_seed_that_was_begun_is_missing():
    assert SEEDS == [11, 12, 13] or len(SEEDS) < 3  # fewer only while the runs are under way
    assert all(stages.seeds(stage) == SEEDS for stage in stages.NAMES)


def test_r1_zero_is_right_and_thinks_in_english_about_chinese_problems():
    assert min(each("r1_zero", "accuracy_en") + each("r1_zero", "accuracy_zh")) > 0.9
    assert max(each("r1_zero", "language_zh")) < 0.2 and min(each("r1_zero", "language_en")) > 0.95
    assert min(each("r1_zero", "thought_zh")) > 0.95
    assert max(each("r1_zero", "readable")) < 0.2


def test_the_base_is_surer_in_english():
    for english, chinese in zip(each("base", "skills.zh in en"), each("base", "skills.zh"), strict=True):
        assert english > chinese


def test_the_cold_start_gives_the_form_and_forgets_the_rest():
    assert min(each("dev1", "readable")) > 0.95
    assert max(each("dev1", "win_rate")) < 0.1 < min(each("base", "win_rate"))
    assert max(each("dev1", "answered_harmless")) < 0.2 < 0.6 < min(each("base", "answered_harmless"))
    assert max(each("dev2", "answered_harmless")) < 0.2


def test_the_language_reward_decides_where_the_language_goes():
    assert min(each("dev2", "language_zh")) > 0.95
    assert max(each("dev2_control", "language_zh")) < 0.3


def test_the_control_is_no_worse_at_the_problems():
    assert max(stages.difference("dev2", "dev2_control", "accuracy_zh")) <= 0.0


def test_the_weight_of_the_recipe_lies_above_every_seeds_break_even():
    for own, other in zip(each("dev1", "skills.zh"), each("dev1", "skills.zh in en"), strict=True):
        assert break_even(own, other) < RECIPE.language_weight


def test_dev3_has_letters_answers_and_refusals_again():
    assert min(each("dev3", "win_rate")) > max(each("base", "win_rate"))
    assert min(each("dev3", "answered_harmless")) > 0.6
    assert min(each("dev3", "refused_plain")) > 0.8 and max(each("dev2", "refused_plain")) == 0.0
    assert min(each("dev3", "language_zh")) > 0.95


def test_the_last_stage_raises_letters_and_wrapped_refusals_and_keeps_the_language():
    for name in ("win_rate", "refused_wrapped"):
        assert all(d >= 0 for d in stages.difference("r1", "dev3", name)), name
    assert stages.mean("r1", "win_rate") > stages.mean("dev3", "win_rate")
    assert min(each("r1", "language_zh")) > 0.95


def test_reasoning_falls_at_dev1_and_is_regained_as_in_the_paper():
    assert stages.mean("dev1", "accuracy_zh") < min(
        stages.mean("r1_zero", "accuracy_zh"), stages.mean("dev2", "accuracy_zh")
    )
    aime = stages.PAPER["AIME 2024"]
    assert aime[1] < min(aime[0], aime[2])


def test_the_stages_cost_more_than_the_base():
    assert sum(map(stages.seconds, ("r1_zero", "dev1", "dev2", "dev3", "r1"))) > stages.seconds("base")


def test_rejection_sampling_keeps_nothing_in_another_language_and_knows_its_numbers():
    assert all(0 < entry["report"]["verified"] <= RECIPE.verified_documents for entry in stages.results("dev3"))
    assert all(e["report"]["reward_model"]["held_out_pair_accuracy"] > 0.7 for e in stages.results("r1"))


def test_the_numbers_of_the_recipe_that_the_chapter_names():
    assert (RECIPE.cold_start_documents, RECIPE.translated, RECIPE.demonstrations) == (400, 0.5, 800)
    assert RECIPE.language_weight == 1.0 and RECIPE.reasoning.steps == RECIPE.zero.steps == 20
    assert RECIPE.cold_start.steps == 40
    assert (RECIPE.scenarios.steps, RECIPE.last_part.steps) == (16, 20)
    assert RECIPE.pairs > 300 and RECIPE.reward_model_steps > 40


def test_the_papers_changes_are_differences_of_its_table():
    rows = {row[0]: row for row in stages.changes({"readable": "readable"}).values}
    assert rows["AIME 2024"] == ("AIME 2024", "77.9", "-18.9", "+15.0", "+4.1", "+1.7")
    assert rows["CNMO 2024"][2] == "-30.1" and rows["ArenaHard"][-1] == "+16.7"
    assert rows["ours: readable"][0] == "ours: readable"


def test_a_stage_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ValueError, match="no stage 'dev9'.*r1_zero"):
        stages.results("dev9")


def test_the_first_prompt_of_the_explorer_was_watched_in_every_stage():
    watched = {}
    for stage in ("r1_zero", "dev2_control", "dev2", "r1"):
        lines = (data_path("r1") / stage / "groups.jsonl").read_text(encoding="utf-8").splitlines()
        watched[stage] = {json.loads(line)["problem"] for line in lines}
    assert len(set(map(frozenset, watched.values()))) == 1
