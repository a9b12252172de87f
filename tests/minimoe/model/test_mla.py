"""Latent attention: both paths are one function, and the cache changes nothing."""

from dataclasses import replace

import pytest
import torch
from comparison import decode
from hypothesis import given, settings
from hypothesis import strategies as st
from model_draws import randomise, v3_configs

import minimoe
from minimoe.inference.cache import Cache
from minimoe.model.attention import Span
from minimoe.model.layers import rms_norm
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe.model.rope import apply_rope, rope_turns

TINY = replace(
    minimoe.NANO, vocab_size=31, hidden_size=20, num_hidden_layers=2, intermediate_size=23, num_attention_heads=3,
    num_key_value_heads=None, q_lora_rank=9, kv_lora_rank=7, qk_nope_head_dim=5, qk_rope_head_dim=4, v_head_dim=6,
    moe_intermediate_size=8, num_nextn_predict_layers=0,
)  # fmt: skip


def random_model(config, seed=0, dtype=torch.float64):
    model = minimoe.Transformer(config)
    randomise(model, seed)
    return model.to(dtype)


def random_ids(config, rows, length, seed=0):
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25)
@given(v3_configs(), st.integers(1, 3), st.integers(1, 9), st.integers(0, 99))
def test_absorb_equals_expand_in_logits_and_gradients(config, rows, length, seed):
    model, ids_BT = random_model(config, seed), random_ids(config, rows, length, seed)
    gradients = []
    for path in ("expand", "absorb"):
        model.zero_grad()
        logits = model(ids_BT, path=path).logits
        logits.square().mean().backward()
        gradients.append([logits.detach()] + [p.grad for p in model.parameters() if p.grad is not None])
    largest = max(g.abs().max() for g in gradients[0])
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() <= 1e-11 * largest


