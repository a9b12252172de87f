"""What many answers to one question say: pass@k and cons@k.

pass@1 is the chance that one sampled answer is right. pass@k is the chance that at least one of k is: what the model
can find. cons@k is whether the answer that most of k samples agree on is right: what it believes. Reinforcement
learning can raise pass@1 without raising pass@k, by moving probability onto what was found already; the pair of curves
is how one tells eliciting from creating.

The estimators are unbiased: n answers are sampled once, and the average over all choices of k of them has a closed form
(pass) or is drawn (cons).

How the production version differs: the R1 report samples 64 answers for pass@1 on AIME and votes among 64 (16 in the
figure's label); equality of answers needs a parser of mathematics.
"""

import random
from collections import Counter
from math import comb

__all__ = ["cons_at_k", "first_hacked", "learnable_share", "pass_at_k"]


def pass_at_k(right: int, answers: int, k: int) -> float:
    """The chance that k of the n answers, chosen without looking, hold a right one: 1 - C(n - c, k) / C(n, k).

    Takes c = `right` of n = `answers`. Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    Source: Chen et al., arXiv 2107.03374 equation 1. Chapter 10.
    """
    if not 0 <= right <= answers or not 1 <= k <= answers:
        needed = "needs 0 <= right <= answers and 1 <= k <= answers"
        raise ValueError(f"right={right} of answers={answers} at k={k}: {needed}")
    return 1 - comb(answers - right, k) / comb(answers, k)


def cons_at_k(said: list[str], is_right, k: int, draws: int = 100, seed: int = 0) -> float:
    """The share of draws of k answers whose most frequent one is right; ties are broken at random.

    Takes the answers as texts that are equal when they mean the same, and a function that says whether such a text is
    right. With k = len(said) there is one draw. Raises ValueError unless 1 <= k <= len(said).
    Source: self-consistency, Wang et al., arXiv 2203.11171; cons@64 of arXiv 2501.12948. Chapter 10.
    """
    if not 1 <= k <= len(said):
        raise ValueError(f"k={k} of {len(said)} answers: needs 1 <= k <= {len(said)}")
    rng, hits = random.Random(f"votes {seed}"), 0.0
    draws = 1 if k == len(said) else draws
    for _ in range(draws):
        votes = Counter(rng.sample(said, k))
        most = max(votes.values())
        tied = [text for text, count in votes.items() if count == most]
        hits += sum(bool(is_right(text)) for text in tied) / len(tied)
    return hits / draws


def learnable_share(p: float, answers: int) -> float:
    """The chance that a group of O answers, each right with chance p, has right and wrong ones: 1 - p^O - (1 - p)^O.

    Only such a group has advantages that are not zero (rewards of right or wrong alone). Largest at p = 1/2; a problem
    that is never solved teaches nothing, however many answers are sampled. Raises ValueError unless 0 <= p <= 1 and
    O >= 1. Chapter 10.
    """
    if not 0 <= p <= 1 or answers < 1:
        raise ValueError(f"p={p} with answers={answers}: needs a chance from 0 to 1 and at least 1 answer")
    return 1 - p**answers - (1 - p) ** answers


def first_hacked(rewards: list[float], accuracies: list[float], drop: float = 0.05) -> int:
    """The first place at which the goal has fallen and the reward has not; -1 if there is none.

    Place i counts if accuracies[i] <= best - drop, where best is the highest accuracy before i (the first such), and
    rewards[i] is at least the reward at that place. A fall of both is a run that breaks; a fall of the accuracy alone
    is a policy that earns its reward in another way. Raises ValueError for lists of different lengths.
    Chapter 10.
    """
    if len(rewards) != len(accuracies):
        raise ValueError(f"{len(rewards)} rewards and {len(accuracies)} accuracies: one of each a place")
    best = 0
    for i, (reward, accuracy) in enumerate(zip(rewards, accuracies, strict=True)):
        if accuracy > accuracies[best]:
            best = i
        elif accuracy <= accuracies[best] - drop and reward >= rewards[best]:
            return i
    return -1
