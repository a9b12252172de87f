"""Reinforcement learning with rewards that a rule can check: tasks, rollouts, GRPO, and the stages of R1."""

from minimoe.rl.grpo import OBJECTIVES, Objective, group_advantages, policy_loss
from minimoe.rl.rewards import R1_ZERO, Rewards
from minimoe.rl.rollout import rollout
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Question, Questions
from minimoe.rl.trainer import GRPOTrainer, reinforce

__all__ = [
    "GRPOTrainer",
    "OBJECTIVES",
    "Objective",
    "Question",
    "Questions",
    "R1_ZERO",
    "RLSettings",
    "Rewards",
    "group_advantages",
    "policy_loss",
    "reinforce",
    "rollout",
]
