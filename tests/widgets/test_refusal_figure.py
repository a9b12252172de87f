"""The live figure draws the numbers it is given, and changes its view."""

from minimoe_widgets.refusal_figure import RefusalFigure, spread_out

SHARES = {"plain": ([1.0, 0.5], [0.0, 0.25]), "harmless": ([0.0, 0.0], [1.0, 1.0])}
SCORES, WRONG = {"plain": [0.2, 0.7], "harmless": [0.1]}, {"plain": [0], "harmless": []}
ASKED = {"plain": ["a?", "b?"], "harmless": ["c?"]}


def test_curves_are_the_shares_and_the_line_is_at_the_step():
    figure = RefusalFigure(list(SHARES))
    figure.show_tuning(SHARES, None, 1)
    grey, refused, leaked, here = figure.data[:4]
    assert not grey.visible and list(refused.y) == [1.0, 0.5] and list(leaked.y) == [0.0, 0.25]
    assert list(here.x) == [1, 1] and refused.yaxis == "y" and figure.data[5].yaxis == "y2"
    assert list(refused.text) == ["refused", ""] and list(leaked.text) == ["", "right code"]


def test_the_run_before_is_grey_and_the_traces_move():
    figure = RefusalFigure(list(SHARES))
    figure.show_tuning(SHARES, None, 0)
    first = figure.data[1]
    figure.show_tuning(SHARES, {"plain": [1.0, 0.9, 0.8], "harmless": [0.0]}, 1)
    assert figure.data[1].uid == first.uid and figure.data[0].visible
    assert list(figure.data[0].y) == [1.0, 0.9], "only as far as the run that is shown"


def test_the_guard_s_view_takes_the_other_s_place():
    figure = RefusalFigure(list(SHARES))
    figure.show_tuning(SHARES, None, 0)
    figure.show_guard(SCORES, WRONG, ASKED, 0.5)
    right, wrong, line = figure.data
    assert sorted(right.x) == [0.1, 0.7] and list(wrong.x) == [0.2] and list(wrong.text) == ["a?"]
    assert list(line.x) == [0.5, 0.5]
    assert figure.layout.yaxis3.visible and not figure.layout.yaxis2.visible
    assert list(figure.layout.yaxis3.ticktext)[0] == "plain<br>1 of 2 wrong"
    figure.show_tuning(SHARES, None, 0)
    assert figure.layout.yaxis2.visible and not figure.layout.yaxis3.visible


def test_equal_scores_do_not_hide_each_other():
    places = spread_out(11, 2)
    assert len(set(places)) == 11 and all(1.6 < place < 2.4 for place in places)
