"""What a generation call asks for, checked before anything is computed.

A wrong prompt rarely fails where it is wrong: an empty one fails in a maximum, an id past the vocabulary in an
embedding, a prompt that is still text in the depths of a tensor constructor. So every rule is checked here, and every
message names what was given and what would be right.

How the production version differs: a server bounds what a request may ask for, and queues it.
"""

from dataclasses import dataclass
from math import isfinite

from minimoe.config import ModelConfig
from minimoe.inference.sampling import row_seeds

__all__ = ["Request"]


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Request:
    """A checked generation call: `prompts` is a list of lists, `seeds` has one seed a row, `stop_tokens` is a set."""

    prompts: list[list[int]]
    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    seeds: list[int]
    stop_tokens: frozenset[int]
    speculative: bool

    @classmethod
    def checked(
        cls, config: ModelConfig, prompts, max_new_tokens, temperature, top_k, top_p, seed, stop_tokens, speculative
    ) -> "Request":
        """Raise `ValueError` or `TypeError` with a sentence if the call cannot be served by a model of `config`."""
        prompts = _prompts(prompts, config)
        _check_length(prompts, max_new_tokens, config)
        _check_distribution(temperature, top_k, top_p, config)
        if not isinstance(speculative, bool):
            raise TypeError(f"speculative={speculative!r} is neither True nor False")
        if speculative and config.num_nextn_predict_layers == 0:
            raise ValueError(
                "speculative=True drafts with an MTP module, and this model has none (num_nextn_predict_layers=0)"
            )
        seeds, stop = _seeds(seed, len(prompts)), _stop_tokens(stop_tokens, config)
        return cls(prompts, max_new_tokens, temperature, top_k, top_p, seeds, stop, speculative)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken every time."""
        return self.temperature == 0

    @property
    def capacity(self) -> int:
        """Cache slots a row may need: its prompt, its new tokens, and one draft beyond them."""
        return max(map(len, self.prompts)) + self.max_new_tokens + 1


def _prompts(prompts, config: ModelConfig) -> list[list[int]]:
    if not isinstance(prompts, list | tuple):
        hint = {"str": ": encode it with a tokenizer first", "Tensor": ": call .tolist() on it"}
        kind = type(prompts).__name__
        raise TypeError(f"prompts is a {kind}, not a list of lists of token ids{hint.get(kind, '')}")
    if not prompts:
        raise ValueError("prompts is an empty list: expected at least one prompt")
    if _is_int(prompts[0]):
        prompts = [prompts]
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, list | tuple):
            raise TypeError(f"prompts[{i}] is a {type(prompt).__name__}, not a list of token ids (whole numbers)")
        if not prompt:
            raise ValueError(f"prompts[{i}] is empty: a model needs at least one token to continue")
        for token in prompt:
            if not _is_int(token):
                raise TypeError(f"prompts[{i}] holds {token!r} ({type(token).__name__}), not a token id (whole number)")
            if not 0 <= token < config.vocab_size:
                allowed = f"vocab_size={config.vocab_size} allows 0 to {config.vocab_size - 1}"
                raise ValueError(f"prompts[{i}] holds token id {token}; {allowed}")
    return [list(prompt) for prompt in prompts]


def _check_length(prompts, max_new_tokens, config: ModelConfig) -> None:
    if not _is_int(max_new_tokens) or max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens!r} must be a whole number of at least 1")
    row = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    length = len(prompts[row])
    if length + max_new_tokens > config.max_position_embeddings:
        raise ValueError(
            f"prompts[{row}] of {length} tokens and max_new_tokens={max_new_tokens} make {length + max_new_tokens} "
            f"positions, more than max_position_embeddings={config.max_position_embeddings}"
        )


def _check_distribution(temperature, top_k, top_p, config: ModelConfig) -> None:
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not isfinite(temperature) or temperature < 0:
        raise ValueError(f"temperature={temperature!r} must be a number of at least 0 (0 takes the likeliest token)")
    if top_k is not None and (not _is_int(top_k) or not 1 <= top_k <= config.vocab_size):
        raise ValueError(f"top_k={top_k!r} must be None or a whole number from 1 to vocab_size={config.vocab_size}")
    if top_p is not None and (not isinstance(top_p, int | float) or isinstance(top_p, bool) or not 0 < top_p <= 1):
        raise ValueError(f"top_p={top_p!r} must be None or a number above 0 and at most 1")


def _seeds(seed, rows: int) -> list[int]:
    if seed is None or (_is_int(seed) and seed >= 0):
        return row_seeds(seed, rows)
    if isinstance(seed, list | tuple) and all(_is_int(s) and s >= 0 for s in seed):
        if len(seed) != rows:
            raise ValueError(f"seed has {len(seed)} entries for {rows} prompts: give one number, or one a prompt")
        return list(seed)
    raise ValueError(f"seed={seed!r} must be None, a whole number of at least 0, or a list of such, one a prompt")


def _stop_tokens(stop_tokens, config: ModelConfig) -> frozenset[int]:
    if stop_tokens is None:
        stop_tokens = config.eos_token_id if config.eos_token_id is not None else ()
    if _is_int(stop_tokens):
        stop_tokens = [stop_tokens]
    if not isinstance(stop_tokens, list | tuple | set | frozenset):
        raise TypeError(f"stop_tokens={stop_tokens!r} is not a token id, nor a list of them ([] stops at none)")
    for token in stop_tokens:
        if not _is_int(token) or not 0 <= token < config.vocab_size:
            raise ValueError(
                f"stop_tokens holds {token!r}: expected token ids from 0 to {config.vocab_size - 1} "
                f"(vocab_size={config.vocab_size})"
            )
    return frozenset(stop_tokens)
