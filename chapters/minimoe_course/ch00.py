"""Exercises of chapter 00, a 671-billion-parameter model on your laptop."""

from dataclasses import replace

import torch

from minimoe import NANO, V3
from minimoe.accounting import days, dollars, experts_touched, parameters
from minimoe.model.router import choose
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]


def _layer_inputs(g: torch.Generator):
    yield {"hidden": 2, "width": 4, "routed": 3, "shared": 1, "chosen": 2}
    yield {"hidden": 7168, "width": 2048, "routed": 256, "shared": 1, "chosen": 8}
    yield {"hidden": 2048, "width": 1408, "routed": 64, "shared": 2, "chosen": 6}


def expert_parameters(hidden, width, routed, shared, chosen):
    """(all, working on one token): the experts of one MoE layer as `accounting.parameters` counts them."""
    config = replace(
        V3, hidden_size=hidden, moe_intermediate_size=width, n_routed_experts=routed, n_shared_experts=shared,
        num_experts_per_tok=chosen, n_group=1, topk_group=1,
    )  # fmt: skip
    layer = parameters(config).layers[-1]
    both = layer.parts["routed"] + layer.parts["shared"]
    return both, both - layer.idle


EXPERTS = Exercise(
    key="00.expert_parameters",
    reference=expert_parameters,
    inputs=_layer_inputs,
    tolerance=0.0,
    because="whole numbers",
    wrong=(
        Wrong(
            "two matrices", lambda d, f, e, s, k: (2 * d * f * (e + s), 2 * d * f * (k + s)),
            "you count two matrices an expert; an expert has three.",
        ),
        Wrong(
            "no shared expert", lambda d, f, e, s, k: (3 * d * f * e, 3 * d * f * k),
            "the shared experts are missing; they work on every token.",
        ),
        Wrong(
            "shared among the chosen", lambda d, f, e, s, k: (3 * d * f * (e + s), 3 * d * f * k),
            "you let the shared expert be one of the chosen; it comes on top of them.",
        ),
        Wrong(
            "all work", lambda d, f, e, s, k: (3 * d * f * (e + s), 3 * d * f * (e + s)),
            "your second number lets every expert work on the token; it goes to `chosen` of them.",
        ),
        Wrong(
            "wider expert", lambda d, f, e, s, k: (3 * d * f * (e + s), 3 * d * f * k * (1 + s)),
            "your second number multiplies chosen and shared experts; add them.",
        ),
    ),
    hints=(
        "One expert is a feed-forward block with three matrices of hidden x width. How many experts are stored, and through how many does one token pass?",
        "```text\none = 3 * hidden * width\nall = one * (routed + shared)\nworking = one * (chosen + shared)\n```",
    ),
    solution=(
        "def expert_parameters(hidden, width, routed, shared, chosen):\n"
        "    one = 3 * hidden * width\n"
        "    return one * (routed + shared), one * (chosen + shared)\n"
    ),
    source=parameters,
    differs="It counts every component of every layer; the experts are two of them.",
    returns=("all", "working"),
)  # fmt: skip


def _choice_inputs(g: torch.Generator):
    yield {"scores_E": torch.tensor([0.9, 0.8, 0.3, 0.2]), "bias_E": torch.tensor([-0.7, 0.0, 0.2, 0.0]), "K": 2}
    yield {"scores_E": torch.tensor([0.9, 0.8, 0.3, 0.2]), "bias_E": torch.zeros(4), "K": 2}
    yield {"scores_E": torch.rand(11, generator=g), "bias_E": torch.randn(11, generator=g) * 0.3, "K": 5}


def choose_experts(scores_E, bias_E, K):
    """`router.choose` for one token, without groups and without a scaling factor."""
    E = len(scores_E)
    config = replace(NANO, n_routed_experts=E, num_experts_per_tok=K, n_group=1, topk_group=1, routed_scaling_factor=1.0)
    chosen_MK, gates_MK = choose(scores_E[None], bias_E, config)
    return chosen_MK[0], gates_MK[0]


def _gates(make):
    def chosen_and_gates(scores, bias, K):
        chosen = (scores + bias).topk(K).indices
        return chosen, make(scores, bias, chosen)

    return chosen_and_gates


def _no_bias(scores, bias, K):
    best, chosen = scores.topk(K)
    return chosen, best / best.sum()


def _in_order(result):
    chosen, gates = result
    if chosen.is_floating_point():
        return result  # gates where ids should stand: nothing to bring in order
    order = chosen.argsort()
    return chosen[order], gates[order]


