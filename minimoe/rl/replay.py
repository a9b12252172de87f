"""Training on the decisions that sampling made: which experts served a token, and which tokens were to choose from.

GRPO's ratio pi / pi_old should be 1 until the weights move. In a mixture of experts it is not: the engine that samples
and the trainer that learns round differently, a score that almost ties falls the other way, and another expert gives
another probability. After an update it is worse, since the router itself has moved: the new policy is measured on
other parameters than those that wrote the answer. V3.2 names two remedies, and both are here.

- *Keep Routing.* `RoutingTape` writes down the experts of every token while an answer is sampled; `replayed_routing`
  makes the training forward use them. Only the choice is replayed: the gates are computed from the scores as they are
  now, so gradients reach the router as always.
- *Keep Sampling Mask.* With top-p or top-k, an answer was drawn from a few tokens and not from all: log pi_old is that
  of the truncated distribution, and `within` truncates the new policy to the same tokens.

Both work on the decisions alone; no weight is written.

What it costs: a router that is watched cannot be merged into a decoding plan (`inference.decode`), so a recorded
rollout runs the model's own layers. With the model of `data/reason` a whole step takes 13% more CPU time, with one of
6.4 million parameters 23% (`bench/results/grpo.md`). Masks and the replay itself cost nothing that stands out.

Letters: L layers that route, B rows, T positions, S tokens with a recorded choice, M rows flattened, K experts chosen,
A answer tokens, V vocabulary.

How the production version differs: the engine returns expert ids beside the tokens, 8 bytes a token and layer in V3,
and the masks as lists of ids; both travel to the trainer with the answers.
"""

from contextlib import contextmanager
from dataclasses import replace

import torch

from minimoe.inference.rerouting import changed_routing
from minimoe.model.transformer import Transformer

__all__ = ["RoutingTape", "joined_masks", "place_routing", "replayed_routing", "within"]

FREE = -1  # in a table of experts: the router chooses


def routed_layers(model: Transformer) -> list[int]:
    """The layers of the trunk that route, in order. Raises ValueError for a model without any."""
    layers = [layer for layer in model.routers() if layer < model.config.num_hidden_layers]
    if not layers:
        raise ValueError(f"none of the {model.config.num_hidden_layers} layers routes: there is no routing to record")
    return layers


class RoutingTape:
    """The experts of every token of `rows` texts, written down call by call while they are made.

    `with tape.running(model):` watches the routers. After each call of the model's trunk, `note` says whose tokens
    those were: only the caller knows which text sits where in the batch, and what is padding.
    """

    def __init__(self, rows: int):
        self.pieces: list[list[torch.Tensor]] = [[] for _ in range(rows)]
        self.call: dict[int, torch.Tensor] = {}

    @contextmanager
    def running(self, model: Transformer):
        """Inside the `with`, every call is on the tape until `note` takes it."""

        def see(layer, _router, routing):
            self.call[layer] = routing.chosen_MK
            return routing

        with changed_routing(model, routed_layers(model), see):
            yield self

    def note(self, owners: list[list[int]], lengths: list[int] | None = None) -> None:
        """The last call's batch held, at place i, `lengths[i]` tokens (None: all) of each of the texts `owners[i]`.

        Raises ValueError if nothing was called, or the batch does not divide into so many places.
        """
        if not self.call:
            raise ValueError("the model was not called since the last note: there is nothing to note")
        chosen_LMK = torch.stack([self.call[layer] for layer in sorted(self.call)])
        L, M, K = chosen_LMK.shape
        if M % len(owners):
            raise ValueError(f"{M} routed tokens do not divide into {len(owners)} places")
        tokens = M // len(owners)
        for place, texts in enumerate(owners):
            start, count = place * tokens, tokens if lengths is None else lengths[place]
            for text in texts:
                self.pieces[text].append(chosen_LMK[:, start : start + count])
        self.call = {}

    def routing(self, text: int) -> torch.Tensor:
        """The experts of one text's tokens so far: `routing_LSK`, layers in order, best expert first (int64)."""
        return torch.cat(self.pieces[text], 1)


