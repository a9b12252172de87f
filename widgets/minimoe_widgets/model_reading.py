"""What a model does with one text, read out once and kept: attention maps, spectra of the cache, loss by rank.

Each kind of number is computed when it is first looked at, by `minimoe.inference`, because an explorer that opens on
the bill should not run the model twenty times before anything is on the screen.

How the production version differs: such readings are made offline, over many texts, and averaged.
"""

from functools import cached_property

import torch

from minimoe.inference.attention_maps import HeadHabit, attention_maps, head_habit
from minimoe.inference.latent_rank import entry_parts, kept_share, loss_by_rank, spectra
from minimoe_widgets.text_input import encode, labels

__all__ = ["ModelReading"]

RANDOM_TOKENS = 48
FINE = 24  # a latent of up to this many numbers is cut at every rank, a wider one at about this many ranks


class ModelReading:
    """The numbers of one model on one text. Without a tokenizer the text is a fixed draw of random tokens.

    `notice` says what the reader should know (a text that was cut, random tokens). Raises `ValueError` for an empty
    text and for one of a single token, which has no next-token loss.
    """

    def __init__(self, model, tokenizer, text: str):
        self.model = model
        context, vocabulary = model.config.max_position_embeddings, model.config.vocab_size
        if tokenizer is None:
            count = min(RANDOM_TOKENS, context)
            self.ids = torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(0)).tolist()
            self.labels = [str(token) for token in self.ids]
            self.notice = f"No tokenizer was given: the text is {count} random tokens."
        else:
            self.ids, self.notice = encode(tokenizer, text, context)
            self.labels = labels(tokenizer, self.ids)
        if len(self.ids) < 2:
            raise ValueError(f"the text is {len(self.ids)} token long: type at least 2 tokens")

    @cached_property
    def maps(self) -> dict:
        """Layer -> attention weights [heads, tokens, tokens]."""
        return attention_maps(self.model, self.ids)

    @cached_property
    def spectra(self) -> dict:
        """Layer -> part of the cache entry -> singular values over the text."""
        return spectra(self.model, self.ids)

    @cached_property
    def ranks(self) -> list[int]:
        """The ranks at which the latents are cut, 0 and the whole latent included."""
        width = self.model.config.kv_lora_rank or sum(entry_parts(self.model.config).values())
        step = -(-width // FINE)
        return [*range(0, width, step), width]

    @cached_property
    def losses(self) -> list[float]:
        """Next-token loss at each of `ranks`."""
        return loss_by_rank(self.model, self.ids, self.ranks)

    def main_part(self) -> str:
        """The part of an entry that the cut concerns first: the latent, or the keys of a model without one."""
        return next(iter(entry_parts(self.model.config)))

    def share(self, layer: int, rank: int) -> float:
        """How much of the main part's variance its `rank` strongest directions keep."""
        return kept_share(self.spectra[layer][self.main_part()], rank)

    def habit(self, layer: int, head: int) -> HeadHabit:
        """Where a head looks, in four numbers."""
        return head_habit(self.maps[layer][head])

    def sharpest_head(self) -> tuple[int, int]:
        """(layer, head) with the most weight on its strongest place, on average: where an explorer opens."""
        focus = {(n, h): m.max(-1)[1:].mean() for n, maps in self.maps.items() for h, m in enumerate(maps)}
        return max(focus, key=focus.get)
