"""Balancing without a loss: after each step, busy experts are made a little less attractive, idle ones a little more.

b_i += gamma * sign(mean load - load_i). The bias takes part in the choice of experts and in nothing else (see the
router), so the language-model loss never pushes back, and no gradient of an auxiliary loss disturbs the weights.

The load is that of the whole batch, MTP modules included: they route too, and a module that is left out collapses onto
a few experts without a word.

How the production version differs: the load is summed over all data-parallel ranks before the sign is taken; gamma is
0.001 for the first 14.3T tokens and 0 for the last 0.5T. A run of a few hundred steps needs a larger gamma: at 0.001
the bias of an expert can move by no more than 0.3 in 300 steps, and the run ends before it has arrived.
"""

import torch

from minimoe.model.router import Routing, max_violation

__all__ = ["update_bias", "violations"]


@torch.no_grad()
def update_bias(model, routing: dict[int, Routing], gamma: float) -> None:
    """Move every router's bias by `gamma` against its load: b += gamma * sign(mean(load) - load).

    Takes the routing of the step just made; layers without a bias (V2's routers) are left alone, and an expert at
    exactly the mean stays. Source: arXiv 2408.15664 algorithm 1; arXiv 2412.19437 section 2.1.2. Chapter 04.
    """
    routers = model.routers()
    for layer, decision in routing.items():
        bias_E = routers[layer].e_score_correction_bias
        if bias_E is not None:
            load_E = decision.load_E.to(bias_E.dtype)
            bias_E += gamma * torch.sign(load_E.mean() - load_E)


def violations(routing: dict[int, Routing]) -> dict[int, float]:
    """MaxVio of every layer that routes: (max load - mean load) / mean load. 0 is perfect balance. Chapter 04."""
    return {layer: max_violation(decision.load_E) for layer, decision in routing.items()}
