"""Generation: prompts in, tokens out, many rows at once.

Two phases with opposite costs. *Prefill* runs all prompts through the model in one call, padded at the end to one
length; it is limited by arithmetic. *Decoding* then runs one token a row and step; it is limited by reading weights and
cache, which is why rows share steps. A row that is finished leaves the batch at once: the last row moves into its
place.

Which token comes next is `sampling`'s business; guessing two at once is `speculative`'s.

How the production version differs: new requests join a running batch (continuous batching), a long prefill is cut into
chunks between decoding steps, and prefill and decoding run on different machines (V3 section 3.4).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from minimoe.inference.cache import Cache
from minimoe.inference.decode import stepper
from minimoe.inference.request import Request
from minimoe.inference.sampling import Noise, draw, likeliest, logprob_of, probabilities
from minimoe.model.transformer import Transformer

__all__ = ["Decoding", "Generation", "Pass", "generate", "iterate"]


@dataclass
class Generation:
    """What `generate` gives; lists have one entry a prompt, in the order of the prompts.

    `tokens`: the new tokens; a stop token is the last of its row. `logprobs`: of each new token, log softmax of the
    model's logits, before temperature, top-k and top-p. `finish_reasons`: "stop" or "length". `steps`: calls of the
    trunk, the prefill included. `drafted`, `accepted`: tokens that speculative decoding proposed and kept (0 without
    it).
    """

    tokens: list[list[int]]
    logprobs: list[list[float]]
    finish_reasons: list[str | None]
    steps: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float | None:
        """Accepted over drafted tokens; None if none was drafted."""
        return self.accepted / self.drafted if self.drafted else None


@dataclass(frozen=True)
class Pass:
    """One call of the trunk as `trace` sees it; lists have one entry a row that was in the batch.

    `number`: 1 is the prefill. `rows`: which prompt sits there. `tokens`: what the row gained. `drafts`: the token that
    was drafted for it and stood to be checked (None: none), `kept`: whether it stayed, `chances`: the probability that
    it would, min(1, p / q), which is 0 or 1 at temperature 0.
    """

    number: int
    rows: list[int]
    tokens: list[list[int]]
    drafts: list[int | None]
    kept: list[bool]
    chances: list[float | None]


def generate(
    model: Transformer,
    prompts: list[list[int]],
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | list[int] | None = None,
    stop_tokens: int | list[int] | None = None,
    speculative: bool = False,
    stream: Callable[[int, int], None] | None = None,
    trace: Callable[[Pass], None] | None = None,
) -> Generation:
    """Continue every prompt until a stop token or `max_new_tokens`.

    `prompts`: lists of token ids, of any lengths (one list alone is one prompt). `temperature`: 0 takes the likeliest
    token; otherwise tokens are drawn from `sampling.probabilities`. `seed`: one number, from which every row gets its
    own, or one number a row; a row's text depends on its prompt and its seed, not on the other rows. `stop_tokens`: ids
    that end a row (None: the config's `eos_token_id`; []: none). `speculative`: draft with the MTP module; the same
    tokens, or the same distribution, in fewer steps. `stream`: called with (row, token) for every token as it comes.
    `trace`: called with a `Pass` after every call of the trunk.

    Raises `ValueError` or `TypeError` for arguments that make no sense, before anything is computed.
    Source: arXiv 2412.19437 section 3.4. Chapters 00 and 07.
    """
    if stream is not None and not callable(stream):
        raise TypeError(f"stream={stream!r} cannot be called: expected a function of (row, token)")
    if trace is not None and not callable(trace):
        raise TypeError(f"trace={trace!r} cannot be called: expected a function of a Pass")
    arguments = (prompts, max_new_tokens, temperature, top_k, top_p, seed, stop_tokens, speculative)
    decoding = _decoding(model, *arguments)
    decoding.trace = trace
    for row, token in _events(decoding):
        if stream is not None:
            stream(row, token)
    return decoding.result


def iterate(
    model,
    prompts,
    max_new_tokens=64,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=None,
    stop_tokens=None,
    speculative=False,
) -> Iterator[tuple[int, int]]:
    """`generate` as an iterator over (row, token): each step is computed when it is asked for, and can be left undone.

    Takes and raises what `generate` does, at the call.
    """
    arguments = (prompts, max_new_tokens, temperature, top_k, top_p, seed, stop_tokens, speculative)
    return _events(_decoding(model, *arguments))


def _decoding(model, *arguments) -> "Decoding":
    if not isinstance(model, Transformer):
        raise TypeError(f"model is a {type(model).__name__}, not a minimoe.Transformer")
    request = Request.checked(model.config, *arguments)
    if request.speculative:
        from minimoe.inference.speculative import SpeculativeDecoding

        return SpeculativeDecoding(model, request)
    return Decoding(model, request)


def _events(decoding: "Decoding") -> Iterator[tuple[int, int]]:
    yield from decoding.prefill()
    while decoding.rows:
        yield from decoding.round()


@dataclass
class Decoding:
    """A batch on its way. `rows`: for each place in the batch, the prompt that sits there; finished ones have left."""

    model: Transformer
    request: Request
    rows: list[int] = field(init=False)
    trace: Callable[[Pass], None] | None = field(default=None, init=False)

    def __post_init__(self):
        request, model = self.request, self.model
        P = len(request.prompts)
        self.rows = list(range(P))
        self.result = Generation([[] for _ in self.rows], [[] for _ in self.rows], [None] * P)
        self.noise = None if request.greedy else Noise(request.seeds, request.max_new_tokens, model.device)
        cache = Cache(model.config, P, request.capacity, model.dtype, model.device)
        self.steps = stepper(model, cache, P * request.max_new_tokens)

    def prefill(self) -> list[tuple[int, int]]:
        """Run the prompts, padded at the end, and give every row its first token."""
        prompts, device = self.request.prompts, self.model.device
        lengths_B = torch.tensor([len(p) for p in prompts], device=device)
        width = int(lengths_B.max())
        ids_BT = torch.tensor([p + [0] * (width - len(p)) for p in prompts], device=device)
        normed_BTD, read_BTD = self.steps.trunk(ids_BT)
        self.result.steps += 1
        logits_BV = self.steps.head(normed_BTD[torch.arange(len(prompts), device=device), lengths_B - 1])
        self.last_B = self.sample(logits_BV)
        self.after_prefill(ids_BT, lengths_B, read_BTD)
        self.steps.advance(lengths_B)
        return self.record([(self.last_B, self.logprob(logits_BV))], [1] * len(prompts))

    def after_prefill(self, ids_BT, lengths_B, read_BTD) -> None:
        """Nothing more to do; speculative decoding drafts here."""

    def round(self) -> list[tuple[int, int]]:
        """One token for every row."""
        normed_BTD, _ = self.steps.trunk(self.last_B[:, None])
        self.result.steps += 1
        logits_BV = self.steps.head(normed_BTD[:, 0])
        self.last_B = self.sample(logits_BV)
        self.steps.advance(1)
        return self.record([(self.last_B, self.logprob(logits_BV))], [1] * len(self.rows))

    def sample(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """The next token of every row, drawn with the number that its row keeps for it."""
        if self.request.greedy:
            return likeliest(logits_BV)
        return draw(self.probabilities(logits_BV), self.noise.of("sample", self.rows, self.indices()))

    def probabilities(self, logits_MV: torch.Tensor) -> torch.Tensor:
        """The distribution that this request draws from."""
        return probabilities(logits_MV, self.request.temperature, self.request.top_k, self.request.top_p)

    def logprob(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """What the model gives the tokens just drawn."""
        return logprob_of(logits_BV, self.last_B)

    def indices(self, ahead: int = 0) -> list[int]:
        """The index, among its row's new tokens, of the one that comes next (or `ahead` further)."""
        return [len(self.result.tokens[row]) + ahead for row in self.rows]

    def record(self, columns, counts: list[int]) -> list[tuple[int, int]]:
        """Append to every row the first `counts` of its new tokens; finished rows leave. Gives (row, token)."""
        columns = [(tokens_B.tolist(), logprobs_B.tolist()) for tokens_B, logprobs_B in columns]
        events, result, limit = [], self.result, self.request.max_new_tokens
        first = [len(result.tokens[row]) for row in self.rows]
        for place, row in enumerate(self.rows):
            for tokens, logprobs in columns[: counts[place]]:
                result.tokens[row].append(tokens[place])
                result.logprobs[row].append(logprobs[place])
                events.append((row, tokens[place]))
                if tokens[place] in self.request.stop_tokens:
                    result.finish_reasons[row] = "stop"
                elif len(result.tokens[row]) == limit:
                    result.finish_reasons[row] = "length"
                if result.finish_reasons[row] is not None:
                    break
        if self.trace is not None:
            gained = [result.tokens[row][start:] for row, start in zip(self.rows, first, strict=True)]
            self.trace(Pass(result.steps, list(self.rows), gained, *self.verdicts()))
        self.retire([place for place, row in enumerate(self.rows) if result.finish_reasons[row] is None])
        return events

    def verdicts(self) -> tuple[list, list, list]:
        """Drafts, whether they were kept, and their chances: nothing was drafted here."""
        return [None] * len(self.rows), [False] * len(self.rows), [None] * len(self.rows)

    def retire(self, kept: list[int]) -> None:
        """Leave only these places of the batch."""
        if 0 < len(kept) < len(self.rows):
            order = self.steps.keep(kept)
            self.select(order)
            kept = order
        self.rows = [self.rows[place] for place in kept]

    def select(self, order: list[int]) -> None:
        """Bring what is kept a row into the batch's new order."""
        self.last_B = self.last_B[order]
