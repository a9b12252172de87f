"""Counting parameters: published totals to the digit, transformers' models, our own models, our own files."""

import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from model_draws import v2_configs, v3_configs

import minimoe
from minimoe.accounting import experts_touched, parameters, stored
from minimoe.checkpoint_layout import layout
from minimoe.config import KIMI_K2, MOONLIGHT, NANO, PRESETS, V2, V2_LITE, V3, V3_2

YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 128, "mscale": 1.0, "mscale_all_dim": 1.0}
TINY_V3 = [
    NANO,
    replace(NANO, q_lora_rank=None),
    replace(NANO, n_shared_experts=3, num_experts_per_tok=1),
    replace(NANO, first_k_dense_replace=0, num_hidden_layers=2),
    replace(NANO, first_k_dense_replace=3, rope_scaling=YARN),
    replace(NANO, n_group=1, topk_group=1, n_routed_experts=5, num_experts_per_tok=5),
    replace(NANO, hidden_size=200, num_attention_heads=5, num_key_value_heads=None, v_head_dim=24, vocab_size=333),
]
TINY_V2 = [
    replace(c, topk_method="greedy", scoring_func="softmax", norm_topk_prob=False, num_nextn_predict_layers=0)
    for c in (NANO, TINY_V3[1], TINY_V3[2], TINY_V3[5])
]


def count_on_meta(model) -> int:
    """Parameters and router biases (a buffer in torch, a stored tensor in the checkpoint) of a model without memory."""
    assert all(p.device.type == "meta" for p in model.parameters())
    biases = sum(b.numel() for name, b in model.named_buffers() if name.endswith("e_score_correction_bias"))
    return biases + sum(p.numel() for p in model.parameters())


def transformers_model(config, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    config.to_json(tmp_path)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))


@pytest.mark.parametrize(
    ("config", "total", "mtp"),
    [
        (V2_LITE, 15_706_484_224, 0),
        (V3, 671_026_419_200, 11_610_068_224),
        (V3_2, 671_877_944_064, 11_610_068_224 + 13_959_424),
    ],
    ids=["V2_LITE", "V3", "V3_2"],
)
def test_the_main_model_and_its_mtp_module_count_to_the_published_digit(config, total, mtp):
    count = parameters(config)
    assert (count.total, count.mtp) == (total, mtp)
    assert sum(count.parts.values()) == total + mtp


@pytest.mark.parametrize(
    ("config", "billions", "published"),
    [
        (V2_LITE, (2.661, 2.451, 2.242), (1, 2.4)),
        (V2, (21.376, 20.852, 20.327), (1, 21)),
        (V3, (37.552, 36.626, 35.699), (1, 37)),
        (V3_2, (38.404, 37.477, 36.550), None),
        (MOONLIGHT, (2.915, 2.579, 2.244), (2, 2.24)),
        (KIMI_K2, (32.862, 31.687, 30.513), (1, 32)),
    ],
    ids=["V2_LITE", "V2", "V3", "V3_2", "MOONLIGHT", "KIMI_K2"],
)
def test_activated_parameters_under_the_three_conventions(config, billions, published):
    activated = parameters(config).activated
    triple = (activated.with_embedding_and_head, activated.with_head, activated.with_neither)
    assert tuple(round(n / 1e9, 3) for n in triple) == billions
    if published:
        convention, figure = published
        assert triple[convention] / 1e9 == pytest.approx(figure, rel=0.022), "the papers round to two digits"


def test_the_stored_elements_and_bytes_of_v3_equal_its_published_files():
    files = stored(V3)
    assert files.elements == {"F8_E4M3": 680_571_043_840, "BF16": 3_918_786_560, "F32": 41_555_600}
    assert files.scales == 41_540_496 and files.elements["F32"] - files.scales == 59 * 256
    assert files.total == 684_531_386_000
    assert files.total - files.scales == 684_489_845_504
    assert files.bytes == 688_574_839_360


def test_the_stored_elements_of_v3_2_equal_its_published_files():
    files = stored(V3_2)
    assert (files.total, files.scales) == (685_396_921_376, 41_591_584)
    assert files.total - files.scales == 685_355_329_792
    assert {layer.parts["indexer"] for layer in parameters(V3_2).layers} == {13_959_424}


def test_a_bfloat16_checkpoint_takes_two_bytes_a_parameter():
    assert stored(V2_LITE).elements == {"BF16": 15_706_484_224}
    assert stored(V2_LITE).bytes == 2 * 15_706_484_224
    assert stored(replace(V3, quantization_config=None)).total == 684_489_845_504
    assert stored(NANO, "F32").bytes == 4 * stored(NANO).total


@pytest.mark.parametrize("config", TINY_V3 + TINY_V2)
def test_tiny_models_of_transformers_have_exactly_the_counted_parameters(config, tmp_path):
    theirs = transformers_model(config, tmp_path)
    assert type(theirs).__name__ == ("DeepseekV3ForCausalLM" if config.uses_bias else "DeepseekV2ForCausalLM")
    assert count_on_meta(theirs) == parameters(config).total


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.one_of(v2_configs(), v3_configs()))
def test_drawn_models_of_ours_and_of_transformers_have_exactly_the_counted_parameters(config):
    with torch.device("meta"):
        assert count_on_meta(minimoe.Transformer(config)) == parameters(config).total
    with tempfile.TemporaryDirectory() as folder:
        assert count_on_meta(transformers_model(config, Path(folder))) == parameters(config).total


