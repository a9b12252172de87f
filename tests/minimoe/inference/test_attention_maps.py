"""Attention maps are those the model used: with its values they give its output."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange

from minimoe import NANO, Transformer
from minimoe.inference.attention_maps import attention_maps, head_habit

YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 8, "mscale": 1.0, "mscale_all_dim": 1.0}
SMALL = replace(NANO, vocab_size=97, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=None)
LATENT = replace(SMALL, rope_scaling=YARN)
PLAIN = replace(SMALL, kv_lora_rank=None, q_lora_rank=None, head_dim=24)
CONFIGS = {
    "MLA": LATENT,
    "MLA without query compression": replace(LATENT, q_lora_rank=None),
    "MHA": PLAIN,
    "GQA": replace(PLAIN, num_key_value_heads=2),
    "MQA": replace(PLAIN, num_key_value_heads=1),
}
IDS = [5, 17, 96, 0, 5, 42, 61]


def seen_by_attention(model, layer):
    """Input, output of one attention layer in a plain forward call."""
    seen = {}
    hook = model.model.layers[layer].self_attn.register_forward_hook(
        lambda _m, args, out: seen.update(x=args[0], span=args[1], out=out)
    )
    with torch.no_grad():
        model(torch.tensor([IDS]))
    hook.remove()
    return seen["x"], seen["span"], seen["out"]


def values_of(attention, x, span):
    if hasattr(attention, "kv_b_proj"):
        return torch.einsum("bsc,hwc->bhsw", attention.compress(x, span.turns)[0], attention.up_projections()[1])
    v = rearrange(attention.v_proj(x), "b s (g n) -> b g s n", g=attention.kv_heads)
    return v.repeat_interleave(attention.heads // attention.kv_heads, dim=1)


@pytest.mark.parametrize("name", CONFIGS)
def test_maps_times_values_give_the_attention_s_output(name):
    model = Transformer(replace(CONFIGS[name], initializer_range=0.2), seed=0)
    weights = torch.from_numpy(attention_maps(model, IDS)[1])
    attention = model.model.layers[1].self_attn
    x, span, out = seen_by_attention(model, 1)
    with torch.no_grad():
        mixed = torch.einsum("hts,bhsw->bthw", weights, values_of(attention, x, span))
        rebuilt = attention.o_proj(mixed.flatten(2))
    # float32: two orders of the same sums of a few hundred terms
    torch.testing.assert_close(rebuilt, out, rtol=1e-4, atol=1e-5 * out.abs().max().item())
    assert weights.std() > 0.05  # a flat map would pass with any queries


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_sum_to_one_and_nobody_sees_the_future(name):
    config = CONFIGS[name]
    maps = attention_maps(Transformer(config, seed=0), IDS)
    assert list(maps) == [0, 1]
    for weights in maps.values():
        assert weights.shape == (config.num_attention_heads, len(IDS), len(IDS))
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)  # float32 rounding of a sum of seven
        assert (np.triu(weights, 1) == 0).all()


@pytest.mark.parametrize("ids", [IDS, [97]], ids=["a good text", "an id outside the vocabulary"])
def test_no_hook_stays_behind(ids):
    model = Transformer(LATENT, seed=0)
    try:
        attention_maps(model, ids)
    except ValueError as error:
        assert "97" in str(error)
    assert all(not layer.self_attn._forward_pre_hooks for layer in model.model.layers)


def test_a_head_that_reads_the_previous_token_is_known_by_its_habit():
    weights = np.eye(6, k=-1)
    weights[0, 0] = 1
    habit = head_habit(weights)
    assert (habit.previous, habit.itself, habit.first, habit.distance) == (1, 0, 0, 1)


def test_a_flat_head_looks_half_way_back():
    weights = np.tril(np.ones((5, 5))) / np.arange(1, 6)[:, None]
    habit = head_habit(weights)
    assert habit.distance == pytest.approx((1 + 1.5 + 2) / 3)
    assert habit.first == pytest.approx((1 / 3 + 1 / 4 + 1 / 5) / 3) == pytest.approx(habit.itself)


def test_one_token_can_only_look_at_itself():
    habit = head_habit(np.ones((1, 1)))
    assert (habit.itself, habit.distance) == (1, 0)
