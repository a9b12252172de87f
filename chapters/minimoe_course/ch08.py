"""Exercises of chapter 08, What did the experts learn?"""

import math
from types import SimpleNamespace

import torch

from minimoe.inference.rerouting import without_experts
from minimoe.inference.specialisation import InformationTest, chance_bits, information_bits
from minimoe.model.router import choose
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]


def _table_inputs(g: torch.Generator):
    yield {"counts_EJ": torch.tensor([[6, 2], [2, 6]])}
    yield {"counts_EJ": torch.tensor([[9, 1], [3, 3]])}
    yield {"counts_EJ": torch.randint(1, 30, (3, 4), generator=g)}
    yield {"counts_EJ": torch.tensor([[4, 0, 1, 7, 0], [0, 9, 2, 2, 5], [3, 3, 0, 0, 1]])}


def mutual_information(counts_EJ):
    """`specialisation.information_bits`: H(expert) + H(label) - H(both), in bits."""
    return information_bits(counts_EJ)


def _bits(p):
    return -torch.xlogy(p, p).sum().item() / math.log(2)


def _of_shares(formula):
    return lambda counts: formula(counts.double() / counts.sum())


def _by_cells(p, keep=None):
    terms = p * (p / (p.sum(1, keepdim=True) * p.sum(0))).log2()
    return (terms if keep is None else terms[keep(p)]).sum().item()


def _uniform_marginals(p):
    return math.log2(p.numel()) - _bits(p)


INFORMATION = Exercise(
    key="08.mutual_information",
    reference=mutual_information,
    inputs=_table_inputs,
    tolerance=1e-5,
    because="a few dozen logarithms; float32 rounds each at 6e-8, and terms of both signs nearly cancel",
    wrong=(
        Wrong("nats", lambda c: information_bits(c) * math.log(2), "your result is in nats: bits need the logarithm to base 2."),
        Wrong("no marginals", _of_shares(_bits), "your result is the entropy of the cells; divide each share by what its row and its column alone would give."),
        Wrong("NaN", _of_shares(_by_cells), "your result is not a number where a cell is empty: 0 * log 0 counts as 0."),
        Wrong("uniform", _of_shares(_uniform_marginals), "you compare with equal shares; compare with the product of this row's and this column's share."),
        Wrong("conditional", _of_shares(lambda p: _bits(p) - _bits(p.sum(1))), "your result is what is left open about the label once the expert is known; subtract it from the label's entropy."),
        Wrong("counts", lambda c: information_bits(c) * float(c.sum()), "you summed over counts; divide them by their sum first, or by it at the end."),
        Wrong("one marginal", _of_shares(lambda p: _bits(p.sum(1)) - _bits(p)), "the label's own entropy is missing: your result is below zero."),
    ),
    hints=(
        "What would a cell's share be if row and column had nothing to do with each other? Compare each cell with that.",
        "```text\np      = counts / their sum\nalone  = row sums of p  times  column sums of p\nreturn the sum over cells with p > 0 of p * log2(p / alone)\n```",
    ),
    solution=(
        "def mutual_information(counts_EJ):\n"
        "    p = counts_EJ.double() / counts_EJ.sum()\n"
        "    alone = p.sum(1, keepdim=True) * p.sum(0)\n"
        "    full = p > 0\n"
        "    return (p[full] * (p[full] / alone[full]).log2()).sum().item()\n"
    ),
    source=information_bits,
    differs="It takes the entropies of rows and columns and subtracts that of the cells, which is the same sum in another order.",
)  # fmt: skip


def _order_inputs(g: torch.Generator):
    yield {
        "expert_M": torch.tensor([0, 0, 1]), "label_M": torch.tensor([0, 1, 1]),
        "orders_PM": torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]]),
    }  # fmt: skip
    for tokens, orders in ((8, 5), (9, 7), (12, 19)):
        expert = torch.randint(3, (tokens,), generator=g)
        label = torch.where(torch.rand(tokens, generator=g) < 0.4, expert, torch.randint(3, (tokens,), generator=g))
        yield {
            "expert_M": expert, "label_M": label,
            "orders_PM": torch.stack([torch.randperm(tokens, generator=g) for _ in range(orders)]),
        }  # fmt: skip


def permutation_p(expert_M, label_M, orders_PM):
    """`InformationTest.p_value`, for the number of tokens whose expert has the number of their label."""
    matches = (expert_M == label_M[orders_PM]).sum(1).double()
    return InformationTest((expert_M == label_M).sum().item(), matches, "free").p_value


def _p_variant(at_least=torch.ge, plus=1, below=1, orders=None, both=False):
    def p(expert, label, table):
        table = table if orders is None else table[:orders]
        shuffled = (expert[table] if both else expert) == label[table]
        extreme = at_least(shuffled.sum(1), (expert == label).sum()).sum().item()
        return (plus + extreme) / (below + len(table))

    return p


