"""A deeper model that says the same, and the three prices of a speculative step."""

from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe_course.speculation_timing import deepened, step_calls

CONFIG = replace(minimoe.NANO, vocab_size=64, hidden_size=32, num_hidden_layers=2, initializer_range=0.1)


@pytest.fixture(scope="module")
def model():
    return minimoe.Transformer(CONFIG, seed=3).requires_grad_(False)


def test_silent_layers_change_neither_text_nor_drafts(model):
    deep, prompts = deepened(model, 5), [[1, 2, 3], [9, 8]]
    assert deep.config.num_hidden_layers == 5 and len(deep.mtp_modules) == 1
    for speculative in (False, True):
        expected = minimoe.generate(model, prompts, 24, stop_tokens=[], speculative=speculative)
        found = minimoe.generate(deep, prompts, 24, stop_tokens=[], speculative=speculative)
        assert (found.tokens, found.drafted, found.accepted) == (expected.tokens, expected.drafted, expected.accepted)
    ids = torch.tensor([[4, 5, 6, 7]])
    mine, other = model(ids), deep(ids)
    torch.testing.assert_close(mine.logits, other.logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mine.mtp_logits[0], other.mtp_logits[0], rtol=1e-6, atol=1e-6)


def test_a_silent_layer_still_works_hard(model):
    silent = deepened(model, 3).model.layers[2]
    zero = {name for name, weight in silent.named_parameters() if (weight == 0).all()}
    assert zero == {name for name, _ in silent.named_parameters() if "o_proj" in name or "down_proj" in name}


def test_a_model_is_not_made_shallower(model):
    with pytest.raises(ValueError, match="layers=1 is less than the model's 2"):
        deepened(model, 1)


def test_the_prices_are_those_of_calls_that_give_logits_for_every_row(model):
    calls = step_calls(model, batch=3, context=5)
    assert set(calls) == {"one", "two", "draft"}
    assert calls["one"]().shape == calls["draft"]().shape == (3, 64)
    assert calls["two"]().shape == (3, 2, 32)
