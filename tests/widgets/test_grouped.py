"""GroupedExplorer without a browser: controls are set, the picture is read."""

import re

import pytest

from minimoe_widgets import GroupedExplorer

LOADS = {"uneven": [70, 0, 3, 41], "even": [28, 28, 29, 29]}


@pytest.fixture
def explorer():
    return GroupedExplorer(LOADS, tile=16)


def boxes(explorer):
    return len(re.findall("<rect ", explorer.canvas.value))


def test_it_opens_with_the_loop_and_says_what_to_try(explorer):
    assert explorer.way.value == "loop over experts" and "Try first" in explorer.hint.value
    assert "loop over experts: 4 units" in explorer.title.value  # 20, 4 and 12 programs on 12: 2 + 1 + 1 waves
    assert "counted, not measured" in explorer.notice.value


def test_every_tile_its_padding_and_every_program_is_drawn(explorer):
    tiles = 5 + 1 + 3
    assert boxes(explorer) == tiles + 3 + 4 * tiles  # three last tiles are not full
    assert explorer.picture.padding == pytest.approx(1 - 114 / (16 * tiles))
    assert "21% of the tiles&#x27; rows are padding" in explorer.title.value
    explorer.tile.value = 4
    assert boxes(explorer) == 30 + 3 + 4 * 30


def test_one_launch_and_the_weights_gradient_are_reached_by_the_way(explorer):
    explorer.way.value = "one launch"
    assert "one launch: 3 units" in explorer.title.value  # 36 programs on 12
    explorer.way.value = "weight gradient"
    assert "weight gradient: 5 units" in explorer.title.value  # the busiest expert's five tiles
    explorer.which.value = "even"
    assert "weight gradient: 4 units" in explorer.title.value  # 16 programs of 2 tiles on 12


def test_typed_loads_are_taken_and_wrong_ones_leave_the_picture(explorer):
    explorer.typed.value = "16, 16"
    assert explorer.which.value == "typed below" and "0% of the tiles" in explorer.title.value
    before = explorer.canvas.value
    wrong = {"16, x": "whole numbers", "0, 0": "not all zero", "-1, 5": "none negative", "999999": "above"}
    for text, words in wrong.items():
        explorer.typed.value = text
        assert words in explorer.notice.value and explorer.canvas.value == before
    explorer.typed.value = "1, 2"
    assert "counted" in explorer.notice.value and explorer.canvas.value != before


def test_fewer_multiprocessors_take_longer_and_are_fuller(explorer):
    explorer.way.value, was = "one launch", explorer.picture.plan
    explorer.processors.value = 3
    assert explorer.picture.plan.length == 12 and explorer.picture.plan.busy >= was.busy
    explorer.across.value = 8
    assert explorer.picture.plan.length == 24


def test_the_svg_names_what_is_seen_and_cannot_carry_markup():
    explorer = GroupedExplorer({'<img src="x">': [5, 3]}, tile=4)
    assert 'role="img"' in explorer.canvas.value and "aria-label=" in explorer.canvas.value
    assert "<img" not in explorer.canvas.value and "<img" not in explorer.title.value
    assert "5 and" not in explorer.alt_text() and "8 rows of 2 experts" in explorer.alt_text()


def test_a_number_in_a_bar_that_a_phone_makes_too_narrow_is_marked():
    few, many = (GroupedExplorer({"router": [n] * 8}, tile=4, across=4, processors=4) for n in (4, 16))
    assert few.picture.plan.length == 8 and 'class="mm-tight"' not in few.canvas.value
    assert many.picture.plan.length == 32 and 'class="mm-tight"' in many.canvas.value


def test_the_static_twin_shows_the_same_state(explorer):
    explorer.way.value = "weight gradient"
    twin = explorer.static()
    assert twin.png().startswith(b"\x89PNG") and twin.alt == explorer.alt_text()
    above, below = twin.axes
    assert len(below.patches) == len(explorer.picture.plan.runs) and len(above.patches) == 9 + 3
    assert "weight gradient: 5 units" in twin._suptitle.get_text()


def test_both_axes_are_labelled_and_the_longest_bar_ends_before_the_edge(explorer):
    above, below = explorer.static().axes
    assert "rows" in above.get_xlabel() and "time" in below.get_xlabel()
    assert explorer.picture.longest == 80 < above.get_xlim()[1] < 1.1 * 80  # 70 rows in tiles of 16
    assert explorer.picture.plan.length < below.get_xlim()[1]
    assert ">80 rows<" in explorer.canvas.value


def test_it_opens_without_loads_and_refuses_what_is_none():
    assert "0% of the tiles" in GroupedExplorer().title.value
    loads = [{"loads": {"a": bad}} for bad in ([], [0], [-1, 2])]
    for bad in (*loads, {"tile": 5}, {"way": "graph"}, {"across": 0}, {"processors": 99}):
        with pytest.raises(ValueError):
            GroupedExplorer(**bad)
