"""The published models as tables of numbers, each number as in the `config.json` beside the official weights.

Read one table against another and the history of the family shows. V2-Lite and V2 route with a softmax among 64 and
160 experts; V3 takes a sigmoid, a bias and 256; Moonlight keeps V2-Lite's skeleton and swaps in V3's router; Kimi-K2
keeps V3's skeleton, halves the heads and takes 384 experts in one group. All of them cache the same thing, a latent of
512 and a rotary key of 64. NANO is ours: the same shape, small enough to train on two CPU cores in a minute or two.

Only what differs from the defaults of `ModelConfig` (which are V3's) is listed. This module holds plain dictionaries;
`minimoe.config` turns them into `ModelConfig` objects and gives them their names.

How the production version differs: it does not; these are the released values, with one doubt. DeepSeek-V2's `mscale`
is 0.707 in the paper, absent from one official file and 1.0 in some copies; we follow the paper.
"""

__all__ = ["PRESET_VALUES"]


def _yarn(factor: int, mscale: float, beta_fast: int = 32) -> dict:
    return {
        "type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": 4096,
        "beta_fast": beta_fast,
        "beta_slow": 1,
        "mscale": mscale,
        "mscale_all_dim": mscale,
    }


def _fp8() -> dict:
    return {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }


# What the two generations of routers have in common, model by model.
_V2_ROUTING = {
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "aux_loss_alpha": 0.001,
    "num_nextn_predict_layers": 0,
}
_LITE_SHAPE = {
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "first_k_dense_replace": 1,
    "num_attention_heads": 16,
    "q_lora_rank": None,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_group": 1,
    "topk_group": 1,
}

PRESET_VALUES = {
    "NANO": {
        "vocab_size": 2048,
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "first_k_dense_replace": 1,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "q_lora_rank": 64,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "moe_intermediate_size": 48,
        "n_routed_experts": 16,
        "num_experts_per_tok": 4,
        "n_group": 4,
        "topk_group": 2,
        "max_position_embeddings": 512,
    },
    "V2_LITE": {
        **_V2_ROUTING,
        **_LITE_SHAPE,
        "vocab_size": 102400,
        "intermediate_size": 10944,
        "topk_method": "greedy",
        "routed_scaling_factor": 1.0,
        "rope_scaling": _yarn(40, 0.707),
        "bos_token_id": 100000,
        "eos_token_id": 100001,
    },
    "V2": {
        **_V2_ROUTING,
        "vocab_size": 102400,
        "hidden_size": 5120,
        "num_hidden_layers": 60,
        "first_k_dense_replace": 1,
        "intermediate_size": 12288,
        "moe_intermediate_size": 1536,
        "n_routed_experts": 160,
        "n_group": 8,
        "topk_group": 3,
        "topk_method": "group_limited_greedy",
        "routed_scaling_factor": 16.0,
        "rope_scaling": _yarn(40, 0.707),
        "bos_token_id": 100000,
        "eos_token_id": 100001,
    },
    "MOONLIGHT": {
        **_LITE_SHAPE,
        "vocab_size": 163840,
        "intermediate_size": 11264,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "routed_scaling_factor": 2.446,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50000.0,
        "max_position_embeddings": 8192,
        "num_nextn_predict_layers": 0,
        "aux_loss_alpha": 0.001,
        "bos_token_id": 163584,
        "eos_token_id": 163585,
    },
    "V3": {"rope_scaling": _yarn(40, 1.0), "quantization_config": _fp8()},
    "V3_2": {
        "rope_scaling": _yarn(40, 1.0),
        "quantization_config": _fp8(),
        "index_n_heads": 64,
        "index_head_dim": 128,
        "index_topk": 2048,
    },
    "KIMI_K2": {
        "vocab_size": 163840,
        "num_attention_heads": 64,
        "first_k_dense_replace": 1,
        "n_routed_experts": 384,
        "n_group": 1,
        "topk_group": 1,
        "routed_scaling_factor": 2.827,
        "rope_theta": 50000.0,
        "rope_scaling": _yarn(32, 1.0, beta_fast=1),
        "max_position_embeddings": 131072,
        "num_nextn_predict_layers": 0,
        "bos_token_id": 163584,
        "eos_token_id": 163585,
        "quantization_config": _fp8(),
    },
}
