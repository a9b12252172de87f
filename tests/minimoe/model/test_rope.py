"""Rotary positions and YaRN: by hand, by their defining property, and against transformers' own functions."""

import math
from dataclasses import replace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from model_draws import yarn
from official_models import AllInFloat64
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave

import minimoe
from minimoe.model.rope import apply_rope, inv_freq, rope_turns, softmax_scale, yarn_mscale, yarn_ramp

PRESETS = {"V3": minimoe.V3, "V2": minimoe.V2, "V2_LITE": minimoe.V2_LITE, "KIMI_K2": minimoe.KIMI_K2}
SMALL = replace(minimoe.NANO, qk_rope_head_dim=8)


def official_frequencies(config):
    """transformers' YaRN for the same config, computed in float64: frequencies, and the factor on cosine and sine."""
    values = config.to_dict()
    del values["architectures"]
    with AllInFloat64():
        return ROPE_INIT_FUNCTIONS["yarn"](transformers.DeepseekV3Config(**values))


def test_a_pair_turns_by_one_radian_a_token_at_the_first_frequency():
    turns = rope_turns(SMALL, torch.arange(3), torch.float64)
    x = torch.zeros(3, 8, dtype=torch.float64)
    x[:, 0] = 1.0
    turned = apply_rope(x, turns)
    expected = [[math.cos(p), math.sin(p)] for p in range(3)]
    torch.testing.assert_close(turned[:, :2], torch.tensor(expected, dtype=torch.float64))
    assert not turned[:, 2:].any()