PERMUTATION = Exercise(
    key="08.permutation_p",
    reference=permutation_p,
    inputs=_order_inputs,
    tolerance=1e-6,
    because="one division of whole numbers, which a float32 tensor rounds at 6e-8",
    wrong=(
        Wrong("no +1", _p_variant(plus=0, below=0), "you left out the data's own order. It is one of the possible ones: add 1 above and below, and p is never 0."),
        Wrong("+1 above only", _p_variant(below=0), "you add the data's own order above the line and not below."),
        Wrong("one order", _p_variant(orders=1), "you tried the first order only; count over all of them."),
        Wrong("moves both", _p_variant(both=True), "you put experts and labels into the same new order: every token keeps its own label, and each order matches as often as the data."),
        Wrong("moves experts", lambda e, t, o: _p_variant()(t, e, o), "you put the experts into the new order; `orders_PM` says which token's label each token gets: label_M[order]."),
        Wrong("wrong side", _p_variant(at_least=torch.le), "you count the orders that match less often or equally; dependence means more matches than chance gives."),
        Wrong("ties", _p_variant(at_least=torch.gt), "orders that match exactly as often as the data count too: 'at least as often'."),
        Wrong("1 - p", lambda e, t, o: 1 - _p_variant()(e, t, o), "your result is 1 - p: small where labels and experts agree no better than by chance."),
    ),
    hints=(
        "If expert and label had nothing to do with each other, the data's own order would be one order among others. How many do at least as well?",
        "```text\nmatches   = how many tokens have expert == label\nfor each order: how many have expert == label[order]\nreturn (1 + orders with at least `matches`) / (1 + orders)\n```",
    ),
    solution=(
        "def permutation_p(expert_M, label_M, orders_PM):\n"
        "    matches = (expert_M == label_M).sum()\n"
        "    shuffled_P = (expert_M == label_M[orders_PM]).sum(1)\n"
        "    return (1 + (shuffled_P >= matches).sum().item()) / (1 + len(orders_PM))\n"
    ),
    source=InformationTest,
    differs="It counts with bits of information in place of matches; the orders are drawn by `shuffled`.",
)  # fmt: skip


def _ablation_inputs(g: torch.Generator):
    yield {
        "shared_MD": torch.tensor([[1.0]]), "outputs_MED": torch.tensor([[[10.0], [20.0], [40.0]]]),
        "scores_ME": torch.tensor([[0.9, 0.3, 0.1]]), "bias_E": torch.zeros(3), "removed": 0, "top_k": 2,
    }  # fmt: skip
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    for shift in (0.0, -1.5):  # the second time all biased scores are negative
        yield {
            "shared_MD": draw(7, 3), "outputs_MED": draw(7, 6, 3), "scores_ME": draw(7, 6).sigmoid(),
            "bias_E": 0.2 * draw(6) + shift, "removed": 2, "top_k": 4,
        }  # fmt: skip


def _weigh(shared, outputs, chosen, gates):
    return shared + torch.einsum("mk,mkd->md", gates, outputs.gather(1, chosen[..., None].expand(-1, -1, outputs.shape[2])))


def ablated_output(shared_MD, outputs_MED, scores_ME, bias_E, removed, top_k):
    """`without_experts(..., how="rechoose")` for one layer without groups."""
    config = SimpleNamespace(
        topk_method="greedy", num_experts_per_tok=top_k, norm_topk_prob=True, routed_scaling_factor=1.0
    )
    blocked_E = bias_E.clone()
    blocked_E[removed] = float("-inf")
    chosen_MK, gates_MK = choose(scores_ME, blocked_E, config)
    return _weigh(shared_MD, outputs_MED, chosen_MK, gates_MK)


def _ablation_variant(block="-inf", shared=True, gates="scores", total="chosen"):
    def ablated(shared_MD, outputs, scores, bias, removed, top_k):
        biased = scores + bias
        before = biased.topk(top_k).indices
        blocked = biased.clone()
        if block != "none":
            blocked[:, removed] = 0.0 if block == "0" else float("-inf")
        chosen = blocked.topk(top_k).indices
        weight = (biased if gates == "biased" else scores).gather(1, chosen)
        sums = {"chosen": weight, "before": scores.gather(1, before), "all": scores, "none": torch.ones(len(scores), 1)}
        weight = weight / sums[total].sum(1, keepdim=True)
        if block == "none":
            weight = weight.masked_fill(chosen == removed, 0)
        return _weigh(shared_MD * shared, outputs, chosen, weight)

    return ablated


def _zero_and_raise(shared, outputs, scores, bias, removed, top_k):
    chosen = (scores + bias).topk(top_k).indices
    weight = scores.gather(1, chosen).masked_fill(chosen == removed, 0)
    return _weigh(shared, outputs, chosen, weight / weight.sum(1, keepdim=True))


