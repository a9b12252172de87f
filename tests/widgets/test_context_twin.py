"""The static twins draw the numbers they are given and carry title and alt text."""

import numpy as np

from minimoe import V3
from minimoe.inference.retrieval import RetrievalMap
from minimoe.inference.wavelengths import rotary_pairs
from minimoe.training.context import plain_config
from minimoe_widgets.context_twin import angles_twin, retrieval_twin


def test_wavelengths_and_ramp_are_the_ones_given():
    pairs = rotary_pairs(V3)
    twin = angles_twin(pairs, "title", "alt")
    above, below = twin.axes
    assert list(above.lines[0].get_ydata()) == list(pairs.plain_tokens)
    assert list(above.lines[1].get_ydata()) == list(pairs.now_tokens)
    assert [bar.get_height() for bar in below.patches] == list(pairs.ramp)
    assert {"trained: 4K", "to read: 160K"} <= {text.get_text() for text in above.texts}
    assert (twin.get_suptitle(), twin.alt) == ("title", "alt")


def test_without_yarn_there_is_one_length():
    twin = angles_twin(rotary_pairs(plain_config(V3)), "title", "alt")
    assert [text.get_text() for text in twin.axes[0].texts] == ["trained: 4K"]


def test_the_map_has_a_line_below_the_trained_length():
    found = RetrievalMap((32, 64, 128), (0.0, 1.0), ((4, 4), (3, 4), (0, 1)), 4)
    ax = retrieval_twin(found, 64, "title", "alt").axes[0]
    np.testing.assert_array_equal(np.asarray(ax.images[0].get_array()), found.accuracy)
    assert set(ax.lines[0].get_ydata()) == {1.5}
    assert [text.get_text() for text in ax.texts] == ["100%", "100%", "75%", "100%", "0%", "25%"]
