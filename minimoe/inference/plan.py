"""One decoder layer, prepared for decoding: matrices merged, one operation where the model's own code has three.

`decode.py` says what is merged and why; here it is done, block by block: `AttentionPlan`, then `DensePlan` or
`ExpertsPlan`. Every plan reads rows of hidden states and gives them with its result added. Matrices stand as right-hand
factors (`x @ w`); what is copied lies in that order too, because one row times a matrix streams it faster by columns.
What is not copied is a transposed view of the model's own parameter.

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

SLACK = 1.5  # a fold saves some microseconds of starting operations, worth this much more arithmetic


class Unit:
    """x / sqrt(mean(x^2) + eps): RMSNorm without its gain. The mean is a matrix product, the quickest of small sums."""

    def __init__(self, norm):
        width = norm.weight.numel()
        self.eps, self.mean = norm.weight.new_full((1, 1), norm.eps), norm.weight.new_full((width, 1), 1 / width)

    def __call__(self, x_MD: torch.Tensor) -> torch.Tensor:
        return x_MD * torch.addmm(self.eps, x_MD.square(), self.mean).rsqrt_()


def input_first(weight: torch.Tensor, copy: bool) -> torch.Tensor:
    """A `Linear`'s weight as a right-hand factor: a view of it, or a copy in that order."""
    return weight.t().contiguous() if copy else weight.t()


class LayerPlan:
    """Attention, then feed-forward: called with hidden states, the layer's cache entries and the step's `Lookup`."""

    def __init__(self, layer, config: ModelConfig, copy: bool = False):
        self.attention = AttentionPlan(layer, config)
        moe = isinstance(layer.mlp, MoE)
        self.feed_forward = ExpertsPlan(layer, config, copy) if moe else DensePlan(layer, copy)

    def __call__(self, hidden_MD, entries, lookup) -> torch.Tensor:
        return self.feed_forward(self.attention(hidden_MD, entries, lookup))


