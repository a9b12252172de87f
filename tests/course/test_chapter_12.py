"""What chapter 12 says in words about the distillation study is what the stored runs say."""

from statistics import fmean

import pytest

from minimoe_course import distilled

PAIRS = [
    (record["preparation"], record["seed"], record["prepared"]["made_to_think"], record["arms"])
    for preparation in distilled.PREPARATIONS
    for record in distilled.results(preparation)
]


def test_three_preparations_have_the_same_five_seeds():
    assert list(distilled.PREPARATIONS) == ["none", "middle", "full"]
    for preparation in distilled.PREPARATIONS:
        assert [record["seed"] for record in distilled.results(preparation)] == [20, 21, 22, 23, 24]


def test_nine_of_ten_reinforced_students_end_within_a_tenth_of_their_skill_and_one_learned_to_guess():
    ends = {(p, s): (skill, arms["reinforced"]) for p, s, skill, arms in PAIRS if p != "none"}
    far = [key for key, (skill, arm) in ends.items() if abs(arm["accuracy"] - skill) > 0.1]
    assert len(ends) == 10 and far == [("full", 24)]
    skill, arm = ends["full", 24]
    assert (round(skill, 2), round(arm["made_to_think"], 2)) == (0.59, 0.21)


def test_students_without_the_stage_of_skill_stay_where_they_were_or_are_taught_anything_from_failure_to_most():
    assert distilled.arm("none", "reinforced") == distilled.prepared("none")
    taught = distilled.arm("none", "distilled")
    assert (round(min(taught), 2), round(max(taught), 2)) == (0.11, 0.91)
    assert min(taught) < min(distilled.prepared("none"))


def test_the_distilled_student_is_at_least_level_but_for_one_without_a_skill():
    behind = [(p, s) for p, s, _, arms in PAIRS if arms["distilled"]["accuracy"] < arms["reinforced"]["accuracy"]]
    assert behind == [("none", 23)]
    level = [skill for *_, skill, arms in PAIRS if arms["distilled"]["accuracy"] == arms["reinforced"]["accuracy"] == 1]
    assert len(level) == 3 and min(level) > 0.94


def test_after_equal_seconds_the_interval_leaves_out_zero_for_the_middle_preparation_alone():
    clear = {}
    for preparation in distilled.PREPARATIONS:
        _, ours, theirs = distilled.at_equal_seconds(preparation)
        clear[preparation] = distilled.difference(ours, theirs).clear
        if preparation == "middle":
            assert all(a > b for a, b in zip(ours, theirs, strict=True))
    assert clear == {"none": False, "middle": True, "full": False}


def test_three_of_five_students_rose_above_what_they_could_do_before():
    ends = zip(distilled.arm("middle", "reinforced"), distilled.prepared("middle", "made_to_think"), strict=True)
    assert sum(end > skill for end, skill in ends) == 3


def test_the_controls_of_the_middle_preparation():
    assert not distilled.difference(distilled.arm("middle", "true traces"), distilled.arm("middle", "distilled")).clear
    for arm, expected in (("true traces", 0.88), ("distilled", 0.88), ("more corpus", 0.19)):
        assert fmean(distilled.arm("middle", arm)) == pytest.approx(expected, abs=0.005)
    assert fmean(distilled.arm("middle", "more corpus", "made_to_think")) == pytest.approx(0.83, abs=0.005)
    assert fmean(distilled.prepared("middle", "made_to_think")) == pytest.approx(0.68, abs=0.005)
    harvests = distilled.arm("middle", "distilled", "harvest")
    assert all(1170 < harvest["kept"] < 1190 and 30 < harvest["other_traces"] < 40 for harvest in harvests)


def test_four_students_with_the_skill_came_to_095_alone_and_no_other_did():
    found = [seconds for *_, seconds in distilled.seconds_to(0.95, skill=0.9)]
    assert len(found) == 4 and min(found) > 3 and max(found) < 35
    assert all(seconds == float("inf") for *_, seconds in distilled.seconds_to(0.95, skill=0)[:5])
    assert sum(seconds < float("inf") for *_, seconds in distilled.seconds_to(0.95, skill=0)) == 4
