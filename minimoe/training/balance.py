"""Balancing without a loss, and with one.

Without: after each step, busy experts are made a little less attractive, idle ones a little more.

    b_i += gamma * sign(mean load - load_i)

The bias takes part in the choice of experts and in nothing else (see the router), so the language-model loss never
pushes back, and no gradient of an auxiliary loss disturbs the weights. With: `batch_balance_loss` is the auxiliary loss
that it replaces, whose gradient reaches the router and everything below it.

The load is that of the whole batch, MTP modules included: they route too, and a module that is left out collapses onto
a few experts without a word.

How the production version differs: the load is summed over all data-parallel ranks before the sign is taken; gamma is
0.001 for the first 14.3T tokens and 0 for the last 0.5T. A run of a few hundred steps needs a larger gamma: at 0.001
the bias of an expert can move by no more than 0.3 in 300 steps, and the run ends before it has arrived.
"""

import torch

from minimoe.model.router import Routing, max_violation

__all__ = ["batch_balance_loss", "bias_step", "update_bias", "use_rule", "violations"]


def bias_step(load_E: torch.Tensor, gamma: float, rule: str = "sign") -> torch.Tensor:
    """By how much each expert's bias moves after a step with this load (float32).

    With e = mean(load) - load: "sign" gives gamma * sign(e); "error" gamma * e / mean(load), so that a small violation
    moves the bias little; "centred" (Moonlight) gamma * (sign(e) - mean(sign(e))), so that the biases keep their sum;
    "multiplicative" the step of "sign", for a bias that multiplies (see `use_rule`). An expert at exactly the mean
    stays under all rules but "centred".
    Source: arXiv 2408.15664 algorithm 1, tables 3 and 4; arXiv 2502.16982 section 2.2. Chapter 04.
    """
    load_E = load_E.float()
    error_E = load_E.mean() - load_E
    if rule in ("sign", "multiplicative"):
        return gamma * error_E.sign()
    if rule == "error":
        return gamma * error_E / load_E.mean().clamp(min=1e-20)
    if rule == "centred":
        return gamma * (error_E.sign() - error_E.sign().mean())
    raise ValueError(f"rule={rule!r} is not one of sign, error, centred, multiplicative")


@torch.no_grad()
def update_bias(model, routing: dict[int, Routing], gamma: float, rule: str = "sign") -> None:
    """Move every router's bias by `bias_step` of its load in the step just made.

    Layers without a bias (V2's routers) are left alone.
    Source: arXiv 2408.15664 algorithm 1; arXiv 2412.19437 section 2.1.2. Chapter 04.
    """
    routers = model.routers()
    for layer, decision in routing.items():
        bias_E = routers[layer].e_score_correction_bias
        if bias_E is not None:
            bias_E += bias_step(decision.load_E, gamma, rule).to(bias_E.dtype)


def use_rule(model, rule: str) -> None:
    """Let the routers combine score and bias as `rule` wants it: s * (1 + b) for "multiplicative", else s + b.

    The official layout knows s + b alone: a model trained with the other form routes differently once it is saved and
    loaded. Source: arXiv 2408.15664 table 4.
    """
    for router in model.routers().values():
        router.combine = _scaled if rule == "multiplicative" else torch.add


def _scaled(scores_ME: torch.Tensor, bias_E: torch.Tensor) -> torch.Tensor:
    return scores_ME * (1 + bias_E)


def batch_balance_loss(scores_ME: torch.Tensor, chosen_MK: torch.Tensor) -> torch.Tensor:
    """The auxiliary loss over the whole batch (unweighted): sum_i f_i P_i, 1 at perfect balance.

    f_i = E / (K M) * (tokens sent to i), P_i = mean over all tokens of s_i / sum_j s_j. Gradients flow through P alone,
    and from there into the router and the layers below it: that is its cost.
    Source: arXiv 2101.03961 equations 4-6; arXiv 2405.04434 equations 23-25. Chapter 04.
    """
    M, E = scores_ME.shape
    f_E = chosen_MK.flatten().bincount(minlength=E) * (E / chosen_MK.numel())
    p_E = (scores_ME / scores_ME.sum(-1, keepdim=True)).mean(0)
    return (f_E * p_E).sum()


def violations(routing: dict[int, Routing]) -> dict[int, float]:
    """MaxVio of every layer that routes: (max load - mean load) / mean load. 0 is perfect balance. Chapter 04."""
    return {layer: max_violation(decision.load_E) for layer, decision in routing.items()}
