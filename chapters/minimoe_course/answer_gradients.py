"""How the gradients of single answers lie to each other: all there is to know about the noise of a policy gradient.

A policy gradient is a weighted sum of the answers' gradients g_i = grad log pi(o_i); the weights are rewards or
advantages, divided by their number. Its squared length is w' G w with G_ij = g_i . g_j, and so is the squared distance
between two such sums. With G in hand, thousands of draws of a group cost nothing, and no vector of the model's size is
made again.

How the production version differs: nobody computes it; the noise is guessed from the norm of the whole gradient.
"""

import torch

from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.rollout import Group

__all__ = ["gram", "relative_noise"]

COLUMNS = 65_536  # of the gradients, at a time: half a gigabyte would be needed for all of them in float32


def gram(model, group: Group, temperature: float = 1.0) -> torch.Tensor:
    """G_OO, the dot products of the answers' gradients of log pi, with the mean gradient subtracted.

    On average over a policy's own answers that mean is zero; over a sample it is what chance left. Gradients are kept
    in bfloat16: two bytes a parameter and answer.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows = []
    for answer in group.answers:
        logprobs_1S, _ = answer_logprobs(model, Rows.of([group.prompt], [answer.tokens], model.device), temperature)
        parts = torch.autograd.grad(logprobs_1S.sum(), parameters, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]).bfloat16())
    G_OO = torch.zeros(len(rows), len(rows))
    for part in zip(*(row.split(COLUMNS) for row in rows), strict=True):
        centred = torch.stack(part).float()
        centred -= centred.mean(0)
        G_OO += centred @ centred.T
    return G_OO


def relative_noise(G_OO: torch.Tensor, chosen_DK: torch.Tensor, weights_DK: torch.Tensor) -> float:
    """The variance of a policy gradient over D draws, divided by the squared length of its mean.

    `chosen_DK`: which answers each draw has, out of those of `G_OO`; `weights_DK`: what each is multiplied by. At 1 the
    noise of one draw is as long as what it should show. The mean over the draws holds a D-th of the variance, which is
    taken out again.
    """
    draws = len(chosen_DK)
    w_DO = torch.zeros(draws, len(G_OO)).scatter_add(1, chosen_DK, weights_DK / chosen_DK.shape[1])
    mean_O = w_DO.mean(0)
    off_DO = w_DO - mean_O
    variance = ((off_DO @ G_OO) * off_DO).sum().item() / (draws - 1)
    return variance / ((mean_O @ G_OO @ mean_O).item() - variance / draws)
