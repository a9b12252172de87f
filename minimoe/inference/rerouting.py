"""Interfering with a router while the model runs: an expert taken away, a group limit moved.

That an expert serves mostly digits does not mean that digits need it. The test is to remove it and to measure. Two
removals are possible, and they are different questions:

- "rechoose": its score is -inf in the choice, as if the bias had pushed it out. Every token still gets K experts, with
  gates that sum to what they did. It asks whether others can stand in.
- "zero": the choice stays, its output is dropped and its gate with it; the other gates are not raised. It asks how much
  of the layer's output came from it. Nothing replaces it.

The shared expert is touched by neither. Both work between the router and the experts, on the decision alone: no weight
and no bias is written, and when the `with` block ends nothing is left behind, errors included.

`group_limit` uses the same handle for another question: what if a token could use more groups, or fewer?

Letters: M tokens, K experts chosen, E experts.

How the production version differs: DeepSeekMoE (arXiv 2401.06066, figure 4) masks the most used experts of every token
and lets it choose others; engines remove experts for good, to save memory, and train on.
"""

from contextlib import contextmanager
from dataclasses import replace

import torch

from minimoe.model.router import choose
from minimoe.model.transformer import Transformer

__all__ = ["changed_routing", "group_limit", "without_experts"]

HOW = ("rechoose", "zero")


@contextmanager
def without_experts(model: Transformer, removed: dict[int, list[int]], how: str = "rechoose"):
    """Inside the `with`, the experts `removed` (layer number -> expert ids) take no part in `model(...)`.

    "rechoose": s' = -inf for them in the choice, group scores included; gates from the unbiased scores of the new
    chosen. "zero": their gates are 0, the rest stays. Weights and biases are not touched; leaving undoes everything.
    (`generate` copies weights into a plan of its own and does not see it.)
    Raises `ValueError` for another `how`, a layer that does not route, an expert that does not exist, and a removal
    after which some token could not find K experts in the groups it may use. Chapter 08.
    """
    if how not in HOW:
        raise ValueError(f"how={how!r} is not one of {', '.join(HOW)}")
    gone = {layer: _gone(model, layer, experts, how) for layer, experts in removed.items()}

    def change(layer, router, routing):
        gone_E = gone[layer].to(routing.scores_ME.device)
        if how == "zero":
            return replace(routing, gates_MK=routing.gates_MK.masked_fill(gone_E[routing.chosen_MK], 0))
        bias_E = torch.zeros_like(routing.scores_ME[0]) if routing.bias_E is None else routing.bias_E
        return _chosen_again(router, routing, bias_E.masked_fill(gone_E, float("-inf")), router.config)

    with changed_routing(model, gone, change):
        yield model


def _gone(model, layer, experts, how) -> torch.Tensor:
    c, routers = model.config, model.routers()
    if layer not in routers:
        raise ValueError(f"layer {layer} does not route; the layers that do are {sorted(routers)}")
    E, experts = c.n_routed_experts, list(experts)
    if wrong := [e for e in experts if not 0 <= e < E]:
        raise ValueError(f"expert {wrong[0]} of layer {layer} does not exist; there are {E}")
    gone_E = torch.zeros(E, dtype=torch.bool)
    gone_E[experts] = True
    groups, kept = (1, 1) if c.topk_method == "greedy" else (c.n_group, c.topk_group)
    left = sorted((~gone_E).view(groups, -1).sum(1).tolist())
    if how == "rechoose" and sum(left[:kept]) < c.num_experts_per_tok:
        raise ValueError(
            f"without {len(experts)} experts of layer {layer}, {kept} groups may hold only {sum(left[:kept])}; "
            f"a token needs {c.num_experts_per_tok}"
        )
    return gone_E


@contextmanager
def group_limit(model: Transformer, topk_group: int):
    """Inside the `with`, every token may use `topk_group` of the groups, in every layer; nothing else changes.

    `topk_group = n_group` lifts the limit. Raises `ValueError` if the config with that number contradicts itself
    (fewer experts than K, more groups than there are), or for a router without groups. Chapter 08.
    """
    if model.config.topk_method == "greedy":
        raise ValueError(f"topk_method='greedy' has no groups to limit to topk_group={topk_group}")
    config = replace(model.config, topk_group=topk_group)

    def change(_layer, router, routing):
        return _chosen_again(router, routing, routing.bias_E, config)

    with changed_routing(model, model.routers(), change):
        yield model


def _chosen_again(router, routing, bias_E, config):
    chosen_MK, gates_MK = choose(routing.scores_ME, bias_E, config, router.combine)
    load_E = chosen_MK.flatten().bincount(minlength=routing.scores_ME.shape[1])
    return replace(routing, chosen_MK=chosen_MK, gates_MK=gates_MK, bias_E=bias_E, load_E=load_E)


@contextmanager
def changed_routing(model, layers, change):
    """Inside the `with`, `change(layer, router, routing)` stands between the routers of `layers` and the experts.

    What it gives is the routing that the layer uses. Leaving removes it, errors included.
    """
    routers, handles = model.routers(), []
    try:
        for layer in layers:
            hook = lambda router, _args, routing, layer=layer: change(layer, router, routing)  # noqa: E731
            handles.append(routers[layer].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
