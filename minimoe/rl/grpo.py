"""Policy gradients with a group for a baseline: GRPO and its relatives as one loss with named options.

The model answers a question O times. An answer that did better than the average of its group is made likelier, one that
did worse less likely, and the group is all there is: no value network guesses how good the question was. Three lines
hold the idea, and every variant since has argued with one of them:

- *The advantage*: reward minus the group's mean, divided by the group's standard deviation. The division makes hard and
  easy questions push equally hard, whatever one right answer in sixteen is worth; Dr.GRPO and V3.2 leave it out.
- *The ratio* pi / pi_old, for answers that are used more than once: by the second update the policy is no longer the
  one that sampled them. The clip takes the gradient away where the ratio has already moved far enough in the direction
  the advantage asks for. A ratio a token (GRPO), one a response (GSPO), or a clipped weight that stops no gradient
  (CISPO).
- *The average*: every response counts the same (GRPO), every token does (DAPO), or the sum is divided by a constant
  (Dr.GRPO). In the first, a wrong answer is punished less per token if it is longer.

At the first update the ratio is 1 everywhere. The loss is then minus the mean advantage, about 0, and later it may rise
while rewards do: its value says nothing, only its gradient does. That gradient is REINFORCE with a baseline.

Letters: B responses, T their tokens, P prompts, O answers a prompt.

How the production version differs: log-probabilities come from kernels that never hold all logits, the old ones from an
inference engine whose rounding (and, in a mixture of experts, routing: `replay.py`) differs from the trainer's, and the
responses of a batch are spread over hundreds of ranks, which is what `responses` and `tokens` stand for.
"""

from dataclasses import dataclass, replace

import torch

__all__ = [
    "BNPO",
    "CISPO",
    "DAPO",
    "DR_GRPO",
    "GRPO",
    "GSPO",
    "OBJECTIVES",
    "R1",
    "V3_2",
    "Objective",
    "group_advantages",
    "policy_loss",
]

CHOICES = {
    "ratio": ("token", "sequence"),
    "surrogate": ("clip", "cispo"),
    "average": ("response", "token", "constant"),
    "kl": ("k3", "unbiased"),
    "advantage_scale": ("std", "none", "batch"),
}


@dataclass(frozen=True)
class Objective:
    """Which policy-gradient loss: every knob by name. The defaults are PPO's clip in GRPO's form, without a KL term.

    - `ratio`: "token", pi / pi_old of each token; "sequence", one for the response, its geometric mean over tokens.
    - `surrogate`: "clip", min(r A, clip(r) A); "cispo", clip(r) A log pi, with no gradient through the weight clip(r).
    - `clip_low`, `clip_high`: clip(r) lies between 1 - clip_low and 1 + clip_high. From `clip_low=1` on there is no
      lower bound, since a ratio is positive.
    - `two_sided`: the ratio is cut at this number before min(r A, clip(r) A), so that a negative advantage cannot push
      without limit (None: no cut).
    - `off_policy_limit`: a response with A < 0 and mean over its tokens of log(pi_old / pi) above this gives no policy
      gradient (None: all do).
    - `average`: "response", mean over a response's tokens, then over responses; "token", over all tokens; "constant",
      the sum over responses * max_tokens.
    - `kl_weight`: of the KL term (0: none). `kl`: "k3", x - log x - 1 with x = pi_ref / pi; "unbiased", that times the
      ratio.
    - `advantage_scale`: what `group_advantages` divides by.

    Raises `ValueError` for a value that is none of these, and for limits that make no sense.
    """

    ratio: str = "token"
    surrogate: str = "clip"
    clip_low: float = 0.2
    clip_high: float = 0.2
    two_sided: float | None = None
    off_policy_limit: float | None = None
    average: str = "response"
    kl_weight: float = 0.0
    kl: str = "k3"
    advantage_scale: str = "std"

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name in ("clip_low", "clip_high", "kl_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} is negative")
        if self.two_sided is not None and not self.two_sided > 1 + self.clip_high:
            raise ValueError(f"two_sided={self.two_sided} is not above 1 + clip_high={1 + self.clip_high}")
        if self.two_sided is not None and self.surrogate == "cispo":
            raise ValueError(f"two_sided={self.two_sided} belongs to surrogate='clip', not to 'cispo'")
        if self.off_policy_limit is not None and not self.off_policy_limit >= 0:
            raise ValueError(f"off_policy_limit={self.off_policy_limit} is negative")


GRPO = Objective(kl_weight=0.04)
"""DeepSeekMath (arXiv 2402.03300, equation 3; KL weight from section 4.2). Its clip is not stated; 0.2 is PPO's."""

R1 = replace(GRPO, clip_low=10.0, clip_high=10.0, kl_weight=0.001)
"""DeepSeek-R1's first RL stage (Nature 645, 633, Methods): a clip of 10, which hardly ever acts, and a weak KL term."""

DR_GRPO = Objective(average="constant", advantage_scale="none")
"""Dr.GRPO (arXiv 2503.20783, section 3.2): GRPO without its two divisions, by the length and by the deviation."""