class AttentionPlan:
    """Absorbed latent attention: W_UK works on the query and W_UV on the output, the cached latents stay as they are.

    A fold makes one matrix of two and is done where that costs at most `SLACK` times the two products: `queries` is
    then W_UQ and W_UK in one, `out` is W_UV and W_O. Elsewhere `w_uk_HNC` and `w_uv_HCW` are views of `kv_b_proj`.

    `first` gives, side by side, the compressed query (or, without compression, the query itself), the latent and the
    rotary key. One product with `means` takes both inner norms' means; `gains` spreads their reciprocals, the latent's
    gain included, over the columns.
    """

    def __init__(self, layer, config: ModelConfig):
        a, gain_D = layer.self_attn, layer.input_layernorm.weight
        self.unit = Unit(layer.input_layernorm)
        self.heads, self.nope, self.latent, self.pairs = a.heads, a.nope, a.latent, a.rotary // 2
        compressed = config.q_lora_rank is not None
        queries = self._queries(a, compressed)
        before = a.q_a_proj.weight if compressed else queries
        self.queries = (queries * a.q_a_layernorm.weight).t().contiguous() if compressed else None
        self.first = (torch.cat([before, a.kv_a_proj_with_mqa.weight]) * gain_D).t().contiguous()
        self.start = before.shape[0]
        self._prepare_out(a)
        self._prepare_norms(a.kv_a_layernorm.weight, compressed)

    def _queries(self, a, compressed: bool) -> torch.Tensor:
        w_uk_HNC, _ = a.up_projections()
        whole = (a.q_b_proj if compressed else a.q_proj).weight * a.scale
        N, C, X = a.nope, a.latent, whole.shape[1]
        self.w_uk_HNC = None if X * C <= SLACK * (X * N + N * C) else w_uk_HNC
        if self.w_uk_HNC is not None:
            return whole
        whole = whole.view(a.heads, N + a.rotary, X)
        return torch.cat([torch.bmm(w_uk_HNC.transpose(1, 2), whole[:, :N]), whole[:, N:]], dim=1).flatten(0, 1)

    def _prepare_out(self, a) -> None:
        _, w_uv_HWC = a.up_projections()
        W, C, D = a.value, a.latent, a.o_proj.out_features
        self.w_uv_HCW = None if C * D <= SLACK * (C * W + W * D) else w_uv_HWC.transpose(1, 2)
        self.out = a.o_proj.weight.t().contiguous()
        if self.w_uv_HCW is None:
            w_o_HDW = a.o_proj.weight.view(D, a.heads, W).transpose(0, 1)
            self.out = torch.bmm(w_o_HDW, w_uv_HWC).transpose(1, 2).flatten(0, 1)

    def _prepare_norms(self, gain, compressed: bool) -> None:
        latent = slice(self.start, self.start + self.latent)
        width = self.first.shape[1]
        self.eps = gain.new_tensor([[LATENT_EPS if compressed else 1.0, LATENT_EPS, 1.0]])
        self.means, self.gains = gain.new_zeros(width, 3), gain.new_zeros(3, width)
        if compressed:
            self.means[: self.start, 0] = 1 / self.start
        self.means[latent, 1] = 1 / self.latent
        self.gains[0, : self.start], self.gains[1, latent], self.gains[2, latent.stop :] = 1.0, gain, 1.0

    def __call__(self, hidden_MD, entries, lookup) -> torch.Tensor:
        M, (B, T) = len(hidden_MD), lookup.shape
        joined = self.unit(hidden_MD) @ self.first
        joined.mul_(torch.addmm(self.eps, joined.square(), self.means).rsqrt_() @ self.gains)
        query, entry = self.absorbed(joined[:, : self.start]), joined[:, self.start :]
        turned = query[:, :, self.latent :].view(M, self.heads, self.pairs, 2)
        torch.view_as_complex(turned).mul_(lookup.turns_M1)
        torch.view_as_complex(entry[:, self.latent :].view(M, self.pairs, 2)).mul_(lookup.turns_M)
        lookup.write(entries, entry)
        seen = entries[:, : lookup.end]
        scores = torch.bmm(query.reshape(B, T * self.heads, -1), seen.transpose(1, 2))
        if lookup.mask is not None:
            scores.view(B, T, self.heads, -1).add_(lookup.mask)
        mixed = torch.bmm(scores.softmax(-1), seen[:, :, : self.latent]).view(M, self.heads, -1)
        if self.w_uv_HCW is not None:
            mixed = torch.bmm(mixed.transpose(0, 1), self.w_uv_HCW).transpose(0, 1)
        return torch.addmm(hidden_MD, mixed.reshape(M, -1), self.out)

    def absorbed(self, before) -> torch.Tensor:
        """Every head's query against the cached entries: its latent part, then its rotary part, not yet turned."""
        query = (before if self.queries is None else before @ self.queries).view(len(before), self.heads, -1)
        if self.w_uk_HNC is None:
            return query
        latent = torch.bmm(query[:, :, : self.nope].transpose(0, 1), self.w_uk_HNC)
        return torch.cat([latent.transpose(0, 1), query[:, :, self.nope :]], dim=-1)


