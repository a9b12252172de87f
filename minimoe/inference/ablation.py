"""What does a model lose without one of its experts, and on which tokens?

Remove an expert (see `rerouting`), measure the loss of every prediction, take the difference. A model that was not
trained for it always loses a little, so a single number proves nothing. Two comparisons do: between classes of tokens
(does the loss fall on those that the expert served?) and with other experts of the same layer, removed in the same way
(is this one special?).

The spread is taken over documents: the tokens of one document resemble each other, and documents are what was sampled.

Letters: M tokens, J labels of tokens.

How the production version differs: DeepSeekMoE (arXiv 2401.06066, section 4.5) removes the most used experts of every
token and watches the loss over the whole test set, not over classes of tokens.
"""

import itertools
import math
import random
from dataclasses import dataclass

import torch

from minimoe.inference.rerouting import without_experts
from minimoe.inference.routing_record import RoutingRecord, record_routing
from minimoe.model.transformer import Transformer

__all__ = ["LabelMeans", "ablation_costs", "mean_by_label", "random_sets"]


def ablation_costs(
    model: Transformer, documents, layer: int, sets, how: str = "rechoose", whole: RoutingRecord | None = None
) -> torch.Tensor:
    """What every token's prediction loses (nats; negative: gains) when a set of experts of one layer is removed.

    Takes documents (lists of ids) and `sets`, a list of lists of expert ids; `whole` saves a pass if the documents were
    recorded before. Gives a tensor with a row for every set and a column for every token, NaN where a document ends.
    Raises what `without_experts` and `record_routing` raise. Chapter 08.
    """
    whole = record_routing(model, documents) if whole is None else whole
    rows = []
    for experts in sets:
        with without_experts(model, {layer: experts}, how):
            rows.append(record_routing(model, documents).loss_M - whole.loss_M)
    return torch.stack(rows)


@dataclass(frozen=True)
class LabelMeans:
    """`mean_J` of some value for the tokens of each label; `error_J`, its standard error over documents (float64)."""

    mean_J: torch.Tensor
    error_J: torch.Tensor


def mean_by_label(value_M, label_M, document_M, labels: int) -> LabelMeans:
    """The mean of `value_M` over the tokens of each label, with a standard error that respects documents.

    error^2 = D / (D - 1) * sum over documents (sum of values - mean * number of tokens)^2 / (all tokens)^2, for a ratio
    of sums over D documents that have tokens of this label. NaN values and labels of -1 are left out. NaN where no
    document has the label; the error is NaN for fewer than 2 documents.
    Source: Cochran, Sampling Techniques, 1977, section 6.4. Chapter 08.
    """
    if not len(value_M) == len(label_M) == len(document_M):
        raise ValueError(f"{len(value_M)} values, {len(label_M)} labels, {len(document_M)} document numbers")
    means, errors = [], []
    for label in range(labels):
        here = (label_M == label) & ~value_M.isnan()
        _, inverse = document_M[here].unique(return_inverse=True)
        tokens = inverse.bincount().double()
        D = len(tokens)
        sums = torch.zeros(D, dtype=torch.float64).index_add_(0, inverse, value_M[here].double())
        mean = sums.sum() / tokens.sum()
        square = (sums - mean * tokens).square().sum() / tokens.sum() ** 2
        means.append(mean)
        errors.append((square * D / (D - 1)).sqrt() if D > 1 else torch.tensor(float("nan")))
    return LabelMeans(torch.stack(means).double(), torch.stack(errors).double())


def random_sets(experts: int, size: int, draws: int, seed: int = 0, other_than=()) -> list[list[int]]:
    """`draws` different sets of `size` experts, none of them `other_than`: what a chosen set is to be compared with.

    All sets if there are no more than that. Raises `ValueError` for a size that does not fit. Chapter 08.
    """
    if not 0 < size <= experts:
        raise ValueError(f"size={size} is not between 1 and the {experts} experts")
    generator, unwanted = random.Random(seed), tuple(sorted(other_than))
    if math.comb(experts, size) <= 20_000:
        sets = [s for s in itertools.combinations(range(experts), size) if s != unwanted]
        return [list(s) for s in generator.sample(sets, min(draws, len(sets)))]
    drawn: dict[tuple, None] = {}
    while len(drawn) < draws:
        drawn[tuple(sorted(generator.sample(range(experts), size)))] = None
        drawn.pop(unwanted, None)
    return [list(s) for s in drawn]
