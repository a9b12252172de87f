"""The fast decoding step: weights prepared once, then as few operations a token as the algebra allows.

A decoding step of a small model is hundreds of tiny operations, and most of its time is starting them. `DecodePlan` is
prepared once for a generation call and merges what can be merged without changing the function:

- W_UK goes into the query's up-projection and W_UV into the output projection (where that costs little more
  arithmetic: `plan.SLACK`), so that attention reads the cached latents as they lie: one shared key of C + R numbers for
  all heads.
- The softmax scale and the gain of the norm before attention go into matrices, and both inner norms of the attention
  take one product for their means.
- Matrices that read the same vector stand side by side: query and latent down-projection, router and shared experts.
- Assignments are sorted by expert, each expert runs on one block, one `index_add_` adds the blocks to the residual. A
  single row skips the sorting.
- While all rows have one length, new entries are a slice of the cache and no mask is needed.

Copied are the attention, the head and, much smaller, router and shared experts, as right-hand factors (input-first): a
few rows times such a matrix run up to 1.7 times faster. Experts and dense layers are copied so as well when many tokens
are to come (`MANY_TOKENS`) and all weights take at most `LIMIT_BYTES`; otherwise they are used where they are.
Attention and head above `LIMIT_BYTES` mean a model whose steps are limited by reading weights, where merging gains
nothing: there the model's own forward runs (`Stepper`). So it does for prefill, for other dtypes than float32 and
float64, for the MHA/GQA baseline, and where a kernel or a hook has been put into the model. The sums run in another
order than the model's: logits agree to rounding.

How the production version differs: engines keep W_UK and W_UV apart (folded, they would be 4.5 times larger in V3),
fuse the small operations into kernels, and replay the whole step as one CUDA graph.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minimoe.inference.cache import Cache
from minimoe.inference.plan import LayerPlan, Unit
from minimoe.inference.stepper import Stepper
from minimoe.model.layers import MLP
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe.model.moe import MoE, grouped, loop
from minimoe.model.rope import rope_turns
from minimoe.model.transformer import Transformer

__all__ = ["LIMIT_BYTES", "DecodePlan", "Lookup", "stepper"]

LIMIT_BYTES = 256 * 2**20
MANY_TOKENS = 2048  # from here on copying the feed-forward weights takes less time than it saves
LONGEST = 8  # new tokens a row; more is prefill


def stepper(model: Transformer, cache: Cache, tokens: int = 0) -> Stepper:
    """The fastest `Stepper` that computes this model (`DecodePlan` where it applies), for about `tokens` new tokens."""
    return DecodePlan(model, cache, tokens) if DecodePlan.applies(model) else Stepper(model, cache)


class Lookup:
    """Where the new tokens of a step go and what they may see; one for all layers.

    `slots`: a slice where all rows have one length, else flat slots of the cache. `mask`: what is added to the scores,
    or None where everything up to `end` may be seen. `turns_M`, `turns_M1`: rotations for keys, and for queries of all
    heads.
    """

    def __init__(self, cache: Cache, turns_table: torch.Tensor, uniform: int | None, T: int):
        B, device = len(cache.lengths_B), turns_table.device
        self.shape, self.mask = (B, T), None
        if uniform is not None and T == 1:
            self.end = uniform + 1
            self.slots = slice(uniform, self.end)
            self.turns_M = turns_table[self.slots]
        else:
            positions_BT = cache.lengths_B[:, None] + torch.arange(T, device=device)
            self.end = int(positions_BT[:, -1].max()) + 1
            starts_B = torch.arange(0, B * cache.capacity, cache.capacity, device=device)
            self.slots = (starts_B[:, None] + positions_BT).view(-1)
            self.turns_M = turns_table[positions_BT.view(-1)]
            hidden = torch.arange(self.end, device=device) > positions_BT[:, :, None]
            zeros = torch.zeros(hidden.shape, dtype=cache.entries[0].dtype, device=device)
            self.mask = zeros.masked_fill_(hidden, float("-inf"))[:, :, None]
        self.turns_M1 = self.turns_M[:, None]

    def write(self, entries: torch.Tensor, new: torch.Tensor) -> None:
        """Store the new tokens' entries of one layer."""
        if self.mask is None:
            entries[:, self.slots] = new[:, None]
        else:
            entries.view(-1, new.shape[1]).index_copy_(0, self.slots, new)


