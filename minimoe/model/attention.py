"""Attention, and the three baselines that latent attention is measured against.

MHA gives every query head its own key and value head. MQA gives all of them one. GQA stands between: groups of query heads
share a key and a value head. The three are one class with one number, `num_key_value_heads`; the number decides the cache:
`2 * num_key_value_heads * head_dim` elements a token and layer.

`attend` is the attention itself and is shared with `mla.py`. `Span` carries what a call's layers have in common: which
rotations, which mask, which cache.

How the production version differs: a GPU kernel never writes the T x S scores to memory; torch's
`scaled_dot_product_attention` picks such a kernel where one exists.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from minimoe.config import ModelConfig
from minimoe.model.layers import at_least_float32
from minimoe.model.rope import apply_rope, softmax_scale

__all__ = ["GroupedQueryAttention", "Span", "attend", "attend_by_hand"]


@dataclass
class Span:
    """What all layers of one forward call share.

    `turns`: rotations of the new tokens, [B or 1, T, pairs], complex. `mask_BTS`: True where a query may look, or None for
    plain causal attention among the new tokens. `cache`: an object with `write(layer, new) -> all entries so far`, or None.
    `path`: "expand" or "absorb" (latent attention only).
    """

    turns: torch.Tensor
    mask_BTS: torch.Tensor | None = None
    cache: object | None = None
    path: str = "expand"


def attend_by_hand(q_BHTN, k_BHSN, v_BHSW, scale: float, mask_BTS=None):
    """softmax(q k^T * scale) v, written out; the softmax is taken in float32 at least.

    `mask_BTS` is True where a query may look; None means causal: query t sees keys 0..t (needs T = S). This is the
    definition that `attend` is tested against.
    Source: Vaswani et al., arXiv 1706.03762 equation 1. Chapter 01.
    """
    scores_BHTS = torch.einsum("bhtn,bhsn->bhts", q_BHTN, k_BHSN) * scale
    if mask_BTS is None:
        T, S = scores_BHTS.shape[-2:]
        mask_BTS = torch.ones(1, T, S, dtype=torch.bool, device=q_BHTN.device).tril(S - T)
    scores_BHTS = scores_BHTS.masked_fill(~mask_BTS[:, None], float("-inf"))
    weights_BHTS = at_least_float32(scores_BHTS).softmax(-1).to(v_BHSW.dtype)
    return torch.einsum("bhts,bhsw->bhtw", weights_BHTS, v_BHSW)


def attend(q_BHTN, k_BHSN, v_BHSW, scale: float, mask_BTS=None):
    """`attend_by_hand` through torch's fused kernel; values narrower than keys are padded so that the fused kernel applies.

    Takes and gives what `attend_by_hand` does; key and value heads may number a divisor of the query heads.
    Chapter 01.
    """
    mask = None if mask_BTS is None else mask_BTS[:, None]
    width, padding = v_BHSW.shape[-1], q_BHTN.shape[-1] - v_BHSW.shape[-1]
    if padding > 0:
        v_BHSW = F.pad(v_BHSW, (0, padding))
    out = F.scaled_dot_product_attention(
        q_BHTN, k_BHSN, v_BHSW, mask, is_causal=mask is None, scale=scale, enable_gqa=k_BHSN.shape[1] != q_BHTN.shape[1]
    )
    return out[..., :width]


class GroupedQueryAttention(nn.Module):
    """MHA, GQA or MQA, by `config.num_key_value_heads`; rotary positions over the whole head.

    The cache holds each token's rotated keys and its values: 2 * num_key_value_heads * head_dim numbers.
    Source: Ainslie et al., arXiv 2305.13245; Shazeer, arXiv 1911.02150. Chapter 01.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.heads, self.kv_heads = layer, config.num_attention_heads, config.num_key_value_heads
        self.scale = softmax_scale(config)
        D, N = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(D, self.heads * N, bias=False)
        self.k_proj = nn.Linear(D, self.kv_heads * N, bias=False)
        self.v_proj = nn.Linear(D, self.kv_heads * N, bias=False)
        self.o_proj = nn.Linear(self.heads * N, D, bias=False)

    def forward(self, x_BTD: torch.Tensor, span: Span) -> torch.Tensor:
        """Attend from the new tokens to themselves and to the cache; gives a tensor like `x_BTD`."""
        q_BTHN = rearrange(self.q_proj(x_BTD), "b t (h n) -> b t h n", h=self.heads)
        k_BTGN = rearrange(self.k_proj(x_BTD), "b t (g n) -> b t g n", g=self.kv_heads)
        turns = span.turns[:, :, None]
        q_BTHN, k_BTGN = apply_rope(q_BTHN, turns), apply_rope(k_BTGN, turns)
        kv = torch.cat([k_BTGN.flatten(2), self.v_proj(x_BTD)], dim=-1)
        if span.cache is not None:
            kv = span.cache.write(self.layer, kv)
        k_BGSN, v_BGSN = rearrange(kv, "b s (two g n) -> two b g s n", two=2, g=self.kv_heads)
        out_BHTN = attend(q_BTHN.transpose(1, 2), k_BGSN, v_BGSN, self.scale, span.mask_BTS)
        return self.o_proj(rearrange(out_BHTN, "b h t n -> b t (h n)"))
