"""Rollouts: a group of sampled answers to every question, each with the log-probabilities of its tokens.

This is where an RL step spends its time. Three things keep it cheap. All answers of all questions share one batch on
the latent cache. A question is read once, and its cache entries are copied to the O answers that go on from it. And an
answer that has ended leaves the batch, so that the longest one does not keep the others waiting.

The log-probabilities are those of the policy that sampled, temperature included: the denominator of GRPO's ratio. The
trainer computes the same numbers once more, with gradients. When rollout and training run on different engines the two
disagree a little and the ratio starts beside 1; here both agree to rounding.

Letters: P questions, O answers to each, B = P * O rows.

How the production version differs: rollouts run on an inference engine (vLLM) on machines of their own, with more of
them than training has; the next batch is sampled while this one is learned from; R1 sampled up to 65,536 tokens.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from minimoe.inference.cache import Cache
from minimoe.inference.generate import Decoding
from minimoe.inference.request import Request
from minimoe.inference.sampling import logprob_of, row_seeds
from minimoe.inference.stepper import Stepper
from minimoe.model.transformer import Transformer
from minimoe.rl.replay import RoutingTape, within
from minimoe.rl.tasks import Question
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import encode_prompt

__all__ = ["Answer", "Group", "GroupDecoding", "rollout"]


@dataclass
class Answer:
    """One sampled answer. `tokens` with the end mark, if it came; `text` without it; `ended`: whether it came.

    `logprobs`: of each token, under softmax(logits / temperature), the distribution before top-k and top-p, or after
    them where `kept` says what they left (bool, a row a token). `routing`: if it was recorded, the experts of prompt
    and answer, without the last token, which nobody read: `routing_LSK`. Both are for `replay`.
    """

    tokens: list[int]
    logprobs: list[float]
    text: str
    ended: bool
    routing: torch.Tensor | None = field(default=None, repr=False, compare=False)
    kept: torch.Tensor | None = field(default=None, repr=False, compare=False)


@dataclass
class Group:
    """A question, its prompt as token ids, and the answers sampled for it."""

    question: Question
    prompt: list[int]
    answers: list[Answer]


class GroupDecoding(Decoding):
    """A `Decoding` whose rows come in groups of `answers` with one prompt, which is read once for all of them.

    `keep_mask`: collect for every row, in `kept`, which tokens could be drawn, and give log-probabilities among them.
    """

    def __init__(self, model: Transformer, request: Request, answers: int, keep_mask: bool = False):
        self.answers = answers
        self.kept = [[] for _ in request.prompts] if keep_mask else None
        super().__init__(model, request)

    def prefill(self) -> list[tuple[int, int]]:
        """Read every prompt once, copy its cache entries to its answers, and draw their first tokens."""
        O, device = self.answers, self.model.device  # noqa: E741
        prompts = self.request.prompts[::O]
        lengths_P = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = int(lengths_P.max())
        ids_PT = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts], device=device)
        read = Cache(self.model.config, len(prompts), width, self.model.dtype, device)
        reader = Stepper(self.model, read)
        states_PTD, _ = reader.trunk(ids_PT)
        self.result.steps += 1
        logits_PV = reader.head(states_PTD[torch.arange(len(prompts), device=device), lengths_P - 1])
        for mine, theirs in zip(self.steps.cache.entries, read.entries, strict=True):
            mine[:, :width] = theirs.repeat_interleave(O, 0)
        logits_BV = logits_PV.repeat_interleave(O, 0)
        self.last_B = self.sample(logits_BV)
        self.steps.advance(lengths_P.repeat_interleave(O))
        return self.record([(self.last_B, self.logprob(logits_BV))], [1] * len(self.rows))

    def probabilities(self, logits_MV: torch.Tensor) -> torch.Tensor:
        """As `Decoding.probabilities`; notes what could be drawn."""
        chances_MV = super().probabilities(logits_MV)
        if self.kept is not None:
            self.drawable_MV = chances_MV > 0
            for row, kept_V in zip(self.rows, self.drawable_MV, strict=True):
                self.kept[row].append(kept_V)
        return chances_MV

    def logprob(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """log softmax(logits / temperature) of the tokens just drawn."""
        drawable_BV = None if self.kept is None else self.drawable_MV
        return logprob_of(within(logits_BV / self.request.temperature, drawable_BV), self.last_B)


def rollout(
    model: Transformer,
    tokenizer: Tokenizer,
    questions: list[Question],
    answers: int,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    record_routing: bool = False,
    keep_mask: bool = False,
) -> list[Group]:
    """Sample `answers` answers to every question.

    Gives one `Group` a question, in their order. The same seed gives the same answers; those to a question depend on
    its place, not on what the other questions are. `record_routing` and `keep_mask` give every answer its `routing` and
    its `kept` (see `replay`).
    Raises ValueError for a temperature that is not above 0 (a greedy group has one answer O times, and nothing to learn
    from), fewer than one answer, and whatever `generate` refuses.
    Source: arXiv 2501.12948 section 2.2.1. Chapters 09 and 10.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: the answers of a group must differ, so it must be above 0")
    if answers < 1:
        raise ValueError(f"answers={answers}: a group has at least 1")
    prompts = [encode_prompt(tokenizer, question.problem) for question in questions]
    rows = [prompt for prompt in prompts for _ in range(answers)]
    seeds, stop = row_seeds(seed, len(rows)), [tokenizer.eos_id]
    request = Request.checked(model.config, rows, max_new_tokens, temperature, top_k, top_p, seeds, stop, False)
    tape = RoutingTape(len(rows)) if record_routing else None
    with nullcontext() if tape is None else tape.running(model):
        decoding = GroupDecoding(model, request, answers, keep_mask)
        _decode(decoding, tape)
    given = [_answer(tokenizer, *columns) for columns in _columns(decoding.result)]
    for row, answer in enumerate(given):
        answer.routing = None if tape is None else tape.routing(row)
        answer.kept = None if decoding.kept is None else torch.stack(decoding.kept[row])
    parts = [given[start : start + answers] for start in range(0, len(given), answers)]
    return [Group(*columns) for columns in zip(questions, prompts, parts, strict=True)]


def _decode(decoding: GroupDecoding, tape: RoutingTape | None) -> None:
    """Until every row has ended. The tape learns whose tokens each call read: the prompts' once, then one a row."""
    prompts, O = decoding.request.prompts, decoding.answers  # noqa: E741
    decoding.prefill()
    if tape is not None:
        groups = [list(range(start, start + O)) for start in range(0, len(prompts), O)]
        tape.note(groups, [len(prompt) for prompt in prompts[::O]])
    while decoding.rows:
        owners = [[row] for row in decoding.rows]
        decoding.round()
        if tape is not None:
            tape.note(owners)


def _columns(result):
    return zip(result.tokens, result.logprobs, result.finish_reasons, strict=True)


def _answer(tokenizer: Tokenizer, tokens: list[int], logprobs: list[float], reason: str) -> Answer:
    ended = reason == "stop"
    return Answer(tokens, logprobs, tokenizer.decode(tokens[:-1] if ended else tokens), ended)
