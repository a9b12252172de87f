"""Panels: one heading each, one legend for all, and the ticks that were asked for."""

from minimoe_course.panels import panels

CURVES = {"up": ([0.1, 1, 10], [-10, 0, 10]), "down": ([0.1, 1, 10], [10, 0, -10])}


def test_every_variant_has_a_panel_and_the_labels_stand_once():
    figure = panels({name: CURVES for name in "abcd"}, "message", "x", "y", grey=["down"])
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == list("abcd")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["up", "down"]
    assert figure.get_suptitle() == "message"


def test_ticks_stand_where_they_were_asked_for_on_bent_axes():
    figure = panels({"a": CURVES}, "message", "x", "y", xticks=[0.1, 1, 10], yticks=[-10, 0, 10])
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "symlog")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "1", "10"]
    assert list(axes.get_yticks()) == [-10, 0, 10]
