"""minimoe.inference.cache: slots are positions, lengths decide what counts, rows can leave."""

from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.inference.cache import Cache, entry_width

CONFIG = replace(minimoe.NANO, num_hidden_layers=2)


def filled(batch=4, capacity=6):
    cache = Cache(CONFIG, batch, capacity)
    for layer, entries in enumerate(cache.entries):
        entries.copy_(torch.arange(batch)[:, None, None] + 10.0 * layer)
    cache.lengths_B = torch.arange(batch) + 1
    return cache


def test_a_token_costs_the_latent_and_the_rotary_key_and_not_the_keys_of_all_heads():
    assert entry_width(minimoe.V3) == 576
    assert entry_width(minimoe.NANO) == 32 + 16
    baseline = replace(minimoe.NANO, kv_lora_rank=None, q_lora_rank=None, num_key_value_heads=2, head_dim=32)
    assert entry_width(baseline) == 2 * 2 * 32
    cache = Cache(CONFIG, batch=3, capacity=5)
    assert [tuple(e.shape) for e in cache.entries] == [(3, 5, 48)] * 3, "two layers and the MTP module's"


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [1, 3], [0, 3], [3], [0, 1], [2, 3], [0]])
def test_rows_that_stay_keep_their_entries_and_lengths_in_the_order_given_back(rows):
    cache = filled()
    order = cache.keep(rows)
    assert sorted(order) == rows
    assert cache.lengths_B.tolist() == [row + 1 for row in order]
    for layer, entries in enumerate(cache.entries):
        assert entries[:, 0, 0].tolist() == [row + 10 * layer for row in order]


def test_only_rows_behind_the_cut_are_moved():
    assert filled().keep([0, 2, 3]) == [0, 3, 2]


def test_a_full_cache_says_how_full_before_anything_is_written():
    cache = Cache(CONFIG, batch=1, capacity=6)
    cache.advance(5)
    with pytest.raises(ValueError, match="2 more tokens after 5 overrun the cache's capacity=6"):
        cache.prepare(2)
    with pytest.raises(ValueError, match="batch=0, capacity=6"):
        Cache(CONFIG, batch=0, capacity=6)


def test_what_lies_past_a_rows_length_is_forgotten():
    model = minimoe.Transformer(CONFIG, seed=0).double()
    ids_BT = torch.tensor([[5, 6, 7, 8]])
    expected = model(ids_BT).logits[:, -1]
    cache = Cache(CONFIG, batch=1, capacity=6, dtype=torch.float64)
    model(torch.tensor([[5, 6, 99, 98]]), cache=cache, lengths_B=torch.tensor([2]))
    after = model(ids_BT[:, 2:], cache=cache).logits[:, -1]
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)
