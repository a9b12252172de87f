"""The cache: what decoding keeps of every past token, so that it is not computed again.

For latent attention that is one vector of C + R numbers a token and layer (576 in V3), shared by all heads. For the
MHA/GQA/MQA baseline it is the rotated keys and the values of every key head. The cache does not know which: it stores
`width` numbers.

A token's slot is its position. Rows have their own lengths, so prompts of different lengths share a batch: they are
padded at the end, a padded position writes into slots that its row has not reached yet, and the next real token
overwrites them.

How the production version differs: memory is handed out in pages of 64 tokens, so that a short row reserves no more
than it needs, and entries can be FP8 (656 bytes instead of 1,152 in FlashMLA).
"""

import torch

from minimoe.config import ModelConfig

__all__ = ["Cache", "entry_width"]


def entry_width(config: ModelConfig) -> int:
    """Numbers cached a token and layer: C + R for MLA, 2 * key heads * head width for the baseline.

    Source: arXiv 2405.04434 table 1. Chapters 01 and 02.
    """
    if config.is_mla:
        return config.kv_lora_rank + config.qk_rope_head_dim
    return 2 * config.num_key_value_heads * config.head_dim


class Cache:
    """Preallocated entries for `batch` rows of up to `capacity` tokens in every layer, MTP modules included.

    `lengths_B`: tokens held by each row. Raises `ValueError` if a call would overrun `capacity`, before anything is
    written.
    """

    def __init__(self, config: ModelConfig, batch: int, capacity: int, dtype=torch.float32, device="cpu"):
        if batch < 1 or capacity < 1:
            raise ValueError(f"a cache needs batch and capacity of at least 1, got batch={batch}, capacity={capacity}")
        self.capacity = capacity
        layers = config.num_hidden_layers + config.num_nextn_predict_layers
        shape = (batch, capacity, entry_width(config))
        self.entries = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.lengths_B = torch.zeros(batch, dtype=torch.int64, device=device)

    def prepare(self, new: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of `new` tokens a row, and which slots each may see: its own and all before it."""
        longest = int(self.lengths_B.max())
        if longest + new > self.capacity:
            raise ValueError(f"{new} more tokens after {longest} overrun the cache's capacity={self.capacity}")
        self.positions_BT = self.lengths_B[:, None] + torch.arange(new, device=self.lengths_B.device)
        self.end = longest + new
        slots = torch.arange(self.end, device=self.lengths_B.device)
        return self.positions_BT, slots <= self.positions_BT[..., None]

    def write(self, layer: int, new: torch.Tensor) -> torch.Tensor:
        """Store the new tokens' entries of one layer; gives a view of all slots up to the longest row's end."""
        rows = torch.arange(len(self.lengths_B), device=self.lengths_B.device)[:, None]
        self.entries[layer][rows, self.positions_BT] = new.to(self.entries[layer].dtype)
        return self.entries[layer][:, : self.end]

    def advance(self, lengths_B) -> None:
        """Count the new tokens as held: the same number for all rows, or one a row."""
        self.lengths_B = self.lengths_B + lengths_B

    def keep(self, rows: list[int]) -> list[int]:
        """Let all other rows go. Rows from the end move into the gaps; gives the rows in their new order.

        The memory of the rows that left stays allocated until the cache goes.
        """
        left, moving = set(rows), [row for row in rows if row >= len(rows)]
        order = [row if row in left else moving.pop() for row in range(len(rows))]
        for entries in self.entries:
            for place, row in enumerate(order):
                if place != row:
                    entries[place] = entries[row]
        self.entries = [entries[: len(order)] for entries in self.entries]
        self.lengths_B = self.lengths_B[order]
        return order
