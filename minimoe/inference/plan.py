"""One decoder layer, prepared for decoding: its matrices merged, its norms reduced to x / rms(x).

`decode.py` says what is merged and why; here it is done, block by block: `AttentionPlan`, then `DensePlan` or
`ExpertsPlan`. Every plan reads rows of hidden states and gives them with its result added. Folded matrices are
multiplied in float64 and rounded once. Matrices lie input-first (`w_DF`, used as x @ w).

How the production version differs: the merged matrices are made when the checkpoint is loaded, and the original ones
are let go.
"""

import torch
import torch.nn.functional as F

from minimoe.config import ModelConfig
from minimoe.model.mla import LATENT_EPS
from minimoe.model.moe import MoE
from minimoe.model.router import choose

__all__ = ["AttentionPlan", "DensePlan", "ExpertsPlan", "LayerPlan", "Unit"]


class Unit:
    """x / sqrt(mean(x^2) + eps): RMSNorm without its gain. The mean is a matrix product, the quickest small sum there is."""

    def __init__(self, norm):
        D = norm.weight.numel()
        self.eps, self.mean = norm.weight.new_full((1, 1), norm.eps), norm.weight.new_full((D, 1), 1 / D)

    def __call__(self, x_MD: torch.Tensor) -> torch.Tensor:
        return x_MD * torch.addmm(self.eps, x_MD.square(), self.mean).rsqrt_()


def input_first(weight: torch.Tensor, gain: torch.Tensor | None = None, dtype=None) -> torch.Tensor:
    """A `Linear`'s weight as the right-hand factor of a product, the gain of the norm before it multiplied in."""
    wide = weight.double() if gain is None else weight.double() * gain.double()
    return wide.t().to(dtype or weight.dtype).contiguous()


def swiglu_of(joined: torch.Tensor) -> torch.Tensor:
    """silu(first half) * second half, along the last axis."""
    width = joined.shape[-1] // 2
    return F.silu(joined[..., :width]).mul_(joined[..., width:])


class LayerPlan:
    """Attention, then feed-forward; called with rows of hidden states, the layer's cache entries and the step's `Lookup`."""

    def __init__(self, layer, config: ModelConfig):
        self.attention = AttentionPlan(layer, config)
        self.feed_forward = ExpertsPlan(layer, config) if isinstance(layer.mlp, MoE) else DensePlan(layer)

    def __call__(self, hidden_MD, entries, lookup) -> torch.Tensor:
        return self.feed_forward(self.attention(hidden_MD, entries, lookup))


class AttentionPlan:
    """Absorbed latent attention with W_UK inside the query's projection and W_UV inside the output's.

    `first` gives, side by side, the compressed query (or, without compression, the query itself), the latent and the
    rotary key. One product with `means` takes both inner norms' means; `gains` spreads their reciprocals, the latent's
    gain included, over the columns. The query's gain sits in `query`.
    """

    def __init__(self, layer, config: ModelConfig):
        a, gain, dtype = layer.self_attn, layer.input_layernorm.weight, layer.input_layernorm.weight.dtype
        self.unit = Unit(layer.input_layernorm)
        self.heads, self.latent, self.rotary = a.heads, a.latent, a.rotary
        w_uk_HNC, w_uv_HWC = (w.double() for w in a.up_projections())
        compressed = config.q_lora_rank is not None
        whole = (a.q_b_proj if compressed else a.q_proj).weight.double().unflatten(0, (a.heads, -1)) * a.scale
        nope, rotated = whole.split([a.nope, a.rotary], dim=1)
        query = torch.cat([torch.einsum("hnc,hnx->hcx", w_uk_HNC, nope), rotated], dim=1).flatten(0, 1)
        self.query = input_first(query, a.q_a_layernorm.weight, dtype) if compressed else None
        before = a.q_a_proj.weight.double() if compressed else query
        self.first = input_first(torch.cat([before, a.kv_a_proj_with_mqa.weight.double()]), gain, dtype)
        self.start = before.shape[0]
        w_o_DHW = a.o_proj.weight.double().unflatten(1, (a.heads, -1))
        self.out = input_first(torch.einsum("dhw,hwc->dhc", w_o_DHW, w_uv_HWC).flatten(1), None, dtype)
        self._prepare_norms(a.kv_a_layernorm.weight, compressed)

    def _prepare_norms(self, gain, compressed: bool) -> None:
        latent = slice(self.start, self.start + self.latent)
        width, untouched = self.first.shape[1], slice(latent.stop, None)
        self.eps = gain.new_tensor([[LATENT_EPS if compressed else 1.0, LATENT_EPS, 1.0]])
        self.means, self.gains = gain.new_zeros(width, 3), gain.new_zeros(3, width)
        if compressed:
            self.means[: self.start, 0] = 1 / self.start
        self.means[latent, 1] = 1 / self.latent
        self.gains[0, : self.start], self.gains[1, latent], self.gains[2, untouched] = 1.0, gain, 1.0

    def __call__(self, hidden_MD, entries, lookup) -> torch.Tensor:
        M, (B, T), C = len(hidden_MD), lookup.shape, self.latent
        joined = self.unit(hidden_MD) @ self.first
        joined.mul_(torch.addmm(self.eps, joined.square(), self.means).rsqrt_() @ self.gains)
        before, entry = joined[:, : self.start], joined[:, self.start :]
        query = (before if self.query is None else before @ self.query).view(M, self.heads, C + self.rotary)
        for rotated, turns in ((query[..., C:], lookup.turns[:, None]), (entry[:, C:], lookup.turns)):
            torch.view_as_complex(rotated.unflatten(-1, (-1, 2))).mul_(turns)
        if isinstance(lookup.slots, slice):
            entries[:, lookup.slots] = entry.view(B, T, -1)
        else:
            entries.view(-1, entry.shape[1]).index_copy_(0, lookup.slots, entry)
        seen = entries[:, : lookup.end]
        scores = torch.bmm(query.view(B, T * self.heads, -1), seen.transpose(1, 2))
        if lookup.mask is not None:
            scores.view(B, T, self.heads, -1).add_(lookup.mask)
        mixed = torch.bmm(scores.softmax(-1), seen[:, :, :C])
        return torch.addmm(hidden_MD, mixed.view(M, -1), self.out)


