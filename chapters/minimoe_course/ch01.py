"""Exercises of chapter 01, the transformer you already half know."""

import torch
import torch.nn.functional as F

from minimoe.model.layers import rms_norm
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]


def _rms_norm_inputs(g: torch.Generator):
    ones_D = torch.ones(2)
    yield {"x_MD": torch.tensor([[3.0, 4.0]]), "weight_D": ones_D, "eps": 0.0}
    yield {"x_MD": torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "weight_D": torch.tensor([2.0, 1.0]), "eps": 1e-2}
    yield {"x_MD": torch.randn(3, 5, generator=g) + 1, "weight_D": torch.rand(5, generator=g), "eps": 1e-6}
    yield {"x_BTD": torch.randn(2, 3, 7, generator=g), "weight_D": torch.randn(7, generator=g), "eps": 0.1}


def _mean_is_removed(x, weight, eps):
    return F.layer_norm(x, weight.shape, weight, None, eps)


def _root_is_forgotten(x, weight, eps):
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + eps)


def _sum_for_mean(x, weight, eps):
    return weight * x / torch.sqrt(x.pow(2).sum(-1, keepdim=True) + eps)


def _eps_outside_the_root(x, weight, eps):
    return weight * x / (torch.sqrt(x.pow(2).mean(-1, keepdim=True)) + eps)


def _gain_is_forgotten(x, weight, eps):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def _mean_over_everything(x, weight, eps):
    return weight * x / torch.sqrt(x.pow(2).mean() + eps)


RMS_NORM = Exercise(
    key="01.rms_norm",
    reference=rms_norm,
    inputs=_rms_norm_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8, and a mean of a few squares and a root add a handful of roundings",
    wrong=(
        Wrong("mean is removed", _mean_is_removed, "you subtract the mean first: that is LayerNorm. RMSNorm leaves it in."),
        Wrong("root is forgotten", _root_is_forgotten, "you divide by the mean square; take its root."),
        Wrong("sum for mean", _sum_for_mean, "you divide by the length of the vector; RMSNorm divides by the root of the MEAN."),
        Wrong("eps outside", _eps_outside_the_root, "you add eps after the root; the formula adds it under the root."),
        Wrong("gain is forgotten", _gain_is_forgotten, "your result is normalised, but the gain weight_D never enters."),
        Wrong("mean over everything", _mean_over_everything, "one token changes another: average over the last axis only."),
    ),
    hints=(
        "How long is the vector `[3, 4]`, and what is the square root of the mean of its squares? Which of the two is "
        "divided by?",
        "```text\nmean_square = mean of x * x over the last axis, axis kept\nreturn weight * x / root(mean_square + eps)\n```",
    ),
    solution=(
        "def rms_norm(x_MD, weight_D, eps):\n"
        "    mean_square_M1 = x_MD.pow(2).mean(-1, keepdim=True)\n"
        "    return weight_D * x_MD * torch.rsqrt(mean_square_M1 + eps)\n"
    ),
    differs="For float32 it calls torch's fused version of the same formula; for bfloat16 it takes the mean in float32 first.",
    forbid=(F.rms_norm, torch.rms_norm),
)

EXERCISES = (RMS_NORM,)
