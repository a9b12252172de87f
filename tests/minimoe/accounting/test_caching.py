"""Cache sizes: the tables of V2 and ISCA row by row, misprint included, and our own cache's real bytes."""

from dataclasses import replace

import pytest
import torch

from minimoe.accounting import cache_bytes, cache_elements, gqa_elements, mha_elements, mla_elements, mqa_elements
from minimoe.config import NANO, V2, V2_LITE, V3, V3_2
from minimoe.inference.cache import Cache

QWEN_72B = gqa_elements(layers=80, groups=8, head_dim=128)
LLAMA_405B = gqa_elements(layers=126, groups=8, head_dim=128)


def test_the_isca_table_in_bfloat16_and_its_ratios():
    assert cache_bytes(V3) == 70_272
    assert (2 * QWEN_72B, 2 * LLAMA_405B) == (327_680, 516_096)
    assert round(2 * QWEN_72B / cache_bytes(V3), 2) == 4.66


def test_the_last_ratio_of_the_isca_table_is_a_misprint():
    """The paper prints 7.28x beside 516.096 KB and 70.272 KB; their quotient is 7.344."""
    ratio = 2 * LLAMA_405B / cache_bytes(V3)
    assert round(ratio, 3) == 7.344
    assert round(ratio, 2) != 7.28


def test_the_formulas_of_v2_table_1():
    """MHA 2 n_h d_h l, GQA 2 n_g d_h l, MQA 2 d_h l, MLA (d_c + d_R) l = 4.5 d_h l: GQA with 2.25 groups."""
    layers, heads, width = 60, 128, 128
    assert mha_elements(layers, heads, width) == 2 * heads * width * layers
    assert gqa_elements(layers, 8, width) == 2 * 8 * width * layers
    assert mqa_elements(layers, width) == 2 * width * layers
    assert mla_elements(layers, 512, 64) == 4.5 * width * layers
    assert mla_elements(layers, 512, 64) / mqa_elements(layers, width) == 2.25


def test_the_rows_of_v2_table_9():
    small_mha, small_mla = mha_elements(27, 16, 128), cache_elements(V2_LITE)
    assert (small_mha, small_mla) == (110_592, 15_552)
    assert round(100 * small_mla / small_mha) == 14
    assert cache_elements(V2) == 34_560
    assert round(100 * cache_elements(V2) / 860.2e3) == 4, "860.2K is the paper's figure for its large MHA model"


def test_the_93_percent_against_deepseek_67b_needs_six_bit_entries():
    """67B: 95 layers, 8 groups of 128, 16 bits; V2 served with entries of 6 bits on average (V2 section 3.2.3)."""
    dense = gqa_elements(95, 8, 128)
    assert dense == 194_560
    assert round(100 * (1 - cache_bytes(V2, precision=6) / (2 * dense)), 2) == 93.34


def test_the_fp8_layout_of_flashmla_takes_656_bytes_and_the_index_key_132():
    assert cache_bytes(V3, precision="fp8") == 61 * 656 == 40_016
    assert cache_bytes(V3_2, precision="fp8") == 61 * (656 + 132)
    assert round(cache_bytes(V3_2, tokens=2**20, precision="fp8") / 1e9, 3) == 50.403


@pytest.mark.parametrize(
    ("precision", "size"), [("fp32", 281_088), ("bf16", 140_544), ("fp16", 140_544), (8, 70_272), (6, 52_704)]
)
def test_bytes_follow_the_bits(precision, size):
    assert cache_bytes(V3, tokens=2, precision=precision) == size


def test_half_a_byte_is_not_rounded_away():
    assert cache_bytes(replace(NANO, num_hidden_layers=1, kv_lora_rank=33), precision=4) == (33 + 16) / 2


@pytest.mark.parametrize(
    "config", [NANO, replace(NANO, kv_lora_rank=None, num_key_value_heads=2)], ids=["latent", "gqa"]
)
def test_our_own_cache_allocates_exactly_the_counted_bytes(config):
    config = replace(config, num_nextn_predict_layers=0)
    batch, capacity = 3, 7
    for dtype, precision in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        cache = Cache(config, batch, capacity, dtype=dtype)
        real = sum(entry.numel() * entry.element_size() for entry in cache.entries)
        assert real == cache_bytes(config, tokens=batch * capacity, precision=precision)


@pytest.mark.parametrize(
    ("edit", "kwargs", "words"),
    [
        ({}, {"precision": "int3"}, "'int3'"),
        ({}, {"precision": 0}, "precision=0 bits"),
        ({}, {"tokens": -1}, "tokens=-1"),
        ({"kv_lora_rank": None}, {"precision": "fp8"}, "kv_lora_rank=None"),
    ],
)
def test_a_cache_that_cannot_be_is_refused(edit, kwargs, words):
    with pytest.raises(ValueError, match=words):
        cache_bytes(replace(NANO, **edit), **kwargs)
