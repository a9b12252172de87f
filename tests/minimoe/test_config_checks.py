"""Broken configs: each is one edit away from a good one, and each message names the field and both values."""

import json
from dataclasses import replace

import pytest

from minimoe.config import NANO, V3_2, ModelConfig

YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 128, "mscale": 1.0, "mscale_all_dim": 1.0}

CONTRADICTIONS = [
    # groups and experts
    ({"n_routed_experts": 10}, ["n_routed_experts=10", "n_group=4"]),
    ({"topk_group": 5}, ["topk_group=5", "n_group=4"]),
    ({"num_experts_per_tok": 9}, ["num_experts_per_tok=9", "8 experts", "topk_group=2"]),
    ({"num_experts_per_tok": 17, "topk_method": "greedy"}, ["num_experts_per_tok=17", "16 experts"]),
    ({"n_routed_experts": 4, "num_experts_per_tok": 2}, ["n_routed_experts=4", "n_group=4", "noaux_tc"]),
    ({"n_group": 0}, ["n_group=0", "0"]),
    ({"n_shared_experts": -1}, ["n_shared_experts=-1", "0 or more"]),
    ({"moe_intermediate_size": 0}, ["moe_intermediate_size=0", "greater than 0"]),
    # layers
    ({"first_k_dense_replace": 5}, ["first_k_dense_replace=5", f"num_hidden_layers={NANO.num_hidden_layers}"]),
    ({"num_hidden_layers": 0}, ["num_hidden_layers=0", "greater than 0"]),
    ({"num_nextn_predict_layers": -1}, ["num_nextn_predict_layers=-1", "0 or more"]),
    ({"moe_layer_freq": 2}, ["moe_layer_freq=2", "(1,)"]),
    # attention
    ({"num_key_value_heads": 2}, ["num_key_value_heads=2", "num_attention_heads=4"]),
    ({"kv_lora_rank": None, "num_key_value_heads": 3}, ["num_attention_heads=4", "num_key_value_heads=3"]),
    ({"kv_lora_rank": None, "hidden_size": 130}, ["hidden_size=130", "num_attention_heads=4"]),
    ({"kv_lora_rank": None, "head_dim": 33}, ["head_dim=33", "2 numbers"]),
    ({"kv_lora_rank": 0}, ["kv_lora_rank=0", "greater than 0"]),
    ({"qk_rope_head_dim": 15}, ["qk_rope_head_dim=15", "2 numbers"]),
    ({"q_lora_rank": 0}, ["q_lora_rank=0", "None"]),
    ({"head_dim": 64}, ["head_dim=64", "kv_lora_rank=32", "= 32 wide"]),
    ({"attention_bias": True}, ["attention_bias=True", "(False,)"]),
    # names with a few legal values
    ({"hidden_act": "gelu"}, ["hidden_act='gelu'", "silu"]),
    ({"scoring_func": "tanh"}, ["scoring_func='tanh'", "sigmoid", "softmax"]),
    ({"topk_method": "best"}, ["topk_method='best'", "noaux_tc"]),
    ({"mtp_hidden": "somewhere"}, ["mtp_hidden='somewhere'", "post_norm"]),
    # tokens and types
    ({"eos_token_id": 2048}, ["eos_token_id=2048", "vocab_size=2048"]),
    ({"eos_token_id": [1, 9999]}, ["eos_token_id=9999", "vocab_size=2048"]),
    ({"bos_token_id": -1}, ["bos_token_id=-1", "vocab_size=2048"]),
    ({"hidden_size": "128"}, ["hidden_size='128'", "str"]),
    ({"hidden_size": 128.0}, ["hidden_size=128.0", "float"]),
    ({"num_hidden_layers": True}, ["num_hidden_layers=True", "bool"]),
    ({"vocab_size": None}, ["vocab_size=None", "NoneType"]),
    ({"norm_topk_prob": 1}, ["norm_topk_prob=1", "int"]),
    ({"rms_norm_eps": float("nan")}, ["rms_norm_eps=nan", "finite"]),
    ({"rope_theta": 0}, ["rope_theta=0", "greater than 0"]),
    ({"routed_scaling_factor": -2.5}, ["routed_scaling_factor=-2.5", "greater than 0"]),
    # rope
    ({"rope_scaling": YARN | {"type": "linear"}}, ["'linear'", "'yarn'"]),
    ({"rope_scaling": {"type": "yarn", "factor": 4}}, ["original_max_position_embeddings=None", "greater than 0"]),
    ({"rope_scaling": YARN | {"factor": 0.5}}, ["factor=0.5", "1 or more"]),
    ({"rope_scaling": YARN | {"beta_fast": 1, "beta_slow": 32}}, ["beta_fast=1", "beta_slow=32"]),
    ({"rope_scaling": YARN | {"mscale": "big"}}, ["mscale='big'", "0 or more"]),
    ({"rope_scaling": YARN | {"beta_slow": 0}}, ["beta_slow=0", "greater than 0"]),
    ({"rope_scaling": YARN | {"short_factor": [1]}}, ["short_factor"]),
    ({"rope_scaling": 40}, ["rope_scaling=40", '"type"']),
    # sparse attention, quantisation
    ({"index_n_heads": 4}, ["index_n_heads=4", "index_topk=None"]),
    ({"quantization_config": {"weight_block_size": [128]}}, ["weight_block_size=[128]", "2 whole numbers"]),
    ({"quantization_config": "fp8"}, ["quantization_config='fp8'", "str"]),
]


