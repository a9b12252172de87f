"""Do the experts of a layer divide the tokens by some property, or is it chance?

Take any labels of tokens (their kind, their domain) and count how often each expert serves each label. If experts did
not care, every column of the table would have the same proportions. How far it is from that is measured by the mutual
information of expert and label, in bits: how much knowing one tells about the other.

A token has K experts, so a table of M tokens has M*K counts, K for each token. The mutual information is that of a
token's label and *one of its experts, drawn evenly*. It cannot exceed the entropy of either.

Counted from a sample it is never zero, not even for an expert that flips coins: each cell is a little off, and every
deviation counts as information. For M tokens that chose K of E experts regardless of J labels the expectation is, to
first order, (E - K)(J - 1) / (2 M K ln 2) bits. So a number of bits alone says nothing; it must be held against the
same number for labels that have been shuffled. How they are shuffled decides what has been tested: see `SHUFFLES`.

Letters: M tokens, K experts chosen, E experts, J labels.

How the production version differs: papers show heat maps, mostly without a null. At billions of tokens the bias is
gone, and the question left is how large an effect is.
"""

import math
from dataclasses import dataclass

import torch

__all__ = ["SHUFFLES", "InformationTest", "chance_bits", "count_table", "expert_information_bits"]
__all__ += ["information_bits", "information_test", "shuffled"]

SHUFFLES = {
    "free": "any token's label may go to any other token: tests independence, if tokens are exchangeable",
    "within documents": "labels move inside their document: tests what is left once the document is known",
    "within positions": "labels move between documents, at the same place: tests what is left once the place is known",
    "rotated": "each document's labels are turned round by a random amount: neighbours stay neighbours, so that runs "
    "of equal labels and of equal experts are not mistaken for dependence",
    "whole documents": "documents swap their labels (one label a document): tests labels of documents, such as domains",
}


