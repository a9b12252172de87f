"""minimoe.inference.plan: every prepared block gives what the layer it was made of gives."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from model_draws import randomise

import minimoe
from minimoe.inference import plan
from minimoe.inference.plan import AttentionPlan, DensePlan, ExpertsPlan, Unit
from minimoe.model.attention import Span
from minimoe.model.layers import rms_norm
from minimoe.model.rope import rope_turns

CONFIG = replace(minimoe.NANO, num_hidden_layers=2)


def make(config=CONFIG):
    model = minimoe.Transformer(config)
    randomise(model, 8)
    return model.double()


def rows(count, width, seed=0):
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_unit_and_a_gain_are_an_rms_norm():
    norm = make().model.norm
    norm.eps = 0.3  # large enough to be seen
    x = rows(5, norm.weight.numel())
    torch.testing.assert_close(Unit(norm)(x) * norm.weight, rms_norm(x, norm.weight, 0.3), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("slack", [0, 1e9], ids=["apart", "folded"])
@pytest.mark.parametrize("q_lora_rank", [None, 10])
def test_attention_is_the_same_with_and_without_folding(slack, q_lora_rank, monkeypatch):
    monkeypatch.setattr(plan, "SLACK", slack)
    model = make(replace(CONFIG, q_lora_rank=q_lora_rank))
    layer, config = model.model.layers[0], model.config
    prepared = AttentionPlan(layer, config)
    assert (prepared.w_uk_HNC is None) == (prepared.w_uv_HCW is None) == (slack > 1)
    x, turns = rows(7, config.hidden_size), rope_turns(config, torch.arange(7), torch.float64)
    expected = x + layer.self_attn(layer.input_layernorm(x)[None], Span(turns[None]))[0]
    entries = torch.zeros(1, 7, prepared.latent + 2 * prepared.pairs, dtype=torch.float64)
    later = torch.ones(7, 7).triu(1).bool()
    mask = torch.zeros(7, 7, dtype=torch.float64).masked_fill(later, -torch.inf)[None, :, None]
    lookup = SimpleNamespace(shape=(1, 7), end=7, mask=mask, turns_M=turns, turns_M1=turns[:, None])
    lookup.write = lambda entries, new: entries.copy_(new[None])
    with torch.no_grad():
        torch.testing.assert_close(prepared(x, entries, lookup), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_shared_experts": 0},
        {"n_shared_experts": 3},
        {"norm_topk_prob": False},
        {"n_group": 1, "topk_group": 1},
        {"scoring_func": "softmax", "topk_method": "greedy"},
        {"num_experts_per_tok": 8, "n_routed_experts": 8, "topk_group": 4},
    ],
)
def test_experts_give_what_the_layers_own_mixture_gives(count, options):
    model = make(replace(CONFIG, **options))
    layer = model.model.layers[1]
    x = rows(count, model.config.hidden_size, seed=count)
    with torch.no_grad():
        expected = x + layer.mlp(layer.post_attention_layernorm(x)[None])[0][0]
        prepared = ExpertsPlan(layer, model.config)
        torch.testing.assert_close(prepared(x.clone()), expected, rtol=1e-11, atol=1e-11)


def test_a_dense_layer_gives_what_its_own_block_gives():
    layer = make().model.layers[0]
    x = rows(3, layer.input_layernorm.weight.numel())
    with torch.no_grad():
        expected = x + layer.mlp(layer.post_attention_layernorm(x))
        torch.testing.assert_close(DensePlan(layer)(x), expected, rtol=1e-11, atol=1e-11)
