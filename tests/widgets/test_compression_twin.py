"""The static twins draw the numbers they are given and carry title and alt text."""

import numpy as np
import torch

from minimoe import V3
from minimoe_widgets.cache_bill import bill
from minimoe_widgets.compression_twin import attention_twin, bill_twin, rank_twin


def heading(twin):
    return twin.get_suptitle()


def test_the_bill_has_a_bar_a_line_labelled_with_its_bytes():
    lines = bill(V3, 128, 512, 131072, "bf16")
    twin = bill_twin(lines, "title", "alt")
    assert [bar.get_width() for bar in twin.axes[0].patches] == [line.cache_bytes for line in lines]
    assert {"9.211 GB", "67.646 GB"} <= {text.get_text() for text in twin.axes[0].texts}
    assert (heading(twin), twin.alt) == ("title", "alt")


def test_the_attention_map_leaves_the_future_empty():
    weights = np.tril(np.full((4, 4), 0.25))
    twin = attention_twin(weights, list("abcd"), "title", "alt")
    drawn = np.ma.filled(twin.axes[0].images[0].get_array().astype(float), np.nan)
    np.testing.assert_array_equal(np.isnan(drawn), ~np.tri(4, dtype=bool))
    assert [tick.get_text() for tick in twin.axes[0].get_yticklabels()] == list("abcd")


def test_spectra_and_losses_are_the_ones_given():
    spectra = {"latent": torch.tensor([3.0, 1.0]), "rotary key": torch.tensor([1.0, 0.5])}
    above, below = rank_twin(spectra, [0, 1, 2], [3.0, 2.0, 1.5], 1, "title", "alt").axes
    assert above.lines[0].get_ydata().tolist() == [3, 1] and above.lines[1].get_ydata().tolist() == [1, 0.5]
    assert list(below.lines[0].get_ydata()) == [3, 2, 1.5]
    assert (list(below.lines[1].get_xdata()), list(below.lines[1].get_ydata())) == ([1], [2.0])
