"""Learning from responses, and measuring them: rows of one problem each, a loss that skips the problem, a score.

A document of these tasks is half problem, half response. The problem's digits are random: nobody can predict them, and
a loss over whole documents never falls below what they cost (0.4 nats a token for chains). Worse, their gradient is
noise, and Muon amplifies it: it gives every direction of a matrix the same strength. So the loss counts responses only,
as in supervised fine-tuning: labels of everything else are -100. One document a row, from its beginning, is the second
half of the trick: the model finds an operand by its distance, and no other document stands in between.

Rows of different lengths are padded at the end. Attention looks back and never sees the padding, the loss skips it,
but the router routes it: leave the balancing bias alone (`balance="none"`) while rows are padded, or it would be set by
the load of nothing.

How the production version differs: documents are packed and attention is cut at their borders (variable-length
attention), which costs no padding.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from minimoe.inference.generate import generate
from minimoe.model.transformer import Transformer
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import encode_prompt, split_response

__all__ = [
    "ResponseLearner",
    "Score",
    "measure",
    "ordered_batches",
    "padded_batches",
    "response_labels",
    "response_loss",
]

PAD, ASSISTANT = 2, 7  # ids in every vocabulary that begins with SPECIAL_TOKENS


def padded_batches(documents: list[list[int]], sequences: int, seed: int) -> Iterator[torch.Tensor]:
    """Batches of rows, one document each from its first token, padded at the end (int64); every epoch in a new order.

    Documents left over at the end of an epoch are left out of it. Raises ValueError for fewer documents than a batch.
    """
    if not 0 < sequences <= len(documents):
        raise ValueError(f"{len(documents)} documents do not fill a batch of sequences={sequences}")
    order, rng = list(documents), random.Random(seed)
    while True:
        rng.shuffle(order)
        for start in range(0, len(order) - sequences + 1, sequences):
            yield _pad(order[start : start + sequences])


def ordered_batches(documents: list[list[int]], sequences: int, seed: int, window: int = 8) -> Iterator[torch.Tensor]:
    """Batches in the order of the documents, once, for a corpus that changes on the way; hardly any of it is padding.

    Within `window` batches the documents are sorted by length, and the batches that result come in a random order.
    Documents that do not fill a window are left out. Raises ValueError for fewer than one window.
    """
    size = sequences * window
    if not 0 < size <= len(documents):
        raise ValueError(f"{len(documents)} documents do not fill a window of {window} times sequences={sequences}")
    rng = random.Random(seed)
    for start in range(0, len(documents) - size + 1, size):
        rows = sorted(documents[start : start + size], key=len)
        batches = [rows[i : i + sequences] for i in range(0, size, sequences)]
        rng.shuffle(batches)
        yield from map(_pad, batches)


def _pad(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def response_labels(ids_BT: torch.Tensor) -> torch.Tensor:
    """The labels of rows of one document each: their ids after <Assistant>, -100 everywhere else."""
    begun_BT = (ids_BT == ASSISTANT).cumsum(1) > 0
    return ids_BT.where(begun_BT & (ids_BT != ASSISTANT) & (ids_BT != PAD), -100)


class ResponseLearner(Transformer):
    """A `Transformer` whose loss counts responses only, for rows of one document each. Weights and names are the same.

    The training loop gives the rows themselves as labels; `response_labels` says which of them count.
    """

    def forward(self, input_ids_BT, labels=None, **options):
        """As `Transformer.forward`; `labels` are masked first, where `input_ids_BT` is no response."""
        if labels is not None:
            labels = labels.where(response_labels(input_ids_BT) != -100, -100)
        return super().forward(input_ids_BT, labels=labels, **options)


@torch.no_grad()
def response_loss(model: Transformer, documents: list[list[int]], sequences: int = 64) -> float:
    """The mean next-token loss (nats a token) over all tokens of the responses."""
    total, count = 0.0, 0
    for start in range(0, len(documents), sequences):
        ids_BT = _pad(documents[start : start + sequences])
        labels_BT = response_labels(ids_BT)
        n = int((labels_BT != -100).sum())
        total += model(ids_BT, labels=labels_BT, mtp=False).losses["next_token"].item() * n
        count += n
    return total / count


@dataclass(frozen=True)
class Score:
    """What `measure` found.

    `accuracy`: the share of right answers; `well_formed`: of responses with a closed thought, empty or not;
    `mean_tokens`: the length of a response, end mark included; `waits`: how often one says "wait", on average.
    """

    accuracy: float
    well_formed: float
    mean_tokens: float
    waits: float
    responses: list[str]


def measure(model, tokenizer: Tokenizer, task, problems: list[str], max_new_tokens: int = 64, **sampling) -> Score:
    """Let the model answer every problem, and verify the answers.

    Greedy unless `sampling` (temperature, top_k, top_p, seed) says otherwise. A response that has not ended after
    `max_new_tokens` is wrong, whatever it says. Raises ValueError without a problem.
    """
    if not problems:
        raise ValueError("problems=[]: there is nothing to measure")
    prompts = [encode_prompt(tokenizer, problem) for problem in problems]
    result = generate(model, prompts, max_new_tokens, stop_tokens=[tokenizer.eos_id], **sampling)
    responses = [tokenizer.decode(tokens) for tokens in result.tokens]
    ended = [reason == "stop" for reason in result.finish_reasons]
    right = [e and task.is_correct(p, r) for p, r, e in zip(problems, responses, ended, strict=True)]
    formed = [split_response(response)[0] is not None for response in responses]
    lengths, waits = map(len, result.tokens), (response.count("wait") for response in responses)
    n = len(problems)
    return Score(sum(right) / n, sum(formed) / n, sum(lengths) / n, sum(waits) / n, responses)
