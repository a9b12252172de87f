"""Does a sampler draw from the model's distribution? Every continuation counted, against its exact probability.

With a vocabulary of eight words there are 512 continuations by three tokens, few enough to compute the probability of
each and to count how often each was drawn. Two numbers say how far the counts are off: the total variation, and the
chi-square statistic over its degrees of freedom, which is about 1 if nothing but chance is at work.

How the production version differs: with 129,280 words nobody can enumerate; engines compare log-probabilities of
drawn tokens, or benchmark scores.
"""

import torch

from minimoe.inference.generate import generate
from minimoe.inference.sampling import probabilities
from minimoe.model.transformer import Transformer

__all__ = ["count_continuations", "exact_continuations", "misfit"]


def exact_continuations(model: Transformer, prompt: list[int], tokens: int, temperature: float = 1.0) -> torch.Tensor:
    """The probability of every continuation by `tokens` tokens, first token slowest, from forwards without a cache."""
    V, prefixes, reached = model.config.vocab_size, [[]], torch.ones(1, dtype=torch.float64)
    for _ in range(tokens):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + prefix for prefix in prefixes]), mtp=False).logits[:, -1]
        reached = (reached[:, None] * probabilities(logits, temperature)).flatten()
        prefixes = [prefix + [token] for prefix in prefixes for token in range(V)]
    return reached


def count_continuations(model: Transformer, prompt: list[int], tokens: int, rows: int, **options) -> torch.Tensor:
    """How often each continuation comes among `rows` samples; the order is that of `exact_continuations`."""
    V = model.config.vocab_size
    result = generate(model, [prompt] * rows, max_new_tokens=tokens, stop_tokens=[], **{"temperature": 1.0} | options)
    places = V ** torch.arange(tokens - 1, -1, -1)
    return (torch.tensor(result.tokens) @ places).bincount(minlength=V**tokens)


def misfit(counts: torch.Tensor, exact: torch.Tensor) -> tuple[float, float]:
    """Total variation between counts and probabilities, and chi-square over its degrees of freedom.

    Continuations that expect fewer than five are pooled.
    """
    expected = exact * counts.sum()
    variation = float((counts - expected).abs().sum() / counts.sum() / 2)
    large = expected >= 5
    seen = torch.cat([counts[large].double(), counts[~large].sum()[None]])
    awaited = torch.cat([expected[large], expected[~large].sum()[None]])
    seen, awaited = seen[awaited > 0], awaited[awaited > 0]
    return variation, float(((seen - awaited).square() / awaited).sum() / (len(seen) - 1))