def count_table(chosen_MK: torch.Tensor, label_M: torch.Tensor, experts: int, labels: int) -> torch.Tensor:
    """How often each expert was chosen by tokens of each label (int64): K counts for each token, rows E, columns J.

    Takes expert ids (int64) and label numbers from 0; tokens with a label of -1 are left out.
    Raises `ValueError` if the numbers of tokens differ, or an id or label is out of range. Chapter 08.
    """
    if len(chosen_MK) != len(label_M):
        raise ValueError(f"{len(chosen_MK)} tokens were routed and {len(label_M)} have a label")
    known_M = label_M >= 0
    chosen, label = chosen_MK[known_M], label_M[known_M]
    for name, values, size in (("expert", chosen, experts), ("label", label, labels)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < size:
            raise ValueError(f"{name} ids run from {int(values.min())} to {int(values.max())}; there are {size}")
    return (chosen * labels + label[:, None]).flatten().bincount(minlength=experts * labels).view(experts, labels)


def information_bits(counts_EJ: torch.Tensor) -> float:
    """Mutual information of row and column of a table of counts, in bits.

    I = sum_ej p(e, j) log2( p(e, j) / (p(e) p(j)) ), an empty cell adding 0; 0 for an empty table. Computed as H(e) +
    H(j) - H(e, j) in float64. Never negative, and too large on average: see `chance_bits`.
    Source: Shannon, A Mathematical Theory of Communication, 1948, section 6. Chapter 08.
    """
    p = counts_EJ.double() / max(float(counts_EJ.sum()), 1.0)
    bits = _entropy_bits(p.sum(1)) + _entropy_bits(p.sum(0)) - _entropy_bits(p.flatten())
    return max(bits, 0.0)


def _entropy_bits(p: torch.Tensor) -> float:
    return -torch.xlogy(p, p).sum().item() / math.log(2)


def expert_information_bits(counts_EJ: torch.Tensor, tokens_J: torch.Tensor) -> torch.Tensor:
    """For each expert the mutual information of "was it chosen?" (yes, no) and the label, in bits (float64).

    Takes the table of `count_table` and how many tokens have each label. One number an expert, at most 1 bit; they do
    not sum to the layer's. Chapter 08.
    """
    tables = (torch.stack([row_J, tokens_J - row_J]) for row_J in counts_EJ)
    return torch.tensor([information_bits(table) for table in tables], dtype=torch.float64)


def chance_bits(tokens: int, chosen: int, experts: int, labels: int) -> float:
    """The mutual information to be expected of experts that do not care about the label, to first order in 1 / tokens.

    (E - K)(J - 1) / (2 M K ln 2): Miller's (E - 1)(J - 1) / (2 M ln 2) for K = 1. Choosing K *different* experts makes
    the counts steadier than K separate draws would. It holds for any loads, and for tokens that choose independently of
    each other; runs of like tokens make it larger.
    Raises `ValueError` for no tokens. Source: Miller, Note on the bias of information estimates, 1955. Chapter 08.
    """
    if tokens < 1 or chosen < 1:
        raise ValueError(f"tokens={tokens} and chosen={chosen} must be 1 or more")
    return (experts - chosen) * (labels - 1) / (2 * tokens * chosen * math.log(2))


def shuffled(label_M, how: str, generator: torch.Generator, document_M=None, position_M=None) -> torch.Tensor:
    """The labels in another order, one of those that `how` allows; `SHUFFLES` says what each of them tests.

    `document_M` is needed by all but "free" and "within positions" (which needs `position_M`); tokens of a document
    stand together. Raises `ValueError` for an unknown `how`, a missing argument, or documents with more than one label
    under "whole documents".
    """
    if how not in SHUFFLES:
        raise ValueError(f"how={how!r} is not one of {', '.join(SHUFFLES)}")
    stratum_M = {"free": torch.zeros_like(label_M), "within positions": position_M}.get(how, document_M)
    if stratum_M is None:
        raise ValueError(f"how={how!r} needs {'position_M' if 'positions' in how else 'document_M'}, which is None")
    if how == "rotated":
        return _rotated(label_M, document_M, generator)
    if how == "whole documents":
        return _swapped(label_M, document_M, generator)
    # Sorted by stratum, once in order and once at random: the k-th of a stratum gets the label of a random one of it.
    places = stratum_M.argsort(stable=True)
    random = torch.randperm(len(label_M), generator=generator)
    random = random[stratum_M[random].argsort(stable=True)]
    return torch.empty_like(label_M).scatter_(0, places, label_M[random])


def _rotated(label_M, document_M, generator):
    _, inverse, lengths = document_M.unique_consecutive(return_inverse=True, return_counts=True)
    starts = lengths.cumsum(0) - lengths
    by = (torch.rand(len(lengths), generator=generator) * lengths).long()
    place = torch.arange(len(label_M)) - starts[inverse]
    return label_M[starts[inverse] + (place + by[inverse]) % lengths[inverse]]


def _swapped(label_M, document_M, generator):
    _, inverse, lengths = document_M.unique_consecutive(return_inverse=True, return_counts=True)
    first = label_M[lengths.cumsum(0) - lengths]
    if mixed := int((first[inverse] != label_M).sum()):
        raise ValueError(f"{mixed} tokens have another label than their document's first; documents cannot swap")
    return first[torch.randperm(len(first), generator=generator)][inverse]


@dataclass(frozen=True)
class InformationTest:
    """`observed_bits`; `null_bits`, one number a shuffle (float64); `how` they were shuffled."""

    observed_bits: float
    null_bits: torch.Tensor
    how: str

    @property
    def above_chance_bits(self) -> float:
        """Observed minus the mean of the shuffles: the estimate with its bias taken away."""
        return self.observed_bits - self.null_bits.mean().item()

    @property
    def p_value(self) -> float:
        """(1 + shuffles with at least the observed bits) / (1 + shuffles).

        The data as they are count as one of the orders: so p is never 0, and under the null it is at most alpha in at
        most a share alpha of all cases. Source: Phipson and Smyth, arXiv 1603.05766.
        """
        at_least = int((self.null_bits >= self.observed_bits - 1e-12).sum())
        return (1 + at_least) / (1 + len(self.null_bits))


def information_test(
    chosen_MK, label_M, experts: int, labels: int, how="free", document_M=None, position_M=None, shuffles=199, seed=0
) -> InformationTest:
    """The mutual information of expert and label, beside that of `shuffles` shuffled copies of the labels.

    The smallest p-value that it can give is 1 / (1 + shuffles). Tokens with a label of -1 are left out first.
    Takes what `count_table` and `shuffled` take; raises what they raise. Chapter 08.
    """
    if shuffles < 1:
        raise ValueError(f"shuffles={shuffles} must be 1 or more")
    observed = information_bits(count_table(chosen_MK, label_M, experts, labels))
    known = label_M >= 0
    chosen, label = chosen_MK[known], label_M[known]
    document, position = (None if x is None else x[known] for x in (document_M, position_M))
    generator = torch.Generator().manual_seed(seed)
    null = [
        information_bits(count_table(chosen, shuffled(label, how, generator, document, position), experts, labels))
        for _ in range(shuffles)
    ]
    return InformationTest(observed, torch.tensor(null, dtype=torch.float64), how)
