"""What counting alone achieves: n-gram models, the bar that a trained model has to clear.

A unigram model knows how frequent each token is, a bigram model which token follows which, a trigram model looks two
tokens back. Unseen combinations get their probability from the shorter context, by Witten and Bell's rule: a context
that was followed by many different tokens leaves more room for new ones.

    p(t | context) = (count(context, t) + kinds(context) * p(t | shorter context)) / (count(context) + kinds(context))

How the production version differs: nobody ships n-grams, but every loss curve should be read against them: a model at
the bigram's loss has learned no more than neighbours.
"""

import math
from collections import Counter

import torch

__all__ = ["ngram_losses"]


def ngram_losses(stream, rows_BT: torch.Tensor, vocab_size: int, longest: int = 3) -> dict[int, float]:
    """The mean next-token loss, in nats, of n-gram models for n = 1 to `longest`, on the rows that `evaluate` measures.

    Takes the training tokens as one list of ids; a context reaches back to the row's beginning, as the model's does.
    Source: Witten and Bell, IEEE Trans. Information Theory 37, 1991, method C. Chapter 00.
    """
    if longest < 1:
        raise ValueError(f"longest={longest}: an n-gram has at least 1 token")
    seen, total, kinds = [], [], []
    for n in range(1, longest + 1):
        grams = Counter(zip(*(stream[i:] for i in range(n)), strict=False))
        seen.append(grams)
        kinds.append(Counter(gram[:-1] for gram in grams))
        total.append(Counter())
        for gram, count in grams.items():
            total[-1][gram[:-1]] += count
    sums = [0.0] * longest
    for row in rows_BT.tolist():
        for i in range(1, len(row)):
            p = 1 / vocab_size
            for n in range(longest):
                if n <= i:
                    context = tuple(row[i - n : i])
                    room = kinds[n][context]
                    if room:
                        p = (seen[n][(*context, row[i])] + room * p) / (total[n][context] + room)
                sums[n] -= math.log(p)
    targets = rows_BT.shape[0] * (rows_BT.shape[1] - 1)
    return {n + 1: value / targets for n, value in enumerate(sums)}