class DecodePlan(Stepper):
    """A `Stepper` whose steps of up to 8 tokens a row run on prepared weights.

    `tokens`: about how many new tokens it will serve, over all rows; many are worth more copies.
    Raises `ValueError` for a model it does not apply to.
    Source: absorption, arXiv 2405.04434 section 2.1.3. Chapter 07.
    """

    @torch.inference_mode()
    def __init__(self, model: Transformer, cache: Cache, tokens: int = 0):
        if not self.applies(model):
            raise ValueError("DecodePlan does not cover this model; Stepper runs the model's own layers")
        super().__init__(model, cache)
        weights_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        self.copy = tokens >= MANY_TOKENS and weights_bytes <= LIMIT_BYTES
        self.layers = [LayerPlan(layer, self.config, self.copy) for layer in model.model.layers[: self.first_mtp]]
        self.mtp = None
        positions = torch.arange(cache.capacity, device=model.device)
        self.turns_table = rope_turns(self.config, positions, model.dtype)
        self.w_head_DV = model.lm_head.weight.t().contiguous()
        self.unit = Unit(model.model.norm)
        self.lookup = None
        self.uniform = None  # the length that all rows have, if they have one

    @staticmethod
    def applies(model: Transformer) -> bool:
        """Whether a plan computes what this model's forward would, and is worth its memory."""
        config, layers = model.config, model.model.layers
        before = config.qk_nope_head_dim if config.q_lora_rank is None else config.q_lora_rank
        if not config.is_mla or config.kv_lora_rank % 2 or before % 2:
            return False  # what is rotated in place must begin at an even number
        own = all(
            type(layer.self_attn) is MultiHeadLatentAttention
            and (type(layer.mlp) is MLP or (type(layer.mlp) is MoE and layer.mlp.dispatch in (grouped, loop)))
            for layer in layers
        )
        own = own and all(router.combine is torch.add for router in model.routers().values())
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        copied = [p for layer in layers for p in layer.self_attn.parameters()] + [model.lm_head.weight]
        copied_bytes = sum(p.numel() * p.element_size() for p in copied)
        floats = (torch.float32, torch.float64)
        return own and not hooked and copied_bytes <= LIMIT_BYTES and model.dtype in floats

    @torch.inference_mode()
    def trunk(self, ids_BT: torch.Tensor):
        """As `Stepper.trunk`."""
        B, T = ids_BT.shape
        self.lookup = None
        if T > LONGEST:
            return super().trunk(ids_BT)
        self.lookup = Lookup(self.cache, self.turns_table, self.uniform, T)
        hidden_MD = F.embedding(ids_BT.reshape(-1), self.model.model.embed_tokens.weight)
        for layer, entries in zip(self.layers, self.cache.entries, strict=False):
            hidden_MD = layer(hidden_MD, entries, self.lookup)
        normed_BTD = self.unit(hidden_MD).mul_(self.model.model.norm.weight).view(B, T, -1)
        return normed_BTD, normed_BTD if self.config.mtp_hidden == "post_norm" else hidden_MD.view(B, T, -1)

    @torch.inference_mode()
    def draft(self, read_BTD: torch.Tensor, next_ids_BT: torch.Tensor) -> torch.Tensor:
        """As `Stepper.draft`."""
        if self.lookup is None:
            return super().draft(read_BTD, next_ids_BT)
        module = self.model.model.layers[self.first_mtp]
        if self.mtp is None:
            self.mtp = LayerPlan(module, self.config, self.copy)
        embedded_MD = F.embedding(next_ids_BT.reshape(-1), self.model.model.embed_tokens.weight)
        read_MD = read_BTD.reshape(embedded_MD.shape)
        joined = torch.cat([self.normed(embedded_MD, module.enorm), self.normed(read_MD, module.hnorm)], dim=-1)
        hidden_MD = self.mtp(module.eh_proj(joined), self.cache.entries[self.first_mtp], self.lookup)
        return self.normed(hidden_MD, module.shared_head.norm).view(read_BTD.shape)

    @staticmethod
    def normed(hidden_MD: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        return Unit(norm)(hidden_MD).mul_(norm.weight)

    @torch.inference_mode()
    def head(self, normed_MD: torch.Tensor) -> torch.Tensor:
        """As `Stepper.head`."""
        return normed_MD @ self.w_head_DV

    def advance(self, lengths_B) -> None:
        """As `Stepper.advance`, and notes whether all rows have one length."""
        super().advance(lengths_B)
        if isinstance(lengths_B, int) and self.uniform is not None:
            self.uniform += lengths_B
        else:
            self._note_lengths()

    def keep(self, rows: list[int]) -> list[int]:
        """As `Stepper.keep`."""
        order = super().keep(rows)
        self._note_lengths()
        return order

    def _note_lengths(self) -> None:
        lengths = set(self.cache.lengths_B.tolist())
        self.uniform = lengths.pop() if len(lengths) == 1 else None
