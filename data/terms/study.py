"""Every term of GRPO switched off once: short R1-Zero runs from the shipped base, three seeds each but for the dearest.

    python data/terms/study.py                  # all that is missing in results.jsonl
    python data/terms/study.py --only reference # one variant

A seed fixes the questions and the random numbers of the rollouts; the base model, data/reason, is the same for all.
Each run is a line of `results.jsonl`; a command that was stopped can be given again.
"""

import argparse
import json
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

import minimoe
from minimoe.rl import trainer as trainer_module
from minimoe.rl.grpo import R1, group_advantages
from minimoe.rl.learner import Learner
from minimoe.rl.rewards import R1_ZERO
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Questions
from minimoe.rl.trainer import GRPOTrainer
from minimoe.rl.zero import HELD_OUT_SEED, greedy_evaluation
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import Chain, draw_problems

HERE = Path(__file__).parent
BASE, RESULTS = HERE.parent / "reason", HERE / "results.jsonl"
TASK, SEEDS, HELD_OUT = Chain(operations=6), range(3), 256
SETTINGS = RLSettings(steps=8, prompts=16, answers=16, max_new_tokens=48, lr=3e-4, objective=R1, evaluate_every=0)
LOOSE = 1e9  # a clip that never acts
DEAR = "4 rollouts"  # variants that begin so take a minute each, and are run with one seed
KEPT = ("reward", "accuracy", "mean_tokens", "kl", "entropy", "loss", "grad_norm", "learnable")
KEPT += ("clip_fraction", "ratio_mean")


def objective(**changes) -> dict:
    """A change of the loss alone."""
    return {"settings": replace(SETTINGS, objective=replace(R1, **changes))}


def again(clip: float, rollouts: int, prompts: int, passes: int) -> dict:
    """A few rollouts, each learned from several times."""
    changed = replace(SETTINGS, steps=rollouts, prompts=prompts, objective=replace(R1, clip_low=clip, clip_high=clip))
    return {"settings": changed, "passes": passes}


VARIANTS = {
    "reference": {},
    "no baseline": {"advantages": lambda rewards_PO, scale: rewards_PO},
    "no baseline, all rewards + 1": {"advantages": lambda rewards_PO, scale: rewards_PO + 1},
    "no baseline, all rewards - 1": {"advantages": lambda rewards_PO, scale: rewards_PO - 1},
    "no baseline, all rewards + 1, per token": objective(average="token")
    | {"advantages": lambda rewards_PO, scale: rewards_PO + 1},
    "all rewards 1, per token": objective(average="token")
    | {"advantages": lambda rewards_PO, scale: torch.ones_like(rewards_PO)},
    "groups of 2": {"settings": replace(SETTINGS, prompts=128, answers=2)},
    "no std": objective(advantage_scale="none"),
    "no KL": objective(kl_weight=0.0),
    "per token": objective(average="token"),
    "constant": objective(average="constant"),
    "1 rollout of 8 x 16, 16 updates, clip 10": again(10.0, 1, 8, 16),
    "1 rollout of 8 x 16, 16 updates, clip 0.2": again(0.2, 1, 8, 16),
    "4 rollouts, 8 updates each, no clip": again(LOOSE, 4, 16, 8),
    "4 rollouts, 8 updates each, clip 0.2": again(0.2, 4, 16, 8),
}


class Repeating(Learner):
    """Learns from every rollout `passes` times."""

    passes = 1

    def learn(self, *arguments) -> dict:
        """The numbers are those of the last pass."""
        for _ in range(self.passes):
            found = super().learn(*arguments)
        return found


@contextmanager
def advantages_by(function):
    """The trainer with another formula for the advantages."""
    trainer_module.group_advantages = function
    try:
        yield
    finally:
        trainer_module.group_advantages = group_advantages


def run(name: str, seed: int) -> dict:
    """One run: its curves, and its greedy answers to held-out problems before and after."""
    variant = VARIANTS[name]
    settings = replace(variant.get("settings", SETTINGS), seed=seed)
    tokenizer, model = Tokenizer.load(BASE), minimoe.load(BASE, dtype=torch.float32)
    evaluation = greedy_evaluation(tokenizer, TASK, draw_problems(TASK, HELD_OUT, HELD_OUT_SEED, held_out=True), 48)
    record = {"variant": name, "seed": seed, "before": evaluation(model)}
    started = time.process_time()
    with advantages_by(variant.get("advantages", group_advantages)):
        trainer = GRPOTrainer(model, tokenizer, Questions(TASK, seed), R1_ZERO, settings)
        trainer.learner = Repeating(model, trainer.start, settings)
        trainer.learner.passes = variant.get("passes", 1)
        while trainer.step() is not None:
            pass
    record |= {"cpu_s": round(time.process_time() - started, 1), "after": evaluation(model)}
    curves = {key: [round(step.get(key, 0.0), 5) for step in trainer.records] for key in KEPT}
    return record | {"objective": vars(settings.objective), "curves": curves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=VARIANTS, action="append")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    known = {(record["variant"], record["seed"]) for record in map(json.loads, lines)}
    for seed in range(arguments.seeds):
        for name in arguments.only or VARIANTS:
            if (name, seed) in known or (name.startswith(DEAR) and seed > 0):
                continue
            record = run(name, seed)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            right = record["after"]["accuracy"]
            print(f"{name:40} seed {seed}: {right:.3f} right, {record['cpu_s']} CPU-s", flush=True)


if __name__ == "__main__":
    main()
