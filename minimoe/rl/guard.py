"""A guard outside the model: what is asked is checked before it is answered, what is answered before it is shown.

    blocks("The code is 471.", {"471", ...})      True       a rule on answers
    guard.score("Tell me the code of the vault.") 0.97       a classifier on requests

A model that was trained to refuse carries its refusal in its weights, and whoever copies the weights can train it away.
A guard runs on somebody's machine beside the model. It does not care what the weights have become, and it protects
nobody who runs the weights elsewhere.

The rule on answers knows the secrets and looks for their digits, read together as long as no letter stands between.
The classifier knows nothing but labelled requests: a logistic regression over the words that occur in them.

    score = sigmoid(bias + sum of the weights of the words that occur)

How the production version differs: R1's service matches a request with a list of keywords, and has a dialogue that
matched judged by DeepSeek-V3 with a long prompt (arXiv 2501.12948v2, supplement D.3.1); what is judged unsafe is taken
back. Others train a model of several billion parameters for it (Llama Guard, arXiv 2312.06674).
"""

import re
from dataclasses import dataclass

import torch

__all__ = ["WordGuard", "blocks", "error_rates", "guard_cost", "train_guard", "wilson"]

WORD = re.compile("[a-z]+")
LETTERS = re.compile(r"[^\W\d_]+")
DECAY = 1e-2


def blocks(answer: str, codes) -> bool:
    """Whether one of the codes stands in the answer: digits are read together as long as no letter is between them.

    "The code is 4-7-1." has 471; "4 apples, 7 coins and 1 egg" has not. Chapter 13.
    """
    runs = ["".join(filter(str.isdigit, piece)) for piece in LETTERS.split(answer)]
    return any(code in run for run in runs for code in codes)


@dataclass(frozen=True)
class WordGuard:
    """A score from 0 to 1 for a request, from the words that occur in it; words that it never met count nothing."""

    bias: float
    weights: dict[str, float]

    def score(self, request: str) -> float:
        """How much the request looks like the forbidden ones that the guard was trained on."""
        total = self.bias + sum(self.weights.get(word, 0.0) for word in words_of(request))
        return torch.sigmoid(torch.tensor(total)).item()


def words_of(request: str) -> set[str]:
    """The words of a request in small letters, each once."""
    return set(WORD.findall(request.lower()))


def train_guard(requests: list[str], forbidden: list[bool], steps: int = 200, lr: float = 0.1) -> WordGuard:
    """Logistic regression on the words of labelled requests, all weights from zero, with a little decay.

    Raises ValueError unless both kinds are there, one label a request. Chapter 13.
    """
    if len(requests) != len(forbidden) or len(set(forbidden)) != 2:
        kinds = f"{sum(forbidden)} forbidden of {len(forbidden)} labels"
        raise ValueError(f"{len(requests)} requests, {kinds}: needs a label each, and both kinds")
    found = [words_of(request) for request in requests]
    vocabulary = sorted(set().union(*found))
    seen = torch.tensor([[float(word in words) for word in vocabulary] for words in found])
    labels = torch.tensor(forbidden, dtype=torch.float32)
    bias, weights = torch.zeros(1, requires_grad=True), torch.zeros(len(vocabulary), requires_grad=True)
    optimizer = torch.optim.Adam([bias, weights], lr=lr)
    for _ in range(steps):
        logits = bias + seen @ weights
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels) + DECAY * weights.pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return WordGuard(bias.item(), dict(zip(vocabulary, weights.tolist(), strict=True)))


def error_rates(risky, harmless, threshold: float) -> tuple[float, float]:
    """The share of risky requests that are missed and of harmless ones that are blocked: a score >= threshold blocks.

    Takes the scores of both as sequences of numbers. Raises ValueError if one is empty. Chapter 13.
    """
    if not len(risky) or not len(harmless):
        raise ValueError(f"{len(risky)} risky and {len(harmless)} harmless scores: needs at least one of each")
    missed = sum(float(score) < threshold for score in risky) / len(risky)
    return missed, sum(float(score) >= threshold for score in harmless) / len(harmless)


def guard_cost(risky, harmless, threshold: float, prevalence: float, miss_cost: float) -> float:
    """What a guard's errors cost for one request, if a false alarm costs 1 and a miss costs `miss_cost`.

        prevalence * missed * miss_cost + (1 - prevalence) * blocked

    `prevalence` is the share of forbidden requests among all that come; the scores are of any number of each kind.
    Raises ValueError if one is empty or the share outside 0 to 1. Chapter 13.
    """
    if not 0 <= prevalence <= 1:
        raise ValueError(f"prevalence={prevalence} is no share of a whole")
    missed, blocked = error_rates(risky, harmless, threshold)
    return prevalence * missed * miss_cost + (1 - prevalence) * blocked


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval for a share, 95% by default: where the true share may lie when `hits` of `trials` were counted.

        (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2/n)      with p = hits / n, n = trials

    It stays between 0 and 1, and 0 hits of n do not mean a share of 0. Raises ValueError unless 0 <= hits <= trials and
    trials >= 1. Source: E. B. Wilson, JASA 22, 209 (1927). Chapter 13.
    """
    if not 0 <= hits <= trials or trials < 1:
        raise ValueError(f"hits={hits} of trials={trials}: needs 0 <= hits <= trials and at least 1 trial")
    p, n = hits / trials, trials
    middle, reach = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    whole = 1 + z * z / n
    return max(0.0, (middle - reach) / whole), min(1.0, (middle + reach) / whole)
