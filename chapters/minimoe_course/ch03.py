"""Exercises of chapter 03, DeepSeekMoE: many small experts."""

from dataclasses import replace
from math import comb

import torch

from minimoe import NANO, V3
from minimoe.accounting import experts_touched, parameters
from minimoe.model.moe import MoE, loop
from minimoe.model.router import allowed_experts, choose
from minimoe_course.exercise import Exercise, Law, Wrong

__all__ = ["EXERCISES"]


def _width_inputs(g: torch.Generator):
    yield {"F": 6, "E": 3, "K": 2, "shared": 1}
    yield {"F": 2048, "E": 256, "K": 8, "shared": 1}
    yield {"F": 1408, "E": 64, "K": 6, "shared": 2}


def dense_width(F, E, K, shared):
    """The width of the dense block with as many parameters as a token meets in the MoE layer, router included."""
    config = replace(
        V3, moe_intermediate_size=F, n_routed_experts=E, num_experts_per_tok=K, n_shared_experts=shared, n_group=1,
        topk_group=1, topk_method="greedy",
    )  # fmt: skip
    layer = parameters(config).layers[-1]
    met = layer.parts["routed"] - layer.idle + layer.parts["shared"] + layer.parts["router"]
    return met / (3 * config.hidden_size)


WIDTH = Exercise(
    key="03.dense_width",
    reference=dense_width,
    inputs=_width_inputs,
    tolerance=1e-9,
    because="whole numbers and one division",
    wrong=(
        Wrong("no router", lambda F, E, K, s: F * (K + s), "the router is missing: a token is compared with all E centroids of D numbers."),
        Wrong("all experts", lambda F, E, K, s: F * (E + s) + E / 3, "you count every expert that is stored; a token passes through K of the E."),
        Wrong("no shared", lambda F, E, K, s: F * K + E / 3, "the shared experts are missing; they come on top of the K."),
        Wrong("router counted whole", lambda F, E, K, s: F * (K + s) + E,
              "you add E units of width for the router. A centroid has D numbers; one unit of a block has 3 D."),
        Wrong("chosen centroids", lambda F, E, K, s: F * (K + s) + K / 3,
              "you count the centroids of the chosen experts alone; to choose, a token is compared with all E."),
        Wrong("rounded", lambda F, E, K, s: F * (K + s) + E // 3,
              "you round the router's share down, and a third of E is rarely a whole number; divide with / and return the width as it comes."),
        Wrong("shared chosen", lambda F, E, K, s: F * K * (1 + s) + E / 3, "you multiply chosen and shared experts; add them."),
    ),
    hints=(
        "Count parameters on both sides. An expert of width F has 3 D F; what does the router have, and over how many experts does it look?",
        "```text\nmoe   = 3*D*F*(K + shared) + D*E\ndense = 3*D*width\nset them equal; D cancels\n```",
    ),
    solution="def dense_width(F, E, K, shared):\n    return F * (K + shared) + E / 3\n",
    source=parameters,
    differs="It counts every component of every layer; the width is its count for one MoE layer, divided by 3 D.",
)  # fmt: skip


def _logits(scores):
    return torch.tensor(scores).logit()


def _gate_inputs(g: torch.Generator):
    yield {"logits_ME": _logits([[0.9, 0.8, 0.3, 0.2]]), "bias_E": torch.zeros(4), "K": 2, "scale": 2.5}
    yield {
        "logits_ME": _logits([[0.9, 0.8, 0.3, 0.2], [0.1, 0.7, 0.6, 0.2]]),
        "bias_E": torch.tensor([-0.7, 0.0, 0.2, 0.0]), "K": 2, "scale": 2.5,
    }  # fmt: skip
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    yield {"logits_ME": draw(5, 11), "bias_E": draw(11) * 0.4, "K": 3, "scale": 1.7}


def gates(logits_ME, bias_E, K, scale):
    """`router.choose` on sigmoid scores, without groups."""
    E = logits_ME.shape[1]
    one_group = {"n_group": 1, "topk_group": 1}
    config = replace(NANO, n_routed_experts=E, num_experts_per_tok=K, routed_scaling_factor=scale, **one_group)
    return choose(logits_ME.sigmoid(), bias_E, config)


def _gates(weigh, score=torch.sigmoid, choose_by=lambda s, b: s + b):
    """A wrong answer: `score` of the logits, choice by `choose_by`, gates by `weigh(scores, bias, chosen, scale)`."""

    def fn(logits, bias, K, scale):
        scores = score(logits)
        chosen = choose_by(scores, bias).topk(K, dim=-1).indices
        return chosen, weigh(scores, bias, chosen, scale)

    return fn


