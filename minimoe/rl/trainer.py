"""GRPO's loop: questions, groups of answers, rewards, advantages, a policy step, and a record of it all.

One step: draw P questions, sample O answers to each, let the rules score them, turn every group's rewards into
advantages (how much better than its siblings an answer is), and take one or more optimizer steps on the policy loss. An
answer whose group earned one and the same reward has advantage 0 and teaches nothing: it is left out of the pass,
which changes no gradient, and a step without any group to learn from is skipped and counted.

The loss starts at zero and may rise. It is no measure of success: at ratio 1 its *value* is the mean advantage, which
is zero by construction, while its *gradient* is not. Watch the reward, the held-out accuracy and the length.

A run keeps its state in a folder as pre-training does (`training.loop`): killed and started again, it goes on with the
same questions and the same random numbers.

How the production version differs: R1-Zero sampled 8,192 answers a rollout and made 16 optimizer steps of 512; rewards
are computed while the next answers are sampled, and policy, reference and rewards sit on different machines.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from minimoe.rl.grpo import GRPO, Objective, group_advantages, policy_loss
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.record import GROUPS_NAME, describe_group, read_groups
from minimoe.rl.rewards import Rewards, accuracy, well_formed
from minimoe.rl.rollout import Group, rollout
from minimoe.rl.tasks import Question, Questions
from minimoe.training.history import History, Log
from minimoe.training.loop import LOG_NAME
from minimoe.training.optimizer import build_optimizers
from minimoe.training.progress import ProgressLine
from minimoe.training.snapshot import compare_runs, read_state, write_state

__all__ = ["GRPOTrainer", "RLSettings", "reinforce"]

ROWS = 64  # answers in one pass through the model; sorted by length, so that little of it is padding


@dataclass(frozen=True)
class RLSettings:
    """How to reinforce. A step draws `prompts` questions and samples `answers` answers to each.

    `updates`: optimizer steps on one rollout, each on its share of the groups (R1-Zero: 16). `reference_every`: steps
    after which the reference becomes the policy as it is then (R1-Zero: 400); None keeps the starting model.
    `warmup`: steps over which the rate rises. `evaluate_every`, `record_every`, `save_every` count steps; the first
    evaluation is before the first step. The defaults suit a model of half a million parameters.

    Raises ValueError naming the setting. Source: arXiv 2501.12948 section 2.2.1 and its supplement. Chapter 10.
    """

    steps: int
    prompts: int = 16
    answers: int = 12
    max_new_tokens: int = 64
    temperature: float = 1.0
    objective: Objective = GRPO
    lr: float = 3e-4
    warmup: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    updates: int = 1
    reference_every: int | None = None
    evaluate_every: int = 5
    record_every: int = 5
    save_every: int = 10
    seed: int = 0
    stage: str = "r1_zero"

    def __post_init__(self):
        if self.answers < 2:
            raise ValueError(f"answers={self.answers}: an advantage compares the answers of a group, so it needs 2")
        for name in ("steps", "prompts", "max_new_tokens", "temperature", "lr", "clip_norm", "updates"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0")
        for name in ("warmup", "weight_decay", "evaluate_every", "record_every", "save_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.updates > self.prompts:
            raise ValueError(f"updates={self.updates} is more than the prompts={self.prompts} there are to share out")
        if self.reference_every is not None and self.reference_every < 1:
            raise ValueError(f"reference_every={self.reference_every} must be None or at least 1")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        return self.lr * min(1.0, step / self.warmup if self.warmup else 1.0)


class GRPOTrainer:
    """A run, one step at a time: `step()` until `done`. `reinforce` drives it in a cell, `BackgroundRun` in a thread.

    `model` is trained in place. `watch`: questions whose groups are recorded every `record_every` steps, for looking at.
    `evaluation`: a function of the model that gives a dict of numbers, called every `evaluate_every` steps.
    `folder`: where log, groups and state are kept; if it holds a state of the same run, the run goes on from it.
    Raises ValueError if `folder` holds another run, OSError if it cannot be written.
    """

    def __init__(
        self, model, tokenizer, questions: Questions, rewards: Rewards, settings: RLSettings,
        folder=None, watch: list[Question] = (), evaluation: Callable[[object], dict] | None = None,
    ):  # fmt: skip
        self.model, self.tokenizer, self.questions, self.rewards = model, tokenizer, questions, rewards
        self.settings, self.watch, self.evaluation = settings, list(watch), evaluation
        self.reference = copy.deepcopy(model).requires_grad_(False)
        self.start = self.reference
        self.optimizers = build_optimizers(model, "adamw", settings.lr, settings.weight_decay, table_rate=1.0)
        self.records: list[dict] = []
        self.groups: list[dict] = []
        self.steps, self.cpu_s, self.wall_s, self.skipped = 0, 0.0, 0.0, 0
        self.saved_at, self.between_steps, self.log, self.group_log = None, True, None, None
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self._open_folder()
        if self.steps == 0 and not self.groups:
            self._watch()

    @property
    def progress(self) -> float:
        """How much of the run is over, from 0 to 1."""
        return self.steps / self.settings.steps

    @property
    def done(self) -> bool:
        """Whether all steps are made."""
        return self.steps >= self.settings.steps

    def step(self) -> dict | None:
        """Make one step and give its record; None if the run is over."""
        if self.done:
            return None
        self.between_steps, settings = False, self.settings
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        record = {"step": self.steps + 1, "stage": settings.stage}
        if self.evaluation is not None and self.steps == 0 and settings.evaluate_every:
            record["evaluation_before"] = self.evaluation(self.model)
        questions = self.questions.draw(self.steps + 1, settings.prompts)
        record |= self._learn(self.sample(questions, self.steps + 1))
        self.steps += 1
        every = settings.reference_every
        if every is not None and self.steps % every == 0:
            self.reference = copy.deepcopy(self.model).requires_grad_(False)
        if self.evaluation is not None and self._due(settings.evaluate_every):
            record["evaluation"] = self.evaluation(self.model)
        self.cpu_s += time.process_time() - cpu_s
        self.wall_s += time.perf_counter() - wall_s
        record |= {"lr": settings.rate(self.steps), "cpu_s": self.cpu_s, "wall_s": self.wall_s}
        self.records.append(record)
        if self.log is not None:
            self.log.add(record)
        if self._due(settings.record_every):
            self._watch()
        self.between_steps = True
        if self.log is not None and settings.save_every and self.steps % settings.save_every == 0:
            self.save()
        return record

    def _due(self, every: int) -> bool:
        return bool(every) and (self.steps % every == 0 or self.done)

    def sample(self, questions: list[Question], step: int) -> list[Group]:
        """A group of answers to each question, with the random numbers of this step."""
        s = self.settings
        seed = (s.seed * 1_000_003 + step) % 2**62
        return rollout(
            self.model, self.tokenizer, questions, s.answers, s.max_new_tokens, s.temperature, seed=seed
        )  # fmt: skip

    # --- one step of learning -----------------------------------------------------------------------------------------

    def _learn(self, groups: list[Group]) -> dict:
        """Rewards, advantages, `updates` optimizer steps; gives the step's numbers."""
        settings = self.settings
        values = [[self.rewards.score(group.question, answer) for answer in group.answers] for group in groups]
        rewards_PO = torch.tensor([[self.rewards.total(v) for v in row] for row in values])
        advantages_PO = group_advantages(rewards_PO, settings.objective.advantage_scale)
        record = self._describe(groups, values, rewards_PO)
        learnable = [bool(row.any()) for row in advantages_PO]
        record |= {"groups": len(groups), "learnable": sum(learnable), "skipped": not any(learnable)}
        if record["skipped"]:
            self.skipped += 1
            return record | {"loss": 0.0}
        totals = dict.fromkeys(("loss", "grad_norm", "entropy", "clip_fraction"), 0.0)
        parts = self._parts(groups, advantages_PO, learnable)
        for part in parts:
            for name, value in self._update(*part).items():
                totals[name] = totals.get(name, 0.0) + value / len(parts)
        return record | totals

    def _describe(self, groups, values, rewards_PO) -> dict:
        answers = [(group.question, answer) for group in groups for answer in group.answers]
        flat = [value for row in values for value in row]
        n = len(answers)
        return {
            "reward": rewards_PO.mean().item(),
            "parts": {name: sum(value[name] for value in flat) / n for name in flat[0]},
            "accuracy": sum(accuracy(*pair) for pair in answers) / n,
            "well_formed": sum(well_formed(*pair) for pair in answers) / n,
            "mean_tokens": sum(len(answer.tokens) for _, answer in answers) / n,
            "ended": sum(answer.ended for _, answer in answers) / n,
        }

    def _parts(self, groups, advantages_PO, learnable) -> list[tuple]:
        """The groups in `updates` shares; of each share, what there is to learn from and the size of the whole."""
        parts, size = [], -(-len(groups) // self.settings.updates)
        for start in range(0, len(groups), size):
            share = range(start, min(start + size, len(groups)))
            # With a KL term every answer counts, whatever its advantage.
            kept = [i for i in share if learnable[i] or self.settings.objective.kl_weight > 0]
            rows = [
                (groups[i].prompt, answer, float(advantage))
                for i in kept
                for answer, advantage in zip(groups[i].answers, advantages_PO[i], strict=True)
            ]
            whole = [answer for i in share for answer in groups[i].answers]
            if rows:
                parts.append((rows, len(whole), sum(len(answer.tokens) for answer in whole)))
        return parts

    def _update(self, rows: list[tuple], responses: int, tokens: int) -> dict:
        """One optimizer step on these rows; `responses` and `tokens` are what the loss is averaged over."""
        rows = sorted(rows, key=lambda row: len(row[0]) + len(row[1].tokens))
        counted = sum(len(answer.tokens) for _, answer, _ in rows)
        self.model.train()
        found: dict[str, float] = {"loss": 0.0}
        for start in range(0, len(rows), ROWS):
            for name, value in self._pass(rows[start : start + ROWS], responses, tokens, counted).items():
                found[name] = found.get(name, 0.0) + value
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm).item()
        if not norm < float("inf"):
            raise ValueError(f"the gradient's norm is {norm} at step {self.steps + 1}: lower lr={self.settings.lr}")
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.rate(self.steps + 1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.model.eval()
        return found | {"grad_norm": norm}

    def _pass(self, rows: list[tuple], responses: int, tokens: int, counted: int) -> dict:
        """Loss and gradients of some rows; gives their share of the metrics, weighted by their tokens."""
        settings = self.settings
        batch = Rows.of([prompt for prompt, _, _ in rows], [answer.tokens for _, answer, _ in rows], self.model.device)
        old_BS = batch.place([answer.logprobs for _, answer, _ in rows])
        advantages_B = torch.tensor([advantage for _, _, advantage in rows], device=old_BS.device)
        logprobs_BS, entropy_BS = answer_logprobs(self.model, batch, settings.temperature)
        with torch.no_grad():
            reference_BS, _ = answer_logprobs(self.reference, batch, settings.temperature)
        loss, metrics = policy_loss(
            settings.objective, logprobs_BS, old_BS, advantages_B, batch.mask_BS, reference_BS,
            responses=responses, tokens=tokens, max_tokens=settings.max_new_tokens,
        )  # fmt: skip
        loss.backward()
        mine = int(batch.mask_BS.sum())
        metrics["entropy"] = entropy_BS.sum().item() / mine
        return {"loss": loss.item()} | {name: value * mine / counted for name, value in metrics.items()}

    # --- what is looked at --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Record the watched questions' groups as they are now, always with the same random numbers."""
        if not self.watch:
            return
        self.model.eval()
        for group in self.sample(self.watch, 0):
            entry = describe_group(group, self.rewards, self.start, self.tokenizer, self.settings)
            self.groups.append({"step": self.steps, "stage": self.settings.stage} | entry)
            if self.group_log is not None:
                self.group_log.add(self.groups[-1])

    # --- the state on disk --------------------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        """Go on from the folder's state, if there is one, and open the logs."""
        self.identity = {
            "config": self.model.config.to_dict(),
            "settings": {name: str(value) for name, value in vars(self.settings).items()},
            "data": {"questions": repr(self.questions), "rewards": repr(self.rewards)},
        }
        state = read_state(self.folder)
        if state is not None:
            compare_runs(state["run"], self.identity, self.folder)
            self._restore(state)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log = Log(self.folder / LOG_NAME, self.records)
            self.group_log = Log(self.folder / GROUPS_NAME, self.groups)
        except OSError as error:
            raise OSError(f"cannot keep a run in {self.folder}: {error}") from error

    def _restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.start = copy.deepcopy(self.reference)
        self.start.load_state_dict(state["start"])
        self.reference.load_state_dict(state["reference"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.steps, self.skipped = state["steps"], state["skipped"]
        self.cpu_s, self.wall_s = state["cpu_s"], state["wall_s"]
        self.records = History.load(self.folder / LOG_NAME).records[: self.steps]
        self.groups = read_groups(self.folder, until=self.steps)
        if len(self.records) < self.steps:
            raise ValueError(f"{self.folder / LOG_NAME} has {len(self.records)} steps, the state {self.steps}: cut off")

    def save(self) -> None:
        """Write the state of the run into its folder, entirely or not at all. Raises OSError with the reason."""
        if self.log is None:
            raise ValueError("this run has no folder to save to")
        self.log.sync()
        self.group_log.sync()
        write_state(
            self.folder,
            {
                "run": self.identity,
                "model": self.model.state_dict(),
                "start": self.start.state_dict(),
                "reference": self.reference.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "steps": self.steps,
                "skipped": self.skipped,
                "cpu_s": self.cpu_s,
                "wall_s": self.wall_s,
            },
        )
        self.saved_at = self.steps

    def close(self) -> None:
        """Save what is not saved yet, unless the run was interrupted inside a step, and close the logs."""
        if self.log is not None:
            try:
                if self.between_steps and self.saved_at != self.steps:
                    self.save()
            finally:
                self.log.close()
                self.group_log.close()


def reinforce(model, tokenizer, questions, rewards, settings, label: str | None = None, **options) -> GRPOTrainer:
    """Run `GRPOTrainer` to its end with a progress line (`label=None`: without one); gives the trainer.

    Takes and raises what it does.
    """
    trainer = GRPOTrainer(model, tokenizer, questions, rewards, settings, **options)
    line = ProgressLine(label) if label is not None else None
    try:
        while (record := trainer.step()) is not None:
            if line is not None:
                text = f"step {record['step']}  reward {record['reward']:.2f}  accuracy {record['accuracy']:.2f}"
                line.update(trainer.progress, f"{text}  {record['mean_tokens']:.0f} tokens")
    finally:
        trainer.close()
        if line is not None:
            line.close()
    return trainer