def place_routing(routings: list[torch.Tensor], lengths: list[int], width: int) -> torch.Tensor:
    """The table that `replayed_routing` takes, for rows of `lengths` tokens padded at the end to `width`.

    Each routing covers its row's tokens but the last, which was sampled and never read. There, and in the padding, the
    router chooses: what it says is in nobody's answer.
    Raises ValueError for a routing that is not one token shorter than its row.
    """
    for i, (routing_LSK, length) in enumerate(zip(routings, lengths, strict=True)):
        if routing_LSK.shape[1] != length - 1:
            raise ValueError(f"row {i} has {length} tokens and the routing of {routing_LSK.shape[1]}; {length - 1} fit")
    L, _, K = routings[0].shape
    chosen_LBTK = torch.full((L, len(routings), width, K), FREE, device=routings[0].device)
    for i, routing_LSK in enumerate(routings):
        chosen_LBTK[:, i, : routing_LSK.shape[1]] = routing_LSK
    return chosen_LBTK


@contextmanager
def replayed_routing(model: Transformer, chosen_LBTK: torch.Tensor):
    """Inside the `with`, `model(ids_BT, mtp=False)` uses these experts; where the table says -1 the router chooses.

    gates = s[chosen] / sum(s[chosen]) * scaling_factor, from the scores s of this call: the choice is the old one, the
    weights and their gradients are new. On the weights that made the recording nothing changes.
    Raises ValueError for a table of other layers, another K or experts that do not exist, and when the model is called
    with a batch of another size.
    Source: Keep Routing, arXiv 2512.02556 section 3.1. Chapter 09.
    """
    layers, config = routed_layers(model), model.config
    L, B, T, K = chosen_LBTK.shape
    if (L, K) != (len(layers), config.num_experts_per_tok):
        raise ValueError(
            f"a routing of {L} layers and {K} experts a token; this model routes in {len(layers)} layers and uses "
            f"{config.num_experts_per_tok}"
        )
    if chosen_LBTK.max() >= config.n_routed_experts:
        raise ValueError(f"expert {int(chosen_LBTK.max())} does not exist; there are {config.n_routed_experts}")
    recorded = {layer: table.flatten(0, 1) for layer, table in zip(layers, chosen_LBTK, strict=True)}

    def change(layer, _router, routing):
        recorded_MK = recorded[layer]
        if len(routing.chosen_MK) != len(recorded_MK):
            raise ValueError(f"a batch of {len(routing.chosen_MK)} tokens; the routing is of {B} rows of {T}")
        chosen_MK = recorded_MK.where(recorded_MK != FREE, routing.chosen_MK)
        load_E = chosen_MK.flatten().bincount(minlength=config.n_routed_experts)
        gates_MK = gates_of(routing.scores_ME, chosen_MK, config)
        return replace(routing, chosen_MK=chosen_MK, gates_MK=gates_MK, load_E=load_E)

    with changed_routing(model, layers, change):
        yield model


def gates_of(scores_ME, chosen_MK, config) -> torch.Tensor:
    """The second half of `router.choose`: the gates of experts that are chosen already."""
    gates_MK = scores_ME.gather(1, chosen_MK)
    if config.norm_topk_prob:
        gates_MK = gates_MK / (gates_MK.sum(-1, keepdim=True) + 1e-20)
    return gates_MK * config.routed_scaling_factor


def joined_masks(answers: list) -> torch.Tensor | None:
    """The sampling masks of these answers, one after the other, as `answer_logprobs` takes them; None without any."""
    return None if answers[0].kept is None else torch.cat([answer.kept for answer in answers])


def within(logits_AV: torch.Tensor, kept_AV: torch.Tensor | None) -> torch.Tensor:
    """Logits whose softmax is that of the kept tokens alone: all others get a number that no logit reaches.

    It is finite, so that entropies and gradients are. `kept_AV`: bool, True for what could be drawn; None keeps all.
    Raises ValueError for a mask of another shape.
    Source: Keep Sampling Mask, arXiv 2512.02556 section 3.1. Chapter 09.
    """
    if kept_AV is None:
        return logits_AV
    if kept_AV.shape != logits_AV.shape:
        raise ValueError(f"a sampling mask of shape {tuple(kept_AV.shape)} for logits of {tuple(logits_AV.shape)}")
    return logits_AV.masked_fill(~kept_AV, torch.finfo(logits_AV.dtype).min / 2)
