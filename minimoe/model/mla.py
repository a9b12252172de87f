"""Multi-head latent attention: cache one short vector a token, rebuild every head's key and value from it.

A token's keys and values for all heads are two linear maps of one latent `c` of C numbers (512 in V3, against 32,768
for 128 separate heads). Only `c` is cached, beside one rotary key of R numbers that all heads share: rotary positions
cannot live in `c`, because a rotation that depends on the position would stand between the two maps and forbid merging
them.

There are two ways to compute the same scores. `expand` rebuilds keys and values, as the formulas read: cheap when many
queries share the work (training, prefill). `absorb` moves the key map onto the query and the value map onto the output,
q . (W_UK c) = (W_UK^T q) . c, so that decoding reads the latents alone, as if 128 heads shared one key of 576 numbers.

How the production version differs: FlashMLA runs the absorbed form in one kernel over a paged cache, in FP8 if asked.
"""

import torch
from einops import rearrange
from torch import nn

from minimoe.config import ModelConfig
from minimoe.model.attention import Span, attend
from minimoe.model.layers import RMSNorm
from minimoe.model.rope import apply_rope, softmax_scale

__all__ = ["MultiHeadLatentAttention"]

LATENT_EPS = 1e-6  # the official code fixes it for the two inner norms, whatever rms_norm_eps says


class MultiHeadLatentAttention(nn.Module):
    """MLA with or without query compression, by `config.q_lora_rank`.

    c = RMSNorm(W_DKV h); k_C = W_UK c; v = W_UV c; k_R = RoPE(W_KR h); q = W_UQ RMSNorm(W_DQ h), its last R rotated;
    o = softmax((q_C k_C + q_R k_R) * scale) v; u = W_O o. `kv_b_proj` holds, head by head, N rows of W_UK, then W rows
    of W_UV.

    Source: arXiv 2412.19437 equations 1-11; `MLA` of DeepSeek-V3's inference/model.py @9b4e9788. Chapter 02.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.heads, self.scale = layer, config.num_attention_heads, softmax_scale(config)
        self.nope, self.rotary, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.latent = config.kv_lora_rank
        D, H = config.hidden_size, config.num_attention_heads
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(D, H * config.qk_head_dim, bias=False)
        else:
            self.q_a_proj = nn.Linear(D, config.q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, LATENT_EPS)
            self.q_b_proj = nn.Linear(config.q_lora_rank, H * config.qk_head_dim, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(D, self.latent + self.rotary, bias=False)
        self.kv_a_layernorm = RMSNorm(self.latent, LATENT_EPS)
        self.kv_b_proj = nn.Linear(self.latent, H * (self.nope + self.value), bias=False)
        self.o_proj = nn.Linear(H * self.value, D, bias=False)

    def forward(self, x_BTD: torch.Tensor, span: Span) -> torch.Tensor:
        """Attend from the new tokens to themselves and to the cached latents; gives a tensor like `x_BTD`."""
        q_nope_BTHN, q_rot_BTHR = self.queries(x_BTD, span.turns)
        latent_BTC, k_rot_BTR = self.compress(x_BTD, span.turns)
        entries = torch.cat([latent_BTC, k_rot_BTR], dim=-1)
        if span.cache is not None:
            entries = span.cache.write(self.layer, entries)
        path = self.absorb if span.path == "absorb" else self.expand
        out_BTHW = path(q_nope_BTHN, q_rot_BTHR, entries, span.mask_BTS)
        return self.o_proj(out_BTHW.flatten(2))

    def queries(self, x_BTD, turns):
        """Every head's query: the part without position, and the rotated part."""
        if hasattr(self, "q_proj"):
            q = self.q_proj(x_BTD)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_BTD)))
        q = rearrange(q, "b t (h n) -> b t h n", h=self.heads)
        q_nope_BTHN, q_rot_BTHR = q.split([self.nope, self.rotary], dim=-1)
        return q_nope_BTHN, apply_rope(q_rot_BTHR, turns[:, :, None])

    def compress(self, x_BTD, turns):
        """What is cached of each token: its normalised latent and its rotated key, shared by all heads.

        The rotary key comes from the hidden state, not from the latent.
        """
        latent_BTC, k_rot_BTR = self.kv_a_proj_with_mqa(x_BTD).split([self.latent, self.rotary], dim=-1)
        return self.kv_a_layernorm(latent_BTC), apply_rope(k_rot_BTR, turns)

    def up_projections(self):
        """W_UK and W_UV, one matrix a head, as views of `kv_b_proj`."""
        weight = rearrange(self.kv_b_proj.weight, "(h nw) c -> h nw c", h=self.heads)
        w_uk_HNC, w_uv_HWC = weight.split([self.nope, self.value], dim=1)
        return w_uk_HNC, w_uv_HWC

    def expand(self, q_nope_BTHN, q_rot_BTHR, entries, mask_BTS=None):
        """Rebuild every head's keys and values from the latents, then attend: the formulas as they read.

        Costs H * (N + W) * C multiplications a cached token, once a call: right for training and prefill, ruinous for
        decoding, where it would be paid again for the whole cache at every new token. `entries` is what the cache
        holds: the latent, then the rotary key.
        """
        latent_BSC, k_rot_BSR = entries.split([self.latent, self.rotary], dim=-1)
        kv = rearrange(self.kv_b_proj(latent_BSC), "b s (h nw) -> b h s nw", h=self.heads)
        k_nope_BHSN, v_BHSW = kv.split([self.nope, self.value], dim=-1)
        k_rot_BHSR = k_rot_BSR[:, None].expand(-1, self.heads, -1, -1)
        q = torch.cat([q_nope_BTHN, q_rot_BTHR], dim=-1).transpose(1, 2)
        k = torch.cat([k_nope_BHSN, k_rot_BHSR], dim=-1)
        return attend(q, k, v_BHSW, self.scale, mask_BTS).transpose(1, 2)

    def absorb(self, q_nope_BTHN, q_rot_BTHR, entries, mask_BTS=None):
        """The same output with nothing rebuilt: W_UK is applied to the query, W_UV to the weighted sum of latents.

        q_C . (W_UK c) + q_R . k_R = [W_UK^T q_C; q_R] . [c; k_R], and sum_s p_s W_UV c_s = W_UV (sum_s p_s c_s).
        Costs H * (2C + R) multiplications a cached token and query. Equal to `expand` up to rounding.
        """
        T, S = q_nope_BTHN.shape[1], entries.shape[1]
        w_uk_HNC, w_uv_HWC = self.up_projections()
        q_latent_BTHC = torch.einsum("bthn,hnc->bthc", q_nope_BTHN, w_uk_HNC)
        if mask_BTS is None:
            mask_BTS = torch.ones(T, S, dtype=torch.bool, device=entries.device).tril().expand(len(entries), T, S)
        # All heads read the same keys, so they stand as T * H queries of one head. The entries serve as values too,
        # which saves a copy of the latents; what the rotary keys add up to is cut off.
        q = torch.cat([q_latent_BTHC, q_rot_BTHR], dim=-1).flatten(1, 2)[:, None]
        mask = mask_BTS.repeat_interleave(self.heads, dim=1)
        mixed = attend(q, entries[:, None], entries[:, None], self.scale, mask)[:, 0, :, : self.latent]
        return torch.einsum("bthc,hwc->bthw", mixed.unflatten(1, (T, self.heads)), w_uv_HWC)