DAPO = Objective(average="token", clip_high=0.28)
"""DAPO (arXiv 2503.14476, equation 8): every token counts the same, and what rises may rise further than what falls."""

BNPO = Objective(average="token")
"""TRL's "bnpo": DAPO's average with a symmetric clip. TRL divides each micro-batch by its own tokens: so does
`policy_loss` where `tokens` is not given, and then the losses of parts do not add up."""

GSPO = Objective(ratio="sequence", clip_low=3e-4, clip_high=4e-4)
"""GSPO (arXiv 2507.18071, equations 5-7; clips from section 5.1): rewards are given to responses, so ratios are too."""

CISPO = Objective(surrogate="cispo", clip_low=1.0, clip_high=4.0, average="token")
"""CISPO (MiniMax-M1, arXiv 2506.13585, equations 4-5): no lower bound. The upper one is not published; a ratio of at
most 5 is ScaleRL's (arXiv 2510.13786)."""

V3_2 = Objective(kl="unbiased", kl_weight=0.001, off_policy_limit=0.1, advantage_scale="none")
"""DeepSeek-V3.2 (arXiv 2512.02556, equations 5-9). Its clip, KL weight and limit are not published: 0.2 is PPO's, 0.001
R1's, 0.1 nats a token ours. Keep Routing and Keep Sampling Mask, the other half of its recipe, are in `replay.py`."""

OBJECTIVES = {
    "grpo": GRPO,
    "r1": R1,
    "dr_grpo": DR_GRPO,
    "dapo": DAPO,
    "bnpo": BNPO,
    "gspo": GSPO,
    "cispo": CISPO,
    "v3_2": V3_2,
}


def group_advantages(rewards_PO: torch.Tensor, scale: str = "std") -> torch.Tensor:
    """How much better every answer did than its group: `advantages_PO`, which add up to zero in each group.

    "none": A = r - mean(r). "std": (r - mean(r)) / (std(r) + 1e-4) with the deviation of its own group, ddof = 1.
    "batch": the deviation of all rewards of the batch instead, which lets one question's spread scale another's.

    A group whose answers all got the same reward says nothing about which to prefer: exactly zeros, never NaN.
    Raises `ValueError` for another `scale`, and for groups of one: an answer alone is its own average.
    Source: arXiv 2402.03300 section 4.1.1; 1e-4 and ddof are TRL's, the paper states neither. Chapter 09.
    """
    if scale not in CHOICES["advantage_scale"]:
        raise ValueError(f"scale={scale!r} is not one of {', '.join(CHOICES['advantage_scale'])}")
    if rewards_PO.ndim != 2 or rewards_PO.shape[1] < 2:
        raise ValueError(
            f"rewards of shape {tuple(rewards_PO.shape)}: a row a prompt and at least 2 answers in it are needed; "
            "a group of one is its own mean, every advantage would be 0"
        )
    rewards_PO = rewards_PO if rewards_PO.is_floating_point() else rewards_PO.float()
    centred_PO = rewards_PO - rewards_PO.mean(1, keepdim=True)
    if scale == "std":
        centred_PO = centred_PO / (rewards_PO.std(1, keepdim=True) + 1e-4)
    elif scale == "batch":
        centred_PO = centred_PO / (rewards_PO.std() + 1e-4)
    equal = rewards_PO.amax(1, keepdim=True) == rewards_PO.amin(1, keepdim=True)
    return centred_PO.masked_fill(equal, 0.0)  # the mean of equal numbers can be one rounding beside them


