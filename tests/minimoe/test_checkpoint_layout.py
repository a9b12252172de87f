"""The list of tensors: DeepSeek's published totals to the last number, and the model's own parameter names."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from minimoe.checkpoint_layout import BIAS, DTYPE_BYTES, layer_entries, layout, shared_name
from minimoe.config import KIMI_K2, MOONLIGHT, NANO, PRESETS, V2, V2_LITE, V3
from minimoe.model.transformer import Transformer

BASELINE = replace(NANO, kv_lora_rank=None, q_lora_rank=None, num_key_value_heads=2, num_nextn_predict_layers=0)
SHAPES = {
    "NANO": NANO,
    "no query compression, two MTP modules": replace(NANO, q_lora_rank=None, num_nextn_predict_layers=2),
    "no shared experts": replace(NANO, n_shared_experts=0),
    "dense": replace(NANO, n_routed_experts=None),
    "dense trunk, routed MTP": replace(NANO, first_k_dense_replace=NANO.num_hidden_layers),
    "softmax router without bias": replace(NANO, scoring_func="softmax", topk_method="greedy", n_group=1, topk_group=1),
    "tied": replace(NANO, tie_word_embeddings=True),
    "baseline GQA": BASELINE,
}


def total(entries):
    return sum(entry.elements for entry in entries.values())


def test_v3_counts_what_hugging_face_counts():
    entries = layout(V3, fp8=True)
    assert len(entries) == 91_991
    assert total(entries) == 684_531_386_000
    assert sum(entry.bytes for entry in entries.values()) == 688_574_839_360
    by_dtype = Counter()
    for entry in entries.values():
        by_dtype[entry.dtype] += entry.elements
    assert by_dtype == {"F8_E4M3": 680_571_043_840, "BF16": 3_918_786_560, "F32": 41_555_600}


def test_without_fp8_there_are_no_scales():
    assert total(layout(V3)) == 684_489_845_504
    assert total(layout(V2_LITE)) == 15_706_484_224


def test_moonlight_and_kimi_have_no_mtp_module():
    for config in (MOONLIGHT, KIMI_K2, V2):
        assert not any(".enorm." in name for name in layout(replace(config, n_routed_experts=config.n_group * 8)))


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_the_layout_is_the_models_own_list_of_names_and_shapes(config):
    with torch.device("meta"):
        model = Transformer(config)
    state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    entries = layout(config)
    own = {name: entry.shape for name, entry in entries.items() if shared_name(config, name) == name}
    assert own == state
    copies = {shared_name(config, name) for name in entries} - set(state)
    assert not copies


@pytest.mark.parametrize("name", ["V2_LITE", "V3"])
def test_the_presets_models_have_the_official_names(name):
    config = replace(PRESETS[name], num_hidden_layers=4)
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    assert {n: tuple(t.shape) for n, t in state.items()} == {
        n: e.shape for n, e in layout(config).items() if shared_name(config, n) == n
    }


def test_an_mtp_module_repeats_embedding_and_head_on_disk():
    entries = layer_entries(NANO, NANO.num_hidden_layers)
    for name, original in {"embed_tokens": "model.embed_tokens", "shared_head.head": "lm_head"}.items():
        copy = f"model.layers.{NANO.num_hidden_layers}.{name}.weight"
        assert copy in entries
        assert shared_name(NANO, copy) == f"{original}.weight"


def test_the_routers_bias_is_float32_in_every_precision():
    for dtype in ("F32", "BF16", "F16"):
        biases = [entry for name, entry in layout(NANO, dtype, fp8=True).items() if name.endswith(BIAS)]
        assert biases and all(entry.dtype == "F32" for entry in biases)


def test_router_norms_embedding_head_and_eh_proj_are_not_quantised():
    entries = layout(V3, fp8=True)
    high = {name.split(".")[-2] for name, entry in entries.items() if entry.dtype == "BF16"}
    assert high == {
        *("embed_tokens", "lm_head", "head", "eh_proj", "gate"),
        *("norm", "enorm", "hnorm", "input_layernorm", "post_attention_layernorm", "q_a_layernorm", "kv_a_layernorm"),
    }


def test_dtype_sizes_are_torchs():
    names = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn}
    for name, dtype in names.items():
        assert DTYPE_BYTES[name] == dtype.itemsize