def _share(kept):
    return kept / kept.sum(-1, keepdim=True)


def _normalised(s, b, c, scale):
    return scale * _share(s.gather(1, c))


def _over_all(s, b, c, scale):
    return scale * s.gather(1, c) / s.sum(-1, keepdim=True)


def _sorted(result):
    chosen, gates = result
    if chosen.is_floating_point() or gates.shape != chosen.shape:
        return result
    order = chosen.argsort(-1)
    return chosen.gather(-1, order), gates.gather(-1, order)


GATES = Exercise(
    key="03.gates",
    reference=gates,
    inputs=_gate_inputs,
    tolerance=1e-6,
    because="float32 rounds at 6e-8, and a gate is a sigmoid, a sum of a few and a division",
    wrong=(
        Wrong("no scale", _gates(lambda s, b, c, scale: _share(s.gather(1, c))), "your gates add up to 1; multiply them by `scale`."),
        Wrong("not normalised", _gates(lambda s, b, c, scale: scale * s.gather(1, c)),
              "your gates add up to something else for every token; divide by the sum of the chosen scores before you scale."),
        Wrong("bias leaks", _gates(lambda s, b, c, scale: scale * _share((s + b).gather(1, c))),
              "your gates change when only the bias changes; make them from the scores without it."),
        Wrong("softmax for sigmoid", _gates(_normalised, score=lambda z: z.softmax(-1)),
              "you score with a softmax over all experts, as V2 does; V3 takes the sigmoid of each logit on its own."),
        Wrong("softmax, V2's way", _gates(lambda s, b, c, scale: scale * s.gather(1, c), score=lambda z: z.softmax(-1)),
              "you score with a softmax over all experts and leave the gates as they are: that is V2's router."),
        Wrong("divided by all", _gates(_over_all), "you divide by the sum over all experts; only the chosen scores count."),
        Wrong("softmax of the chosen", _gates(lambda s, b, c, scale: scale * s.gather(1, c).softmax(-1)),
              "you take a softmax of the chosen scores; V3 divides them by their sum."),
        Wrong("logits", _gates(_normalised, score=lambda z: z), "you use the logits as scores; take their sigmoid first."),
        Wrong("no bias", _gates(_normalised, choose_by=lambda s, b: s), "your choice does not feel the bias; add it to the scores before you take the best."),
        Wrong("bias before the sigmoid", lambda z, b, K, scale: _gates(_normalised)(z + b, torch.zeros_like(b), K, scale),
              "you add the bias to the logits, so it reaches the gates; add it to the scores, for the choice alone."),
        Wrong("chosen by logits", _gates(_normalised, choose_by=lambda s, b: s.logit() + b),
              "you choose by the logits plus the bias; the bias is made for scores between 0 and 1, so take the sigmoid first."),
        Wrong("swapped", lambda z, b, K, scale: gates(z, b, K, scale)[::-1], "you return gates and ids in the wrong order: ids first."),
    ),
    hints=(
        "Three lists for every token: scores; scores plus bias, to choose with; and the chosen scores, to weigh with.",
        "```text\nscores = sigmoid(logits)\nchosen = ids of the K largest of scores + bias, in each row\nkept   = scores at chosen  (gather along the row)\n"
        "return chosen, scale * kept / sum of kept\n```",
    ),
    solution=(
        "def gates(logits_ME, bias_E, K, scale):\n"
        "    scores_ME = logits_ME.sigmoid()\n"
        "    chosen_MK = (scores_ME + bias_E).topk(K, dim=-1).indices\n"
        "    kept_MK = scores_ME.gather(1, chosen_MK)\n"
        "    return chosen_MK, scale * kept_MK / kept_MK.sum(-1, keepdim=True)\n"
    ),
    source=choose,
    differs="It is handed the scores, looks into the best groups only, and adds 1e-20 to the sum so that it can never divide by 0.",
    returns=("chosen_MK", "gates_MK"),
    canonical=_sorted,
)  # fmt: skip


def _group_inputs(g: torch.Generator):
    yield {"biased_ME": torch.tensor([[0.9, 0.1, 0.6, 0.5]]), "groups": 2, "keep": 1, "K": 2}
    yield {"biased_ME": torch.tensor([[-0.2, -0.9, -0.5, -0.4]]), "groups": 2, "keep": 1, "K": 2}
    yield {"biased_ME": torch.rand(7, 24, generator=g) - 0.6, "groups": 6, "keep": 2, "K": 5}


