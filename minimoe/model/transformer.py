"""The whole model: embedding, decoder layers, final norm, head, and the MTP modules behind the last layer.

Parameter names are those of the official checkpoints, so a real shard loads without a dictionary between them. The
first `first_k_dense_replace` layers have an ordinary feed-forward block, the others route.

How the production version differs: layers are spread over pipeline stages and experts over nodes, the loss is computed
in chunks of the vocabulary, and activations are recomputed instead of stored.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from minimoe.config import ModelConfig
from minimoe.model.attention import GroupedQueryAttention, Span
from minimoe.model.layers import MLP, RMSNorm
from minimoe.model.loss import next_token_loss
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe.model.moe import MoE
from minimoe.model.mtp import MTPModule, mtp_losses
from minimoe.model.rope import rope_turns
from minimoe.model.router import Router, Routing, sequence_balance_loss

__all__ = ["DecoderLayer", "Output", "Transformer"]


@dataclass
class Output:
    """What a forward call gives.

    `logits_BTV`; `mtp_logits`: for MTP depth k = 1, 2, ... a tensor of T - k positions, position i predicting token
    i + k + 1; `routing`: layer number -> `Routing`; `hidden_BTD`: the trunk's state that MTP reads; `loss` and its
    unweighted parts `losses` (next_token, mtp, balance), None and empty without labels.
    """

    logits_BTV: torch.Tensor
    hidden_BTD: torch.Tensor
    mtp_logits: list[torch.Tensor] = field(default_factory=list)
    routing: dict[int, Routing] = field(default_factory=dict)
    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def logits(self) -> torch.Tensor:
        """`logits_BTV` under the name transformers gives it."""
        return self.logits_BTV


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)). Source: arXiv 2412.19437 figure 2. Chapter 01."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        attention = MultiHeadLatentAttention if config.is_mla else GroupedQueryAttention
        self.self_attn = attention(config, layer)
        moe = config.layer_is_moe(layer)
        self.mlp = MoE(config) if moe else MLP(config.hidden_size, config.intermediate_size)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x_BTD: torch.Tensor, span: Span) -> tuple[torch.Tensor, Routing | None]:
        """The layer's output, shaped like `x_BTD`, and its routing (None for a dense layer)."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), span)
        mixed = self.mlp(self.post_attention_layernorm(x_BTD))
        out_BTD, routing = mixed if isinstance(mixed, tuple) else (mixed, None)
        return x_BTD + out_BTD, routing


