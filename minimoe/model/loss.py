"""The next-token loss.

Cross-entropy of one position is logsumexp(logits) - logits[target], in nats. Written as one function with its own
backward pass, it walks over the logits in slices that stay in the processor's cache and stores nothing between the
passes; `F.cross_entropy` stores the whole T x V table of log-probabilities and a table of zeros for its gradient.

How the production version differs: it never materialises the logits at all, but fuses the head's matrix product with
the loss, slice by slice (see the chunked kernels of later chapters).
"""

import torch
import torch.nn.functional as F

from minimoe.model.layers import at_least_float32

__all__ = ["cross_entropy", "next_token_loss"]

IGNORE = -100
SLICE_ELEMENTS = 1 << 19  # 2 MB of float32: fits a core's second-level cache


def cross_entropy(logits_MV: torch.Tensor, targets_M: torch.Tensor) -> torch.Tensor:
    """Mean of logsumexp(logits) - logits[target] over the rows whose target is not -100, in nats.

    Takes logits of any float dtype (the sum is taken in float32 at least) and int64 targets; gives a scalar, NaN if no
    row counts, as `torch.nn.functional.cross_entropy` does. Chapter 01.
    """
    if logits_MV.device.type != "cpu" or logits_MV.dtype not in (torch.float32, torch.float64):
        return F.cross_entropy(at_least_float32(logits_MV), targets_M, ignore_index=IGNORE)
    return _CrossEntropy.apply(logits_MV, targets_M)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits_MV, targets_M):
        rows = max(1, SLICE_ELEMENTS // logits_MV.shape[1])
        targets = targets_M.clamp(min=0)[:, None]
        parts = zip(logits_MV.split(rows), targets.split(rows), strict=True)
        losses_M = -torch.cat([logits.log_softmax(-1).gather(1, index) for logits, index in parts])[:, 0]
        counted_M = targets_M != IGNORE
        ctx.save_for_backward(logits_MV, targets, counted_M)
        ctx.rows = rows
        return losses_M[counted_M].mean()

    @staticmethod
    def backward(ctx, d_loss):
        logits_MV, targets, counted_M = ctx.saved_tensors
        scale_of_row = (counted_M * (d_loss / counted_M.sum()))[:, None]
        d_logits_MV = torch.empty_like(logits_MV)
        slices = (x.split(ctx.rows) for x in (logits_MV, d_logits_MV, scale_of_row))
        for logits, d_logits, scale in zip(*slices, strict=True):
            torch.softmax(logits, -1, out=d_logits).mul_(scale)
        return d_logits_MV.scatter_add_(1, targets, -scale_of_row), None


def next_token_loss(logits_BTV: torch.Tensor, labels: torch.Tensor, ahead: int = 1) -> torch.Tensor:
    """Mean cross-entropy of position i's prediction of token i + `ahead`, in nats; labels of -100 do not count.

    Position i of `logits_BTV` is compared with `labels[:, i + ahead]`; positions without such a label do not count, and
    there may be more labels than positions.
    `ahead` is 1 for the trunk and k + 1 for MTP depth k. Source: arXiv 2412.19437 equation 24. Chapters 01 and 05.
    """
    targets = F.pad(labels[:, ahead:], (0, ahead), value=IGNORE)[:, : logits_BTV.shape[1]]
    return cross_entropy(logits_BTV.flatten(0, 1), targets.flatten())