def policy_loss(
    objective: Objective,
    logprobs_BT: torch.Tensor,
    old_BT: torch.Tensor,
    advantages_B: torch.Tensor,
    mask_BT: torch.Tensor,
    reference_BT: torch.Tensor | None = None,
    responses: int | None = None,
    tokens: int | None = None,
    max_tokens: int | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss whose gradient makes better answers likelier, and what to watch: a scalar and numbers.

    r = exp(log pi - log pi_old);  token loss = -min(r A, clip(r) A) + kl_weight KL;  their average is the loss.

    `logprobs_BT`: of the sampled tokens under the policy in training, the only argument with a gradient. `old_BT`:
    under the policy that sampled them, `reference_BT`: under the one that the KL term holds on to. `mask_BT`: bool,
    True on response tokens; what stands elsewhere is never read and may be -inf. `advantages_B`: one a response.
    `responses`, `tokens`: how many the whole batch has, where this call sees a part of it: the losses (and gradients)
    of the parts then add up to the whole's, and rows that cannot contribute (A = 0 and no KL term) can be left out.
    `max_tokens`: what `average="constant"` divides by.

    Metrics, means over response tokens: "kl" (with a reference, also at weight 0), "clip_low_fraction" (r below the
    clip, A < 0), "clip_high_fraction" (r above, A > 0), "clip_fraction" (either), "ratio_mean", "masked_fraction".
    Raises `ValueError` for shapes that disagree, and for a missing reference or `max_tokens`.
    Source: arXiv 2402.03300 equation 3; every option beside its preset. Chapter 09.
    """
    _check_shapes(logprobs_BT, old_BT, advantages_B, mask_BT, reference_BT)
    responses, tokens = _whole(mask_BT, responses, tokens)
    _check_given(objective, reference_BT, max_tokens)
    outside_BT, A_B1 = ~mask_BT, advantages_B[:, None].detach()
    logprobs_BT, old_BT = logprobs_BT.masked_fill(outside_BT, 0.0), old_BT.detach().masked_fill(outside_BT, 0.0)
    lengths_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
    log_ratio_BT = logprobs_BT - old_BT
    drift_B1 = log_ratio_BT.sum(1, keepdim=True) / lengths_B1
    ratio_BT = (log_ratio_BT if objective.ratio == "token" else drift_B1.expand_as(log_ratio_BT)).exp()

    loss_BT = -_surrogate(objective, ratio_BT, logprobs_BT, A_B1)
    dropped_B1 = torch.zeros_like(A_B1, dtype=torch.bool)
    if objective.off_policy_limit is not None:
        dropped_B1 = (A_B1 < 0) & (-drift_B1.detach() > objective.off_policy_limit)
        loss_BT = loss_BT.masked_fill(dropped_B1, 0.0)
    kl_BT = torch.zeros_like(loss_BT)
    if reference_BT is not None:
        log_x_BT = reference_BT.detach().masked_fill(outside_BT, 0.0) - logprobs_BT
        kl_BT = log_x_BT.exp() - log_x_BT - 1
        kl_BT = kl_BT * ratio_BT if objective.kl == "unbiased" else kl_BT
        loss_BT = loss_BT + objective.kl_weight * kl_BT if objective.kl_weight else loss_BT

    loss_BT = loss_BT.masked_fill(outside_BT, 0.0)
    if objective.average == "response":
        loss = (loss_BT / lengths_B1).sum() / responses
    elif objective.average == "token":
        loss = loss_BT.sum() / max(tokens, 1)
    else:
        loss = loss_BT.sum() / (responses * max_tokens)
    return loss, _metrics(objective, ratio_BT.detach(), A_B1, kl_BT.detach(), dropped_B1, mask_BT)


def _surrogate(objective, ratio_BT, logprobs_BT, A_B1) -> torch.Tensor:
    """What is to be raised, token by token; its gradient at ratio 1 is A times that of log pi, in either form."""
    clipped_BT = ratio_BT.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    if objective.surrogate == "cispo":
        return clipped_BT.detach() * A_B1 * logprobs_BT
    if objective.two_sided is not None:
        ratio_BT = ratio_BT.clamp(max=objective.two_sided)
    return torch.minimum(ratio_BT * A_B1, clipped_BT * A_B1)


def _metrics(objective, ratio_BT, A_B1, kl_BT, dropped_B1, mask_BT) -> dict[str, float]:
    low_BT = (ratio_BT < 1 - objective.clip_low) & (A_B1 < 0)
    high_BT = (ratio_BT > 1 + objective.clip_high) & (A_B1 > 0)
    seen = {
        "kl": kl_BT,
        "clip_fraction": low_BT | high_BT,
        "clip_low_fraction": low_BT,
        "clip_high_fraction": high_BT,
        "ratio_mean": ratio_BT,
        "masked_fraction": dropped_B1.expand_as(mask_BT),
    }
    count = max(int(mask_BT.sum()), 1)
    return {name: (values.masked_fill(~mask_BT, 0).sum() / count).item() for name, values in seen.items()}


def _whole(mask_BT, responses: int | None, tokens: int | None) -> tuple[int, int]:
    """The denominators: those of the whole batch where they are given, else this call's own."""
    own = {"responses": len(mask_BT), "tokens": int(mask_BT.sum())}
    for name, given in (("responses", responses), ("tokens", tokens)):
        if given is not None and given < own[name]:
            raise ValueError(f"{name}={given} of the whole batch, but this part of it alone has {own[name]}")
    return own["responses"] if responses is None else responses, own["tokens"] if tokens is None else tokens


def _check_given(objective, reference_BT, max_tokens) -> None:
    if objective.kl_weight and reference_BT is None:
        raise ValueError(f"kl_weight={objective.kl_weight} needs reference log-probabilities, none were given")
    if objective.average == "constant" and not (max_tokens and max_tokens > 0):
        raise ValueError(f"average='constant' divides by max_tokens, which is {max_tokens}")


def _check_shapes(logprobs_BT, old_BT, advantages_B, mask_BT, reference_BT) -> None:
    shape = tuple(logprobs_BT.shape)
    if len(shape) != 2:
        raise ValueError(f"log-probabilities of shape {shape}: a row a response and a column a token are needed")
    for name, given in (("old", old_BT), ("mask", mask_BT), ("reference", reference_BT)):
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(given.shape)}, the log-probabilities have {shape}")
    if tuple(advantages_B.shape) != shape[:1]:
        raise ValueError(f"advantages have shape {tuple(advantages_B.shape)}, {shape[0]} responses need one each")
    if mask_BT.dtype != torch.bool:
        raise ValueError(f"mask has dtype {mask_BT.dtype}; torch.bool is needed")
