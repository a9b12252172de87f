"""One decoding step of one attention layer, ready to be timed.

How the production version differs: a step runs all layers for many requests at once, over a paged cache.
"""

from collections.abc import Callable

import torch

from minimoe.config import ModelConfig
from minimoe.inference.cache import Cache
from minimoe.model.attention import GroupedQueryAttention, Span
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe.model.rope import rope_turns

__all__ = ["decode_step"]


def decode_step(config: ModelConfig, context: int, path: str = "absorb") -> Callable[[], torch.Tensor]:
    """A call that attends from one new token to a cache of `context` tokens (itself included), with random weights.

    The layer is MLA or the MHA/GQA/MQA baseline, by `config`; `path` is for MLA. Every call does the same step again.
    """
    kind = MultiHeadLatentAttention if config.is_mla else GroupedQueryAttention
    attention = kind(config, layer=0).requires_grad_(False)
    for matrix in attention.parameters():
        if matrix.dim() == 2:  # as a model starts
            torch.nn.init.normal_(matrix, std=config.initializer_range)
    cache = Cache(config, batch=1, capacity=context)
    cache.entries[0].normal_()
    cache.advance(context - 1)
    positions_BT, mask_BTS = cache.prepare(1)
    span = Span(rope_turns(config, positions_BT, torch.float32), mask_BTS, cache, path)
    x_BTD = torch.randn(1, 1, config.hidden_size)
    return lambda: attention(x_BTD, span)
