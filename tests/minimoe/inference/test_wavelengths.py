"""Wavelengths of the released models, by hand and against what the model turns by."""

import math
from dataclasses import replace

import pytest

import minimoe
from minimoe.inference.wavelengths import rotary_pairs, trained_tokens
from minimoe.training.context import plain_config


def test_v3s_pairs_from_the_first_to_the_last():
    pairs = rotary_pairs(minimoe.V3)
    assert len(pairs.plain_tokens) == 32 and (pairs.trained_tokens, pairs.read_tokens) == (4096, 163840)
    assert pairs.plain_tokens[0] == pytest.approx(2 * math.pi)
    assert pairs.plain_tokens[-1] == pytest.approx(2 * math.pi * 1e4 ** (62 / 64))
    # pair i turns 4096 / (2 pi 10^(i/8)) times: once at i = 8 log10(651.9) = 22.5
    assert pairs.finished == 23
    assert pairs.ramp[:11] == (0,) * 11 and pairs.ramp[23:] == (1,) * 9
    assert pairs.ramp[11:23] == pytest.approx([k / 13 for k in range(1, 13)])


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones_by_the_factor():
    pairs = rotary_pairs(minimoe.V3)
    ratios = [now / plain for now, plain in zip(pairs.now_tokens, pairs.plain_tokens, strict=True)]
    assert ratios[:11] == pytest.approx([1] * 11) and ratios[23:] == pytest.approx([40] * 9)
    # frequencies are mixed, not wavelengths: 1 / ((1 - r) + r / 40)
    assert ratios[15] == pytest.approx(1 / (8 / 13 + 5 / 13 / 40))


def test_without_yarn_nothing_is_slowed_down():
    pairs = rotary_pairs(plain_config(minimoe.V3))
    assert pairs.now_tokens == pytest.approx(pairs.plain_tokens) and set(pairs.ramp) == {0}
    assert pairs.read_tokens == pairs.trained_tokens == 4096 == trained_tokens(minimoe.V3)
    assert pairs.turns[0] == pytest.approx(4096 / (2 * math.pi))


def test_the_baselines_turn_the_whole_head():
    baseline = replace(minimoe.NANO, kv_lora_rank=None, q_lora_rank=None, head_dim=24)
    assert len(rotary_pairs(baseline).plain_tokens) == 12
