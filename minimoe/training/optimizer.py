"""AdamW for every parameter, or Muon for the matrices and AdamW for the rest.

AdamW scales each number's step by that number's own gradient history. Muon looks at a weight matrix as a whole: it
replaces the averaged gradient by the nearest matrix whose singular values are all 1, so that rare directions learn as
fast as common ones. In small budgets this is the better use of a step; it costs a few matrix products per step and
matrix, and half the optimizer memory of AdamW. An expert is three small matrices, and there are many: matrices of one
shape are handled as one batch.

The embedding and the head are matrices in name only (each row is its own vector), and stay with AdamW.

How the production version differs: DeepSeek-V3 trained with AdamW (section 4.2). Moonlight and Kimi-K2 use Muon in the
form below, sharded so that each rank orthogonalises whole matrices; Kimi-K2 adds a clip on attention logits.
"""

from collections import defaultdict

import torch

__all__ = ["Muon", "build_optimizers", "orthogonalise"]

TABLE_RATE = {"adamw": 10.0, "muon": 3.0}  # embedding and head step this much further: a row is met rarely
QUINTIC = (3.4445, -4.7750, 2.0315)  # pushes singular values into about 0.7 to 1.2 within five steps


def build_optimizers(
    model,
    kind: str = "muon",
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    table_rate: float | None = None,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model, as a list; their parameter groups carry the peak rate as `peak_lr`.

    "adamw": AdamW for all parameters. "muon": Muon for the weight matrices of the layers, AdamW for the rest. In both,
    embedding and head step at `table_rate` times the rate `lr`; None for what was best on NANO, 10 with AdamW and 3
    with Muon (data/curves/tuning.py; V3's recipe has one rate for all). Decay acts on matrices only: a norm's gain has
    no reason to be small.
    Raises ValueError for another kind. Source: arXiv 2412.19437 section 4.2; arXiv 2502.16982 section 2. Chapter 07.
    """
    if kind not in ("adamw", "muon"):
        raise ValueError(f"optimizer kind {kind!r} is not 'adamw' or 'muon'")
    matrices, tables, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif "embed_tokens" in name or "lm_head" in name:
            tables.append(parameter)
        else:
            matrices.append(parameter)
    table_lr = lr * (TABLE_RATE[kind] if table_rate is None else table_rate)
    groups = [{"params": tables, "weight_decay": weight_decay, "lr": table_lr}]
    if kind == "adamw":
        groups.append({"params": matrices, "weight_decay": weight_decay})
    groups.append({"params": vectors, "weight_decay": 0.0})
    optimizers = [torch.optim.AdamW(groups, lr=lr, betas=betas, eps=1e-8, fused=True)]
    if kind == "muon" and matrices:
        optimizers.append(Muon(matrices, lr=lr, weight_decay=weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def orthogonalise(m_NRC: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """For each matrix, about U V^T of its singular value decomposition: the same directions, all equally strong.

    Newton-Schulz: X <- a X + (b X X^T + c (X X^T)^2) X acts on every singular value as a s + b s^3 + c s^5, without
    computing any. Five steps bring values from 0.01 to 1 into about 0.7 to 1.2; an all-zero matrix stays zero.
    Source: K. Jordan et al., Muon, 2024; arXiv 2502.16982 section 2.1. Chapter 07.
    """
    a, b, c = QUINTIC
    tall = m_NRC.shape[-2] > m_NRC.shape[-1]
    x = m_NRC.mT if tall else m_NRC
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalise: W <- (1 - lr * decay) W - lr * 0.2 * sqrt(max(rows, columns)) * O.

    The factor gives the update the size that AdamW's usually has, so that one learning rate serves both.
    Takes 2-D parameters; a parameter without a gradient is left alone. Source: arXiv 2502.16982 equation 4. Chapter 07.
    """

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.1, steps: int = 5):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.ndim != 2:
                raise ValueError(f"Muon takes matrices, not a parameter of shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure=None):
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                update_NRC = self._averaged_gradients(parameters, group["momentum"])
                update_NRC = orthogonalise(update_NRC, group["steps"]) * (0.2 * max(shape) ** 0.5)
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(update_NRC.unbind()), alpha=-group["lr"])

    def _averaged_gradients(self, parameters, momentum: float) -> torch.Tensor:
        """Nesterov momentum, all matrices of one shape stacked: m <- momentum * m + g, update momentum * m + g."""
        averages, gradients = [], [p.grad for p in parameters]
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
            averages.append(self.state[p]["momentum"])
        torch._foreach_mul_(averages, momentum)
        torch._foreach_add_(averages, gradients)
        return torch.stack(torch._foreach_add(gradients, averages, alpha=momentum))
