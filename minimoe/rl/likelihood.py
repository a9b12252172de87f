"""How likely a policy finds answers that are already written: log-probabilities of their tokens, with gradients.

A row is a prompt and one answer, padded at the end. Position t of the table belongs to the token at t + 1, which the
logits at t predict; the mask is True where that token is part of the answer. Only those positions pass through the
softmax: a prompt is longer than a short answer, and its log-probabilities are nobody's business here.

How the production version differs: rows are packed without padding, and the log-probability of the one token that
counts is taken from the logits chunk by chunk, so that no table of tokens times vocabulary exists.
"""

from dataclasses import dataclass

import torch

from minimoe.model.transformer import Transformer
from minimoe.rl.replay import within
from minimoe.training.responses import PAD

__all__ = ["Rows", "answer_logprobs"]


@dataclass
class Rows:
    """Prompts with their answers as one batch: `ids_BT` padded at the end, `mask_BS` with S = T - 1 predictions."""

    ids_BT: torch.Tensor
    mask_BS: torch.Tensor

    @classmethod
    def of(cls, prompts: list[list[int]], answers: list[list[int]], device="cpu") -> "Rows":
        """The batch of these token ids, one answer a prompt. Raises ValueError for an empty prompt or answer."""
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            if not prompt or not answer:
                raise ValueError(f"row {i} has {len(prompt)} tokens of prompt and {len(answer)} of answer; both need 1")
        width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        ids_BT = torch.full((len(prompts), width), PAD)
        mask_BS = torch.zeros(len(prompts), width - 1, dtype=torch.bool)
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            ids_BT[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            mask_BS[i, len(prompt) - 1 : len(prompt) + len(answer) - 1] = True
        return cls(ids_BT.to(device), mask_BS.to(device))

    def place(self, values: list[list[float]]) -> torch.Tensor:
        """One number for every token of every answer, in the places that `mask_BS` marks; 0 elsewhere."""
        table_BS = torch.zeros(self.mask_BS.shape, dtype=torch.float32, device=self.mask_BS.device)
        table_BS[self.mask_BS] = torch.tensor([value for row in values for value in row], device=table_BS.device)
        return table_BS


def answer_logprobs(
    model: Transformer, rows: Rows, temperature: float = 1.0, kept_AV: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(logits / temperature) of every answer's tokens, and the entropy of the distribution they came from.

    Gives two tables like `rows.mask_BS`, 0 where it is False: log-probabilities with gradients, and entropies (nats)
    without. The temperature is the one that the answers were sampled at, or the ratio would not start at 1; so is
    `kept_AV`, the tokens that could be drawn (row by row the `Answer.kept` of all answers; None: any).
    Source: arXiv 2402.03300 equation 3. Chapter 09.
    """
    logits_BTV = model(rows.ids_BT, mtp=False).logits_BTV
    logprobs_AV = within(logits_BTV[:, :-1][rows.mask_BS] / temperature, kept_AV).log_softmax(-1)
    chosen_A = logprobs_AV.gather(1, rows.ids_BT[:, 1:][rows.mask_BS][:, None])[:, 0]
    with torch.no_grad():
        entropy_A = -(logprobs_AV.exp() * logprobs_AV).sum(-1)
    table_BS = torch.zeros(rows.mask_BS.shape, dtype=chosen_A.dtype, device=chosen_A.device)
    return table_BS.masked_scatter(rows.mask_BS, chosen_A), table_BS.masked_scatter(rows.mask_BS, entropy_A)
