"""Attention and its MHA/GQA/MQA baselines: by hand, fast against slow, and against transformers' Llama."""

from dataclasses import replace

import pytest
import torch
import transformers
from comparison import decode
from hypothesis import given
from hypothesis import strategies as st
from model_draws import randomise
from official_models import AllInFloat64

import minimoe
from minimoe.model import attention
from minimoe.model.attention import attend, attend_by_hand, attend_in_blocks

BASELINE = minimoe.ModelConfig(
    vocab_size=29, hidden_size=24, num_hidden_layers=2, first_k_dense_replace=2, intermediate_size=31,
    num_attention_heads=6, num_key_value_heads=3, q_lora_rank=None, kv_lora_rank=None, head_dim=8,
    n_routed_experts=None, num_nextn_predict_layers=0, max_position_embeddings=64,
)  # fmt: skip


def qkv(B, H, G, T, S, N, W, seed=0, dtype=torch.float64, grad=False):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, H, T, N), (B, G, S, N), (B, G, S, W)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_(grad) for shape in shapes]


def test_two_tokens_by_hand():
    q = k = torch.eye(2, dtype=torch.float64)[None, None] * 3.0**0.5
    v = torch.tensor([[[[4.0], [8.0]]]], dtype=torch.float64)
    # token 0 sees itself; token 1 scores 0 and 3 * scale: with scale = ln(3) / 3 the weights are 1/4 and 3/4
    out = attend_by_hand(q, k, v, scale=float(torch.log(torch.tensor(3.0, dtype=torch.float64))) / 3)
    torch.testing.assert_close(out, torch.tensor([[[[4.0], [7.0]]]], dtype=torch.float64))


@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 4), st.integers(1, 9), st.integers(0, 5), st.booleans(),
       st.sampled_from([(4, 4), (6, 3), (3, 6), (1, 1)]), st.integers(0, 99))  # fmt: skip
def test_attend_equals_the_definition_for_grouped_heads_and_masks(B, G, per_group, T, past, masked, widths, seed):
    past = past if masked else 0  # without a mask queries and keys are the same tokens
    q, k, v = qkv(B, G * per_group, G, T, T + past, *widths, seed=seed)
    mask = None
    if masked:
        mask = torch.rand(B, T, T + past, generator=torch.Generator().manual_seed(seed)) < 0.6
        mask[..., 0] = True  # a query that may look nowhere has no answer
    repeated = [x.repeat_interleave(per_group, dim=1) for x in (k, v)]
    expected = attend_by_hand(q, *repeated, 0.37, mask)
    torch.testing.assert_close(attend(q, k, v, 0.37, mask), expected, rtol=1e-12, atol=1e-13)


@given(st.integers(1, 2), st.integers(1, 3), st.sampled_from([1, 2, 7, 63, 64, 65, 128, 150]),
       st.sampled_from([(4, 4), (6, 3), (3, 5)]))  # fmt: skip
def test_attention_in_blocks_equals_the_definition_with_its_gradients(B, H, T, widths):
    fast = qkv(B, H, H, T, T, *widths, seed=T, grad=True)
    slow = [x.detach().clone().requires_grad_() for x in fast]
    out, expected = attend_in_blocks(*fast, 0.4), attend_by_hand(*slow, 0.4)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)
    cotangent = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out.backward(cotangent)
    expected.backward(cotangent)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-11, atol=1e-12)


def test_attention_in_blocks_passes_gradcheck_across_blocks(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 2)
    q, k, v = qkv(1, 2, 2, 5, 5, 3, 2, grad=True)
    assert torch.autograd.gradcheck(lambda *x: attend_in_blocks(*x, 0.7), (q, k, v))