def test_adjacent_numbers_form_a_pair():
    x = torch.tensor([[0.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    quarter = torch.tensor([[1j, -1.0 + 0j]])  # a quarter turn of the first pair, half a turn of the second
    assert apply_rope(x, quarter).tolist() == [[-1.0, 0.0, -2.0, 0.0]]


def test_position_zero_changes_nothing_and_lengths_never_change():
    turns = rope_turns(SMALL, torch.tensor([0, 1, 77, 100_000]), torch.float64)
    x = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = apply_rope(x, turns)
    assert torch.equal(turned[0], x[0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 5000), st.integers(0, 10**6), yarn())
def test_a_score_depends_on_the_distance_alone(m, n, shift, seed, scaling):
    config = replace(SMALL, rope_scaling=scaling)
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(8, dtype=torch.float64, generator=generator) for _ in range(2))
    turns = rope_turns(config, torch.tensor([m, n, m + shift, n + shift]), torch.float64)
    here = apply_rope(q, turns[0]) @ apply_rope(k, turns[1])
    there = apply_rope(q, turns[2]) @ apply_rope(k, turns[3])
    # angles up to 5500 radians carry an absolute error of 5500 * 2^-53
    assert abs(here - there) < 1e-10


@given(st.integers(0, 300), st.integers(0, 10**6))
def test_interleaved_and_half_split_layouts_hold_the_same_numbers_in_another_order(position, seed):
    """transformers writes the even members of all pairs first; scores are equal, cached keys are permuted."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 3, 1, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    angles = position * inv_freq(SMALL)
    cos, sin = (torch.cat([f(angles)] * 2)[None, None] for f in (torch.cos, torch.sin))
    their_q, their_k = apply_rotary_pos_emb_interleave(q, k, cos, sin)
    turns = rope_turns(SMALL, torch.tensor([position]), torch.float64)
    my_q, my_k = apply_rope(q, turns), apply_rope(k, turns)
    torch.testing.assert_close(torch.cat([my_q[..., 0::2], my_q[..., 1::2]], -1), their_q)
    torch.testing.assert_close((my_q * my_k).sum(), (their_q * their_k).sum())


@pytest.mark.parametrize("offset, extra", [(0, 0), (1, 0), (0, 1), (3, 2), (2, 5)])
def test_the_rotary_part_may_start_anywhere_in_memory(offset, extra):
    """Pairs are read as complex numbers, which torch wants at even addresses; 7 numbers before them must not matter."""
    turns = rope_turns(SMALL, torch.arange(5), torch.float32)
    wide = torch.randn(5, offset + 8 + extra, generator=torch.Generator().manual_seed(0))
    part = wide[:, offset : offset + 8]
    assert torch.equal(apply_rope(part, turns), apply_rope(part.clone(), turns))


def test_bfloat16_is_turned_in_float32_and_rounded_once():
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    turned = apply_rope(x, rope_turns(SMALL, torch.arange(50), torch.bfloat16))
    exact = apply_rope(x.double(), rope_turns(SMALL, torch.arange(50), torch.float64))
    assert turned.dtype == torch.bfloat16
    # half a unit in the last of 8 bits is at most 2^-8 of the value; 50 radians carry float32's rounding, 50 * 2^-24
    assert ((turned.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-5).all()


def test_frequencies_fall_from_one_radian_a_token_to_a_turn_in_47_117_tokens():
    freqs = inv_freq(replace(minimoe.V3, rope_scaling=None))
    assert freqs.dtype == torch.float64 and freqs.shape == (32,)
    expected = [10000 ** (-2 * i / 64) for i in range(32)]
    torch.testing.assert_close(freqs, torch.tensor(expected, dtype=torch.float64), rtol=1e-15, atol=0)
    assert round(2 * math.pi / freqs[-1].item()) == 47117


@pytest.mark.parametrize("name", PRESETS)
def test_yarn_frequencies_equal_those_of_transformers(name):
    freqs, length = official_frequencies(PRESETS[name])
    assert freqs.dtype == torch.float64, "the oracle computed in float32"
    torch.testing.assert_close(inv_freq(PRESETS[name]), freqs, rtol=1e-14, atol=0)
    assert abs(rope_turns(PRESETS[name], torch.tensor(5), torch.float64)[0].abs().item() - length) < 1e-15
    assert length == 1.0


@given(yarn().filter(bool), st.sampled_from([10000.0, 50000.0, 100.0]), st.sampled_from([2, 4, 8, 64]))
def test_yarn_equals_transformers_for_any_parameters(scaling, theta, width):
    config = replace(SMALL, rope_theta=theta, qk_rope_head_dim=width, rope_scaling=scaling)
    freqs, length = official_frequencies(config)
    torch.testing.assert_close(inv_freq(config), freqs, rtol=1e-14, atol=0)
    turns = rope_turns(config, torch.arange(4), torch.float64)
    torch.testing.assert_close(turns.abs(), torch.full_like(turns.abs(), length), rtol=1e-14, atol=0)


def test_the_ramp_of_v3_rises_from_pair_10_to_pair_23():
    ramp = yarn_ramp(64, 10000.0, minimoe.V3.rope_scaling)
    assert ramp.shape == (32,)
    assert ramp[:11].tolist() == [0.0] * 11 and ramp[23:].tolist() == [1.0] * 9
    torch.testing.assert_close(ramp[10:24], torch.arange(14, dtype=torch.float64) / 13)
    plain, stretched = inv_freq(replace(minimoe.V3, rope_scaling=None)), inv_freq(minimoe.V3)
    assert torch.equal(plain[:11], stretched[:11])
    torch.testing.assert_close(plain[23:] / 40, stretched[23:], rtol=1e-15, atol=0)


def test_mscale_and_its_square_are_the_published_numbers():
    assert round(yarn_mscale(40, 1.0), 5) == 1.36889
    assert round(yarn_mscale(40, 1.0) ** 2, 5) == 1.87385
    assert round(yarn_mscale(40, 0.707), 5) == 1.26080
    assert round(yarn_mscale(40, 0.707) ** 2, 5) == 1.58963
    assert yarn_mscale(1.0, 1.0) == 1.0


def test_the_softmax_scale_carries_mscale_squared_and_only_under_yarn():
    assert softmax_scale(replace(minimoe.V3, rope_scaling=None)) == 192**-0.5
    assert round(softmax_scale(minimoe.V3) * 192**0.5, 5) == 1.87385
    assert round(softmax_scale(minimoe.V2_LITE) * 192**0.5, 5) == 1.58963
    without = {k: v for k, v in minimoe.V3.rope_scaling.items() if "mscale" not in k}
    assert softmax_scale(replace(minimoe.V3, rope_scaling=without)) == 192**-0.5


def test_turns_are_complex_numbers_as_wide_as_the_model():
    for dtype, expected in (
        (torch.float64, torch.complex128),
        (torch.float32, torch.complex64),
        (torch.bfloat16, torch.complex64),
    ):
        assert rope_turns(SMALL, torch.arange(3), dtype).dtype == expected
