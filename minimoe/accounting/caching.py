"""How much memory a token leaves behind.

Every past token must be remembered in every layer. Multi-head attention remembers a key and a value for each head;
sharing them between heads (GQA, MQA) divides the bill and costs quality; latent attention remembers one compressed
vector from which all heads' keys and values can be rebuilt, plus one rotary key that they share. In elements a token:

    MHA  2 H d L        GQA  2 G d L        MQA  2 d L        MLA  (C + R) L

V3's C + R is 576, against 32,768 for multi-head attention of the same 128 heads of 128. At d = 128 that is GQA with
2.25 groups. The first four functions take plain numbers, because the models one compares with have no config here.

How the production version differs: entries are quantised (FlashMLA's FP8 layout takes 656 bytes a token and layer: 512
of latent, four float32 scales, and the rotary key in bfloat16, which does not survive FP8), and memory is paged.
"""

from minimoe.config import ModelConfig

__all__ = ["cache_bytes", "cache_elements", "gqa_elements", "mha_elements", "mla_elements", "mqa_elements"]

PRECISION_BITS = {"fp32": 32, "bf16": 16, "fp16": 16}
FP8_TILE = 128  # elements that share a float32 scale


def gqa_elements(layers: int, groups: int, head_dim: int) -> int:
    """Grouped-query attention: a key and a value a group of heads. Source: arXiv 2405.04434 table 1. Chapter 01."""
    return 2 * groups * head_dim * layers


def mha_elements(layers: int, heads: int, head_dim: int) -> int:
    """Multi-head attention: as many groups as heads. Source: arXiv 2405.04434 table 1. Chapter 01."""
    return gqa_elements(layers, heads, head_dim)


def mqa_elements(layers: int, head_dim: int) -> int:
    """Multi-query attention: one group. Source: arXiv 2405.04434 table 1. Chapter 01."""
    return gqa_elements(layers, 1, head_dim)


def mla_elements(layers: int, kv_lora_rank: int, qk_rope_head_dim: int) -> int:
    """Latent attention: the latent and the shared rotary key. Source: arXiv 2405.04434 table 1. Chapter 02."""
    return (kv_lora_rank + qk_rope_head_dim) * layers


def cache_elements(config: ModelConfig) -> int:
    """Elements cached for one token in all layers; V3.2's index keys included, MTP modules not. Chapters 01 and 02."""
    layers = config.num_hidden_layers
    if not config.is_mla:
        return gqa_elements(layers, config.num_key_value_heads, config.head_dim)
    return mla_elements(layers, config.kv_lora_rank, config.qk_rope_head_dim) + layers * (config.index_head_dim or 0)


def cache_bytes(config: ModelConfig, tokens: int = 1, precision: str | float = "bf16") -> float:
    """Bytes of the cache for `tokens` tokens (batch times length).

    `precision`: "fp32", "bf16", "fp16", "fp8" for FlashMLA's layout (latent attention only), or a number of bits per
    element (V2 served at 6). V3 in bfloat16: 61 * 576 * 2 = 70,272 bytes.

    Raises `ValueError` for an unknown precision, bits of 0 or less, negative tokens, or "fp8" without latents.
    Source: arXiv 2505.09343 table 1; FlashMLA's tests/quant.py for the FP8 layout. Chapter 02.
    """
    if tokens < 0:
        raise ValueError(f"tokens={tokens} must be 0 or more")
    if precision == "fp8":
        return tokens * config.num_hidden_layers * _fp8_entry_bytes(config)
    bits = PRECISION_BITS.get(precision, precision)
    if isinstance(bits, str):
        raise ValueError(f"precision={precision!r} is not one of {', '.join(PRECISION_BITS)}, fp8, or a number of bits")
    if bits <= 0:
        raise ValueError(f"precision={bits} bits must be greater than 0")
    size = tokens * cache_elements(config) * bits / 8
    return int(size) if size == int(size) else size


def _fp8_entry_bytes(config: ModelConfig) -> int:
    if not config.is_mla:
        raise ValueError(f"precision='fp8' is FlashMLA's layout of latents, and kv_lora_rank={config.kv_lora_rank}")
    tiled = (config.kv_lora_rank, config.index_head_dim or 0)
    return sum(n + 4 * -(-n // FP8_TILE) for n in tiled) + 2 * config.qk_rope_head_dim