class Trunk(nn.Module):
    """Embedding, layers (MTP modules at their end, as in the checkpoint) and final norm: the `model.` of every name."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        L = config.num_hidden_layers
        layers = [DecoderLayer(config, i) for i in range(L)]
        layers += [MTPModule(config, DecoderLayer(config, L + k)) for k in range(config.num_nextn_predict_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A DeepSeek-V2/V3-shaped language model (or, with `kv_lora_rank=None`, its MHA/GQA/MQA baseline).

    `seed` fixes the initial weights, normal with `initializer_range`; None draws from torch's global generator.
    Raises `ValueError` for configs that `accounting` can count but this class does not build (V3.2's indexer).
    Source: arXiv 2412.19437 section 2. Chapters 00-02.
    """

    def __init__(self, config: ModelConfig, seed: int | None = None):
        super().__init__()
        if config.index_n_heads is not None:
            raise ValueError(f"index_n_heads={config.index_n_heads}: V3.2's sparse attention is counted, not built")
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise(seed)

    def _initialise(self, seed: int | None) -> None:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | Router) and not module.weight.is_meta:
                nn.init.normal_(module.weight, std=self.config.initializer_range, generator=generator)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.model.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.model.embed_tokens.weight.device

    @property
    def mtp_modules(self) -> list[MTPModule]:
        """The multi-token prediction modules, depth 1 first."""
        return list(self.model.layers[self.config.num_hidden_layers :])

    def routers(self) -> dict[int, Router]:
        """Layer number -> router, MTP modules included."""
        return {i: layer.mlp.gate for i, layer in enumerate(self.model.layers) if isinstance(layer.mlp, MoE)}

    def forward(self, input_ids_BT, labels=None, cache=None, lengths_B=None, path=None, mtp=None) -> Output:
        """Logits of every position, and with `labels` the training loss.

        Takes token ids [B, T] (int64). `labels`: the same shape, unshifted, -100 where no loss is wanted. `cache`: a
        `Cache` that holds the tokens before these; it is extended, by `lengths_B` tokens a row if given (rows are
        padded at the end, padded positions give meaningless logits). `path`: "expand" or "absorb"; None takes absorb
        for short additions to a cache and expand otherwise. `mtp`: whether to run the MTP modules; None runs them
        without a cache.
        Raises `ValueError` for ids outside the vocabulary or not of shape [B, T], and for a full cache.
        """
        self._check_ids(input_ids_BT, labels)
        span = self._span(input_ids_BT, cache, path)
        embedded_BTD = self.model.embed_tokens(input_ids_BT)
        hidden_BTD, routing = embedded_BTD, {}
        for i in range(self.config.num_hidden_layers):
            hidden_BTD, decision = self.model.layers[i](hidden_BTD, span)
            if decision is not None:
                routing[i] = decision
        if cache is not None:
            cache.advance(input_ids_BT.shape[1] if lengths_B is None else lengths_B)
        normed_BTD = self.model.norm(hidden_BTD)
        read_BTD = normed_BTD if self.config.mtp_hidden == "post_norm" else hidden_BTD
        out = Output(self.lm_head(normed_BTD), read_BTD, routing=routing)
        if mtp or (mtp is None and cache is None):
            self._predict_further(out, embedded_BTD, span)
        if labels is not None:
            self._add_losses(out, labels)
        return out

    def _check_ids(self, ids, labels) -> None:
        if ids.dim() != 2 or ids.numel() == 0:
            raise ValueError(f"input_ids of shape {tuple(ids.shape)}: expected [sequences, tokens], neither of them 0")
        if ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"input_ids of dtype {ids.dtype}: expected whole numbers (torch.int64)")
        low, high = torch.aminmax(ids)
        if not ids.is_meta and (low < 0 or high >= self.config.vocab_size):
            wrong = int(low if low < 0 else high)
            raise ValueError(f"token id {wrong} is outside the vocabulary of vocab_size={self.config.vocab_size}")
        if labels is not None and labels.shape != ids.shape:
            raise ValueError(f"labels of shape {tuple(labels.shape)} do not match input_ids of {tuple(ids.shape)}")

    def _span(self, ids, cache, path) -> Span:
        if path not in (None, "expand", "absorb"):
            raise ValueError(f'path={path!r} is not "expand", "absorb" or None')
        T = ids.shape[1]
        if cache is None:
            positions = torch.arange(T, device=ids.device)[None]
            return Span(rope_turns(self.config, positions, self.dtype), path=path or "expand")
        positions_BT, mask_BTS = cache.prepare(T)
        path = path or ("absorb" if T <= 8 else "expand")
        return Span(rope_turns(self.config, positions_BT, self.dtype), mask_BTS, cache, path)

    def _predict_further(self, out: Output, embedded_BTD, span: Span) -> None:
        """Run MTP depth k on the states of depth k - 1 and the embeddings of the tokens k ahead."""
        state, first = out.hidden_BTD, self.config.num_hidden_layers
        for k, module in enumerate(self.mtp_modules, start=1):
            if state.shape[1] < 2:
                break
            shorter = Span(span.turns[:, : state.shape[1] - 1], path=span.path)
            normed, state, decision = module(state[:, :-1], embedded_BTD[:, k:], shorter)
            out.mtp_logits.append(self.lm_head(normed))
            if decision is not None:
                out.routing[first + k - 1] = decision

    def _add_losses(self, out: Output, labels) -> None:
        out.losses["next_token"] = out.loss = next_token_loss(out.logits_BTV, labels)
        if out.mtp_logits:
            out.losses["mtp"] = mtp_losses(out.mtp_logits, labels).mean()
            out.loss = out.loss + self.config.mtp_loss_weight * out.losses["mtp"]
        if out.routing and self.config.aux_loss_alpha > 0:
            B, K = labels.shape[0], self.config.num_experts_per_tok
            parts = [sequence_balance_loss(r.scores_ME, B, K) for r in out.routing.values()]
            out.losses["balance"] = torch.stack(parts).sum()
            out.loss = out.loss + self.config.aux_loss_alpha * out.losses["balance"]
