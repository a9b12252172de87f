"""A reward model: taste, learned from pairs of answers of which one was preferred.

Nobody can write down what makes a letter good, but anybody can say which of two is better. A reward model gives every
answer a number such that the preferred one of a pair tends to have the higher. It is a language model whose last
hidden state goes through one row of weights instead of the vocabulary's:

    P(a is preferred to b) = sigmoid(score(a) - score(b))         Bradley-Terry
    loss = -log sigmoid(score(preferred) - score(rejected))

Only differences of scores mean something. And only on answers like those in the pairs: a policy that is rewarded by it
for long finds answers unlike any of them that score high and are bad. R1 therefore uses it in the last part of the last
stage only, and on prompts for which there is no rule.

How the production version differs: R1's has V3's own architecture and 66,000 pairs, judged by V3 four times each, with
the two positions exchanged; pairs whose lengths differ much were balanced, since judges like long answers.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minimoe.model.transformer import Transformer
from minimoe.rl.tasks import Question
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import document, encode_document
from minimoe.training.responses import PAD
from minimoe.training.schedule import rate_factor

__all__ = ["Pair", "RewardModel", "bradley_terry_loss", "draw_pairs", "pair_accuracy", "preference"]
__all__ += ["train_reward_model"]


@dataclass(frozen=True)
class Pair:
    """Two responses to one problem, the preferred one first."""

    problem: str
    preferred: str
    rejected: str


def draw_pairs(task, problems: list[str], replies: Callable[[random.Random, str], str], seed: int) -> list[Pair]:
    """A pair for every problem: two replies drawn until they differ in `task.quality`, the better one first.

    `replies` gives a reply to a problem, better or worse. Raises ValueError if 100 draws are equally good.
    """
    rng, pairs = random.Random(f"pairs {seed}"), []
    for problem in problems:
        for _ in range(100):
            both = sorted((replies(rng, problem) for _ in range(2)), key=lambda reply: task.quality(problem, reply))
            if task.quality(problem, both[0]) < task.quality(problem, both[1]):
                break
        else:
            raise ValueError(f"100 pairs of replies to {problem!r} were equally good: nothing to prefer")
        pairs.append(Pair(problem, preferred=both[1], rejected=both[0]))
    return pairs


class RewardModel(nn.Module):
    """A trunk and one row of weights: `score_B` of documents, read at their last token.

    The trunk is a `Transformer`, best one that has been trained already; its head over the vocabulary is not used.
    The score starts at 0 for every document. Source: arXiv 2501.12948 supplement B.4; arXiv 2203.02155 section 3.5.
    """

    def __init__(self, trunk: Transformer):
        super().__init__()
        self.trunk = trunk
        self.score = nn.Linear(trunk.config.hidden_size, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, documents: list[list[int]]) -> torch.Tensor:
        """`score_B` of documents given as token ids, end mark included."""
        width = max(map(len, documents))
        ids_BT = torch.tensor([row + [PAD] * (width - len(row)) for row in documents], device=self.trunk.device)
        hidden_BTD = self.trunk(ids_BT, mtp=False).hidden_BTD
        last_B = torch.tensor([len(row) - 1 for row in documents], device=self.trunk.device)
        return self.score(hidden_BTD[torch.arange(len(documents)), last_B])[:, 0]


def bradley_terry_loss(preferred_B: torch.Tensor, rejected_B: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(preferred - rejected), the mean over pairs of scores. Source: arXiv 2203.02155 equation 1."""
    return -F.logsigmoid(preferred_B - rejected_B).mean()


def train_reward_model(
    model: RewardModel, tokenizer: Tokenizer, pairs: list[Pair], steps: int, pairs_a_step: int = 16, lr: float = 2e-3,
    seed: int = 0,
) -> list[float]:  # fmt: skip
    """Train `model` in place on the Bradley-Terry loss, AdamW with a linear warm-up and a cosine; gives the losses.

    Raises ValueError for fewer pairs than a step takes.
    """
    if not 0 < pairs_a_step <= len(pairs):
        raise ValueError(f"{len(pairs)} pairs do not fill a step of pairs_a_step={pairs_a_step}")
    encoded = [_encode(tokenizer, pair) for pair in pairs]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    rng, losses = random.Random(f"steps {seed}"), []
    model.train()
    for step in range(steps):
        batch = rng.sample(encoded, pairs_a_step)
        preferred_B, rejected_B = model([row for pair in batch for row in pair]).view(-1, 2).unbind(1)
        loss = bradley_terry_loss(preferred_B, rejected_B)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * rate_factor(step / steps, warmup=0.1, floor=0.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def pair_accuracy(model: RewardModel, tokenizer: Tokenizer, pairs: list[Pair]) -> float:
    """The share of pairs whose preferred response has the higher score."""
    scores_B2 = model([row for pair in pairs for row in _encode(tokenizer, pair)]).view(-1, 2)
    return (scores_B2[:, 0] > scores_B2[:, 1]).float().mean().item()


def preference(model: RewardModel, tokenizer: Tokenizer, task_name: str) -> Callable:
    """A rule for `Rewards`: sigmoid(score) of answers to the task of that name that ended; 0 for all others.

    Scores are kept, since a policy says the same thing often.
    """
    known: dict[tuple[str, str], float] = {}

    @torch.no_grad()
    def rule(question: Question, answer) -> float:
        if question.task.name != task_name or not answer.ended:
            return 0.0
        key = question.problem, answer.text
        if key not in known:
            row = encode_document(tokenizer, document(*key))
            known[key] = model([row]).sigmoid().item()
        return known[key]

    return rule


def _encode(tokenizer: Tokenizer, pair: Pair) -> tuple[list[int], list[int]]:
    rows = [encode_document(tokenizer, document(pair.problem, text)) for text in (pair.preferred, pair.rejected)]
    return rows[0], rows[1]