def choose_in_groups(biased_ME, groups, keep, K):
    """The experts that `router.choose` takes when all biased scores are given."""
    E = biased_ME.shape[1]
    config = replace(NANO, n_routed_experts=E, num_experts_per_tok=K, n_group=groups, topk_group=keep)
    return choose(biased_ME, None, config)[0]


def _two_best(split):
    return split.topk(2, dim=-1).values.sum(-1)


def _limited(score=_two_best, excluded=float("-inf"), more=0, interleaved=False, worst=False, tiled=False):
    """A wrong answer: groups ranked by `score`, `keep + more` of them kept, the others' experts set to `excluded`."""

    def fn(biased, groups, keep, K):
        M, E = biased.shape
        split = biased.view(M, E // groups, groups).transpose(1, 2) if interleaved else biased.view(M, groups, -1)
        kept = score(split).topk(min(groups, max(1, keep + more)), dim=-1, largest=not worst).indices
        allowed = torch.zeros(M, groups, dtype=torch.bool).scatter(1, kept, True)
        allowed = allowed.repeat(1, E // groups) if interleaved or tiled else allowed.repeat_interleave(E // groups, dim=1)
        return biased.masked_fill(~allowed, excluded).topk(K, dim=-1).indices

    return fn


def _inside(biased, groups, keep, K):
    """A wrong answer: cuts the kept groups out, and returns places in what is left."""
    split = biased.unflatten(1, (groups, -1))
    kept = _two_best(split).topk(keep, dim=-1).indices
    return split[torch.arange(len(biased))[:, None], kept].flatten(1).topk(K, dim=-1).indices


def _blind_to_a_shift(fn, case):
    """The same number added to every biased score changes no order, so it changes no choice."""
    shifted = dict(case, biased_ME=case["biased_ME"] - 3.0)
    return torch.equal(fn(*case.values()).sort(-1).values, fn(*shifted.values()).sort(-1).values)


GROUPS = Exercise(
    key="03.choose_in_groups",
    reference=choose_in_groups,
    inputs=_group_inputs,
    tolerance=0.0,
    because="the results are expert ids",
    wrong=(
        Wrong("best expert counts", _limited(score=lambda s: s.amax(-1)),
              "you rank a group by its best expert, as V2 does; V3 adds its two best."),
        Wrong("masked with zero", _limited(excluded=0.0),
              "you set excluded experts to 0.0; where all biased scores are negative, 0 wins. Use -inf."),
        Wrong("multiplied by a mask", _limited(score=lambda s: s.amax(-1), excluded=0.0),
              "you set excluded experts to 0.0 and rank a group by its best expert: V2's rule with a mask that negative scores break."),
        Wrong("sum of all", _limited(score=lambda s: s.sum(-1)), "you rank a group by all its experts; only its two best count."),
        Wrong("one group too many", _limited(more=1), "your tokens reach one group too many: keep exactly `keep`."),
        Wrong("one group too few", _limited(more=-1), "your tokens reach one group too few: keep exactly `keep`."),
        Wrong("no limit", lambda b, groups, keep, K: b.topk(K, dim=-1).indices, "you ignore the groups; these are the K best of all experts."),
        Wrong("interleaved groups", _limited(interleaved=True), "you deal the experts out like cards; a group is a run of neighbours."),
        Wrong("mask repeated whole", _limited(tiled=True),
              "you find the right groups, then repeat their mask as a whole; repeat each entry for its group's neighbours (repeat_interleave)."),
        Wrong("ids inside the kept groups", _inside,
              "your ids count the experts of the kept groups only; return their places among all E."),
        Wrong("worst groups", _limited(worst=True), "you keep the groups with the lowest scores."),
    ),
    laws=(Law("your choice changes when every biased score is lowered by the same amount; no order has changed, so no choice may.", _blind_to_a_shift),),
    hints=(
        "Give the groups an axis of their own. Two numbers of a group decide whether it stays; an expert of another group must lose against any number.",
        "```text\nsplit   = biased as [M, groups, E / groups]\nscore   = sum of the two largest in each group\n"
        "kept    = ids of the `keep` best groups\nallowed = True for the experts of kept groups\nbiased where allowed, else -inf; take the K largest\n```",
    ),
    solution=(
        "def choose_in_groups(biased_ME, groups, keep, K):\n"
        "    split = biased_ME.unflatten(1, (groups, -1))\n"
        "    kept = split.topk(2, dim=-1).values.sum(-1).topk(keep, dim=-1).indices\n"
        "    allowed = torch.zeros(len(biased_ME), groups, dtype=torch.bool).scatter(1, kept, True)\n"
        "    allowed = allowed.repeat_interleave(split.shape[-1], dim=1)\n"
        '    return biased_ME.masked_fill(~allowed, float("-inf")).topk(K, dim=-1).indices\n'
    ),
    source=allowed_experts,
    differs="It stops at the mask, and knows V2's rule too.",
    canonical=lambda chosen_MK: chosen_MK.sort(-1).values,
)  # fmt: skip


class _Expert:
    """A feed-forward block that knows how many rows it was given. Not linear, so that it matters where a gate stands."""

    def __init__(self, in_DF, out_FD, says="", bend=torch.nn.functional.silu):
        self.in_DF, self.out_FD, self.bend, self.rows = in_DF, out_FD, bend, 0
        self.says = says or f"expert {in_DF.shape[0]} to {in_DF.shape[1]} to {in_DF.shape[0]}"

    def __call__(self, x_MD):
        self.rows += x_MD.numel() // x_MD.shape[-1]
        return self.bend(x_MD @ self.in_DF) @ self.out_FD

    def __repr__(self):
        return self.says


def _square(factor):
    return _Expert(torch.ones(1, 1), torch.full((1, 1), float(factor)), f"{factor} x²", torch.square)


def _layer_inputs(g: torch.Generator):
    yield {
        "x_MD": torch.tensor([[1.0], [2.0]]), "experts": [_square(1), _square(10), _square(100)], "shared": _square(5),
        "chosen_MK": torch.tensor([[0, 2], [2, 1]]), "gates_MK": torch.tensor([[0.5, 1.5], [0.25, 0.75]]),
    }  # fmt: skip
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    experts = [_Expert(draw(3, 4), draw(4, 3)) for _ in range(6)]
    chosen_MK = torch.stack([torch.randperm(5, generator=g)[:2] for _ in range(7)])  # expert 5 has no token
    yield {
        "x_MD": draw(7, 3), "experts": experts, "shared": _Expert(draw(3, 5), draw(5, 3)),
        "chosen_MK": chosen_MK, "gates_MK": torch.rand(7, 2, generator=g),
    }  # fmt: skip


def moe_layer(x_MD, experts, shared, chosen_MK, gates_MK):
    """`MoE.forward` after its router has spoken: `loop`, and the shared expert on top."""
    return loop(experts, x_MD, chosen_MK, gates_MK) + shared(x_MD)


def _layer(gate=lambda g: g, on_input=False, shares=lambda y, g: y, slots=lambda c: c, residual=False):
    def fn(x, experts, shared, chosen, gates):
        rows = []
        for m, ids in enumerate(slots(chosen).tolist()):
            row = shares(shared(x[m : m + 1]), gates[m])
            for k, e in enumerate(ids):
                weight = gate(gates[m])[k]
                row = row + (experts[e](weight * x[m : m + 1]) if on_input else weight * experts[e](x[m : m + 1]))
            rows.append(row)
        return torch.cat(rows) + (x if residual else 0)

    return fn


def _overwriting(x, experts, shared, chosen, gates):
    """A wrong answer: assigns to the rows of an expert's tokens instead of adding to them."""
    out = shared(x)
    for e, expert in enumerate(experts):
        rows, slots = (chosen == e).nonzero(as_tuple=True)
        out[rows] = gates[rows, slots, None] * expert(x[rows])
    return out


def _runs_no_more_than_chosen(fn, case):
    """Every expert runs on its own tokens: M K rows in all, and M for the shared one."""
    fn(*case.values())
    return sum(expert.rows for expert in case["experts"]) <= case["chosen_MK"].numel()


LAYER = Exercise(
    key="03.moe_layer",
    reference=moe_layer,
    inputs=_layer_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8; a result is a sum of a dozen products, added in another order",
    wrong=(
        Wrong("no shared expert", _layer(shares=lambda y, g: 0 * y), "the shared expert is missing; it serves every token."),
        Wrong("gates on the input", _layer(on_input=True),
              "you multiply the input by the gate; an expert is not linear, so the gate belongs on its output."),
        Wrong("no gates", _layer(gate=torch.ones_like), "you add the experts' outputs unweighted; each is multiplied by its gate."),
        Wrong("gates twice", _layer(gate=torch.square), "you multiply by the gate twice."),
        Wrong("shared weighted", _layer(shares=lambda y, g: y * g.sum()), "you weigh the shared expert with the gates; it is added as it is."),
        Wrong("shared in every slot", _layer(shares=lambda y, g: y * len(g)), "you add the shared expert once for every chosen expert; once a token is right."),
        Wrong("first expert only", _layer(slots=lambda c: c[:, :1]), "your tokens are served by the first of their K experts only."),
        Wrong("gates of another slot", _layer(gate=lambda g: g.flip(0)), "your gates are in the wrong slots: gates_MK[m, k] belongs to chosen_MK[m, k]."),
        Wrong("overwrites", _overwriting,
              "your last expert overwrites what the shared expert and those before it gave the token; add to those rows."),
        Wrong("mean over K", _layer(gate=lambda g: g / len(g)), "you divide by K; the gates say already how much each expert counts."),
        Wrong("residual added", _layer(residual=True), "you add the input; the layer around this one does that."),
    ),
    laws=(Law("the numbers are right, but experts ran on tokens that were not sent to them: gather an expert's own rows first.",
              _runs_no_more_than_chosen),),
    hints=(
        "Go expert by expert. Which rows of `x_MD` were sent to expert e, and in which slot k stands its gate?",
        "```text\nout = shared(x)\nfor e, expert in enumerate(experts):\n    rows, slots = where chosen == e   (nonzero, as_tuple=True)\n"
        "    y   = expert(x[rows]) * gates[rows, slots] as a column\n    out = out.index_add(0, rows, y)\n```",
    ),
    solution=(
        "def moe_layer(x_MD, experts, shared, chosen_MK, gates_MK):\n"
        "    out_MD = shared(x_MD)\n"
        "    for e, expert in enumerate(experts):\n"
        "        rows, slots = (chosen_MK == e).nonzero(as_tuple=True)\n"
        "        out_MD = out_MD.index_add(0, rows, expert(x_MD[rows]) * gates_MK[rows, slots, None])\n"
        "    return out_MD\n"
    ),
    source=MoE,
    differs="It owns its router and its experts, and by default runs the experts with `grouped` instead of `loop`.",
)  # fmt: skip


def _visit_inputs(g: torch.Generator):
    yield {"E": 4, "K": 2, "groups": 2}
    yield {"E": 256, "K": 8, "groups": 8}
    yield {"E": 16, "K": 4, "groups": 4}


def groups_visited(E, K, groups):
    """Groups in which at least one of K different experts lies, on average, when they are drawn at random."""
    return groups * (1 - comb(E - E // groups, K) / comb(E, K))


VISITS = Exercise(
    key="03.groups_visited",
    reference=groups_visited,
    inputs=_visit_inputs,
    tolerance=1e-9,
    because="whole numbers up to 4e14, and one division",
    wrong=(
        Wrong("drawn with repetition", lambda E, K, G: G * (1 - (1 - 1 / G) ** K),
              "you draw every expert anew from all E, so that one could be drawn twice. A token's K experts are different."),
        Wrong("as many as experts", lambda E, K, G: float(min(K, G)), "you let no two of the K experts share a group; at random they do."),
        Wrong("share", lambda E, K, G: 1 - comb(E - E // G, K) / comb(E, K), "your result is the probability of one group; multiply by the number of groups."),
        Wrong("never visited", lambda E, K, G: G * comb(E - E // G, K) / comb(E, K), "you count the groups that are missed; subtract them from all."),
        Wrong("groups for experts", lambda E, K, G: E * (1 - comb(E - E // G, K) / comb(E, K)), "you multiply by the experts; the question is how many groups."),
    ),
    hints=(
        "Look at one group. In how many of all teams is none of its experts a member?",
        "```text\nin_all  = comb(E, K)                 teams\nwithout = comb(E - E // groups, K)   teams that miss a given group\nreturn groups * (1 - without / in_all)\n```",
    ),
    solution=(
        "def groups_visited(E, K, groups):\n"
        "    from math import comb\n\n"
        "    return groups * (1 - comb(E - E // groups, K) / comb(E, K))\n"
    ),
    source=experts_touched,
    differs="It asks the same of a batch: tokens for experts, experts for groups. Two tokens may choose the same expert, so a power stands where the binomials stand.",
)  # fmt: skip

EXERCISES = (WIDTH, GATES, GROUPS, LAYER, VISITS)
