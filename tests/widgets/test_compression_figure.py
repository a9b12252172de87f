"""The plotly figure: each view has its own traces and axes, and what it is sent is plain JSON."""

import json

import numpy as np
import pytest
import torch

from minimoe import V3
from minimoe_widgets.cache_bill import bill
from minimoe_widgets.compression_figure import AXES, CompressionFigure, bar_colour

LINES = bill(V3, 128, 512, 4096, "bf16")
SPECTRA = {"latent": torch.tensor([3.0, 2.0, 1.0, 0.5]), "rotary key": torch.tensor([1.0, 0.5])}
WEIGHTS = np.tril(np.ones((5, 5), np.float32)) / np.arange(1, 6, dtype=np.float32)[:, None]


def show(figure, view):
    if view == "bill":
        figure.show_bill(LINES)
    elif view == "attention":
        figure.show_attention(WEIGHTS, list("abcde"))
    else:
        figure.show_rank(SPECTRA, [0, 2, 4], [3.0, 2.0, 1.5], 2)


@pytest.fixture
def figure():
    return CompressionFigure()


@pytest.mark.parametrize("view", AXES)
def test_a_view_shows_its_own_axes_and_hides_the_others(figure, view):
    for other in AXES:
        show(figure, other)
    show(figure, view)
    for name, axes in AXES.items():
        assert all(figure.layout[axis].visible == (name == view) for axis in axes)


@pytest.mark.parametrize("view", AXES)
def test_what_travels_to_the_browser_is_plain_json(figure, view):
    show(figure, view)
    # a numpy scalar fails in the kernel's serialiser, a NaN draws a warning there: both only when the widget is shown
    assert json.dumps([figure.layout.to_plotly_json(), figure._config], allow_nan=False)
    for trace in figure.data:
        assert json.dumps(trace.to_plotly_json(), allow_nan=False, default=list_of_an_array)


def list_of_an_array(value):
    assert isinstance(value, np.ndarray), f"{type(value).__name__} does not travel as JSON"
    return value.tolist()


def test_bars_are_the_bill_and_colours_tell_the_existing_models_apart(figure):
    figure.show_bill(LINES)
    assert list(figure.data[0].x) == [line.cache_bytes for line in LINES]
    assert [bar_colour(line) for line in LINES if line.exists] == [figure.data[0].marker.color[-1]] * 3
    assert figure.data[0].marker.pattern.shape[-1] == "/" != figure.data[0].marker.pattern.shape[0]


def test_within_a_view_traces_are_moved_and_not_made_anew(figure):
    figure.show_bill(LINES)
    before = figure.data
    figure.show_bill(bill(V3, 128, 1024, 4096, "bf16"))
    assert figure.data == before and figure.data[0].x[3] > LINES[3].cache_bytes


def test_the_future_is_left_empty_and_nothing_else(figure):
    figure.show_attention(WEIGHTS, list("abcde"))
    drawn = np.array(figure.data[0].z, dtype=float)
    np.testing.assert_array_equal(np.isnan(drawn), ~np.tri(5, dtype=bool))
    np.testing.assert_allclose(
        drawn[np.tri(5, dtype=bool)], WEIGHTS[np.tri(5, dtype=bool)], atol=5e-4
    )  # sent with 3 digits
    assert figure.data[0].zmax == WEIGHTS[3:].max()


def test_the_chosen_rank_is_marked_at_its_loss(figure):
    show(figure, "rank")
    assert (list(figure.data[-1].x), list(figure.data[-1].y)) == ([2], [2.0])
    assert list(figure.data[0].y) == [3, 2, 1, 0.5] and list(figure.data[1].y) == [1, 0.5]
