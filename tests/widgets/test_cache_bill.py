"""The bill equals the published table where there is one, and the formulas elsewhere."""

from dataclasses import replace

import pytest

from minimoe import NANO, V3
from minimoe_widgets.cache_bill import bill, human_bytes, sentence

# arXiv 2505.09343 table 1, kilobytes per token in bfloat16
PUBLISHED = {"DeepSeek-V3 (MLA)": 70.272, "Qwen-2.5-72B (GQA 8)": 327.680, "Llama-3.1-405B (GQA 8)": 516.096}


def by_name(lines):
    return {line.name: line for line in lines}


def test_existing_models_cost_what_the_published_table_says():
    lines = by_name(bill(V3, 128, 512, 1, "bf16"))
    assert {name: lines[name].token_bytes / 1000 for name in PUBLISHED} == PUBLISHED
    assert lines["MLA"].token_bytes == lines["DeepSeek-V3 (MLA)"].token_bytes


@pytest.mark.parametrize(("precision", "size"), [(8, 1), ("bf16", 2), ("fp32", 4)])
def test_the_four_ways_follow_their_formulas(precision, size):
    lines = by_name(bill(V3, 64, 256, 1000, precision))
    layers, width = 61, 128
    expected = {"MHA": 2 * 64 * width, "GQA, 8 groups": 2 * 8 * width, "MQA": 2 * width, "MLA": 256 + 64}
    assert {name: lines[name].cache_bytes for name in expected} == {
        n: e * layers * size * 1000 for n, e in expected.items()
    }


def test_heads_and_latent_are_those_asked_for_and_existing_models_do_not_move():
    few, many = by_name(bill(V3, 16, 512, 10, "bf16")), by_name(bill(V3, 128, 1024, 10, "bf16"))
    assert many["MHA"].cache_bytes == 8 * few["MHA"].cache_bytes
    assert many["MQA"].cache_bytes == few["MQA"].cache_bytes
    assert many["MLA"].cache_bytes > few["MLA"].cache_bytes
    assert all(few[name] == many[name] for name in PUBLISHED)


@pytest.mark.parametrize(
    ("heads", "groups"), [(1, "1 group"), (2, "1 group"), (4, "2 groups"), (12, "6 groups"), (64, "8 groups")]
)
def test_groups_divide_the_heads_and_are_fewer(heads, groups):
    assert f"GQA, {groups}" in by_name(bill(V3, heads, 512, 1, "bf16"))


def test_a_baseline_model_can_be_billed_too():
    plain = replace(NANO, num_hidden_layers=4, kv_lora_rank=None, q_lora_rank=None, head_dim=32)
    lines = by_name(bill(plain, 4, 32, 1, "bf16"))
    assert lines["MHA"].token_bytes == 2 * 4 * 32 * 4 * 2
    assert lines["MLA"].token_bytes == (32 + 16) * 4 * 2


@pytest.mark.parametrize(
    ("size", "text"), [(70272, "70.272 KB"), (384, "384 bytes"), (8.5e10, "85.000 GB"), (2e12, "2.000 TB")]
)
def test_bytes_are_written_as_the_table_writes_them(size, text):
    assert human_bytes(size) == text


def test_the_sentence_says_how_many_times_less_and_when_it_is_more():
    assert "9.211 GB, 56.9 times less than MHA" in sentence(bill(V3, 128, 512, 131072, "bf16"), 1, 131072)
    assert "times more than MHA" in sentence(bill(V3, 1, 2048, 10, "bf16"), 5, 2)
    assert "5 sequences of 2 tokens" in sentence(bill(V3, 1, 2048, 10, "bf16"), 5, 2)
