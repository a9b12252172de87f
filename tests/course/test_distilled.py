"""Reading the distillation study: arms by seed, equal seconds, the first time of an accuracy."""

import json

import pytest

from minimoe_course import distilled


def curve(*points):
    return [[step, seconds, accuracy] for step, (seconds, accuracy) in enumerate(points)]


def record(seed, ours, theirs, skill=0.5):
    arms = {
        "distilled": {"accuracy": ours, "cpu_seconds": 6.0 + seed, "curve": curve((5.0, 0.4), (6.0 + seed, ours))},
        "reinforced": {"accuracy": theirs, "cpu_seconds": 20.0, "curve": curve((0.0, 0.2), (6.5, 0.3), (20.0, theirs))},
    }
    prepared = {"accuracy": 0.2, "made_to_think": skill}
    return {"seed": seed, "preparation": "middle", "prepared": prepared, "arms": arms}


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    entries = [record(1, 0.9, 0.6), record(0, 1.0, 0.5)]
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (tmp_path / "results.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setattr(distilled, "data_path", lambda name: tmp_path)


def test_seeds_come_in_their_order():
    assert distilled.arm("middle", "distilled") == [1.0, 0.9]
    assert distilled.arm("middle", "reinforced", "cpu_seconds") == [20.0, 20.0]
    assert distilled.prepared("middle", "made_to_think") == [0.5, 0.5]


def test_what_is_not_there_is_named_with_what_is():
    with pytest.raises(ValueError, match="no preparation 'long' .*; there are middle"):
        distilled.results("long")
    with pytest.raises(ValueError, match="no arm 'more corpus'; it has distilled, reinforced"):
        distilled.arm("middle", "more corpus")


def test_after_equal_seconds_the_reinforced_arm_has_what_it_had_by_then():
    seconds, ours, theirs = distilled.at_equal_seconds("middle")
    assert (seconds, ours, theirs) == ([6.0, 7.0], [1.0, 0.9], [0.2, 0.3])


def test_a_difference_is_taken_seed_by_seed_with_students_t():
    gap = distilled.difference([1.0, 0.9], [0.5, 0.6])
    assert gap.differences == pytest.approx([0.5, 0.3])
    assert (gap.low + gap.high) / 2 == pytest.approx(gap.mean) == pytest.approx(0.4)
    assert gap.high - gap.mean == pytest.approx(12.706 * 0.1, rel=1e-3)  # sd .1414 over the root of 2


def test_the_seconds_to_an_accuracy_are_those_of_the_students_with_the_skill(monkeypatch):
    monkeypatch.setattr(distilled, "PREPARATIONS", {"middle": 170})
    assert distilled.seconds_to(0.3, skill=0.5) == [("middle", 0, 6.5), ("middle", 1, 6.5)]
    assert distilled.seconds_to(0.55, skill=0.5) == [("middle", 0, float("inf")), ("middle", 1, 20.0)]
    assert distilled.seconds_to(0.3, skill=0.6) == []


def test_every_student_is_in_the_figure_of_skills_twice(monkeypatch):
    monkeypatch.setattr(distilled, "PREPARATIONS", {"middle": 170})
    axes = distilled.by_skill("Title").axes[0]
    points = {line.get_label(): len(line.get_xdata()) for line in axes.lines[1:]}
    assert points == {"distilled, middle": 2, "reinforced, middle": 2}


def test_the_figure_over_seconds_is_relative_to_what_each_student_could_do():
    axes = distilled.over_seconds("middle", "Title").axes[0]
    assert {"distilled", "reinforced"} <= {text.get_text() for text in axes.texts}
    medians = [line.get_ydata().tolist() for line in axes.lines[:2]]
    assert medians == [pytest.approx([-0.1, 0.45]), pytest.approx([-0.3, -0.2, 0.05])]
