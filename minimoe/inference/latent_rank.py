"""How many of the latent's directions a text uses, and what the model loses when some are taken away.

MLA bets that keys and values of all heads fit into one vector of C numbers. Whether C is generous or tight can be
seen on a text: the singular values of its cached latents (a tokens x C matrix) say how the variance spreads over
directions, and the loss after cutting every layer's latents down to their r strongest directions says which of them
the model needs. The two need not agree: a weak direction can matter.

The cut is made where the cache stands: attention reads entries from an object with a `write` method, and the objects
below record or thin out what passes through. So the same functions work for MHA, GQA and MQA, whose entries are keys
and values.

How the production version differs: C is fixed before training and never cut; engines shrink the cache by storing it in
FP8 instead.
"""

from dataclasses import replace

import torch

from minimoe.model.transformer import Transformer

__all__ = ["best_rank", "cached_entries", "entry_parts", "kept_share", "loss_by_rank", "spectra"]


def best_rank(x_TC: torch.Tensor, rank: int) -> torch.Tensor:
    """The closest matrix of rank `rank` to `x_TC`, in the least-squares sense: its strongest singular directions.

    U S V^T with all but the `rank` largest singular values set to zero (Eckart and Young, 1936). Rank 0 gives zeros,
    a rank of at least min(T, C) gives the matrix back up to rounding. Raises `ValueError` for a negative rank.
    Chapter 02.
    """
    if rank < 0:
        raise ValueError(f"rank={rank} must be 0 or more")
    u, s, vh = torch.linalg.svd(x_TC.float(), full_matrices=False)
    return ((u[:, :rank] * s[:rank]) @ vh[:rank]).to(x_TC.dtype)


def entry_parts(config) -> dict[str, int]:
    """Names and widths of what a token's cache entry holds: latent and rotary key, or keys and values."""
    if config.is_mla:
        return {"latent": config.kv_lora_rank, "rotary key": config.qk_rope_head_dim}
    width = config.num_key_value_heads * config.head_dim
    return {"keys": width, "values": width}


def cached_entries(model: Transformer, input_ids) -> dict[int, torch.Tensor]:
    """Layer number -> what the trunk's layers would cache of one sequence: [tokens, numbers an entry], as cached.

    Takes a list of ids or a tensor of one axis. The rotary key is already rotated, the latent already normalised.
    Raises `ValueError` for an empty sequence or ids outside the vocabulary. Chapter 02.
    """
    entries = {}

    def record(layer, new):
        entries[layer] = new[0]
        return new

    _run(model, input_ids, record)
    return entries


def spectra(model: Transformer, input_ids) -> dict[int, dict[str, torch.Tensor]]:
    """Layer number -> part of the entry -> its singular values over the text, largest first (float32). Chapter 02."""
    parts = entry_parts(model.config)
    return {
        layer: dict(zip(parts, map(torch.linalg.svdvals, entry.float().split(list(parts.values()), -1)), strict=True))
        for layer, entry in cached_entries(model, input_ids).items()
    }


def kept_share(singular_values: torch.Tensor, rank: int) -> float:
    """Share of a matrix's squared entries that its best approximation of rank `rank` keeps: sum_{i<r} s_i^2 / sum_i
    s_i^2.

    Takes singular values, largest first. A zero matrix keeps all of nothing: 1. Chapter 02.
    """
    squares = singular_values.double().square()
    total = squares.sum().item()
    return squares[:rank].sum().item() / total if total > 0 else 1.0


def loss_by_rank(model: Transformer, input_ids, ranks) -> list[float]:
    """Next-token loss (nats a token) of one sequence with every layer's latent cut to rank r, for each r in `ranks`.

    Cut is `best_rank` over the text's own latents: optimistic, since the directions have seen the text. The rotary
    key stays whole. In a model without latents, keys and values together are cut.

    Takes at least two tokens; gives one number a rank. Raises `ValueError` for fewer tokens or a negative rank.
    Chapter 02.
    """
    width = model.config.kv_lora_rank or sum(entry_parts(model.config).values())
    if len(input_ids) < 2:
        raise ValueError(f"a loss needs at least 2 tokens, the text has {len(input_ids)}")

    def cut_to(rank):
        return lambda layer, new: torch.cat([best_rank(new[0, :, :width], rank)[None], new[:, :, width:]], -1)

    return [_run(model, input_ids, cut_to(rank)).losses["next_token"].item() for rank in ranks]


class _Tap:
    """Stands where a cache would: what attention writes passes through `change` and is read back."""

    def __init__(self, change):
        self.write = change


def _run(model, input_ids, change):
    """One forward pass over the trunk, with `change(layer, entries)` between making the entries and reading them."""
    ids_BT = torch.as_tensor(input_ids, dtype=torch.int64, device=model.device).reshape(1, -1)

    def tap(_attention, args):
        x_BTD, span = args
        return x_BTD, replace(span, cache=_Tap(change))

    trunk = model.model.layers[: model.config.num_hidden_layers]
    hooks = [layer.self_attn.register_forward_pre_hook(tap) for layer in trunk]
    try:
        with torch.no_grad():
            return model(ids_BT, labels=ids_BT, mtp=False)
    finally:
        for hook in hooks:
            hook.remove()
