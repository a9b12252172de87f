"""Attention, and the three baselines that latent attention is measured against.

MHA gives every query head its own key and value head. MQA gives all of them one. GQA stands between: groups of query
heads share a key and a value head. The three are one class with one number, `num_key_value_heads`; the number decides
the cache: `2 * num_key_value_heads * head_dim` elements a token and layer.

`attend_by_hand` is the definition. `attend` computes the same and is what the layers call: `attend_in_blocks` for
causal training on a CPU, torch's fused kernel otherwise. `Span` carries what a call's layers have in common: which
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

__all__ = ["GroupedQueryAttention", "Span", "attend", "attend_by_hand", "attend_in_blocks"]

BLOCK = 64  # query rows a block: smaller skips more of the masked half, larger feeds bigger matrix products
LONGEST_IN_BLOCKS = 1024  # beyond, storing the T x T / 2 weights costs more than recomputing them


@dataclass
class Span:
    """What all layers of one forward call share.

    `turns`: rotations of the new tokens, [B or 1, T, pairs], complex. `mask_BTS`: True where a query may look, or None
    for plain causal attention among the new tokens. `cache`: an object with `write(layer, new) -> all entries so
    far`, or None. `path`: "expand" or "absorb" (latent attention only).
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
        visible = torch.ones(scores_BHTS.shape[2:], dtype=torch.bool, device=q_BHTN.device).tril()
    else:
        visible = mask_BTS[:, None]
    scores_BHTS = scores_BHTS.masked_fill(~visible, float("-inf"))
    weights_BHTS = at_least_float32(scores_BHTS).softmax(-1).to(v_BHSW.dtype)
    return torch.einsum("bhts,bhsw->bhtw", weights_BHTS, v_BHSW)


def attend(q_BHTN, k_BGSN, v_BGSW, scale: float, mask_BTS=None):
    """`attend_by_hand`, by the fastest way that applies; the G key heads may number a divisor of the H query heads.

    Values narrower than keys are padded, because torch's fused kernel wants one width. Chapter 01.
    """
    if _suits_blocks(q_BHTN, k_BGSN, mask_BTS):
        return attend_in_blocks(q_BHTN, k_BGSN, v_BGSW, scale)
    mask = None if mask_BTS is None else mask_BTS[:, None]
    width, padding = v_BGSW.shape[-1], q_BHTN.shape[-1] - v_BGSW.shape[-1]
    if padding > 0:
        v_BGSW = F.pad(v_BGSW, (0, padding))
    out = F.scaled_dot_product_attention(
        q_BHTN, k_BGSN, v_BGSW, mask, is_causal=mask is None, scale=scale, enable_gqa=k_BGSN.shape[1] != q_BHTN.shape[1]
    )
    return out[..., :width]


def _suits_blocks(q_BHTN, k_BGSN, mask_BTS) -> bool:
    training = torch.is_grad_enabled() and q_BHTN.requires_grad
    plain = mask_BTS is None and q_BHTN.shape[:3] == k_BGSN.shape[:3] and q_BHTN.shape[2] <= LONGEST_IN_BLOCKS
    return training and plain and q_BHTN.device.type == "cpu" and q_BHTN.dtype in (torch.float32, torch.float64)


def attend_in_blocks(q_BHTN, k_BHSN, v_BHSW, scale: float):
    """`attend_by_hand` for the causal mask with T = S, computing only the blocks that the mask leaves.

    Queries are taken `BLOCK` at a time; each block sees the keys up to its own end, so almost half of the products are
    never formed. The softmax weights are kept for the backward pass. Chapter 01.
    """
    flat = [x.flatten(0, 1) for x in (q_BHTN, k_BHSN, v_BHSW)]
    return _CausalBlocks.apply(*flat, scale).unflatten(0, q_BHTN.shape[:2])


class _CausalBlocks(torch.autograd.Function):
    """Causal attention over Z = B * H independent heads."""

    @staticmethod
    def forward(ctx, q, k, v, scale):
        T = q.shape[1]
        out, blocks = v.new_empty(*q.shape[:2], v.shape[2]), []
        future = torch.ones(BLOCK, BLOCK, dtype=torch.bool, device=q.device).triu(1)
        q = q * scale
        for start in range(0, T, BLOCK):
            end = min(start + BLOCK, T)
            scores = torch.bmm(q[:, start:end], k[:, :end].transpose(1, 2))
            scores[:, :, start:].masked_fill_(future[: end - start, : end - start], float("-inf"))
            weights = torch.softmax(scores, -1, out=scores)
            out[:, start:end] = torch.bmm(weights, v[:, :end])
            blocks.append((start, end, weights))
        ctx.save_for_backward(q, k, v)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    def backward(ctx, d_out):
        q, k, v = ctx.saved_tensors
        d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for start, end, weights in ctx.blocks:
            d_block = d_out[:, start:end]
            d_v[:, :end] += torch.bmm(weights.transpose(1, 2), d_block)
            d_weights = torch.bmm(d_block, v[:, :end].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_q[:, start:end] = torch.bmm(d_scores, k[:, :end])
            d_k[:, :end] += torch.bmm(d_scores.transpose(1, 2), q[:, start:end])
        return d_q.mul_(ctx.scale), d_k, d_v, None


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