class DensePlan:
    """An ordinary SwiGLU block: gate and up side by side."""

    def __init__(self, layer):
        gain, mlp = layer.post_attention_layernorm.weight, layer.mlp
        self.unit = Unit(layer.post_attention_layernorm)
        self.gate_up = input_first(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]), gain)
        self.down = input_first(mlp.down_proj.weight)

    def __call__(self, hidden_MD) -> torch.Tensor:
        return torch.addmm(hidden_MD, swiglu_of(self.unit(hidden_MD) @ self.gate_up), self.down)


class ExpertsPlan:
    """Router and shared expert as one matrix, routed experts as one block each."""

    def __init__(self, layer, config: ModelConfig):
        gain, moe = layer.post_attention_layernorm.weight, layer.mlp
        self.unit, self.config, self.bias = Unit(layer.post_attention_layernorm), config, moe.gate.e_score_correction_bias
        self.count, self.top_k = config.n_routed_experts, config.num_experts_per_tok
        first = [moe.gate.weight]
        self.shared_down = None
        if config.n_shared_experts:
            first += [moe.shared_experts.gate_proj.weight, moe.shared_experts.up_proj.weight]
            self.shared_down = input_first(moe.shared_experts.down_proj.weight)
        self.first = input_first(torch.cat(first), gain)
        self.gate_up = [input_first(torch.cat([e.gate_proj.weight, e.up_proj.weight]), gain) for e in moe.experts]
        self.down = [input_first(e.down_proj.weight) for e in moe.experts]

    def __call__(self, hidden_MD) -> torch.Tensor:
        normed_MD = self.unit(hidden_MD)
        joined = normed_MD @ self.first
        logits_ME = joined[:, : self.count]
        scores_ME = logits_ME.sigmoid() if self.config.scoring_func == "sigmoid" else logits_ME.softmax(-1)
        chosen_MK, gates_MK = choose(scores_ME, self.bias, self.config)
        if self.shared_down is not None:
            hidden_MD = torch.addmm(hidden_MD, swiglu_of(joined[:, self.count :]), self.shared_down)
        routed = self.one_row if len(hidden_MD) == 1 else self.sorted_rows
        return routed(hidden_MD, normed_MD, chosen_MK, gates_MK)

    def one_row(self, hidden_MD, normed_MD, chosen_MK, gates_MK):
        """The K experts of a single row, one after the other."""
        experts = chosen_MK[0].tolist()
        inner = swiglu_of(torch.cat([normed_MD @ self.gate_up[e] for e in experts])).mul_(gates_MK.view(-1, 1))
        for e, row in zip(experts, inner.split(1), strict=True):
            hidden_MD = hidden_MD.addmm_(row, self.down[e])
        return hidden_MD

    def sorted_rows(self, hidden_MD, normed_MD, chosen_MK, gates_MK):
        """All assignments in the order of their experts, so that every expert runs once on one block."""
        flat = chosen_MK.flatten()
        order = flat.argsort()
        sizes = flat.bincount(minlength=self.count).tolist()
        rows = order // self.top_k
        x_AD = normed_MD.index_select(0, rows)
        gate_up = x_AD.new_empty(len(x_AD), self.gate_up[0].shape[1])
        for e, (x, out) in enumerate(zip(x_AD.split(sizes), gate_up.split(sizes), strict=True)):
            if sizes[e]:
                torch.mm(x, self.gate_up[e], out=out)
        inner = swiglu_of(gate_up).mul_(gates_MK.view(-1, 1).index_select(0, order))
        y_AD = x_AD
        for e, (x, out) in enumerate(zip(inner.split(sizes), y_AD.split(sizes), strict=True)):
            if sizes[e]:
                torch.mm(x, self.down[e], out=out)
        return hidden_MD.index_add_(0, rows, y_AD)