@pytest.mark.parametrize("name", ["V2_LITE", "V2", "V3", "MOONLIGHT", "KIMI_K2"])
def test_the_published_models_built_by_transformers_without_memory_have_the_counted_parameters(name, tmp_path):
    config = replace(PRESETS[name], quantization_config=None)
    assert count_on_meta(transformers_model(config, tmp_path)) == parameters(config).total


@pytest.mark.parametrize(
    "config",
    [
        *TINY_V3,
        *TINY_V2,
        V2_LITE,
        replace(NANO, num_nextn_predict_layers=3),
        replace(NANO, kv_lora_rank=None, num_key_value_heads=2),
        replace(NANO, kv_lora_rank=None, num_key_value_heads=1, head_dim=48, n_routed_experts=None),
        replace(NANO, tie_word_embeddings=True),
        replace(NANO, n_shared_experts=0),
    ],
)
def test_our_models_have_exactly_the_counted_parameters(config):
    with torch.device("meta"):
        ours = minimoe.Transformer(config)
    count = parameters(config)
    assert count_on_meta(ours) == count.total + count.mtp
    for layer in (*count.layers, *count.mtp_layers):
        assert count_on_meta(ours.model.layers[layer.index]) == layer.total


@pytest.mark.parametrize(
    "config",
    [
        *TINY_V3,
        replace(NANO, num_nextn_predict_layers=2),
        replace(NANO, tie_word_embeddings=True),
        replace(NANO, kv_lora_rank=None, num_key_value_heads=2),
        replace(NANO, n_routed_experts=None, q_lora_rank=None),
        V3,
    ],
)
@pytest.mark.parametrize("fp8", [True, False])
def test_the_stored_count_equals_the_tensors_that_are_written(config, fp8):
    entries = layout(config, "BF16", fp8)
    by_dtype = {}
    for entry in entries.values():
        by_dtype[entry.dtype] = by_dtype.get(entry.dtype, 0) + entry.elements
    files = stored(replace(config, quantization_config=V3.quantization_config if fp8 else None))
    assert files.elements == by_dtype
    assert files.bytes == sum(entry.bytes for entry in entries.values())


def test_the_counting_formula_of_the_papers_gives_the_same_sum():
    """Written out for V3, as in the text: d, q, kv, heads, widths, experts."""
    d, q, kv, heads, n, r, v = 7168, 1536, 512, 128, 128, 64, 128
    attention = d * q + q + q * heads * (n + r) + d * (kv + r) + kv + kv * heads * (n + v) + heads * v * d
    dense = attention + 3 * d * 18432 + 2 * d
    moe = attention + 257 * 3 * d * 2048 + 256 * d + 256 + 2 * d
    count = parameters(V3)
    assert [layer.total for layer in count.layers] == [dense] * 3 + [moe] * 58
    assert [layer.total for layer in count.mtp_layers] == [moe + 2 * d * d + 3 * d]
    assert [layer.kind for layer in (*count.layers[2:4], *count.mtp_layers)] == ["dense", "moe", "mtp"]
    assert count.total == 2 * 129280 * d + d + 3 * dense + 58 * moe


def test_activating_every_expert_activates_every_parameter():
    config = replace(NANO, n_group=1, topk_group=1, num_experts_per_tok=16)
    count = parameters(config)
    assert count.activated.with_embedding_and_head == count.total
    dense = parameters(replace(config, n_routed_experts=None))
    assert dense.activated.with_embedding_and_head == dense.total


@pytest.mark.parametrize("name", PRESETS)
def test_the_activated_parts_sum_to_the_activated_total_and_differ_in_the_routed_experts_only(name):
    count = parameters(PRESETS[name])
    assert sum(count.activated_parts.values()) == count.activated.with_embedding_and_head
    part = PRESETS[name].num_experts_per_tok / PRESETS[name].n_routed_experts
    for name, used in count.activated_parts.items():
        assert used == count.parts[name] * (part if name == "routed" else 1)


def test_a_tied_head_is_stored_once_and_still_works_on_every_token():
    tied, untied = parameters(replace(NANO, tie_word_embeddings=True)), parameters(NANO)
    table = NANO.vocab_size * NANO.hidden_size
    assert untied.total - tied.total == table
    assert tied.activated.with_head == untied.activated.with_head
    assert tied.activated.with_embedding_and_head == untied.activated.with_embedding_and_head - table


def test_a_batch_of_random_tokens_soon_needs_every_expert():
    """Against draws: 200 batches of 40 tokens, 4 of 16 experts each, without replacement within a token."""
    draw = torch.Generator().manual_seed(0)
    chosen = torch.rand(200, 40, 16, generator=draw).topk(4).indices
    for tokens in (1, 3, 40):
        touched = [len(set(batch[:tokens].flatten().tolist())) for batch in chosen]
        # the mean of 200 draws with a standard deviation below 1.5 strays by less than 0.35 in all but 1 of 1,000 cases
        assert sum(touched) / 200 == pytest.approx(experts_touched(16, 4, tokens), abs=0.35)
    assert experts_touched(256, 8, 0) == 0 and experts_touched(256, 8, 1) == pytest.approx(8)
    for arguments, words in (((4, 5, 1), "num_experts_per_tok=5"), ((4, 0, 1), "tok=0"), ((4, 1, -1), "tokens=-1")):
        with pytest.raises(ValueError, match=words):
            experts_touched(*arguments)


def test_a_quantisation_that_cannot_be_counted_is_refused_by_name():
    with pytest.raises(ValueError, match="'compressed-tensors'"):
        stored(replace(V3, quantization_config={"quant_method": "compressed-tensors"}))
    with pytest.raises(ValueError, match="dtype='INT3'"):
        stored(NANO, "INT3")
