"""The model's forward pass, cut where decoding needs it cut: trunk, head, MTP module.

`Transformer.forward` computes logits at every position and counts every token as held. Decoding wants less and later:
logits at the last position alone (at 129,280 words the head is the dearest product of a prefill), and the lengths only
once it is known which tokens are kept. `Stepper` runs the model's own layers in these pieces; it is the definition that
the fast `DecodePlan` is tested against, and what runs where the plan does not apply.

How the production version differs: an engine's model runner takes a flat list of tokens from many requests, some in
prefill and some in decoding, and the attention kernel is told where each begins.
"""

import torch

from minimoe.inference.cache import Cache
from minimoe.model.transformer import Transformer

__all__ = ["Stepper"]


class Stepper:
    """A model and the cache of one batch. `trunk` writes entries at the rows' ends; `advance` decides how many count.

    Tokens that are written and not counted are forgotten: the next call writes over them.
    """

    def __init__(self, model: Transformer, cache: Cache):
        self.model, self.cache, self.config = model, cache, model.config
        self.first_mtp = model.config.num_hidden_layers

    @torch.inference_mode()
    def trunk(self, ids_BT: torch.Tensor):
        """Run new tokens through the layers; gives the states that the head reads, and those that MTP reads."""
        self.span = self.model._span(ids_BT, self.cache, None)
        hidden_BTD = self.model.model.embed_tokens(ids_BT)
        for layer in self.model.model.layers[: self.first_mtp]:
            hidden_BTD, _ = layer(hidden_BTD, self.span)
        normed_BTD = self.model.model.norm(hidden_BTD)
        return normed_BTD, normed_BTD if self.config.mtp_hidden == "post_norm" else hidden_BTD

    @torch.inference_mode()
    def draft(self, read_BTD: torch.Tensor, next_ids_BT: torch.Tensor) -> torch.Tensor:
        """Run MTP depth 1 at the positions of the last `trunk` call, each with the token that follows it.

        Gives what the head reads: position i predicts token i + 2. The module's cache layer uses slot i for position i.
        """
        embedded_BTD = self.model.model.embed_tokens(next_ids_BT)
        normed_BTD, _, _ = self.model.model.layers[self.first_mtp](read_BTD, embedded_BTD, self.span)
        return normed_BTD

    @torch.inference_mode()
    def head(self, normed_MD: torch.Tensor) -> torch.Tensor:
        """Logits of the given states."""
        return self.model.lm_head(normed_MD)

    def advance(self, lengths_B) -> None:
        """Count this many of the tokens written last as held, in each row."""
        self.cache.advance(lengths_B)

    def keep(self, rows: list[int]) -> list[int]:
        """Let all other rows go; gives the rows in the order in which they now stand."""
        return self.cache.keep(rows)
