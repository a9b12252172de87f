"""Titles state the message with the numbers on the screen."""

import pytest

from minimoe import V3
from minimoe.inference.retrieval import RetrievalMap
from minimoe.inference.wavelengths import rotary_pairs
from minimoe.training.context import plain_config
from minimoe_widgets import context_words as words

FOUND = RetrievalMap((32, 64, 128), (0.0, 1.0), ((4, 4), (3, 4), (0, 1)), 4)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [(6.283, "6.3"), (64, "64"), (300.4, "300"), (1536, "1.5K"), (4096, "4K"), (163840, "160K"), (47117, "46K")],
)
def test_lengths_are_said_in_few_digits(tokens, said):
    assert words.human_tokens(tokens) == said


def test_v3s_pairs_in_one_sentence():
    said = words.angles_title(rotary_pairs(V3))
    assert "23 of 32 pairs finish a turn within the 4K tokens of training" in said
    assert "YaRN keeps 11, slows 9 down by the whole factor and 12 by a part" in said
    alt = words.angles_alt(rotary_pairs(V3))
    assert said in alt and "6.3 to 46K tokens a turn" in alt
    assert words.angles_title(rotary_pairs(plain_config(V3))).endswith("9 never do")


def test_a_map_is_said_by_its_worst_trained_length_and_its_longest():
    title = words.retrieval_title("before", FOUND, 64)
    assert title.startswith("before: at least 88% of the answers right up to 64 tokens, 12% at 128 (95% interval 2%")
    assert "64 tokens: 75%, 100%" in words.retrieval_alt("before", FOUND, 64)
    assert words.retrieval_title("x", FOUND, 16).startswith("x: 12% at 128")
