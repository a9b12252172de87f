"""What chapter 11 says in words of the stages is what every stored seed says."""

import json

import pytest

from minimoe.rl.recipe import RECIPE
from minimoe.rl.rewards import break_even
from minimoe_course import data_path, stages

SEEDS = [22, 23, 24]
FAILED = 21


def each(stage, name):
    return stages.scores(stage, name)


def test_every_seed_that_was_begun_is_there_or_among_the_failed():
    assert all(stages.seeds(stage) == SEEDS for stage in stages.NAMES)
    assert list(stages.failed()) == [FAILED] and "lacks a skill" in stages.failed()[FAILED]
    assert stages.shipped() == 22


def test_r1_zero_is_right_and_thinks_in_english_about_chinese_problems():
    assert min(each("r1_zero", "accuracy_en") + each("r1_zero", "accuracy_zh")) > 0.95
    assert max(each("r1_zero", "language_zh")) < 0.11 and min(each("r1_zero", "language_en")) > 0.95
    assert min(each("r1_zero", "thought_zh")) > 0.95 and max(each("r1_zero", "readable")) < 0.1


def test_r1_zeros_samples_are_in_both_languages_and_some_of_them_mixed():
    assert all(0.1 < share < 0.5 for share in each("r1_zero", "sampled_language_zh"))
    assert min(each("r1_zero", "sampled_mixed_zh")) > 0.1


def test_the_base_is_right_in_either_language_if_its_thought_is_begun():
    assert min(each("base", "skills.zh in en")) > 0.99 and min(each("base", "skills.zh")) > 0.9


def test_the_cold_start_gives_the_form_and_not_the_language_and_loses_letters_and_questions():
    assert each("dev1", "readable") == pytest.approx([1.0, 0.59, 0.94], abs=0.01)
    assert each("dev1", "language_zh") == pytest.approx([0.0, 0.62, 0.26], abs=0.01)
    assert max(each("dev1", "win_rate") + each("dev1", "answered_harmless") + each("dev2", "answered_harmless")) == 0
    assert min(each("base", "win_rate")) > 0.2 and min(each("base", "answered_harmless")) > 0.6
    assert each("dev1", "accuracy_en") == pytest.approx([1.0, 0.18, 0.88], abs=0.01)


def test_the_language_reward_ends_in_chinese_and_the_control_without_it_in_english_in_every_seed():
    assert min(each("dev2", "language_zh")) > 0.99 and max(each("dev2_control", "language_zh")) == 0
    assert min(each("dev2", "sampled_language_zh")) > 0.89 and max(each("dev2_control", "sampled_language_zh")) < 0.3
    assert sum(share > 0.2 for share in each("dev1", "language_zh")) == 2


def test_the_reward_costs_up_to_six_points_of_sampled_accuracy_and_nothing_of_greedy():
    prices = stages.difference("dev2", "dev2_control", "sampled_accuracy_zh")
    assert -0.065 < min(prices) and max(prices) < 0
    greedy = [stages.difference("dev2", "dev2_control", name) for name in ("accuracy_zh", "accuracy_en")]
    assert all(abs(difference) < 0.011 for differences in greedy for difference in differences)


def test_dev1_is_right_in_either_language_so_that_almost_any_weight_decides():
    for own, other in zip(each("dev1", "skills.zh"), each("dev1", "skills.zh in en"), strict=True):
        assert break_even(own, other) < 0.02 < RECIPE.language_weight


def test_dev3_has_letters_answers_and_refusals_and_thinks_in_the_right_language():
    assert min(each("dev3", "win_rate")) >= 0.7 and min(each("dev3", "answered_harmless")) >= 0.75
    assert min(each("dev3", "sampled_language_zh")) > 0.99
    assert each("dev3", "refused_plain") == [1.0, 1.0, 1.0] and min(each("dev3", "refused_wrapped")) >= 0.95


def test_the_last_stage_refuses_every_known_wrapper_and_few_harmless_requests():
    assert each("r1", "refused_wrapped") == each("r1", "refused_plain") == [1.0, 1.0, 1.0]
    assert max(each("r1", "refused_harmless")) <= 0.05
    rises = [difference > 0 for difference in stages.difference("r1", "dev3", "refused_jailbreak")]
    assert rises == [True, True, False]


def test_sampled_letters_gain_20_to_24_points_in_the_last_stage_and_greedy_ones_hardly():
    gains = stages.difference("r1", "dev3", "sampled_win_rate")
    assert all(0.2 < gain < 0.24 for gain in gains)
    assert all(abs(gain) <= 0.02 for gain in stages.difference("r1", "dev3", "win_rate"))


def test_english_stays_in_two_seeds_and_ends_at_14_in_one():
    assert each("r1", "accuracy_en") == pytest.approx([1.0, 0.14, 0.98], abs=0.01)


def test_the_stages_cost_more_than_the_base_and_a_seed_less_than_fifteen_minutes():
    assert sum(map(stages.seconds, ("r1_zero", "dev1", "dev2", "dev3", "r1"))) > stages.seconds("base")
    assert sum(map(stages.seconds, stages.NAMES)) < 15 * 60


def test_the_numbers_of_the_recipe_that_the_chapter_names():
    assert (RECIPE.cold_start_documents, RECIPE.translated, RECIPE.demonstrations) == (400, 0.2, 1000)
    assert RECIPE.language_weight == 1.0 and RECIPE.reasoning.steps == 36
    assert (RECIPE.cold_start.steps, RECIPE.fine_tune.steps) == (80, 140)
    assert (RECIPE.scenarios.steps, RECIPE.last_part.steps) == (16, 24)
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
