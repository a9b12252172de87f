"""What the canvas is sent: bytes that mean what the trace says."""

import numpy as np
import pytest

from minimoe.inference.routing_trace import trace_routing
from minimoe_widgets.heatmap import RoutingHeatMap, pack_frame, shade


@pytest.fixture
def trace(model):
    return trace_routing(model, [1, 2, 3, 4, 5])[1]


def pack(trace, colour="gate"):
    return pack_frame(trace, list("abcde"), list("ABCDE"), colour, "title", "alt")


def cells(data, dtype=np.uint8, columns=8):
    return np.frombuffer(data, dtype).reshape(5, columns)


def test_shade_spans_the_shown_values_and_leaves_the_others_zero():
    values, shown = np.array([0.0, 1.0, 2.0, 9.0]), np.array([True, True, True, False])
    grey, low, high = shade(values, shown)
    assert grey.tolist() == [1, 128, 255, 0] and (low, high) == (0, 2)


def test_shade_of_equal_values_and_of_nothing():
    assert shade(np.full(3, 0.5), np.ones(3, bool))[0].tolist() == [255] * 3
    assert shade(np.full(3, 0.5), np.zeros(3, bool))[0].tolist() == [0] * 3


def test_a_frame_carries_the_numbers_of_the_trace(trace):
    frame = pack(trace)
    np.testing.assert_array_equal(cells(frame["scores"], "<f4"), trace.scores_ME)
    np.testing.assert_array_equal(cells(frame["selection"], "<f4"), trace.selection_ME)
    np.testing.assert_array_equal(cells(frame["gates"], "<f4"), trace.gates_ME)
    np.testing.assert_array_equal(cells(frame["chosen"]), trace.chosen_ME)
    np.testing.assert_array_equal(cells(frame["kept"], columns=4), trace.kept_MG)
    assert frame["load"] == trace.load_E.tolist() and sum(frame["load"]) == 15


def test_gates_colour_the_chosen_alone_and_scores_colour_every_cell(trace):
    np.testing.assert_array_equal(cells(pack(trace)["shade"]) > 0, trace.chosen_ME)
    assert (cells(pack(trace, "score")["shade"]) > 0).all()
    assert (cells(pack(trace, "score with bias")["shade"]) > 0).all()


def test_the_darkest_cell_is_the_highest_value(trace):
    frame = pack(trace, "score")
    assert cells(frame["shade"]).argmax() == trace.scores_ME.argmax()
    assert (frame["shade_low"], frame["shade_high"]) == pytest.approx((trace.scores_ME.min(), trace.scores_ME.max()))


def test_a_large_frame_stays_small():
    from types import SimpleNamespace

    zeros, kept = np.zeros((200, 64), np.float32), np.ones((200, 8), bool)
    trace = SimpleNamespace(
        scores_ME=zeros,
        selection_ME=zeros,
        gates_ME=zeros,
        chosen_ME=zeros > 1,
        kept_MG=kept,
        load_E=zeros[0],
        max_violation=0,
    )
    frame = pack_frame(trace, ["t"] * 200, ["t"] * 200, "score", "", "")
    assert sum(len(value) for value in frame.values() if isinstance(value, bytes)) < 200_000


def test_the_canvas_has_its_colours_and_asks_nothing_of_the_network():
    canvas = RoutingHeatMap()
    assert len(canvas.palette) == 3 * 256
    assert "http" not in str(canvas._esm)
