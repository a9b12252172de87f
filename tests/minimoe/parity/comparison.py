"""Everything two models must agree in, computed from each, and how far apart two such results are."""

import torch
from model_draws import clear_pair
from official_models import exactly, official, official_gradients

from minimoe.inference.cache import Cache

PARTS = ("logits", "loss", "gradients", "decoding")
GRADIENT_FLOOR = 1e-3  # a gradient a thousand times below the model's largest is compared on that scale, not on its own


def tokens_and_labels(config, seed: int, batch: int, length: int):
    """Random ids, and labels that leave out about a fifth of the positions."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(config.vocab_size, (batch, length), generator=generator)
    labels_BT = torch.where(torch.rand(ids_BT.shape, generator=generator) < 0.2, -100, ids_BT)
    labels_BT[0, -1] = ids_BT[0, -1]  # at least one counts
    return ids_BT, labels_BT


def results(model, ids_BT, labels_BT) -> dict[str, dict[str, torch.Tensor]]:
    """Our model's `PARTS`: name -> tensor for each.

    Decoding feeds the first half of the tokens, then one token a step, once with either form of latent attention.
    """
    model.zero_grad()
    out = model(ids_BT, labels=labels_BT)
    out.loss.backward()
    return {
        "logits": {"": out.logits.detach()},
        "loss": {"": out.loss.detach()},
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "decoding": {path: decode(model, ids_BT, path) for path in ("expand", "absorb")},
    }


def official_results(model, ids_BT, labels_BT, **implementations) -> dict[str, dict[str, torch.Tensor]]:
    """The same from the official model with the weights and in the dtype of `model`."""
    theirs = official(model, **implementations)
    with exactly(model.dtype):
        out = theirs(ids_BT, labels=labels_BT, use_cache=False)
        out.loss.backward()
    decoded = decode_officially(theirs, ids_BT)
    return {
        "logits": {"": out.logits.detach()},
        "loss": {"": out.loss.detach()},
        "gradients": official_gradients(theirs),
        "decoding": {"expand": decoded, "absorb": decoded},
    }


def distance(mine: dict, theirs: dict) -> dict[str, float]:
    """Part -> the largest difference over the largest magnitude of `theirs`, of the worst tensor. None is left out."""
    worst = {}
    for part in PARTS:
        assert mine[part].keys() == theirs[part].keys(), mine[part].keys() ^ theirs[part].keys()
        sizes = {name: t.abs().max().item() for name, t in theirs[part].items()}
        floor = GRADIENT_FLOOR * max(sizes.values())
        worst[part] = 0.0
        for name, tensor in theirs[part].items():
            difference = (mine[part][name] - tensor).abs().max().item()
            if difference:
                worst[part] = max(worst[part], difference / max(sizes[name], floor))
    return worst


def measure(case) -> dict[str, dict[str, float]]:
    """`distance` of our results to the official ones in both dtypes; `noise`: of the official float32 to float64."""
    ids_BT, labels_BT = tokens_and_labels(case.config, case.seed, case.batch, case.length)
    ours, exact = clear_pair(case.config, case.seed, ids_BT, case.bias_shift)
    truth, theirs = official_results(exact, ids_BT, labels_BT), official_results(ours, ids_BT, labels_BT)
    return {
        "float64": distance(results(exact, ids_BT, labels_BT), truth),
        "float32": distance(results(ours, ids_BT, labels_BT), theirs),
        "noise": distance(theirs, truth),
    }


def in_steps(ids_BT):
    """The first half of the tokens (one at least), then the others one by one."""
    first = (ids_BT.shape[1] + 1) // 2
    return ids_BT.split([first] + [1] * (ids_BT.shape[1] - first), dim=1)


@torch.no_grad()
def decode(model, ids_BT, path=None):
    """Logits of all positions, computed `in_steps` with a cache."""
    cache = Cache(model.config, *ids_BT.shape, dtype=model.dtype)
    return torch.cat([model(step, cache=cache, path=path).logits for step in in_steps(ids_BT)], dim=1)


@torch.no_grad()
def decode_officially(theirs, ids_BT):
    """The same with an official model and its own cache."""
    logits, cache = [], None
    with exactly(theirs.dtype):
        for step in in_steps(ids_BT):
            out = theirs(step, past_key_values=cache, use_cache=True)
            logits, cache = [*logits, out.logits], out.past_key_values
    return torch.cat(logits, dim=1)
