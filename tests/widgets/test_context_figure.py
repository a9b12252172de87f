"""The plotly figure: each view has its own traces and axes, and what it is sent is plain JSON."""

import json

import numpy as np
import pytest

from minimoe import V3
from minimoe.inference.wavelengths import rotary_pairs
from minimoe_widgets.context_figure import AXES, ContextFigure

PAIRS = rotary_pairs(V3)


def show(figure, view):
    if view == "angles":
        figure.show_angles(PAIRS)
    else:
        figure.show_retrieval([32, 64], [0.0, 0.5, 1.0], [[1.0, 0.5, 0.25], [0.125, None, 0.0]], 32)


@pytest.fixture
def figure():
    return ContextFigure()


@pytest.mark.parametrize("view", AXES)
def test_a_view_shows_its_own_axes_and_travels_as_json(figure, view):
    for other in AXES:
        show(figure, other)
    show(figure, view)
    for name, axes in AXES.items():
        assert all(figure.layout[axis].visible == (name == view) for axis in axes)
    assert json.dumps([figure.layout.to_plotly_json(), figure._config], allow_nan=False)
    for trace in figure.data:
        assert json.dumps(trace.to_plotly_json(), allow_nan=False, default=np.ndarray.tolist)


def test_within_a_view_traces_are_moved_and_not_made_anew(figure):
    show(figure, "angles")
    before = figure.data
    figure.show_angles(rotary_pairs(V3))
    assert figure.data == before


def test_cells_that_are_not_measured_stay_empty_and_the_rest_say_their_share(figure):
    show(figure, "retrieval")
    assert figure.data[0].z[1][1] is None
    assert [list(row) for row in figure.data[0].text] == [["100%", "50%", "25%"], ["12%", "", "0%"]]
    assert list(figure.data[1].y) == [0.5, 0.5]