ABLATION = Exercise(
    key="08.ablated_output",
    reference=ablated_output,
    inputs=_ablation_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8, and a sum of a few products follows a division",
    wrong=(
        Wrong("zeroed", _ablation_variant(block="none"), "you zeroed the expert's gate and nobody took its place: tokens that had chosen it now have one expert fewer. Block it before the choice."),
        Wrong("zeroed and raised", _zero_and_raise, "you zeroed the expert and raised the others' gates, but nobody took its place: block it before the choice."),
        Wrong("shared", _ablation_variant(shared=False), "the shared expert is missing; it serves every token and was not to be removed."),
        Wrong("old sum", _ablation_variant(total="before"), "you divide the new scores by the sum of the old ones: the gates of a token no longer sum to 1."),
        Wrong("all", _ablation_variant(total="all"), "you divide by the scores of all experts; divide by those of the chosen."),
        Wrong("not normalised", _ablation_variant(total="none"), "your gates are bare scores; divide them by the sum of the chosen ones."),
        Wrong("biased gates", _ablation_variant(gates="biased"), "your gates are made of biased scores; the bias is for the choice alone."),
        Wrong("0 for -inf", _ablation_variant(block="0"), "you block the expert with 0. Where all biased scores are negative 0 is the best of them, and the expert is chosen first."),
    ),
    hints=(
        "Removed means: never chosen. What biased score does an expert need so that nothing can be below it?",
        "```text\nbiased = scores + bias, with -inf for `removed`\nchosen = the top_k best of them\ngates  = scores (without bias) of the chosen / their sum\nout    = shared + sum of gate * output of each chosen\n```",
    ),
    solution=(
        "def ablated_output(shared_MD, outputs_MED, scores_ME, bias_E, removed, top_k):\n"
        "    biased_ME = scores_ME + bias_E\n"
        '    biased_ME[:, removed] = float("-inf")\n'
        "    chosen_MK = biased_ME.topk(top_k).indices\n"
        "    gates_MK = scores_ME.gather(1, chosen_MK)\n"
        "    gates_MK = gates_MK / gates_MK.sum(1, keepdim=True)\n"
        "    rows = torch.arange(len(scores_ME))[:, None]\n"
        "    return shared_MD + (gates_MK[..., None] * outputs_MED[rows, chosen_MK]).sum(1)\n"
    ),
    source=without_experts.__wrapped__,
    differs="It hangs itself between the router and the experts of a model, knows group limits, and refuses to leave a token without K experts.",
)  # fmt: skip


def _needed_inputs(g: torch.Generator):
    yield {"bits": 0.1, "experts": 2, "chosen": 1, "labels": 2}
    yield {"bits": 0.01, "experts": 16, "chosen": 4, "labels": 7}
    yield {"bits": 0.003, "experts": 256, "chosen": 8, "labels": 5}


def tokens_needed(bits, experts, chosen, labels):
    """The number of tokens at which `specialisation.chance_bits` is down to `bits`."""
    return chance_bits(1, chosen, experts, labels) / bits


NEEDED = Exercise(
    key="08.tokens_needed",
    reference=tokens_needed,
    inputs=_needed_inputs,
    tolerance=1e-6,
    because="a few products and a division, which a float32 tensor rounds at 6e-8 each",
    wrong=(
        Wrong("nats", lambda b, E, K, J: (E - K) * (J - 1) / (2 * K * b), "your formula is for nats; bits are smaller units, so ln 2 stands below the line."),
        Wrong("K forgotten", lambda b, E, K, J: (E - K) * (J - 1) / (2 * math.log(2) * b), "each token gives K counts: divide by K."),
        Wrong("one choice", lambda b, E, K, J: (E - 1) * (J - 1) / (2 * K * math.log(2) * b), "you use (E - 1), which holds if choices are drawn one by one; a token's K experts differ, and (E - K) is left."),
        Wrong("all cells", lambda b, E, K, J: E * J / (2 * K * math.log(2) * b), "you count all cells as free; the margins fix some of them: (E - K)(J - 1)."),
        Wrong("upside down", lambda b, E, K, J: b * (E - K) * (J - 1) / (2 * K * math.log(2)), "with your formula smaller effects need fewer tokens; `bits` belongs below the line."),
    ),
    hints=(
        "Chance makes $(E-K)(J-1) / (2 M K \\ln 2)$ bits. Set this equal to the bits that you want to see, and solve for M.",
        "```text\nM = (E - K) * (J - 1) / (2 * K * ln 2 * bits)\n```",
    ),
    solution=(
        "def tokens_needed(bits, experts, chosen, labels):\n"
        "    import math\n\n"
        "    return (experts - chosen) * (labels - 1) / (2 * chosen * math.log(2) * bits)\n"
    ),
    source=chance_bits,
    differs="It gives the bits for a number of tokens; you gave the tokens for a number of bits.",
)  # fmt: skip

EXERCISES = (INFORMATION, PERMUTATION, ABLATION, NEEDED)
