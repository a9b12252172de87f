"""Reinforcement learning with rewards that a rule can check: tasks, rollouts, GRPO, and the stages of R1."""
