"""The routing picture in words and in matplotlib."""

from dataclasses import replace

import numpy as np
import pytest

from minimoe.inference.routing_trace import trace_routing
from minimoe_widgets.routing_figure import alt_text, draw_twin, title


@pytest.fixture
def trace(model):
    return trace_routing(model, [1, 2, 3, 4, 5])[1]


def test_the_title_names_the_busiest_expert_and_max_violation(trace):
    alone = replace(trace, load_E=np.array([1, 4, 2, 2, 2, 2, 1, 1]), max_violation=1.13)
    assert title("Layer 1", alone, True) == "Layer 1: expert 1 serves 4 of 5 tokens (MaxVio 1.13)"


def test_equally_busy_experts_are_counted(trace):
    tied = replace(trace, load_E=np.array([3, 3, 2, 2, 2, 1, 1, 1]), max_violation=0.6)
    assert title("Layer 1", tied, True) == "Layer 1: 2 experts each serve 3 of 5 tokens (MaxVio 0.60)"


def test_the_title_says_when_the_bias_is_off(trace):
    assert "selection bias off" in title("layer 1", trace, False)


def test_the_alt_text_says_what_is_to_be_seen(trace):
    said = alt_text("layer 1", trace, True)
    assert "5 tokens by 8 experts" in said and "3 experts inside 2 of 4 groups" in said


def test_the_twin_draws_the_chosen_gates_and_the_loads(trace):
    twin = draw_twin([("title", "alt", list("abcde"), trace)], "gate")
    image = next(image for ax in twin.axes for image in ax.images)
    drawn = np.ma.filled(image.get_array().astype(float), np.nan)
    np.testing.assert_allclose(drawn, np.where(trace.chosen_ME, trace.gates_ME, np.nan).T)
    assert [bar.get_width() for bar in twin.axes[1].patches] == trace.load_E.tolist()
    assert twin.axes[0].get_title(loc="left") == "title" and twin.alt == "alt"


def test_two_models_stand_side_by_side(trace):
    twin = draw_twin([("one", "alt one", list("abcde"), trace), ("two", "alt two", list("abcde"), trace)], "score")
    assert [ax.get_title(loc="left") for ax in twin.axes if ax.images] == ["one", "two"]
    assert twin.alt == "alt one alt two"
