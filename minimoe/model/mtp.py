"""Multi-token prediction: a small module behind the trunk that predicts the token after the next.

Depth k takes, at position i, the state of depth k - 1 and the embedding of token i + k, both normalised, joins them
with one matrix, and passes the result through one decoder layer. The trunk's head turns its output into a prediction
of token
i + k + 1. In training it is a second loss; in inference it drafts a token that the trunk checks (speculative decoding).

The paper writes the joined vector as [state; embedding]. The checkpoints are laid out the other way round,
[embedding; state], and a model that follows the paper's order reads nonsense from the official weights.

How the production version differs: the module sits on the last pipeline stage, so that embedding and head are shared in
memory, and inference runs it once or more per step with its own cache.
"""

import torch
from torch import nn

from minimoe.config import ModelConfig
from minimoe.model.attention import Span
from minimoe.model.layers import RMSNorm
from minimoe.model.loss import IGNORE, next_token_loss

__all__ = ["MTPModule", "mtp_losses"]


class SharedHead(nn.Module):
    """The norm before the trunk's head; the head itself is the trunk's. (Official name: `shared_head.norm`.)"""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MTPModule(nn.Module):
    """h' = eh_proj([enorm(embedding); hnorm(state)]), then one decoder layer, then `shared_head.norm`.

    `layer` is the decoder layer it wraps; its parts are adopted under their own names, as the checkpoint has them.
    Source: arXiv 2412.19437 equations 21-23; order of the halves: transformers 5.23 `MtpLayer`. Chapter 05.
    """

    def __init__(self, config: ModelConfig, layer: nn.Module):
        super().__init__()
        self.norm_state = config.mtp_hidden == "post_norm"
        D = config.hidden_size
        self.enorm = RMSNorm(D, config.rms_norm_eps)
        self.hnorm = RMSNorm(D, config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * D, D, bias=False)
        for name, part in layer.named_children():
            self.add_module(name, part)
        self.shared_head = SharedHead(config)
        self._decode = type(layer).forward

    def forward(self, state_BTD: torch.Tensor, embedded_BTD: torch.Tensor, span: Span):
        """Gives what the head reads, the state for the next depth, and the routing of the layer inside."""
        joined_BTD = self.eh_proj(torch.cat([self.enorm(embedded_BTD), self.hnorm(state_BTD)], dim=-1))
        out_BTD, routing = self._decode(self, joined_BTD, span)
        normed_BTD = self.shared_head.norm(out_BTD)
        return normed_BTD, normed_BTD if self.norm_state else out_BTD, routing


def mtp_losses(mtp_logits: list[torch.Tensor], labels_BT: torch.Tensor) -> torch.Tensor:
    """The loss of every MTP depth k: position i against token i + k + 1.

    A depth for which no label is left (two tokens, depth 1) costs 0 instead of NaN: the trunk may still have one.
    Source: arXiv 2412.19437 equation 25. Chapter 05.
    """
    losses = []
    for ahead, logits in enumerate(mtp_logits, start=2):
        counts = (labels_BT[:, ahead:] != IGNORE).any()
        losses.append(next_token_loss(logits, labels_BT, ahead) if counts else logits.sum() * 0)
    return torch.stack(losses)
