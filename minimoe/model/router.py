"""The router: which K of the E experts serve a token, and with which weights.

V3 scores every expert with a sigmoid, adds a bias to the scores *for the choice only*, keeps the best groups (a group
counts by the sum of its two best biased scores), takes the K best biased scores inside them, and makes the gates from
the unbiased scores of the chosen: divided by their sum, times a constant. V2 scores with a softmax, has no bias, and
ranks a group by its best expert.

The bias is how V3 balances without a loss: raised for idle experts, lowered for busy ones. It changes who serves a
token and never how much the answer counts. If it leaked into the gates, balancing would change what the layer computes.

How the production version differs: DeepSeek's inference code multiplies in the activation's dtype and creates the bias
only `if dim == 7168`; transformers routes in float32 always, and so does minimoe.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from minimoe.config import ModelConfig
from minimoe.model.layers import at_least_float32

__all__ = ["Router", "Routing", "allowed_experts", "choose", "max_violation", "sequence_balance_loss"]


@dataclass
class Routing:
    """What one layer's router decided for M tokens (rows in order, sequences one after the other).

    `scores_ME`: affinities before the bias, in (0, 1). `chosen_MK`: expert ids, best biased score first. `gates_MK`:
    their weights. `bias_E`: the bias that took part in the choice, or None. `load_E`: tokens sent to each expert.
    """

    scores_ME: torch.Tensor
    chosen_MK: torch.Tensor
    gates_MK: torch.Tensor
    bias_E: torch.Tensor | None
    load_E: torch.Tensor


def allowed_experts(biased_ME: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Which experts a token may use after the group limit: a bool tensor, True inside its `topk_group` best groups.

    Group score: the sum of its two highest biased scores (V3), the highest score (V2). Ties go as `torch.topk` breaks
    them. Source: arXiv 2412.19437 section 2.1.2; arXiv 2405.04434 section 2.2.2. Chapter 03.
    """
    if config.topk_method == "greedy" or config.topk_group == config.n_group:
        return torch.ones_like(biased_ME, dtype=torch.bool)
    groups = rearrange(biased_ME, "m (g e) -> m g e", g=config.n_group)
    best = min(2, groups.shape[-1]) if config.topk_method == "noaux_tc" else 1
    group_scores_MG = groups.topk(best, dim=-1).values.sum(-1)
    kept = group_scores_MG.topk(config.topk_group, dim=-1).indices
    kept_MG = torch.zeros_like(group_scores_MG, dtype=torch.bool).scatter_(1, kept, True)
    return kept_MG.repeat_interleave(groups.shape[-1], dim=1)


def choose(scores_ME: torch.Tensor, bias_E: torch.Tensor | None, config: ModelConfig, combine=torch.add):
    """The K experts of every token and their gates, from the scores.

    chosen = topK(s + b inside the kept groups); gates = s[chosen] / sum(s[chosen]) * scaling_factor (the division
    only with `norm_topk_prob`). Excluded groups are set to -inf, not to 0: with all biased scores negative, 0 would
    win. `combine` joins scores and bias; the addition is V3's, training can try another.

    Gives `chosen_MK` (int64, best first) and `gates_MK`; gradients flow through the gates alone.
    Source: arXiv 2412.19437 equations 13-16; `Gate.forward` of DeepSeek-V3's inference/model.py @9b4e9788. Chapter 03.
    """
    biased_ME = scores_ME.detach() if bias_E is None else combine(scores_ME.detach(), bias_E)
    biased_ME = biased_ME.masked_fill(~allowed_experts(biased_ME, config), float("-inf"))
    chosen_MK = biased_ME.topk(config.num_experts_per_tok, dim=-1).indices
    gates_MK = scores_ME.gather(1, chosen_MK)
    if config.norm_topk_prob:
        gates_MK = gates_MK / (gates_MK.sum(-1, keepdim=True) + 1e-20)
    return chosen_MK, gates_MK * config.routed_scaling_factor


class Router(nn.Module):
    """One centroid an expert; a token's affinity to it is the sigmoid (V3) or the softmax (V2) of their product.

    `e_score_correction_bias` is a float32 buffer: no gradient reaches it, training moves it by the load (chapter 04).
    Source: arXiv 2412.19437 section 2.1.2. Chapter 03.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        bias = torch.zeros(config.n_routed_experts, dtype=torch.float32) if config.uses_bias else None
        self.register_buffer("e_score_correction_bias", bias)
        self.combine = torch.add  # how score and bias are joined for the choice

    def _apply(self, fn, recurse=True):
        """`model.to(dtype)` leaves the bias in float32: steps of 0.001 vanish in bfloat16."""
        bias = self.e_score_correction_bias
        super()._apply(fn, recurse)
        if bias is not None and self.e_score_correction_bias.dtype in (torch.bfloat16, torch.float16):
            self.e_score_correction_bias = bias.to(self.e_score_correction_bias.device)
        return self

    def forward(self, x_MD: torch.Tensor) -> Routing:
        """Route M tokens; everything is computed in float32 at least."""
        logits_ME = F.linear(at_least_float32(x_MD), at_least_float32(self.weight))
        scores_ME = logits_ME.sigmoid() if self.config.scoring_func == "sigmoid" else logits_ME.softmax(-1)
        bias_E = self.e_score_correction_bias
        chosen_MK, gates_MK = choose(scores_ME, bias_E, self.config, self.combine)
        load_E = chosen_MK.flatten().bincount(minlength=scores_ME.shape[1])
        return Routing(scores_ME, chosen_MK, gates_MK, bias_E, load_E)


def max_violation(load_E: torch.Tensor) -> float:
    """MaxVio: how far the busiest expert is above the mean load, (max - mean) / mean. 0 is perfect balance.

    Takes tokens per expert. All-zero loads give 0. Source: Wang et al., arXiv 2408.15664 equation 4. Chapter 04.
    """
    load_E = load_E.double()
    mean = load_E.mean().item()
    return (load_E.max().item() - mean) / mean if mean > 0 else 0.0


def sequence_balance_loss(scores_ME: torch.Tensor, sequences: int, top_k: int) -> torch.Tensor:
    """The complementary balance loss, per sequence and averaged over them (unweighted: alpha is applied outside).

    sum_i f_i P_i with f_i = E / (K T) * (tokens of the sequence whose K best *unbiased* scores include i) and
    P_i = mean over the sequence of s_i / sum_j s_j. Perfect balance gives 1. Gradients flow through P alone.

    Source: arXiv 2412.19437 equations 17-20. Chapter 04.
    """
    scores_BTE = rearrange(scores_ME, "(b t) e -> b t e", b=sequences)
    T, E = scores_BTE.shape[1:]
    best = scores_BTE.detach().topk(top_k, dim=-1).indices
    counts_BE = torch.zeros_like(scores_BTE).scatter_(2, best, 1.0).sum(1)
    share_BE = (scores_BTE / scores_BTE.sum(-1, keepdim=True)).mean(1)
    return (counts_BE * (E / (top_k * T)) * share_BE).sum(-1).mean()
