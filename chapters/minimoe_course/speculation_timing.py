"""What speculative decoding costs, step by step, and a model made deeper without changing what it says.

How the production version differs: nobody pads a model with silent layers; depth is a fact there, and the prices of a
step are read off a profile.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from minimoe.inference.cache import Cache
from minimoe.inference.decode import stepper
from minimoe.model.transformer import Transformer

__all__ = ["deepened", "step_calls"]


def deepened(model: Transformer, layers: int) -> Transformer:
    """The same model with silent layers behind its last one, `layers` in all: more work, the same text.

    A silent layer's output matrices are zero, so it computes like any other and adds nothing. Drafts and acceptance
    stay what they are, and the time is that of a deeper trunk.
    """
    config, L = model.config, model.config.num_hidden_layers
    if layers < L:
        raise ValueError(f"layers={layers} is less than the model's {L}: it can only be made deeper")
    deep = Transformer(replace(config, num_hidden_layers=layers), seed=0).to(model.dtype).requires_grad_(False)
    own = {_moved(name, L, layers): weight for name, weight in model.state_dict().items()}
    for name, weight in deep.state_dict().items():
        if name in own:
            weight.copy_(own[name])
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
    return deep


def _moved(name: str, L: int, layers: int) -> str:
    """The name of a weight in the deeper model: the MTP module moves behind the new layers."""
    head, _, rest = name.partition("model.layers.")
    number, _, part = rest.partition(".")
    return f"{head}model.layers.{int(number) + layers - L}.{part}" if rest and int(number) >= L else name


def step_calls(model: Transformer, batch: int, context: int = 48) -> dict[str, Callable[[], object]]:
    """The three prices of a step, ready to be timed: "one" (trunk and head on one token a row, all rows of one
    length), "two" (on the last token and a draft, rows of two lengths) and "draft" (the module on both, one head)."""
    vocabulary = model.config.vocab_size
    ids_BT = torch.randint(vocabulary, (batch, 2), generator=torch.Generator().manual_seed(0))
    steppers = {}
    for name, spread in (("one", 0), ("two", 1)):
        steps = steppers[name] = stepper(model, Cache(model.config, batch, context + 3, model.dtype), batch * context)
        steps.trunk(ids_BT[:, :1].expand(-1, context))
        steps.advance(torch.full((batch,), context) - spread * (torch.arange(batch) % 2))
    one, two = steppers["one"], steppers["two"]

    def check():
        normed_BTD, read_BTD = two.trunk(ids_BT)
        two.head(normed_BTD[:, 0])
        two.head(normed_BTD[:, 1])
        return read_BTD

    read_BTD = check()
    return {
        "one": lambda: one.head(one.trunk(ids_BT[:, :1])[0][:, 0]),
        "two": check,
        "draft": lambda: two.head(two.draft(read_BTD, ids_BT)[:, 1]),
    }