def test_attend_takes_the_blocks_only_where_a_gradient_is_wanted_and_both_ways_agree():
    q, k, v = qkv(2, 3, 3, 70, 70, 5, 4, grad=True)
    with_gradient = attend(q, k, v, 0.3)
    assert "CausalBlocks" in type(with_gradient.grad_fn.next_functions[0][0]).__name__ + with_gradient.grad_fn.name()
    with torch.no_grad():
        torch.testing.assert_close(attend(q, k, v, 0.3), with_gradient.detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype, digits", [(torch.float32, 2**-20), (torch.bfloat16, 2**-6)])
def test_narrow_dtypes_stay_close_to_float64(dtype, digits):
    """Weights sum to 1, so an output errs by a few units in the last place of the largest value, not by more."""
    q, k, v = (x.to(dtype) for x in qkv(2, 4, 2, 33, 33, 8, 8))
    exact = attend_by_hand(q.double(), *(x.double().repeat_interleave(2, 1) for x in (k, v)), 0.35)
    out = attend(q, k, v, 0.35)
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() < digits * v.abs().max()


def test_a_token_does_not_see_the_future():
    q, k, v = qkv(1, 2, 2, 9, 9, 4, 4, grad=True)
    before = attend(q, k, v, 0.5)
    k2, v2 = k.detach().clone(), v.detach().clone()
    k2[:, :, 6:], v2[:, :, 6:] = 50.0, -50.0
    after = attend(q, k2, v2, 0.5)
    assert torch.equal(before[:, :, :6], after[:, :, :6])
    assert not torch.allclose(before[:, :, 6:], after[:, :, 6:])


def baseline(config=BASELINE, seed=0):
    model = minimoe.Transformer(config).double()
    randomise(model, seed)
    return model


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("theta", [10000.0, 100.0])
def test_the_baseline_equals_llama(kv_heads, theta):
    """Llama turns the first half of a head against the second, we turn neighbours: W_Q and W_K differ in row order."""
    config = replace(BASELINE, num_key_value_heads=kv_heads, rope_theta=theta, rms_norm_eps=1e-4)
    model = baseline(config)
    with AllInFloat64():
        llama_config = transformers.LlamaConfig(
            vocab_size=29, hidden_size=24, num_hidden_layers=2, intermediate_size=31, num_attention_heads=6, head_dim=8,
            num_key_value_heads=kv_heads, rope_theta=theta, rms_norm_eps=1e-4, attn_implementation="eager",
        )  # fmt: skip
        llama = transformers.LlamaForCausalLM(llama_config).double()
    assert llama.config._attn_implementation == "eager"
    state = dict(model.state_dict())
    for name in state:
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            state[name] = to_halves(state[name])
    llama.load_state_dict(state, strict=True)
    ids_BT = torch.randint(29, (2, 13), generator=torch.Generator().manual_seed(0))
    with AllInFloat64():
        theirs = llama(ids_BT, labels=ids_BT)
        theirs.loss.backward()
    mine = model(ids_BT, labels=ids_BT)
    mine.loss.backward()
    assert (mine.logits - theirs.logits).abs().max() <= 1e-12 * theirs.logits.abs().max()
    for name, parameter in model.named_parameters():
        gradient = to_halves(parameter.grad) if name.endswith(("q_proj.weight", "k_proj.weight")) else parameter.grad
        other = llama.get_parameter(name).grad
        assert (gradient - other).abs().max() <= 1e-10 * other.abs().max(), name


def to_halves(weight):
    """Rows of every head in the order of the half-split layout: even ones first."""
    heads = weight.unflatten(0, (-1, 8))
    return torch.cat([heads[:, 0::2], heads[:, 1::2]], dim=1).flatten(0, 1)


@pytest.mark.parametrize("kv_heads", [1, 3, 6])
def test_decoding_with_a_cache_equals_one_pass(kv_heads):
    model = baseline(replace(BASELINE, num_key_value_heads=kv_heads))
    ids_BT = torch.randint(29, (3, 11), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(decode(model, ids_BT), model(ids_BT).logits, rtol=1e-12, atol=1e-12)


def test_grouped_heads_are_full_heads_with_repeated_keys_and_values():
    grouped = baseline(replace(BASELINE, num_key_value_heads=2))
    full = minimoe.Transformer(replace(BASELINE, num_key_value_heads=6)).double()
    state = dict(grouped.state_dict())
    for name, weight in state.items():
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            state[name] = weight.unflatten(0, (2, 8)).repeat_interleave(3, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    ids_BT = torch.randint(29, (2, 7), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(grouped(ids_BT).logits, full(ids_BT).logits, rtol=1e-12, atol=1e-12)
