"""R1-Zero: reinforcement learning on a base model, with two rules and nothing else.

No examples of thinking, no reward model: the base is asked, its answers are checked, what was right becomes likelier.
DeepSeek's base went from 15.6% to 77.9% on AIME 2024 that way, and its answers from hundreds of tokens to thousands.
Here a base of half a million parameters goes from a fifth to all of its held-out problems within twenty steps, and its
answers from 5 tokens to 29, on one core.

What it cannot do is as instructive. A base that was never shown how a chain is worked out stays at its guesses: no
answer of its groups is better than luck, so there is nothing to make likelier.

How the production version differs: 10,400 steps of 512 answers on a base of 671 billion parameters, 101,000 GPU-hours.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from minimoe.checkpoint import load, save
from minimoe.rl.rewards import R1_ZERO, Rewards, accuracy
from minimoe.rl.rollout import Group, rollout
from minimoe.rl.scoring import cons_at_k, pass_at_k
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Question, Questions
from minimoe.rl.trainer import GRPOTrainer, reinforce
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import draw_problems, split_response
from minimoe.training.responses import measure

__all__ = ["greedy_evaluation", "r1_zero", "sampled_scores"]

HELD_OUT_SEED = 99


def greedy_evaluation(tokenizer: Tokenizer, task, problems: list[str], max_new_tokens: int = 64) -> Callable:
    """A function of a model: accuracy, well_formed, mean_tokens and waits of its greedy answers to these problems."""

    def evaluation(model) -> dict[str, float]:
        score = measure(model, tokenizer, task, problems, max_new_tokens)
        return {name: getattr(score, name) for name in ("accuracy", "well_formed", "mean_tokens", "waits")}

    return evaluation


def sampled_scores(
    model, tokenizer, task, problems: list[str], answers: int = 16, max_new_tokens: int = 64, temperature: float = 1.0,
    seed: int = 0,
) -> dict:  # fmt: skip
    """pass@k for k = 1, 2, 4, ... up to `answers`, and cons@`answers`, as means over the problems.

    Gives {"pass": {"1": ..., "2": ...}, "cons": ..., "answers": answers}. An answer that did not end is wrong; in the
    vote such answers stand together, as one that is wrong. Chapter 10.
    """
    questions = [Question(task, problem) for problem in problems]
    groups = rollout(model, tokenizer, questions, answers, max_new_tokens, temperature, seed=seed)
    right = [int(sum(accuracy(group.question, answer) for answer in group.answers)) for group in groups]
    ks = [2**i for i in range(answers.bit_length())]
    passed = {str(k): sum(pass_at_k(n, answers, k) for n in right) / len(right) for k in ks}
    return {"pass": passed, "cons": sum(map(_cons, groups)) / len(groups), "answers": answers}


def _cons(group: Group) -> float:
    said = [split_response(answer.text)[1] if answer.ended else None for answer in group.answers]
    verdicts = {text: accuracy(group.question, answer) for text, answer in zip(said, group.answers, strict=True)}
    return cons_at_k(said, verdicts.get, len(said))


def r1_zero(
    base,
    out,
    task,
    settings: RLSettings,
    rewards: Rewards = R1_ZERO,
    held_out: int = 256,
    watched: int = 4,
    label: str | None = "R1-Zero",
) -> GRPOTrainer:
    """Reinforce the checkpoint in the folder `base` on `task`, and write the new one into the folder `out`.

    `held_out`: problems of the other side of the split that are answered greedily along the way; the first `watched` of
    them are also recorded as groups. A run that was stopped goes on when it is called again. Log, groups and state
    stay in `out`. Raises OSError and ValueError as `load` and `GRPOTrainer` do.
    Source: arXiv 2501.12948 section 2.2. Chapter 10.
    """
    base, out = Path(base), Path(out)
    model, tokenizer = load(base, dtype=torch.float32), Tokenizer.load(base)
    problems = draw_problems(task, held_out, HELD_OUT_SEED, held_out=True)
    trainer = reinforce(
        model,
        tokenizer,
        Questions(task, settings.seed),
        rewards,
        settings,
        label=label,
        folder=out,
        watch=[Question(task, problem) for problem in problems[:watched]],
        evaluation=greedy_evaluation(tokenizer, task, problems, settings.max_new_tokens),
    )
    save(model, out, dtype=torch.bfloat16)
    tokenizer.save(out)
    return trainer
