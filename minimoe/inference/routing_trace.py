"""What every router of a model does with a text: the arrays behind a routing picture.

A forward call already reports its choices (`out.routing`). A picture needs more: the score the choice was made with,
the groups a token was barred from, each expert's load and how unequal the loads are. `trace_routing` collects them,
layer by layer, as numpy arrays, and can do so as if the balancing bias were zero everywhere.

Without the bias the whole model is run again rather than the choice alone: layer 1's other choices change what layer 2
sees.

How the production version differs: engines record expert ids only (a few bytes a token), to replay them in training
or to rebalance experts over GPUs; scores are not kept.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.func import functional_call

from minimoe.model.router import Routing, allowed_experts, max_violation
from minimoe.model.transformer import Transformer

__all__ = ["LayerTrace", "changed_choices", "trace_routing"]


@dataclass(frozen=True)
class LayerTrace:
    """One layer's routing of M tokens, as numpy arrays.

    `scores_ME`: affinities before the bias. `selection_ME`: what the choice was made with, scores plus bias.
    `chosen_ME`: bool. `gates_ME`: the weight of a chosen expert, 0 elsewhere. `kept_MG`: which groups a token may use
    (one column if routing is not limited to groups). `load_E`: tokens of each expert. `max_violation`: (max load -
    mean) / mean.
    """

    scores_ME: np.ndarray
    selection_ME: np.ndarray
    chosen_ME: np.ndarray
    gates_ME: np.ndarray
    kept_MG: np.ndarray
    load_E: np.ndarray
    max_violation: float


def trace_routing(model: Transformer, input_ids, use_bias: bool = True) -> dict[int, LayerTrace]:
    """Layer number -> `LayerTrace` for one sequence of token ids, MTP modules included under their layer number.

    MTP depth k routes k tokens fewer than the trunk: its position i reads the state at i and the embedding of token i
    + k. `use_bias=False` runs the whole model with every `e_score_correction_bias` at zero; the model itself is not
    changed.

    Takes a list of ids or a tensor of one axis; gives an empty dict for a model without routed experts.
    Raises `ValueError` for an empty sequence or ids outside the vocabulary. Chapter 03.
    """
    ids_BT = torch.as_tensor(input_ids, dtype=torch.int64, device=model.device).reshape(1, -1)
    swapped = {} if use_bias else _zero_biases(model)
    with torch.no_grad():
        out = functional_call(model, swapped, (ids_BT,), {"mtp": True})
    return {layer: _trace(routing, model.config) for layer, routing in sorted(out.routing.items())}


def _zero_biases(model: Transformer) -> dict[str, torch.Tensor]:
    name = "model.layers.{}.mlp.gate.e_score_correction_bias"
    biases = {name.format(layer): router.e_score_correction_bias for layer, router in model.routers().items()}
    return {key: torch.zeros_like(bias_E) for key, bias_E in biases.items() if bias_E is not None}


def _trace(routing: Routing, config) -> LayerTrace:
    scores_ME = routing.scores_ME
    selection_ME = scores_ME if routing.bias_E is None else scores_ME + routing.bias_E
    groups = 1 if config.topk_method == "greedy" else config.n_group
    allowed_ME = allowed_experts(selection_ME, config)
    return LayerTrace(
        scores_ME=scores_ME.numpy(force=True),
        selection_ME=selection_ME.numpy(force=True),
        chosen_ME=torch.zeros_like(allowed_ME).scatter_(1, routing.chosen_MK, True).numpy(force=True),
        gates_ME=torch.zeros_like(scores_ME).scatter_(1, routing.chosen_MK, routing.gates_MK).numpy(force=True),
        kept_MG=allowed_ME[:, :: allowed_ME.shape[1] // groups].numpy(force=True),
        load_E=routing.load_E.numpy(force=True),
        max_violation=max_violation(routing.load_E),
    )


def changed_choices(one: LayerTrace, other: LayerTrace) -> int:
    """How many of the M * K choices of `one` are not choices of `other` (same tokens, same number of experts).

    Raises `ValueError` naming both shapes if the two traces do not belong together.
    """
    if one.chosen_ME.shape != other.chosen_ME.shape:
        raise ValueError(
            f"traces of {one.chosen_ME.shape} and {other.chosen_ME.shape} tokens x experts cannot be compared"
        )
    return int((one.chosen_ME & ~other.chosen_ME).sum())
