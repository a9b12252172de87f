"""How much arithmetic a token costs.

A matrix of P parameters costs 2 P operations a token forward (a multiplication and an addition each) and twice that
again backward, hence the familiar 6 N. What 6 N leaves out is attention itself: comparing a query with a key and
adding up a value costs 2 (d_qk + d_v) a head for every key, and no parameter. Over a sequence of S tokens a query sees
S / 2 keys on average if it looks back only, S if the mask is ignored; both are in use, and a factor of two between two
"TFLOPS" is often just that.

Decoding has a choice that training does not have. From a latent cache one can rebuild every past key and value at
every step (`expand`), or move the up-projections over to the query and the output and attend to the latents directly
(`absorb`): more work per past token than MHA, none of it spent rebuilding.

How the production version differs: measured FLOPs include recomputed activations and padding to tile sizes; attention
kernels skip the masked half only in whole tiles.
"""

from dataclasses import dataclass

from minimoe.accounting.weights import parameters
from minimoe.config import ModelConfig

__all__ = ["Flops", "absorb_pays_below", "decode_flops", "flops"]


@dataclass(frozen=True)
class Flops:
    """Forward operations for one token: `linear` (weight matrices), `attention` (queries on keys, weights on values),
    `indexer` (V3.2's choice of keys), `expansion` (rebuilding past keys and values from latents)."""

    linear: float
    attention: float
    indexer: float = 0.0
    expansion: float = 0.0

    @property
    def forward(self) -> float:
        """Operations of the forward pass, a token."""
        return self.linear + self.attention + self.indexer + self.expansion

    @property
    def training(self) -> float:
        """Forward and backward: three times the forward pass, nothing recomputed."""
        return 3 * self.forward


def flops(config: ModelConfig, seq_len: int, causal: bool = True) -> Flops:
    """Operations per token, averaged over a sequence of `seq_len` that is processed at once (training, prefill).

        forward = 2 N + S' H (d_qk + d_v) 2 L,   S' = S / 2 (causal) or S;   training = 3 forward

    N is the activated count with the head and without the embedding (a look-up costs nothing). The MTP modules are
    left out, as in the published figures. With V3.2's indexer a query attends to at most `index_topk` keys and the
    indexer reads all.

    This is a reconstruction: it gives 155.3 and 250.5 GFLOPs for V2 and V3 at 4096 where the paper prints 155 and 250,
    but 445 and 2473 for Qwen-2.5-72B and LLaMA-3.1-405B where it prints 394 and 2448. Raises `ValueError` if `seq_len`
    is below 1. Source: arXiv 2505.09343 table 2. Chapter 00.
    """
    if seq_len < 1:
        raise ValueError(f"seq_len={seq_len} must be 1 or more")
    keys = seq_len / 2 if causal else seq_len
    attended = keys
    if config.index_topk is not None and config.index_topk < seq_len:
        top = config.index_topk
        attended = (top * top / 2 + (seq_len - top) * top) / seq_len if causal else top
    values = config.v_head_dim if config.is_mla else config.head_dim
    per_key = 2 * config.num_attention_heads * (config.qk_head_dim + values)
    layers = config.num_hidden_layers
    linear = 2.0 * parameters(config).activated.with_head
    return Flops(linear, layers * attended * per_key, layers * keys * _index(config))


def decode_flops(config: ModelConfig, context_len: int, path: str = "absorb") -> Flops:
    """Operations to produce one token when `context_len` tokens (this one included) are in the cache.

        absorb:  2 N + 2 S H (2 C + R) L                                  attention on the latents themselves
        expand:  2 N + 2 S H (N + R + W) L + 2 (S - 1) C H (N + W) L      past keys and values rebuilt, then attention
        MHA/GQA: 2 N + 4 S H d L

    The insight: absorbing costs no extra weights. W_UK is applied once to the query and W_UV once to the output,
    instead of both to the token's own latent: the same 2 C H (N + W). Attention itself becomes (2C + R) / (N + R + W)
    = 3.4 times dearer in V3 than over full keys and values, and the cache it reads H (N + R + W) / (C + R) = 71 times
    smaller.

    Raises `ValueError` for another `path`, or `context_len` below 1. Source: arXiv 2405.04434 section 2.1. Chapter 02.
    """
    if context_len < 1:
        raise ValueError(f"context_len={context_len} must be 1 or more")
    if path not in ("absorb", "expand"):
        raise ValueError(f"path={path!r} is not one of 'absorb', 'expand'")
    attended = min(context_len, config.index_topk or context_len)
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    expansion = 0
    if not config.is_mla:
        per_key = 2 * config.head_dim
    elif path == "absorb":
        per_key = 2 * config.kv_lora_rank + config.qk_rope_head_dim
    else:
        per_key = config.qk_head_dim + config.v_head_dim
        rebuilt = config.kv_lora_rank * heads * (config.qk_nope_head_dim + config.v_head_dim)
        expansion = 2 * (attended - 1) * rebuilt * layers
    linear = 2.0 * parameters(config).activated.with_head
    attention = 2.0 * attended * heads * per_key * layers
    return Flops(linear, attention, float(layers * context_len * _index(config)), float(expansion))


def absorb_pays_below(kv_lora_rank: int, qk_nope_head_dim: int, v_head_dim: int) -> float:
    """The number of new tokens a call from which rebuilding keys and values is less arithmetic than absorbing.

        a cached token and head:  expand C (N + W) + T (N + R + W),  absorb T (2 C + R)
        equal at T = C (N + W) / (2 C - N - W)

    Long caches are assumed, so that what is done once a call does not count. V3: 512 * 256 / 768 = 170.7, so decoding
    (T = 1) and checking a few drafted tokens absorb, prefill expands. Raises `ValueError` if 2 C is not above N + W:
    then absorbing is never dearer. Source: the sizes of arXiv 2412.19437 equations 1-11. Chapter 02.
    """
    C, N, W = kv_lora_rank, qk_nope_head_dim, v_head_dim
    if 2 * C <= N + W:
        raise ValueError(f"2 * kv_lora_rank={2 * C} is not above qk_nope_head_dim + v_head_dim={N + W}: absorb always")
    return C * (N + W) / (2 * C - N - W)


def _index(config: ModelConfig) -> int:
    """Operations with which the indexer scores one key for one query; 0 without an indexer."""
    return 0 if config.index_n_heads is None else 2 * config.index_n_heads * config.index_head_dim