def assert_says(error: ValueError, words: list[str]) -> None:
    assert all(word in str(error) for word in words), f"{words} are not all in: {error}"


@pytest.mark.parametrize(("edit", "words"), CONTRADICTIONS, ids=lambda v: "-".join(v) if isinstance(v, dict) else "")
def test_a_contradiction_is_an_error_that_names_both_values(edit, words):
    with pytest.raises(ValueError) as caught:
        replace(NANO, **edit)
    assert_says(caught.value, words)


# Legal in a file, though not in Python: DeepSeek's own code writes 0 for "none", transformers the rotary width.
IN_FILES = [case for case in CONTRADICTIONS if case[0] not in ({"q_lora_rank": 0}, {"head_dim": 64})]


@pytest.mark.parametrize(("edit", "words"), IN_FILES, ids=lambda v: "-".join(v) if isinstance(v, dict) else "")
def test_the_same_contradiction_is_caught_in_a_file(edit, words, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(NANO.to_dict() | edit))
    with pytest.raises(ValueError) as caught:
        ModelConfig.from_json(tmp_path)
    assert_says(caught.value, words)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"model_type": "llama"}, ["'llama'", "deepseek_v3"]),
        ({"model_type": "deepseek_v4"}, ["'deepseek_v4'", "deepseek_v3"]),
        ({"rope_interleave": False}, ["rope_interleave=False", "rope_interleave=True"]),
        ({"attention_dropout": 0.1}, ["attention_dropout=0.1", "attention_dropout=0"]),
        ({"mlp_bias": True}, ["mlp_bias=True", "mlp_bias=False"]),
        ({"qk_head_dim": 48}, ["qk_head_dim=48", "32"]),
        ({"num_mtp_layers": 2}, ["num_mtp_layers=2", "num_nextn_predict_layers=1"]),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}, ["rope_theta=10000", "rope_theta=50000"]),
        ({"rope_scaling": YARN | {"rope_type": "linear"}}, ["'yarn'", "'linear'"]),
        ({"mlp_layer_types": ["dense", "dense", "sparse", "sparse"]}, ["2 dense of 4", "first_k_dense_replace=1"]),
        ({"num_experts_per_tok": None}, ["num_experts_per_tok=None", "whole number"]),
    ],
)
def test_keys_that_only_files_have_must_agree_with_the_rest(edit, words):
    with pytest.raises(ValueError) as caught:
        ModelConfig.from_dict(NANO.to_dict() | edit)
    assert_says(caught.value, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not valid JSON"]),
        ("[1, 2]", ["list"]),
        ('{"dim": 7168, "n_layers": 61}', ["model_type", "hidden_size", "dim, n_layers"]),
        ("{}", ["model_type", "none"]),
    ],
)
def test_a_file_that_is_no_config_is_refused_by_name(text, words, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError) as caught:
        ModelConfig.from_json(tmp_path)
    assert_says(caught.value, words)


def test_a_binary_file_is_refused_and_a_missing_file_is_named(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not valid JSON"):
        ModelConfig.from_json(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ModelConfig.from_json(tmp_path / "nowhere")


def test_an_indexer_without_the_latents_it_reads_is_refused():
    with pytest.raises(ValueError, match="q_lora_rank=None"):
        replace(V3_2, q_lora_rank=None)
    with pytest.raises(ValueError, match="index_head_dim=32 is below qk_rope_head_dim=64"):
        replace(V3_2, index_head_dim=32)


def test_experts_are_checked_even_when_only_the_mtp_module_has_them():
    with pytest.raises(ValueError, match="n_routed_experts=10"):
        replace(NANO, first_k_dense_replace=NANO.num_hidden_layers, n_routed_experts=10)


@pytest.mark.parametrize(
    "edit",
    [
        {"num_experts_per_tok": 8},  # all experts that the groups leave
        {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 16},  # K = E
        {"n_routed_experts": None},  # a dense model
        {"first_k_dense_replace": NANO.num_hidden_layers},
        {"n_shared_experts": 0},
        {"kv_lora_rank": None, "num_key_value_heads": 1},  # MQA
        {"q_lora_rank": None},
        {"num_nextn_predict_layers": 3},
        {"bos_token_id": None, "eos_token_id": None},
        {"rope_scaling": YARN},
        {"num_attention_heads": 8, "num_key_value_heads": None},
    ],
)
def test_unusual_but_consistent_configs_are_accepted_and_survive_their_file(edit):
    config = replace(NANO, **edit)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