class DensePlan:
    """An ordinary SwiGLU block."""

    def __init__(self, layer, copy: bool = False):
        mlp, norm = layer.mlp, layer.post_attention_layernorm
        self.unit, self.gain = Unit(norm), norm.weight
        parts = (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        self.gate, self.up, self.down = (input_first(part.weight, copy) for part in parts)

    def __call__(self, hidden_MD) -> torch.Tensor:
        normed_MD = self.unit(hidden_MD).mul_(self.gain)
        inner = F.silu(normed_MD @ self.gate, inplace=True).mul_(normed_MD @ self.up)
        return torch.addmm(hidden_MD, inner, self.down)


class ExpertsPlan:
    """Router and shared experts as one matrix; the routed experts each for itself."""

    def __init__(self, layer, config: ModelConfig, copy: bool = False):
        moe, norm = layer.mlp, layer.post_attention_layernorm
        self.unit, self.gain, self.config, self.bias = Unit(norm), norm.weight, config, moe.gate.e_score_correction_bias
        self.count, self.top_k = config.n_routed_experts, config.num_experts_per_tok
        self.limited = config.topk_method != "greedy" and config.topk_group < config.n_group
        first, self.shared_down = [moe.gate.weight], None
        if config.n_shared_experts:
            shared = moe.shared_experts
            first += [shared.gate_proj.weight, shared.up_proj.weight]
            self.shared_down, self.shared_width = shared.down_proj.weight.t(), shared.down_proj.in_features
        self.first = torch.cat(first).t().contiguous()
        self.gate = [input_first(e.gate_proj.weight, copy) for e in moe.experts]
        self.up = [input_first(e.up_proj.weight, copy) for e in moe.experts]
        self.down = [input_first(e.down_proj.weight, copy) for e in moe.experts]

    def __call__(self, hidden_MD) -> torch.Tensor:
        normed_MD = self.unit(hidden_MD).mul_(self.gain)
        joined = normed_MD @ self.first
        chosen_MK, gates_MK = self.route(joined[:, : self.count])
        if self.shared_down is not None:
            middle = self.count + self.shared_width
            inner = F.silu(joined[:, self.count : middle]).mul_(joined[:, middle:])
            hidden_MD = torch.addmm(hidden_MD, inner, self.shared_down)
        routed = self.one_row if len(hidden_MD) == 1 else self.sorted_rows
        return routed(hidden_MD, normed_MD, chosen_MK, gates_MK)

    def route(self, logits_ME):
        """The model's `choose`, without its steps for groups where there are none."""
        scores_ME = logits_ME.sigmoid() if self.config.scoring_func == "sigmoid" else logits_ME.softmax(-1)
        if self.limited:
            return choose(scores_ME, self.bias, self.config)
        biased_ME = scores_ME if self.bias is None else scores_ME + self.bias
        chosen_MK = biased_ME.topk(self.top_k, dim=-1).indices
        gates_MK = scores_ME.gather(1, chosen_MK)
        if self.config.norm_topk_prob:
            gates_MK = gates_MK.div_(gates_MK.sum(-1, keepdim=True).add_(1e-20))
        return chosen_MK, gates_MK.mul_(self.config.routed_scaling_factor)

    def one_row(self, hidden_MD, normed_MD, chosen_MK, gates_MK):
        """The K experts of a single row, one after the other; no sorting."""
        experts = chosen_MK[0].tolist()
        gate = torch.cat([normed_MD.mm(self.gate[e]) for e in experts])
        up = torch.cat([normed_MD.mm(self.up[e]) for e in experts])
        inner = F.silu(gate, inplace=True).mul_(up).mul_(gates_MK.view(-1, 1))
        hidden_D = hidden_MD[0]
        for e, row in zip(experts, inner.unbind(), strict=True):
            hidden_D.addmv_(self.down[e].t(), row)
        return hidden_MD

    def sorted_rows(self, hidden_MD, normed_MD, chosen_MK, gates_MK):
        """All assignments in the order of their experts, so that every expert runs once on one block."""
        flat = chosen_MK.view(-1)
        order = flat.argsort()
        sizes = flat.bincount(minlength=self.count).tolist()
        busy = [e for e, size in enumerate(sizes) if size]
        sizes = [sizes[e] for e in busy]
        rows = order // self.top_k
        x_AD = normed_MD.index_select(0, rows)
        blocks = x_AD.split(sizes)
        gate = torch.cat([x.mm(self.gate[e]) for e, x in zip(busy, blocks, strict=True)])
        up = torch.cat([x.mm(self.up[e]) for e, x in zip(busy, blocks, strict=True)])
        inner = F.silu(gate, inplace=True).mul_(up).mul_(gates_MK.view(-1, 1).index_select(0, order))
        for e, x, out in zip(busy, inner.split(sizes), blocks, strict=True):
            torch.mm(x, self.down[e], out=out)
        return hidden_MD.index_add_(0, rows, x_AD)
