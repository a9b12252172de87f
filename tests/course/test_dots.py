"""The figure of paired differences draws every seed, the mean and the interval where they belong."""

from minimoe_course.curves import Paired
from minimoe_course.dots import dots

PAIRS = {"weak": Paired([0.1, -0.2, 0.3], 0.07, -0.5, 0.6), "strong": Paired([1.0, 2.0], 1.5, -4.8, 7.8)}


def drawn():
    (axes,) = dots(PAIRS, "Strong costs more than weak", "difference (nats)").axes
    return axes, [sorted(line.get_xdata()) for line in axes.lines]


def test_every_seed_is_a_dot_and_the_interval_a_line_in_the_colour_of_its_row():
    axes, places = drawn()
    for pair in PAIRS.values():
        dot, reach, mean = (places.index(sorted(x)) for x in (pair.differences, [pair.low, pair.high], [pair.mean]))
        assert len({axes.lines[i].get_color() for i in (dot, reach, mean)}) == 1


def test_the_rows_are_labelled_and_the_first_stands_on_top():
    axes, _ = drawn()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(PAIRS)
    low, high = axes.get_ylim()
    assert low > high


def test_zero_is_marked_and_lies_inside_the_picture():
    axes, places = drawn()
    assert places[0] == [0.0, 0.0]
    left, right = axes.get_xlim()
    assert left <= -4.8 and right >= 7.8