CHOICE = Exercise(
    key="00.choose_experts",
    reference=choose_experts,
    inputs=_choice_inputs,
    tolerance=1e-6,
    because="float32 rounds at 6e-8, and a gate is one sum and one division",
    wrong=(
        Wrong("bias leaks", _gates(lambda s, b, c: (s + b)[c] / (s + b)[c].sum()),
              "your gates change when only the bias changes; the bias may change the choice and nothing else."),
        Wrong("swapped", lambda s, b, K: _gates(lambda s, b, c: s[c] / s[c].sum())(s, b, K)[::-1],
              "you return gates and ids in the wrong order: ids first, then gates."),
        Wrong("bias ignored", _no_bias, "your choice does not feel the bias; add it to the scores before you take the best."),
        Wrong("not normalised", _gates(lambda s, b, c: s[c]), "your gates do not add up to 1; divide by the sum of the chosen scores."),
        Wrong("softmax", _gates(lambda s, b, c: s[c].softmax(-1)), "you took a softmax of the chosen scores; V3 divides by their sum."),
        Wrong("sum over all", _gates(lambda s, b, c: s[c] / s.sum()), "you divide by the sum over all experts; only the chosen count."),
    ),
    hints=(
        "There are two lists: scores with the bias, for choosing, and scores without it, for weighing.",
        "```text\nchosen = indices of the K largest of scores + bias\nkept = scores at chosen\nreturn chosen, kept / sum of kept\n```",
    ),
    solution=(
        "def choose_experts(scores_E, bias_E, K):\n"
        "    chosen_K = (scores_E + bias_E).topk(K).indices\n"
        "    kept_K = scores_E[chosen_K]\n"
        "    return chosen_K, kept_K / kept_K.sum()\n"
    ),
    source=choose,
    differs="It routes many tokens at once, looks into the best groups of experts only, and multiplies the gates by a constant.",
    returns=("chosen_K", "gates_K"),
    canonical=_in_order,
)  # fmt: skip


def _rent_inputs(g: torch.Generator):
    yield {"gpu_hours": 48.0, "gpus": 2, "price": 3.0}
    yield {"gpu_hours": 2_788_000.0, "gpus": 2048, "price": 2.0}
    yield {"gpu_hours": 147_000.0, "gpus": 512, "price": 2.0}


def rent(gpu_hours, gpus, price):
    """(days, dollars) of renting: `accounting.days` and `accounting.dollars`."""
    return days(gpu_hours, gpus), dollars(gpu_hours, price)


RENT = Exercise(
    key="00.rent",
    reference=rent,
    inputs=_rent_inputs,
    tolerance=1e-9,
    because="two multiplications and two divisions",
    wrong=(
        Wrong("hours for days", lambda h, g, p: (h / g, h * p), "your first number is in hours; a day has 24."),
        Wrong("one GPU", lambda h, g, p: (h / 24, h * p), "you let one GPU do all the work; they share the hours."),
        Wrong("paid a GPU", lambda h, g, p: (h / g / 24, h * p / g), "you divide the bill by the GPUs; a GPU-hour is paid once for each GPU."),
        Wrong("paid twice", lambda h, g, p: (h / g / 24, h * g * p), "you multiply the bill by the GPUs; GPU-hours already count all of them."),
    ),
    hints=(
        "A GPU-hour is one GPU for one hour. 2,048 GPUs spend 2,048 of them every hour.",
        "```text\ndays = gpu_hours / gpus / 24\ndollars = gpu_hours * price\n```",
    ),
    solution="def rent(gpu_hours, gpus, price):\n    return gpu_hours / gpus / 24, gpu_hours * price\n",
    source=days,
    differs="Days and dollars are two functions there, and both refuse negative hours.",
    returns=("days", "dollars"),
)


def _touched_inputs(g: torch.Generator):
    yield {"E": 4, "K": 2, "tokens": 1}
    yield {"E": 4, "K": 2, "tokens": 2}
    yield {"E": 256, "K": 8, "tokens": 64}


TOUCHED = Exercise(
    key="00.touched",
    reference=experts_touched,
    inputs=_touched_inputs,
    tolerance=1e-9,
    because="float64 carries sixteen digits through a power",
    wrong=(
        Wrong("no overlap", lambda E, K, tokens: min(E, K * tokens), "you let no two tokens share an expert; at random they do."),
        Wrong("never used", lambda E, K, tokens: E * (1 - K / E) ** tokens, "you count the experts that nobody uses; subtract them from E."),
        Wrong("share", lambda E, K, tokens: 1 - (1 - K / E) ** tokens, "your result is a share; multiply by the E experts."),
        Wrong("one choice", lambda E, K, tokens: E * (1 - (1 - 1 / E) ** tokens), "you send each token to one expert; it goes to K."),
    ),
    hints=(
        "Look at one expert. With which probability does one token miss it? With which do all tokens miss it?",
        "```text\nmissed_by_one = 1 - K / E\nmissed_by_all = missed_by_one to the power of tokens\nreturn E * (1 - missed_by_all)\n```",
    ),
    solution="def touched(E, K, tokens):\n    return E * (1 - (1 - K / E) ** tokens)\n",
    differs="It refuses K above E and negative token counts.",
)

EXERCISES = (EXPERTS, RENT, CHOICE, TOUCHED)
