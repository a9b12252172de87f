"""Which groups of experts are used together.

V3 lets a token use a few groups of experts only, so that it travels to few machines. If experts that are needed
together sat in different groups, the limit would cost something; if training moves them into the same groups, it costs
nothing. So: which groups do tokens combine, and is that more often than the popularity of the groups alone explains?

The comparison is quasi-independence: pairs of different groups, drawn as if popular groups met each other only because
they are popular. Group i has a weight w_i, and a pair the share w_i w_j / sum over pairs; the weights are such that
every group is used as often as it was.

Letters: M tokens, K experts chosen, G groups of experts.

How the production version differs: group traffic is measured in bytes between machines, and experts are placed so that
it is even (EPLB).
"""

import torch

__all__ = ["expected_pairs", "groups_used", "pair_shares"]


def groups_used(chosen_MK: torch.Tensor, experts: int, groups: int) -> torch.Tensor:
    """Which groups the experts of each token lie in (bool): groups used, which may be fewer than a token may use.

    Raises `ValueError` if `groups` does not divide `experts`. Chapter 08.
    """
    if experts % groups:
        raise ValueError(f"{experts} experts do not divide into {groups} groups")
    used_MG = torch.zeros(len(chosen_MK), groups, dtype=torch.bool)
    return used_MG.scatter_(1, chosen_MK // (experts // groups), True)


def pair_shares(used_MG: torch.Tensor) -> torch.Tensor:
    """Of the tokens that use exactly two groups, the share that uses groups i and j (i < j; float64, rows and columns).

    Zero on and below the diagonal; all zero if no token uses two groups. Chapter 08.
    """
    two = used_MG[used_MG.sum(1) == 2].double()
    return (two.T @ two).triu(1) / max(len(two), 1)


def expected_pairs(share_of_pair: torch.Tensor, rounds: int = 200) -> torch.Tensor:
    """The pair shares if groups met only as often as their popularity makes them (see above), upper triangle.

    Found by iterative proportional fitting; with three groups or fewer it equals the observed shares, because nothing
    is left to explain. Source: Bishop, Fienberg and Holland, Discrete Multivariate Analysis, 1975, chapter 5.
    """
    observed = share_of_pair + share_of_pair.T
    fitted = torch.ones_like(observed).fill_diagonal_(0)
    for _ in range(rounds):
        factor = (observed.sum(1) / fitted.sum(1).clamp(min=1e-300)).sqrt()
        fitted = fitted * factor[:, None] * factor[None, :]
    return fitted.triu(1)
