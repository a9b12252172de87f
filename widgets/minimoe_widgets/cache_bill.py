"""The cache's bill: bytes of MHA, GQA, MQA and MLA for one choice of sizes, beside three models that exist.

Every number is `minimoe.accounting.cache_bytes` of a config: the four ways of attention are four configs that differ in
what they cache, and the existing models are configs too. The three models are billed at the same precision, batch and
context as the rest; in bfloat16 their bytes per token are those of a published table.

How the production version differs: a server adds the pages that are reserved and not yet filled, and keeps weights and
activations in the same memory.
"""

from dataclasses import dataclass, replace

from minimoe import V3
from minimoe.accounting import cache_bytes
from minimoe.config import ModelConfig

__all__ = ["GQA_GROUPS", "Line", "bill", "human_bytes", "sentence"]

GQA_GROUPS = 8
GPU_BYTES = 80e9  # one H100 with 80 GB, for scale

_PLAIN = {"kv_lora_rank": None, "q_lora_rank": None, "n_routed_experts": None, "rope_scaling": None, "head_dim": 128}
_PLAIN |= {"num_key_value_heads": 8, "num_nextn_predict_layers": 0, "quantization_config": None}
# Source: arXiv 2505.09343 table 1 and the two models' config.json files.
LLAMA_405B = replace(V3, num_hidden_layers=126, hidden_size=16384, num_attention_heads=128, **_PLAIN)
QWEN_72B = replace(V3, num_hidden_layers=80, hidden_size=8192, num_attention_heads=64, **_PLAIN)
EXISTING = {"DeepSeek-V3 (MLA)": V3, "Qwen-2.5-72B (GQA 8)": QWEN_72B, "Llama-3.1-405B (GQA 8)": LLAMA_405B}


@dataclass(frozen=True)
class Line:
    """One line of the bill. `exists`: a published model rather than one of the four ways at the chosen sizes."""

    name: str
    token_bytes: float
    cache_bytes: float
    exists: bool


def bill(base: ModelConfig, heads: int, latent: int, tokens: int, precision) -> list[Line]:
    """The four ways at `heads` heads and a latent of `latent` numbers, then the three existing models.

    Layers and widths are those of `base`; a baseline's head is as wide as `base`'s values (its head, without latents).
    `tokens` is batch times context, `precision` what `cache_bytes` takes.
    """
    grouped = max(g for g in range(1, min(GQA_GROUPS, max(heads // 2, 1)) + 1) if heads % g == 0)
    ways = {
        "MHA": _baseline(base, heads, heads),
        f"GQA, {grouped} group{'s' * (grouped > 1)}": _baseline(base, heads, grouped),
    }
    ways |= {"MQA": _baseline(base, heads, 1), "MLA": _latent(base, heads, latent)}
    lines = [(name, config, False) for name, config in ways.items()]
    lines += [(name, config, True) for name, config in EXISTING.items()]
    return [Line(n, cache_bytes(c, 1, precision), cache_bytes(c, tokens, precision), e) for n, c, e in lines]


def _baseline(base: ModelConfig, heads: int, groups: int) -> ModelConfig:
    width = base.v_head_dim if base.is_mla else base.head_dim
    plain = {
        "kv_lora_rank": None,
        "q_lora_rank": None,
        "head_dim": width,
        "index_n_heads": None,
        "index_head_dim": None,
    }
    return replace(base, num_attention_heads=heads, num_key_value_heads=groups, index_topk=None, **plain)


def _latent(base: ModelConfig, heads: int, latent: int) -> ModelConfig:
    rotary = base.qk_rope_head_dim if base.is_mla else base.head_dim // 2
    return replace(
        base,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        kv_lora_rank=latent,
        qk_rope_head_dim=rotary,
        head_dim=None,
    )


def human_bytes(size: float) -> str:
    """70272 -> "70.272 KB": three decimals, as the published table prints them; KB = 1000 bytes, and so on up."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3f} {unit}"
    return f"{size:g} bytes"


def sentence(lines: list[Line], batch: int, context: int) -> str:
    """The bill's message: what MLA takes, and how many times less that is than MHA."""
    by_name = {line.name: line for line in lines}
    mla, mha = by_name["MLA"], by_name["MHA"]
    ratio = mha.cache_bytes / mla.cache_bytes
    compared = f"{ratio:.1f} times less than MHA" if ratio >= 1 else f"{1 / ratio:.1f} times more than MHA"
    sequences = "1 sequence" if batch == 1 else f"{batch} sequences"
    return f"{sequences} of {context:,} tokens: MLA caches {human_bytes(mla.cache_bytes)}, {compared}"
