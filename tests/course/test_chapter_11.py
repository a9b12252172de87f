"""What chapter 11 says in words of the stages is what every stored seed says."""

import json

import pytest

from minimoe.rl.recipe import RECIPE
from minimoe.rl.rewards import break_even
from minimoe_course import data_path, stages

SEEDS = [12, 13]


def each(stage, name, file="results"):
    return stages.scores(stage, name, file)


def test_every_seed_that_was_begun_is_there_or_among_the_failed():
    assert all(stages.seeds(stage) == SEEDS for stage in stages.NAMES)
    assert list(stages.failed()) == [11] and "lacks a skill" in stages.failed()[11]
    assert stages.shipped() == 12


def test_r1_zero_is_right_and_thinks_in_english_about_chinese_problems():
    assert min(each("r1_zero", "accuracy_en") + each("r1_zero", "accuracy_zh")) > 0.85
    assert max(each("r1_zero", "language_zh")) < 0.05 and min(each("r1_zero", "language_en")) > 0.95
    assert min(each("r1_zero", "thought_zh")) > 0.95
    assert max(each("r1_zero", "readable")) < 0.1


def test_the_base_tries_english_more_often_also_where_chinese_is_surer():
    for other, mixed in zip(each("base", "sampled_other_zh"), each("base", "sampled_mixed_zh"), strict=True):
        assert other > 1 - other - mixed
    english, chinese = each("base", "skills.zh in en"), each("base", "skills.zh")
    assert english[0] > chinese[0] and chinese[1] > english[1]


def test_the_cold_start_gives_the_form_and_the_language_and_loses_the_rest():
    assert min(each("dev1", "readable")) > 0.75 and max(each("r1_zero", "readable")) < 0.1
    assert min(each("dev1", "language_zh")) > 0.95
    assert all(0.6 < share < 0.75 for share in each("dev1", "sampled_language_zh"))
    assert max(each("dev1", "win_rate") + each("dev1", "answered_harmless") + each("dev2", "answered_harmless")) < 0.05
    assert min(each("base", "answered_harmless")) > 0.8
    assert all(d < -0.25 for d in stages.difference("dev1", "r1_zero", "accuracy_en"))


def test_the_language_reward_takes_every_seed_to_the_right_language_and_costs_nothing_visible():
    assert min(each("dev2", "sampled_language_zh")) > 0.95
    assert [round(share, 2) for share in each("dev2_control", "sampled_language_zh")] == [0.7, 0.92]
    assert min(stages.difference("dev2", "dev2_control", "accuracy_zh")) >= 0
    assert all(abs(d) < 0.05 for d in stages.difference("dev2", "dev2_control", "accuracy_en"))


def test_dev1_is_surer_in_chinese_in_both_seeds_and_was_not_in_the_pilot():
    for file, needed in (("results", False), ("pilot", True)):
        for own, other in zip(each("dev1", "skills.zh", file), each("dev1", "skills.zh in en", file), strict=True):
            assert (break_even(own, other) > 0) == needed and break_even(own, other) < RECIPE.language_weight


def test_in_the_pilot_the_control_went_back_to_english_and_the_reward_cost_five_points():
    assert each("dev2_control", "language_zh", "pilot") == [0.0] and each("dev2", "language_zh", "pilot") == [1.0]
    (control,), (rewarded,) = (each(stage, "accuracy_zh", "pilot") for stage in ("dev2_control", "dev2"))
    assert control - rewarded == pytest.approx(0.05)


def test_dev3_has_letters_and_answers_again_and_thinks_in_the_right_language():
    assert all(d > 0 for d in stages.difference("dev3", "dev2", "win_rate"))
    assert min(each("dev3", "answered_harmless")) > 0.75
    assert min(each("dev3", "sampled_language_zh")) > 0.99
    assert [round(share, 2) for share in each("dev3", "refused_plain")] == [1.0, 0.25]


def test_the_last_stage_teaches_refusing_and_in_one_seed_too_well_and_letters_do_not_gain():
    for kind in ("plain", "wrapped", "jailbreak"):
        assert each("r1", f"refused_{kind}") == [1.0, 1.0]
    assert each("r1", "refused_harmless")[0] < 0.05 and 0.45 < each("r1", "refused_harmless")[1] < 0.6
    assert max(stages.difference("r1", "dev3", "win_rate")) <= 0.0
    assert [round(entry["report"]["reward_model"]["held_out_pair_accuracy"], 2) for entry in stages.results("r1")] == [
        0.82,
        0.92,
    ]
    assert RECIPE.fine_tune.steps == 62


def test_english_falls_with_the_cold_start_and_is_won_back_in_part():
    zero, dip, dev2, final = (each(stage, "accuracy_en") for stage in ("r1_zero", "dev1", "dev2", "r1"))
    assert all(low < high for low, high in zip(dip, zero, strict=True))
    assert dev2[0] > dip[0] and dev2[1] < dip[1] and max(dev2) < min(zero)
    assert all(a < b for a, b in zip(final, zero, strict=True))


def test_the_stages_cost_more_than_the_base():
    assert sum(map(stages.seconds, ("r1_zero", "dev1", "dev2", "dev3", "r1"))) > stages.seconds("base")


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
