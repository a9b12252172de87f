"""What an explorer reads out of a model, once for each text."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from minimoe_widgets.model_reading import ModelReading


@pytest.fixture
def reading(model, tokenizer, text):
    return ModelReading(model, tokenizer, text)


def test_nothing_is_computed_before_it_is_looked_at(reading):
    assert not {"maps", "spectra", "losses"} & set(vars(reading))
    assert reading.maps is reading.maps


def test_losses_belong_to_ranks_and_end_with_the_model_s_own(reading, model):
    ids = torch.tensor([reading.ids])
    with torch.no_grad():
        own = model(ids, labels=ids).losses["next_token"].item()
    assert reading.ranks[0] == 0 and reading.ranks[-1] == model.config.kv_lora_rank
    assert len(reading.losses) == len(reading.ranks)
    assert reading.losses[-1] == pytest.approx(own, rel=1e-5)  # SVD and back in float32


def test_the_sharpest_head_has_the_most_weight_on_one_place(reading):
    layer, head = reading.sharpest_head()
    focus = {n: maps.max(-1)[:, 1:].mean(-1) for n, maps in reading.maps.items()}
    assert focus[layer][head] == max(np.max(f) for f in focus.values())


def test_without_a_tokenizer_the_tokens_are_random_and_the_same_each_time(model):
    first, second = ModelReading(model, None, ""), ModelReading(model, None, "")
    assert first.ids == second.ids and "random tokens" in first.notice
    assert max(first.ids) < model.config.vocab_size


def test_a_text_longer_than_the_context_is_cut_with_a_notice(config, make_model, tokenizer, text):
    reading = ModelReading(make_model(replace(config, max_position_embeddings=4)), tokenizer, text)
    assert len(reading.ids) == len(reading.labels) == 4 and "context is 4" in reading.notice


@pytest.mark.parametrize("short", ["", "t"])
def test_less_than_two_tokens_are_refused(model, tokenizer, short):
    with pytest.raises(ValueError, match="type at least"):
        ModelReading(model, tokenizer, short)


def test_a_model_without_latents_is_read_by_its_keys_and_values(config, make_model, tokenizer, text):
    plain = replace(config, kv_lora_rank=None, q_lora_rank=None, head_dim=16)
    reading = ModelReading(make_model(plain), tokenizer, text)
    assert reading.main_part() == "keys" and list(reading.spectra[0]) == ["keys", "values"]
    assert reading.ranks[-1] == 2 * 4 * 16 and len(reading.ranks) < 30
