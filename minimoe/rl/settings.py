"""How to reinforce: every knob of an RL run in one frozen record.

R1-Zero's own numbers stand beside ours, because every one of them differs by orders of magnitude and none by kind: 32
questions a step and 16 answers to each, a rate of 3e-6, a KL weight of 0.001, a reference replaced every 400 of its
10,400 steps, answers of up to 65,536 tokens. A model of half a million parameters takes a rate a hundred times higher,
and is done after twenty steps.

How the production version differs: the settings change during a run; R1-Zero's answers might be 32,768 tokens long
until step 8,200 and 65,536 after it, and its curve of lengths has a step there.
"""

from dataclasses import dataclass

from minimoe.rl.grpo import R1, Objective

__all__ = ["RLSettings"]


@dataclass(frozen=True)
class RLSettings:
    """How to reinforce. A step draws `prompts` questions and samples `answers` answers to each.

    `updates`: optimizer steps on one rollout, each on its share of the groups (R1-Zero: 16). `reference_every`: steps
    after which the reference becomes the policy as it is then (R1-Zero: 400); None keeps the starting model.
    `top_p`: sample from the likeliest tokens that hold this much, and learn among the same (V3.2's Keep Sampling Mask).
    `keep_routing`: learn on the experts that sampled (V3.2's Keep Routing; see `replay`, and for what it costs).
    `warmup`: steps over which the rate rises. `evaluate_every`: steps between evaluations and recorded groups, the
    first of which come before step 1 (0: never). `save_every`: steps between saved states. The defaults suit a model of
    half a million parameters.

    Raises ValueError naming the setting. Source: arXiv 2501.12948 section 2.2.1 and its supplement. Chapter 10.
    """

    steps: int
    prompts: int = 16
    answers: int = 12
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float | None = None
    keep_routing: bool = False
    objective: Objective = R1
    lr: float = 3e-4
    warmup: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    updates: int = 1
    reference_every: int | None = None
    evaluate_every: int = 5
    save_every: int = 10
    seed: int = 0
    stage: str = "r1_zero"

    def __post_init__(self):
        if self.answers < 2:
            raise ValueError(f"answers={self.answers}: an advantage compares the answers of a group, so it needs 2")
        for name in ("steps", "prompts", "max_new_tokens", "temperature", "lr", "clip_norm", "updates"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0")
        for name in ("warmup", "weight_decay", "evaluate_every", "save_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.updates > self.prompts:
            raise ValueError(f"updates={self.updates} is more than the prompts={self.prompts} there are to share out")
        if self.reference_every is not None and self.reference_every < 1:
            raise ValueError(f"reference_every={self.reference_every} must be None or at least 1")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        return self.lr * min(1.0, step / self.warmup if self.warmup else 1.0)
