"""Which tensors an official checkpoint holds: every name, shape and dtype, from the configuration alone.

The list is the contract between programs. A checkpoint of DeepSeek-V3 is 91,991 named arrays; whoever gets one of the
names wrong cannot be read by anyone else. The order is the model's: embedding, layers, norm, head. The modules that
predict further tokens (MTP) stand behind the last layer as if they were layers 61, 62, ..., each with a copy of the
embedding and the head, although the model in memory shares them.

In an FP8 checkpoint the matrices of attention and of the feed-forward blocks are float8 with a float32
`weight_scale_inv` beside each. Embedding, head, norms, the router and `eh_proj` stay in bfloat16; the router's bias
is float32 everywhere.

How the production version differs: transformers keeps all experts of a layer as two 3-D arrays in memory and splits
them into these names when it saves.
"""

import re
from dataclasses import dataclass
from math import prod

from minimoe.config import ModelConfig
from minimoe.fp8_blocks import blocks

__all__ = ["BIAS", "DTYPE_BYTES", "LEFTOVER", "SCALE", "Entry", "layer_entries", "layout", "shared_name"]

DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
DTYPE_BYTES |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8}
SCALE = "_scale_inv"
BIAS = "mlp.gate.e_score_correction_bias"
# Kimi-K2 and Moonlight store this table; every program computes it for itself.
LEFTOVER = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint. `may_be_fp8`: its layout allows float8 with a scale beside it."""

    dtype: str
    shape: tuple[int, ...]
    may_be_fp8: bool = False

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes it takes in the file."""
        return self.elements * DTYPE_BYTES[self.dtype]


def layout(config: ModelConfig, dtype: str = "BF16", fp8: bool = False) -> dict[str, Entry]:
    """Every tensor of the official checkpoint of `config`, by name, in the order of the model.

    `dtype` is the safetensors name of the precision (F32, BF16, ...). With `fp8=True` the matrices that the official
    recipe quantises are F8_E4M3, each followed by its scales. V3 then counts 684,531,386,000 stored numbers in
    688,574,839,360 bytes, the size of the published files; tensors of an MTP module include the copies of embedding
    and head.

    Source: README_WEIGHTS.md and inference/convert.py of deepseek-ai/DeepSeek-V3 @9b4e9788. Chapter 00.
    """
    table = (config.vocab_size, config.hidden_size)
    entries = {"model.embed_tokens.weight": Entry(dtype, table)}
    for layer in range(config.num_hidden_layers + config.num_nextn_predict_layers):
        entries |= layer_entries(config, layer, dtype)
    entries["model.norm.weight"] = Entry(dtype, (config.hidden_size,))
    if not config.tie_word_embeddings:
        entries["lm_head.weight"] = Entry(dtype, table)
    return _with_scales(entries) if fp8 else entries


def layer_entries(config: ModelConfig, layer: int, dtype: str = "BF16") -> dict[str, Entry]:
    """The tensors of decoder layer `layer`, under their full names; an MTP module's own tensors included."""
    D = config.hidden_size
    shapes = {"input_layernorm": (D,)}
    shapes |= {f"self_attn.{name}": shape for name, shape in _attention(config).items()}
    shapes["post_attention_layernorm"] = (D,)
    shapes |= {f"mlp.{name}": shape for name, shape in _feed_forward(config, layer).items()}
    if layer >= config.num_hidden_layers:
        shapes |= {"enorm": (D,), "hnorm": (D,), "eh_proj": (D, 2 * D), "shared_head.norm": (D,)}
        shapes["embed_tokens"] = (config.vocab_size, D)
        if not config.tie_word_embeddings:
            shapes["shared_head.head"] = (config.vocab_size, D)
    entries = {}
    for name, shape in shapes.items():
        quantised = len(shape) == 2 and name.startswith(("self_attn.", "mlp.")) and name != "mlp.gate"
        entries[f"model.layers.{layer}.{name}.weight"] = Entry(dtype, shape, quantised)
    if config.layer_is_moe(layer) and config.uses_bias:
        entries[f"model.layers.{layer}.{BIAS}"] = Entry("F32", (config.n_routed_experts,))
    return entries


def _attention(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    D, H = c.hidden_size, c.num_attention_heads
    if not c.is_mla:
        kv = c.num_key_value_heads * c.head_dim
        return {"q_proj": (H * c.head_dim, D), "k_proj": (kv, D), "v_proj": (kv, D), "o_proj": (D, H * c.head_dim)}
    if c.q_lora_rank is None:
        shapes = {"q_proj": (H * c.qk_head_dim, D)}
    else:
        shapes = {"q_a_proj": (c.q_lora_rank, D), "q_a_layernorm": (c.q_lora_rank,)}
        shapes["q_b_proj"] = (H * c.qk_head_dim, c.q_lora_rank)
    shapes["kv_a_proj_with_mqa"] = (c.kv_lora_rank + c.qk_rope_head_dim, D)
    shapes["kv_a_layernorm"] = (c.kv_lora_rank,)
    shapes["kv_b_proj"] = (H * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank)
    return shapes | {"o_proj": (D, H * c.v_head_dim)}


def _feed_forward(c: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    def swiglu(width: int, prefix: str = "") -> dict[str, tuple[int, int]]:
        into, out = (width, c.hidden_size), (c.hidden_size, width)
        return {f"{prefix}gate_proj": into, f"{prefix}up_proj": into, f"{prefix}down_proj": out}

    if not c.layer_is_moe(layer):
        return swiglu(c.intermediate_size)
    shapes = {"gate": (c.n_routed_experts, c.hidden_size)}
    for expert in range(c.n_routed_experts):
        shapes |= swiglu(c.moe_intermediate_size, f"experts.{expert}.")
    if c.n_shared_experts:
        shapes |= swiglu(c.moe_intermediate_size * c.n_shared_experts, "shared_experts.")
    return shapes


def _with_scales(entries: dict[str, Entry]) -> dict[str, Entry]:
    stored = {}
    for name, entry in entries.items():
        if entry.may_be_fp8:
            stored[name] = Entry("F8_E4M3", entry.shape, True)
            stored[name + SCALE] = Entry("F32", blocks(*entry.shape))
        else:
            stored[name] = entry
    return stored


def shared_name(config: ModelConfig, name: str) -> str:
    """The tensor in memory that the file's `name` is a copy of, or `name` itself.

    An MTP module's embedding and head are the trunk's; with tied embeddings the head is the embedding.
    """
    copy = re.fullmatch(r"model\.layers\.(\d+)\.(embed_tokens|shared_head\.head)\.weight", name)
    if copy and int(copy[1]) >= config.num_hidden_layers:
        name = "model.embed_tokens.weight" if copy[2] == "embed_tokens" else "lm_head.weight"
    return "model.embed_tokens.weight" if name == "lm_head.weight" and config.tie_word_embeddings else name
