"""From logits to a token: greedy, temperature, top-k, top-p, and where the randomness comes from.

Sampling needs one number between 0 and 1 a token. Where engines differ is who draws it. If the rows of a batch share
one generator, a row's text depends on its neighbours: add a prompt, and all others change. Here every row owns its
numbers, `Noise`: they follow from the row's seed and the index of the token, so a row says the same alone, in a batch,
and after its neighbours have left.

The distribution is a function of the logits alone (`probabilities`), and speculative decoding needs exactly this
function twice: once for what is drafted, once for what is accepted.

How the production version differs: GPU engines draw counter-based noise (Philox) in the kernel, and find the top-p set
without sorting the vocabulary, by rejection (FlashInfer).
"""

import torch

__all__ = ["Noise", "draw", "likeliest", "logprob_of", "probabilities", "row_seeds"]


def probabilities(logits_MV, temperature: float, top_k: int | None = None, top_p: float | None = None) -> torch.Tensor:
    """The distribution that a token is drawn from, in float64.

    softmax(logits / temperature), restricted to the `top_k` likeliest tokens, then to the smallest set of likeliest
    tokens that holds at least `top_p` of what is left, and normalised again. Temperature 0 puts everything on the
    likeliest.

    Takes finite logits of any float dtype. Ties go to the lower token id; the token that reaches `top_p` stays in.
    Source: Holtzman et al., arXiv 1904.09751 section 3.1; the order is that of transformers' generate. Chapter 07.
    """
    if temperature == 0:
        return torch.zeros_like(logits_MV, dtype=torch.float64).scatter_(1, likeliest(logits_MV)[:, None], 1.0)
    probs_MV = (logits_MV.double() / temperature).softmax(-1)
    if top_k is None and top_p is None:
        return probs_MV
    sorted_MV, order_MV = probs_MV.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        sorted_MV[:, top_k:] = 0.0
        sorted_MV /= sorted_MV.sum(-1, keepdim=True)
    if top_p is not None:
        before_MV = sorted_MV.cumsum(-1) - sorted_MV
        sorted_MV = sorted_MV.masked_fill(before_MV >= top_p, 0.0)
    kept_MV = torch.zeros_like(probs_MV).scatter_(1, order_MV, sorted_MV)
    return kept_MV / kept_MV.sum(-1, keepdim=True)


def draw(weights_MV: torch.Tensor, uniform_M: torch.Tensor) -> torch.Tensor:
    """One token a row with probability proportional to its weight: the first whose cumulative weight exceeds u * total.

    Takes weights of at least 0 with a positive sum, and u in [0, 1), both float64; gives ids (int64). A token of weight
    0 is never drawn. Chapter 07.
    """
    totals_MV = weights_MV.cumsum(-1)
    aims_M = uniform_M * totals_MV[:, -1]
    return torch.searchsorted(totals_MV, aims_M[:, None], right=True)[:, 0]


def likeliest(logits_MV: torch.Tensor) -> torch.Tensor:
    """The id of the highest logit, the lowest id among equals: `argmax`, four times quicker on a CPU.

    torch's `argmax` walks number by number, its `amax` uses vectors: find the block of 64 that holds the highest first.
    """
    M, V = logits_MV.shape
    if M < 4 or V % 64 or logits_MV.is_cuda:
        return logits_MV.argmax(-1)
    blocks = logits_MV.view(M, V // 64, 64)
    best_M = blocks.amax(-1).argmax(-1)
    inside = blocks.gather(1, best_M[:, None, None].expand(M, 1, 64))[:, 0]
    return best_M * 64 + inside.argmax(-1)


def logprob_of(logits_MV: torch.Tensor, tokens_M: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[token]: what the model gives the token, before temperature, top-k and top-p."""
    return logits_MV.log_softmax(-1).gather(1, tokens_M[:, None])[:, 0]


def row_seeds(seed: int | None, rows: int) -> list[int]:
    """A seed for each row, the first ones the same however many rows there are; None asks torch's own generator."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return [int(torch.randint(2**62, (), generator=generator)) for _ in range(rows)]


class Noise:
    """Uniform numbers in [0, 1), float64: for every row and every new token one to draft, one to accept, one to sample.

    They follow from the row's seed alone, so neither the other rows nor the moment at which a row leaves can change
    them.
    """

    KINDS = ("draft", "accept", "sample")

    def __init__(self, seeds: list[int], tokens: int, device="cpu"):
        shape = (tokens, len(self.KINDS))
        rows = [torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in seeds]
        self.table = torch.stack(rows).to(device)

    def of(self, kind: str, rows: list[int], indices: list[int]) -> torch.Tensor:
        """The number of each row for its new token of the given index; an index past the end repeats the last one."""
        last = self.table.shape[1] - 1
        return self.table[rows, [min(i, last) for i in indices], self.KINDS.index(kind)]
