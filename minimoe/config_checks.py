"""Every way in which the numbers of a config can contradict each other, and the sentence that says so.

A wrong config rarely crashes where it is wrong. Ten experts in four groups fail inside a reshape; a group of one expert
fails inside a top-k; an odd rotary width fails three modules later, in a product of two tensors. So every rule is
checked when a `ModelConfig` is made, and every message names the fields *and* their values: the reader fixes the file,
not the code.

The rules are the architecture, written as inequalities: groups divide the experts (V3 section 2.1.2), a token reaches
`topk_group` groups only, a V3 group is scored by its two best experts and so must have two, rotary positions turn
pairs.

How the production version differs: transformers checks types and little else, and engines trust the file.
"""

from dataclasses import fields
from math import isfinite

__all__ = ["YARN_DEFAULTS", "check"]

YARN_DEFAULTS = {"beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.0}
YARN_KEYS = {"type", "factor", "original_max_position_embeddings", *YARN_DEFAULTS}
ALLOWED = {
    "hidden_act": ("silu",),
    "scoring_func": ("sigmoid", "softmax"),
    "topk_method": ("noaux_tc", "greedy", "group_limited_greedy"),
    "mtp_hidden": ("post_norm", "pre_norm"),
    "attention_bias": (False,),
    "moe_layer_freq": (1,),
    "seq_aux": (True,),
}
POSITIVE = (
    "vocab_size hidden_size num_hidden_layers intermediate_size num_attention_heads num_key_value_heads "
    "max_position_embeddings rms_norm_eps rope_theta initializer_range routed_scaling_factor"
).split()
NOT_NEGATIVE = "first_k_dense_replace num_nextn_predict_layers aux_loss_alpha mtp_loss_weight".split()


def check(config) -> None:
    """Raise `ValueError` naming the fields and both values if two fields of `config` contradict each other."""
    _check_types(config)
    _check_sizes(config)
    _check_tokens(config)
    if config.is_mla:
        _check_latent_attention(config)
    else:
        _check_baseline_attention(config)
    if config.n_routed_experts is not None:
        _check_experts(config)
    _check_rope(config)
    _check_indexer(config)
    _check_quantization(config)


def _is_number(value, kind=int | float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and isfinite(value)


def _check_types(c) -> None:
    for f in fields(c):
        value = getattr(c, f.name)
        if f.name == "eos_token_id" or (value is None and "None" in str(f.type)):
            continue
        if f.type in (int, int | None) and not _is_number(value, int):
            raise ValueError(f"{f.name}={value!r} is a {type(value).__name__}, not a whole number")
        if f.type is float and not _is_number(value):
            raise ValueError(f"{f.name}={value!r} is a {type(value).__name__}, not a finite number")
        if f.type is bool and not isinstance(value, bool):
            raise ValueError(f"{f.name}={value!r} is a {type(value).__name__}, not true or false")


def _positive(c, *names) -> None:
    for name in names:
        if getattr(c, name) <= 0:
            raise ValueError(f"{name}={getattr(c, name)} must be greater than 0")


def _check_sizes(c) -> None:
    _positive(c, *POSITIVE)
    for name in NOT_NEGATIVE:
        if getattr(c, name) < 0:
            raise ValueError(f"{name}={getattr(c, name)} must be 0 or more")
    if c.first_k_dense_replace > c.num_hidden_layers:
        raise ValueError(
            f"first_k_dense_replace={c.first_k_dense_replace} exceeds num_hidden_layers={c.num_hidden_layers}"
        )
    for name, allowed in ALLOWED.items():
        if getattr(c, name) not in allowed:
            raise ValueError(f"{name}={getattr(c, name)!r} is not one of {allowed}")


def _check_tokens(c) -> None:
    for name in ("bos_token_id", "eos_token_id"):
        ids = getattr(c, name)
        for i in ids if isinstance(ids, list | tuple) else [ids]:
            if i is not None and not (_is_number(i, int) and 0 <= i < c.vocab_size):
                raise ValueError(f"{name}={i!r} is not a token of vocab_size={c.vocab_size}")


def _check_latent_attention(c) -> None:
    _positive(c, "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    if c.q_lora_rank is not None and c.q_lora_rank <= 0:
        raise ValueError(f"q_lora_rank={c.q_lora_rank} must be greater than 0, or None for no query compression")
    if c.num_key_value_heads != c.num_attention_heads:
        raise ValueError(
            f"num_key_value_heads={c.num_key_value_heads} differs from num_attention_heads={c.num_attention_heads}: "
            "latent attention rebuilds every head's key; num_key_value_heads=None follows the query heads"
        )
    if c.head_dim is not None:
        raise ValueError(
            f"head_dim={c.head_dim} has no meaning beside kv_lora_rank={c.kv_lora_rank}: "
            f"its heads are qk_nope_head_dim + qk_rope_head_dim = {c.qk_head_dim} wide; set head_dim=None"
        )
    _check_rotary("qk_rope_head_dim", c.qk_rope_head_dim)


def _check_baseline_attention(c) -> None:
    if c.num_attention_heads % c.num_key_value_heads:
        raise ValueError(
            f"num_attention_heads={c.num_attention_heads} is not a multiple of "
            f"num_key_value_heads={c.num_key_value_heads}"
        )
    _check_rotary("head_dim", c.head_dim)


def _check_rotary(name: str, width: int) -> None:
    if width % 2 or width <= 0:
        raise ValueError(f"{name}={width} must be even and greater than 0: rotary positions turn pairs of 2 numbers")


def _check_experts(c) -> None:
    _positive(c, "n_routed_experts", "moe_intermediate_size", "num_experts_per_tok", "n_group", "topk_group")
    if c.n_shared_experts < 0:
        raise ValueError(f"n_shared_experts={c.n_shared_experts} must be 0 or more")
    if c.n_routed_experts % c.n_group:
        raise ValueError(f"n_routed_experts={c.n_routed_experts} is not a multiple of n_group={c.n_group}")
    if c.topk_group > c.n_group:
        raise ValueError(f"topk_group={c.topk_group} exceeds n_group={c.n_group}")
    group = c.n_routed_experts // c.n_group
    if c.topk_method == "noaux_tc" and c.n_group > 1 and group < 2:
        raise ValueError(
            f"n_routed_experts={c.n_routed_experts} in n_group={c.n_group} groups leaves {group} expert in a group; "
            "topk_method='noaux_tc' scores a group by its 2 best experts"
        )
    reachable = c.n_routed_experts if c.topk_method == "greedy" else c.topk_group * group
    if c.num_experts_per_tok > reachable:
        raise ValueError(
            f"num_experts_per_tok={c.num_experts_per_tok} exceeds the {reachable} experts that a token can reach "
            f"(topk_group={c.topk_group} of n_group={c.n_group}, n_routed_experts={c.n_routed_experts})"
        )


def _check_rope(c) -> None:
    scaling = c.rope_scaling
    if scaling is None:
        return
    if not isinstance(scaling, dict) or "type" not in scaling:
        raise ValueError(f'rope_scaling={scaling!r} must be None or a dict with a "type"')
    if scaling["type"] != "yarn":
        raise ValueError(f"rope_scaling type={scaling['type']!r} is not supported; DeepSeek models use 'yarn'")
    if unknown := set(scaling) - YARN_KEYS:
        raise ValueError(f"rope_scaling has keys that minimoe does not know: {', '.join(sorted(unknown))}")
    for name in ("factor", "original_max_position_embeddings"):
        value = scaling.get(name)
        if not _is_number(value) or value <= 0:
            raise ValueError(f"rope_scaling {name}={value!r} must be a number greater than 0")
    merged = YARN_DEFAULTS | scaling
    for name in YARN_DEFAULTS:
        if not _is_number(merged[name]) or merged[name] < 0:
            raise ValueError(f"rope_scaling {name}={merged[name]!r} must be a number, 0 or more")
    if scaling["factor"] < 1:
        raise ValueError(f"rope_scaling factor={scaling['factor']} must be 1 or more: YaRN stretches only")
    if merged["beta_slow"] <= 0:
        raise ValueError(f"rope_scaling beta_slow={merged['beta_slow']} must be greater than 0")
    if merged["beta_fast"] < merged["beta_slow"]:
        raise ValueError(f"rope_scaling beta_fast={merged['beta_fast']} is below beta_slow={merged['beta_slow']}")


def _check_indexer(c) -> None:
    parts = {name: getattr(c, name) for name in ("index_n_heads", "index_head_dim", "index_topk")}
    if all(value is None for value in parts.values()):
        return
    said = ", ".join(f"{name}={value}" for name, value in parts.items())
    if None in parts.values():
        raise ValueError(f"{said}: the sparse-attention indexer needs all three or none")
    _positive(c, *parts)
    if c.q_lora_rank is None or c.kv_lora_rank is None:
        raise ValueError(
            f"{said} beside q_lora_rank={c.q_lora_rank} and kv_lora_rank={c.kv_lora_rank}: the indexer needs both"
        )
    if c.index_head_dim < c.qk_rope_head_dim:
        raise ValueError(f"index_head_dim={c.index_head_dim} is below qk_rope_head_dim={c.qk_rope_head_dim}")


def _check_quantization(c) -> None:
    quantization = c.quantization_config
    if quantization is None:
        return
    if not isinstance(quantization, dict):
        raise ValueError(f"quantization_config={quantization!r} is a {type(quantization).__name__}, not an object")
    block = quantization.get("weight_block_size")
    if block is not None and not (
        isinstance(block, list | tuple) and len(block) == 2 and all(_is_number(n, int) and n > 0 for n in block)
    ):
        raise ValueError(f"quantization_config weight_block_size={block!r} must be 2 whole numbers greater than 0")
