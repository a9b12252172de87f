"""How the load of a layer's experts differs between domains, and how sure one can be.

A domain is where a document comes from: a dictionary, a novel, a program. For each domain the load is the share of its
choices that went to each expert. The picture that results is the one with which papers show specialisation, and it has
a trap: 10,000 tokens look like a large sample, but they come from a handful of documents, and the tokens of one
document resemble each other. What was sampled are documents. So the spread is taken by the bootstrap over documents:
draw as many of them again, with repetition, recompute, repeat. The naive spread, as if every choice had been drawn
alone, is given beside it; the ratio of the two says how much the tokens of a document repeat each other.

`held_out_bits` asks the same question without shares: how much better can one guess the experts of unseen documents
when told the domain, or the token, or both?

Letters: M tokens, K experts chosen, E experts, J domains.

How the production version differs: DeepSeek-V3's paper (figure 9) shows relative loads without a spread; its domains
have millions of tokens each.
"""

from dataclasses import dataclass

import torch

from minimoe.inference.specialisation import count_table

__all__ = ["DomainLoad", "HeldOutBits", "domain_load", "held_out_bits"]


@dataclass(frozen=True)
class DomainLoad:
    """Shares of a domain's choices, experts in rows, domains in columns that sum to 1 (float64).

    `share_EJ`; `low_EJ`, `high_EJ`: the middle 95% of the bootstrap over documents; `spread_EJ`: its standard
    deviation; `naive_EJ`: the standard deviation of a binomial share of as many independent choices.
    """

    share_EJ: torch.Tensor
    low_EJ: torch.Tensor
    high_EJ: torch.Tensor
    spread_EJ: torch.Tensor
    naive_EJ: torch.Tensor


def domain_load(
    chosen_MK, domain_M, document_M, experts: int, domains: int, draws: int = 1000, seed: int = 0
) -> DomainLoad:
    """The load of each expert by domain, with its spread over documents.

    share(e, d) = choices of e by tokens of d / all choices by tokens of d. Documents are drawn inside their domain.
    Takes expert ids, a domain (from 0) and a document number for every token; a document has one domain.
    Raises `ValueError` for a domain with fewer than 2 documents (no spread can be told from one), and for a document in
    two domains. Chapter 08.
    """
    counts_EJ = count_table(chosen_MK, domain_M, experts, domains)
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for domain in range(domains):
        here = domain_M == domain
        documents, inverse = document_M[here].unique(return_inverse=True)
        if len(documents) < 2:
            raise ValueError(f"domain {domain} has {len(documents)} documents; a spread needs at least 2")
        if (elsewhere := torch.isin(document_M[~here], documents)).any():
            raise ValueError(f"document {int(document_M[~here][elsewhere][0])} has tokens in two domains")
        of_document = count_table(chosen_MK[here], inverse, experts, len(documents)).double()
        columns.append(_resampled_shares(of_document, draws, generator))
    drawn = torch.stack(columns, dim=-1)  # draws, experts, domains
    share_EJ = counts_EJ.double() / counts_EJ.sum(0)
    low_EJ, high_EJ = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    naive_EJ = (share_EJ * (1 - share_EJ) / counts_EJ.sum(0)).sqrt()
    return DomainLoad(share_EJ, low_EJ, high_EJ, drawn.std(0), naive_EJ)


def _resampled_shares(of_document, draws: int, generator) -> torch.Tensor:
    """Shares of the experts when the columns, one a document, are drawn again with repetition: [draws, experts]."""
    documents = of_document.shape[1]
    picks = torch.randint(documents, (draws, documents), generator=generator)
    times = torch.zeros(draws, documents, dtype=torch.float64)
    times.scatter_add_(1, picks, torch.ones_like(picks, dtype=torch.float64))
    counts = times @ of_document.T
    return counts / counts.sum(1, keepdim=True)


@dataclass(frozen=True)
class HeldOutBits:
    """`bits` saved a choice, and `low`, `high`: the middle 95% when the documents are drawn again."""

    bits: float
    low: float
    high: float


def held_out_bits(
    chosen_MK, label_M, document_M, experts: int, beyond=(), folds: int = 5, trust: float = 5.0, draws=1000, seed=0
) -> HeldOutBits:
    """How many bits a choice `label_M` saves in guessing the experts of documents that were not counted.

    The guess without the label is q(e), the load of the experts, refined for each label a in `beyond`, coarse ones
    first: q(e | a) = (count(e, a) + trust * q(e)) / (count(a) + trust). With the label j it is tilted and normalised:
    p(e) ~ q(e) * (observed(e, j) + trust * load(e)) / (expected(e, j) + trust * load(e)); expected is the sum of q.
    All is counted on four fifths of the documents (for 5 folds) and asked on the rest; bits = mean of log2 p - log2 q.

    With `beyond` = (kind, token id) and domains as labels this is: what does the domain tell that the token does not?
    Only a tilt of the loads by label is seen, not a label that changes each token's experts in another way. Unlike a
    mutual information counted on all data it is not too large by chance: a label that tells nothing saves 0 or a
    little less.

    Takes labels numbered from 0. Raises `ValueError` for fewer documents than folds. Chapter 08.
    """
    documents, document_index = document_M.unique(return_inverse=True)
    if not 2 <= folds <= len(documents):
        raise ValueError(f"{len(documents)} documents cannot be asked in folds={folds} parts")
    generator = torch.Generator().manual_seed(seed)
    fold_M = (torch.randperm(len(documents), generator=generator) % folds)[document_index]
    labels = [label.unique(return_inverse=True)[1] for label in (*beyond, label_M)]
    saved_M = torch.zeros(len(label_M), dtype=torch.float64)  # summed over a token's K choices
    for fold in range(folds):
        asked_M = fold_M == fold
        saved_M[asked_M] = _saved(chosen_MK, labels, asked_M, experts, trust)
    sums = torch.zeros(len(documents), dtype=torch.float64).index_add_(0, document_index, saved_M)
    choices = document_index.bincount().double() * chosen_MK.shape[1]
    picks = torch.randint(len(documents), (draws, len(documents)), generator=generator)
    drawn = sums[picks].sum(1) / choices[picks].sum(1)
    return HeldOutBits((sums.sum() / choices.sum()).item(), drawn.quantile(0.025).item(), drawn.quantile(0.975).item())


def _saved(chosen_MK, labels, asked_M, experts, trust) -> torch.Tensor:
    """Bits that the last of `labels` saves at every asked token, summed over its choices."""
    known = chosen_MK[~asked_M]
    load_E = known.flatten().bincount(minlength=experts).double() + 1 / experts  # never met is not impossible
    load_E = load_E / load_E.sum()
    q_ME = load_E.expand(len(asked_M), experts)
    for label in labels[:-1]:
        counts_ME = count_table(known, label[~asked_M], experts, int(label.max()) + 1).T.double()[label]
        q_ME = (counts_ME + trust * q_ME) / (counts_ME.sum(1, keepdim=True) + trust)
    label, prior_E = labels[-1], trust * load_E
    observed_JE = count_table(known, label[~asked_M], experts, int(label.max()) + 1).T.double()
    expected_JE = torch.zeros_like(observed_JE).index_add_(0, label[~asked_M], q_ME[~asked_M] * chosen_MK.shape[1])
    tilt_JE = (observed_JE + prior_E) / (expected_JE + prior_E)
    p_ME = q_ME * tilt_JE[label]
    p_ME = p_ME / p_ME.sum(1, keepdim=True)
    return (p_ME / q_ME).log2()[asked_M].gather(1, chosen_MK[asked_M]).sum(1)
