"""Where every head looks: the attention weights of a text, layer by layer, read out of a running model.

The model never makes this matrix: fused attention keeps a few rows of it at a time, and the absorbed path has no keys
to make it from. Here each attention layer is asked for its queries and keys as it runs, and the weights are computed
from them by the definition, `attend_by_hand`, with the identity in the place of the values: softmax(q k^T) I is the
map itself.

How the production version differs: it has none. At 128 heads, 61 layers and 128K tokens the maps of one sequence would
hold 1.3e14 numbers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from minimoe.model.attention import GroupedQueryAttention, Span, attend_by_hand
from minimoe.model.rope import apply_rope
from minimoe.model.transformer import Transformer

__all__ = ["HeadHabit", "attention_maps", "head_habit"]


@dataclass(frozen=True)
class HeadHabit:
    """Where a head looks on average over a text: shares of its weight, and how many tokens back (`distance`)."""

    itself: float
    previous: float
    first: float
    distance: float


def attention_maps(model: Transformer, input_ids) -> dict[int, np.ndarray]:
    """Layer number -> attention weights [heads, tokens, tokens] of one sequence: row t says where position t looks.

    w_hts = softmax over s <= t of (q_ht . k_hs) * scale. Rows sum to 1; what lies above the diagonal is 0.

    Takes a list of ids or a tensor of one axis; gives float32 arrays of the trunk's layers (MTP modules are not run).
    Raises `ValueError` for an empty sequence or ids outside the vocabulary.
    Source: arXiv 1706.03762 equation 1; for MLA arXiv 2412.19437 equations 1-10. Chapters 01 and 02.
    """
    ids_BT = torch.as_tensor(input_ids, dtype=torch.int64, device=model.device).reshape(1, -1)
    maps, hooks = {}, []
    for layer in range(model.config.num_hidden_layers):

        def keep(attention, args, layer=layer):
            maps[layer] = _weights(attention, *args)[0].float().numpy(force=True)

        hooks.append(model.model.layers[layer].self_attn.register_forward_pre_hook(keep))
    try:
        with torch.no_grad():
            model(ids_BT, mtp=False)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def head_habit(weights_TS: np.ndarray) -> HeadHabit:
    """One head's map in four numbers, averaged over the positions from the third on: earlier ones have little choice.

    Takes rows that sum to 1 with nothing above the diagonal. Texts shorter than three tokens are averaged over what
    there is. On them, and for `first` and `previous` on short texts, the shares may count one place twice. Chapter 01.
    """
    T = len(weights_TS)
    rows = np.arange(min(2, T - 1), T)
    away_TS = np.arange(T)[:, None] - np.arange(T)[None]
    return HeadHabit(
        itself=float(weights_TS[rows, rows].mean()),
        previous=float(weights_TS[rows, np.maximum(rows - 1, 0)].mean()),
        first=float(weights_TS[rows, 0].mean()),
        distance=float((weights_TS * away_TS)[rows].sum(-1).mean()),
    )


def _weights(attention, x_BTD: torch.Tensor, span: Span) -> torch.Tensor:
    """softmax(q k^T * scale) of one attention layer: `attend_by_hand` with the identity for values."""
    baseline = isinstance(attention, GroupedQueryAttention)
    q_BHTN, k_BHSN = (_baseline_heads if baseline else _latent_heads)(attention, x_BTD, span)
    B, H, S, _ = k_BHSN.shape
    identity = torch.eye(S, dtype=x_BTD.dtype, device=x_BTD.device).expand(B, H, S, S)
    return attend_by_hand(q_BHTN, k_BHSN, identity, attention.scale)


def _latent_heads(attention, x_BTD, span):
    """Every head's whole query and key, rebuilt from the latent: the expanded path without its values."""
    q_nope_BTHN, q_rot_BTHR = attention.queries(x_BTD, span.turns)
    latent_BSC, k_rot_BSR = attention.compress(x_BTD, span.turns)
    w_uk_HNC, _ = attention.up_projections()
    k_nope_BHSN = torch.einsum("bsc,hnc->bhsn", latent_BSC, w_uk_HNC)
    k_rot_BHSR = k_rot_BSR[:, None].expand(-1, attention.heads, -1, -1)
    return torch.cat([q_nope_BTHN, q_rot_BTHR], -1).transpose(1, 2), torch.cat([k_nope_BHSN, k_rot_BHSR], -1)


def _baseline_heads(attention, x_BTD, span):
    """Rotated queries and keys of MHA, GQA or MQA, each key head repeated for the query heads that share it."""
    turns = span.turns[:, None]
    q_BHTN = apply_rope(rearrange(attention.q_proj(x_BTD), "b t (h n) -> b h t n", h=attention.heads), turns)
    k_BGSN = apply_rope(rearrange(attention.k_proj(x_BTD), "b s (g n) -> b g s n", g=attention.kv_heads), turns)
    return q_BHTN, k_BGSN.repeat_interleave(attention.heads // attention.kv_heads, dim=1)
