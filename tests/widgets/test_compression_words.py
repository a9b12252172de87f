"""Titles state the message with the numbers on the screen."""

import pytest

from minimoe import V3
from minimoe_widgets import compression_words as words
from minimoe_widgets.cache_bill import bill
from minimoe_widgets.model_reading import ModelReading


@pytest.fixture
def reading(model, tokenizer, text):
    return ModelReading(model, tokenizer, text)


def test_the_bill_in_words_lists_every_bar():
    lines = bill(V3, 128, 512, 4096, "bf16")
    said = words.bill_alt(lines, 2, 2048)
    assert all(line.name in said for line in lines)
    assert "516.096 KB a token" in said and said.startswith(words.bill_title(lines, 2, 2048))


def test_a_head_is_described_by_its_habit(reading):
    habit = reading.habit(1, 2)
    said = words.attention_title(reading, 1, 2)
    assert said.startswith(f"Layer 1, head 2 looks {habit.distance:.1f} tokens back")
    assert f"{habit.previous:.0%} of its weight on the previous token" in said
    assert "no token sees the future" in words.attention_alt(reading, 1, 2)


def test_the_cut_is_described_by_what_is_kept_and_what_it_costs(reading):
    rank = reading.ranks[3]
    said = words.rank_title(reading, 2, rank)
    assert said.startswith(
        f"{rank} of {reading.ranks[-1]} directions keep {reading.share(2, rank):.0%} of layer 2's latent"
    )
    assert f"{reading.losses[3]:.2f} nats a token, against {reading.losses[-1]:.2f}" in said
    assert "rotary key" in words.rank_alt(reading, 2, rank)