@settings(max_examples=25)
@given(v3_configs(), st.integers(0, 99), st.data())
def test_any_way_of_cutting_a_text_into_cached_calls_gives_the_same_logits(config, seed, data):
    """One pass, token by token, and chunks of several tokens: a mask off by one shows only in the last."""
    model, ids_BT = random_model(config, seed), random_ids(config, 2, 10, seed)
    cuts = data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=10).filter(lambda c: sum(c) >= 10))
    path = data.draw(st.sampled_from(["expand", "absorb", None]))
    cache, logits, start = Cache(config, 2, 10, dtype=torch.float64), [], 0
    with torch.no_grad():
        for cut in cuts:
            chunk = ids_BT[:, start : start + cut]
            if chunk.numel():
                logits.append(model(chunk, cache=cache, path=path).logits)
            start += cut
        expected = model(ids_BT).logits
    assert cache.lengths_B.tolist() == [10, 10]
    torch.testing.assert_close(torch.cat(logits, 1), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("path", ["expand", "absorb"])
def test_rows_of_different_lengths_give_what_each_row_gives_alone(path):
    model, lengths = random_model(TINY), [3, 7, 1]
    prompts, more = random_ids(TINY, 3, 7, seed=1), random_ids(TINY, 3, 4, seed=2)
    cache = Cache(TINY, 3, 12, dtype=torch.float64)
    with torch.no_grad():
        together = [model(prompts, cache=cache, lengths_B=torch.tensor(lengths), path=path).logits]
        together += [model(more[:, t : t + 1], cache=cache, path=path).logits for t in range(4)]
    assert cache.lengths_B.tolist() == [7, 11, 5]
    for row, length in enumerate(lengths):
        with torch.no_grad():
            text = torch.cat([prompts[row : row + 1, :length], more[row : row + 1]], dim=1)
            alone = model(text).logits[0]
        torch.testing.assert_close(together[0][row, :length], alone[:length], rtol=1e-11, atol=1e-12)
        later = torch.cat([step[row] for step in together[1:]])
        torch.testing.assert_close(later, alone[length:], rtol=1e-11, atol=1e-12)


def test_a_row_may_pause_while_others_go_on():
    model, ids = random_model(TINY), random_ids(TINY, 2, 6)
    cache = Cache(TINY, 2, 8, dtype=torch.float64)
    with torch.no_grad():
        model(ids[:, :3], cache=cache)
        model(ids[:, 3:5], cache=cache, lengths_B=torch.tensor([2, 0]))
        rest = torch.stack([ids[0, 5:6], ids[1, 3:4]])
        logits = model(rest, cache=cache).logits
        torch.testing.assert_close(logits[0, 0], model(ids[:1]).logits[0, 5], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(logits[1, 0], model(ids[1:, :4]).logits[0, 3], rtol=1e-11, atol=1e-12)


def test_the_cache_holds_the_normalised_latent_and_one_rotated_key_a_token():
    model, ids_BT = random_model(TINY), random_ids(TINY, 2, 5)
    cache = Cache(TINY, 2, 5, dtype=torch.float64)
    with torch.no_grad():
        model(ids_BT, cache=cache)
        layer = model.model.layers[0]
        x_BTD = layer.input_layernorm(model.model.embed_tokens(ids_BT))
        latent, key = (x_BTD @ layer.self_attn.kv_a_proj_with_mqa.weight.T).split([7, 4], dim=-1)
        latent = rms_norm(latent, layer.self_attn.kv_a_layernorm.weight, 1e-6)
        key = apply_rope(key, rope_turns(TINY, torch.arange(5), torch.float64))
    assert cache.entries[0].shape == (2, 5, 7 + 4)
    torch.testing.assert_close(cache.entries[0], torch.cat([latent, key], dim=-1))


def test_the_inner_norms_keep_their_own_epsilon():
    """The official code fixes it at 1e-6, whatever rms_norm_eps says."""
    model = random_model(replace(TINY, rms_norm_eps=0.5))
    inner = model.model.layers[0].self_attn
    assert inner.kv_a_layernorm.eps == inner.q_a_layernorm.eps == 1e-6
    assert model.model.norm.eps == model.model.layers[0].input_layernorm.eps == 0.5


@pytest.mark.parametrize("rank", [None, 9])
def test_parameters_have_the_official_names_and_shapes(rank):
    attention = MultiHeadLatentAttention(replace(TINY, q_lora_rank=rank), layer=0)
    query = {"q_proj.weight": (27, 20)} if rank is None else {
        "q_a_proj.weight": (9, 20), "q_a_layernorm.weight": (9,), "q_b_proj.weight": (27, 9)}  # fmt: skip
    assert {name: tuple(p.shape) for name, p in attention.named_parameters()} == query | {
        "kv_a_proj_with_mqa.weight": (11, 20),
        "kv_a_layernorm.weight": (7,),
        "kv_b_proj.weight": (33, 7),
        "o_proj.weight": (20, 18),
    }


def test_both_forms_accept_a_mask():
    attention = MultiHeadLatentAttention(TINY, layer=0).double()
    generator = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(2, 6, 20, dtype=torch.float64, generator=generator)
    mask_BTS = torch.rand(2, 6, 6, generator=generator) < 0.5
    mask_BTS |= torch.eye(6, dtype=torch.bool)
    turns = rope_turns(TINY, torch.arange(6)[None], torch.float64)
    out = {path: attention(x_BTD, Span(turns, mask_BTS, path=path)) for path in ("expand", "absorb")}
    torch.testing.assert_close(out["absorb"], out["expand"], rtol=1e-11, atol=1e-13)
    assert not torch.allclose(out["expand"], attention(x_BTD, Span(turns)))


@pytest.mark.parametrize("path", ["expand", "absorb"])
def test_bfloat16_decoding_stays_close_to_the_float64_model(path):
    """Each of some ten roundings in a row is worth 2^-9; the logits, sums of many such terms, stay within 2^-4 of them.

    The largest of 30 seeds was 2^-5.8. A wrong rotation or a wrong mask moves them by as much as they are.
    """
    config = replace(TINY, first_k_dense_replace=2)  # no router: a choice that flips is not rounding of the attention
    exact = random_model(config)
    model = minimoe.Transformer(config).bfloat16()
    model.load_state_dict(exact.state_dict())
    exact.load_state_dict(model.state_dict())  # the same numbers, those that bfloat16 can hold
    ids_BT = random_ids(config, 2, 9)
    logits, expected = decode(model, ids_BT, path), decode(exact, ids_BT, path)
    assert logits.dtype == torch.bfloat16
    assert (logits.double() - expected).abs().max() < 2**-4 * expected.abs().max()
