"""Figures and twins: opaque, labelled, the same bytes for the same data, and visible without a kernel."""

import io

import matplotlib.image
import numpy as np
import pytest

from minimoe_course import bars, heatmap, lines, show
from minimoe_course.figures import GREY
from minimoe_course.twins import png

ALT = "A line that falls from one to zero in ten steps."


def pixels(figure):
    return matplotlib.image.imread(io.BytesIO(png(figure)))


def test_a_figure_is_opaque_white_wide_enough_for_a_phone_and_the_same_every_time():
    figures = [lines({"loss": ([0, 1], [1, 0])}, "It falls", "step", "loss") for _ in range(3)]
    image = pixels(figures[2])
    assert (image[..., 3] == 1).all() and (image[0, 0, :3] == 1).all()
    assert image.shape[1] == 960
    assert png(figures[0]) == png(figures[1])


def test_lines_are_labelled_at_their_ends_and_references_are_grey_and_dashed():
    (axes,) = lines({"ours": ([1, 2], [1, 2]), "paper": ([1, 2], [2, 2])}, "t", "x", "y", grey=["paper"], log="xy").axes
    ours, paper = axes.lines
    assert (paper.get_color(), paper.get_linestyle()) == (GREY, "--") and ours.get_linestyle() == "-"
    assert {text.get_text() for text in axes.texts} == {"ours", "paper"}
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_curve_is_labelled_at_its_right_end_whichever_way_it_was_given():
    (axes,) = lines({"error": ([3, 2, 1], [30, 20, 10])}, "t", "x", "y").axes
    assert [text.xy for text in axes.texts] == [(3, 30)]


def test_labels_of_curves_that_end_together_stand_apart_and_lone_ones_stay():
    ends = {"a": 1.0, "b": 1.01, "c": 1.02, "low": 0.0}
    figure = lines({label: ([0, 1], [0.5, y]) for label, y in ends.items()}, "t", "x", "y")
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}
    heights = [(boxes[label].y0, boxes[label].y1) for label in ("a", "b", "c")]
    assert all(top <= bottom for (_, top), (bottom, _) in zip(heights[:-1], heights[1:], strict=True))
    rises = {text.get_text(): text.xyann[1] for text in figure.axes[0].texts}
    assert rises["low"] == 0 and abs(rises["a"] + rises["b"] + rises["c"]) < 1e-6


def test_labels_of_curves_that_end_at_the_bottom_do_not_stand_on_the_axis():
    ends = {"a": 0.0, "b": 0.001, "high": 1.0}
    figure = lines({label: ([0, 1], [0.5, y]) for label, y in ends.items()}, "t", "x", "y")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert axes.get_window_extent().y0 <= boxes["a"].y0 and boxes["a"].y1 <= boxes["b"].y0


def test_a_few_measured_places_are_written_out_on_a_logarithmic_axis():
    (axes,) = lines({"a": ([64, 1024, 65536], [1, 2, 3])}, "t", "tokens", "y", log="x").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "1,024", "65,536"]


def test_a_marked_point_is_named_where_it_stands():
    (axes,) = lines({"a": ([0, 1], [0, 1])}, "t", "x", "y", marks={"crossover": (0.5, 0.5)}).axes
    assert [t.xy for t in axes.texts if t.get_text() == "crossover"] == [(0.5, 0.5)]


def test_bars_carry_their_values_and_stand_in_the_order_given():
    (axes,) = bars({"MHA": 516.096, "MLA": 70.272}, "t", "KB", grey=["MHA"], form="{:.1f}").axes
    assert [t.get_text() for t in axes.texts] == ["516.1", "70.3"]
    assert axes.yaxis_inverted()


def test_signed_heat_maps_are_centred_on_zero_and_others_are_not():
    z = np.array([[-1.0, 3.0], [0.0, 2.0]])
    assert heatmap(z, "t", "x", "y", signed=True).axes[0].images[0].get_clim() == (-3.0, 3.0)
    assert heatmap(z, "t", "x", "y").axes[0].images[0].get_clim() == (-1.0, 3.0)


class Explorer:
    """What `show` asks of an explorer."""

    def __init__(self, picture):
        self.picture = picture

    def static(self):
        return self.picture


def shown(monkeypatch, what, alt=ALT):
    import IPython.display

    seen = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: seen.append(data))
    show(what, alt=alt)
    return seen


def test_an_explorer_is_shown_live_then_as_a_picture_then_in_words(monkeypatch):
    figure = lines({"a": ([0, 1], [1, 0])}, "t", "x", "y")
    for picture in (figure, png(figure)):
        explorer = Explorer(picture)
        live, twin, words = shown(monkeypatch, explorer)
        assert live is explorer and twin["image/png"].startswith(b"\x89PNG") and twin["text/plain"] == ALT
        assert ALT in words._repr_markdown_()


def test_a_twin_that_brings_its_own_words_needs_no_others(monkeypatch):
    figure = lines({"a": ([0, 1], [1, 0])}, "t", "x", "y")
    figure.alt = "A line that falls, in the twin's own words."
    assert shown(monkeypatch, Explorer(figure), alt="")[1]["text/plain"] == figure.alt
    assert shown(monkeypatch, Explorer(figure), alt=ALT)[1]["text/plain"] == ALT


def test_a_figure_is_shown_once(monkeypatch):
    picture, words = shown(monkeypatch, lines({"a": ([0, 1], [1, 0])}, "t", "x", "y"))
    assert picture["image/png"].startswith(b"\x89PNG") and repr(words) == "Folded: The figure in words"


def test_a_missing_alt_text_or_something_that_is_no_picture_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="has 4 characters"):
        shown(monkeypatch, bars({"a": 1}, "t", "x"), alt="plot")
    with pytest.raises(TypeError, match="got str"):
        shown(monkeypatch, "a picture")
    with pytest.raises(ValueError, match="bytes of a PNG"):
        shown(monkeypatch, Explorer(b"GIF89a"))


def test_rows_and_columns_of_a_heat_map_are_whole_numbers_or_names():
    z = np.arange(6.0).reshape(2, 3)
    (axes, _) = heatmap(z, "t", "x", "y").axes
    assert all(float(tick).is_integer() for tick in [*axes.get_xticks(), *axes.get_yticks()])
    (axes, _) = heatmap(z, "t", "x", "y", xticks=["the", "cat", "sat"], yticks=["0", "1"]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["the", "cat", "sat"]


def test_figures_look_the_same_whether_or_not_setup_has_been_called():
    for figure in (bars({"a": 1.0}, "t", "x"), lines({"a": ([0, 1], [0, 1])}, "t", "x", "y")):
        assert {text.get_fontsize() for text in figure.axes[0].texts} == {12.0}
