"""GRPO's loop: questions, groups of answers, rewards, advantages, a policy step, and a record of it all.

One step: draw P questions, sample O answers to each, let the rules score them, turn every group's rewards into
advantages (how much better than its siblings an answer is), and take one or more optimizer steps on the policy loss. An
answer whose group earned one and the same reward has advantage 0 and teaches nothing: it is left out of the pass,
which changes no gradient, and a step without any group to learn from is skipped and counted, and several in a row are
worth a word (`silence`).

The loss starts at zero and may rise. It is no measure of success: at ratio 1 its *value* is the mean advantage, which
is zero by construction, while its *gradient* is not. Watch the reward, the held-out accuracy and the length.

A run keeps its state in a folder as pre-training does (`training.loop`): killed and started again, it goes on with the
same questions and the same random numbers.

How the production version differs: R1-Zero sampled 8,192 answers a rollout and made 16 optimizer steps of 512; rewards
are computed while the next answers are sampled, and policy, reference and rewards sit on different machines.
"""

import copy
import time
import warnings
from collections.abc import Callable

import torch

from minimoe.rl.grpo import group_advantages
from minimoe.rl.learner import Learner
from minimoe.rl.record import GROUPS_NAME, describe_group, read_groups
from minimoe.rl.rewards import Rewards, accuracy, well_formed
from minimoe.rl.rollout import Group, rollout
from minimoe.rl.settings import RLSettings
from minimoe.rl.silence import notice_of, silence
from minimoe.rl.tasks import Question, Questions
from minimoe.training.contention import Contention
from minimoe.training.loop import LOG_NAME
from minimoe.training.progress import ProgressLine
from minimoe.training.snapshot import STATE_NAME, RunFolder

__all__ = ["GRPOTrainer", "reinforce"]


class GRPOTrainer:
    """A run, one step at a time: `step()` until `done`. `reinforce` drives it in a cell, `BackgroundRun` in a thread.

    `model` is trained in place. `watch`: questions whose groups are recorded before the first step, every
    `evaluate_every` steps and after the last, for looking at. `evaluation`: a function of the model that gives a dict
    of numbers, called at the same times: a step's record holds it as "evaluation", and that of step 1 also as
    "evaluation_before". `folder`: where log, groups and state are kept; if it holds a state of the same run, the run
    goes on from it. Warns after three skipped steps in a row, unless all answers were right.
    Raises ValueError if `folder` holds another run (other settings, questions, rewards or starting weights), OSError if
    it cannot be written.
    """

    def __init__(
        self, model, tokenizer, questions: Questions, rewards: Rewards, settings: RLSettings,
        folder=None, watch: list[Question] = (), evaluation: Callable[[object], dict] | None = None,
    ):  # fmt: skip
        self.model, self.tokenizer, self.questions, self.rewards = model, tokenizer, questions, rewards
        self.settings, self.watch, self.evaluation = settings, list(watch), evaluation
        self.start = copy.deepcopy(model).requires_grad_(False)
        self.learner = Learner(model, self.start, settings)
        self.records: list[dict] = []
        self.groups: list[dict] = []
        self.steps, self.cpu_s, self.wall_s, self.skipped = 0, 0.0, 0.0, 0
        self.contention = Contention()
        self.between_steps, self.folder, self.log, self.group_log = True, None, None, None
        if folder is not None:
            self._open(folder)
        if self.steps == 0 and not self.groups and settings.evaluate_every:
            self._watch()

    @property
    def progress(self) -> float:
        """How much of the run is over, from 0 to 1."""
        return self.steps / self.settings.steps

    @property
    def done(self) -> bool:
        """Whether all steps are made."""
        return self.steps >= self.settings.steps

    @property
    def notice(self) -> str | None:
        """What keeps the run from learning, if the last steps were all skipped."""
        return notice_of(self.records)

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
        if settings.reference_every is not None and self.steps % settings.reference_every == 0:
            self.learner.reference = copy.deepcopy(self.model).requires_grad_(False)
        try:
            if self.evaluation is not None and self._due(self.steps):
                record["evaluation"] = self.evaluation(self.model)
        finally:  # the weights have moved: the step is made, whatever becomes of its evaluation
            self._note(record, time.process_time() - cpu_s, time.perf_counter() - wall_s)
        if self._due(self.steps):
            self._watch()
        self.between_steps = True
        if self.log is not None and settings.save_every and self.steps % settings.save_every == 0:
            self.save()
        return record

    def _note(self, record: dict, spent_s: float, passed_s: float) -> None:
        """Add what the step took, and keep its record."""
        self.cpu_s, self.wall_s = self.cpu_s + spent_s, self.wall_s + passed_s
        self.contention.note(spent_s, passed_s)
        record |= {"lr": self.settings.rate(self.steps), "cpu_s": self.cpu_s, "wall_s": self.wall_s}
        self.records.append(record)
        if self.log is not None:
            self.log.add(record)

    def _due(self, step: int) -> bool:
        """Whether step number `step` is one that is looked at: every so many, and the last."""
        every = self.settings.evaluate_every
        return bool(every) and (step % every == 0 or step == self.settings.steps)

    def sample(self, questions: list[Question], step: int) -> list[Group]:
        """A group of answers to each question, with the random numbers of this step."""
        s = self.settings
        seed = (s.seed * 1_000_003 + step) % 2**62
        return rollout(
            self.model, self.tokenizer, questions, s.answers, s.max_new_tokens, s.temperature, top_p=s.top_p, seed=seed,
            record_routing=s.keep_routing, keep_mask=s.top_p is not None,
        )  # fmt: skip

    def _learn(self, groups: list[Group]) -> dict:
        """Rewards, advantages, the policy step; gives the step's numbers."""
        settings = self.settings
        values = [[self.rewards.score(group.question, answer) for answer in group.answers] for group in groups]
        rewards_PO = torch.tensor([[self.rewards.total(value) for value in row] for row in values])
        advantages_PO = group_advantages(rewards_PO, settings.objective.advantage_scale)
        learnable = int(advantages_PO.any(1).sum())
        record = _described(groups, values) | {"reward": rewards_PO.mean().item()}
        record |= {"groups": len(groups), "learnable": learnable, "skipped": learnable == 0}
        if record["skipped"]:
            self.skipped += 1
            said = silence(self.records, record, groups, self.tokenizer, settings.max_new_tokens)
            if said is not None:
                warnings.warn(said, stacklevel=3)
                record["notice"] = said
            return record
        step = self.steps + 1
        return record | self.learner.learn(groups, advantages_PO, settings.rate(step), self._due(step))

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

    def _open(self, folder) -> None:
        """Go on from the folder's state, if there is one, and open the logs."""
        identity = {
            "config": self.model.config.to_dict(),
            "settings": {name: str(value) for name, value in vars(self.settings).items()},
            "data": {"questions": repr(self.questions), "rewards": repr(self.rewards)},
        }
        self.folder = RunFolder(folder, identity)
        state = self.folder.stored()
        if state is not None:
            if not any(_equal(self.model.state_dict(), state[name]) for name in ("start", "model")):
                raise ValueError(
                    f"{folder} holds another run: it began with other weights than this model's; give the model "
                    f"that it began with, or another folder, or delete {STATE_NAME} to start anew"
                )
            self._restore(state)
        self.log = self.folder.open_log(LOG_NAME, self.records)
        self.group_log = self.folder.open_log(GROUPS_NAME, self.groups)

    def _restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.start.load_state_dict(state["start"])
        self.learner.reference = copy.deepcopy(self.start)
        self.learner.reference.load_state_dict(state["reference"])
        for optimizer, stored in zip(self.learner.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.steps, self.skipped = state["steps"], state["skipped"]
        self.cpu_s, self.wall_s = state["cpu_s"], state["wall_s"]
        self.records = self.folder.records(LOG_NAME, self.steps)
        self.groups = read_groups(self.folder.path, until=self.steps)

    def save(self) -> None:
        """Write the state of the run into its folder, entirely or not at all. Raises OSError with the reason."""
        if self.folder is None:
            raise ValueError("this run has no folder to save to")
        state = {
            "model": self.model.state_dict(),
            "start": self.start.state_dict(),
            "reference": self.learner.reference.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.learner.optimizers],
            "skipped": self.skipped,
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
        }
        self.folder.save(self.steps, state)

    def close(self) -> None:
        """Save what is not saved yet, unless the run was interrupted inside a step, and close the logs."""
        if self.folder is not None:
            try:
                if self.between_steps and self.folder.saved_at != self.steps:
                    self.save()
            finally:
                self.folder.close()


def _equal(weights: dict, others: dict) -> bool:
    return weights.keys() == others.keys() and all(
        value.dtype == others[name].dtype and torch.equal(value, others[name]) for name, value in weights.items()
    )


def _described(groups: list[Group], values: list[list[dict]]) -> dict:
    """What the answers of a rollout were like, as means over all of them."""
    pairs = [(group.question, answer) for group in groups for answer in group.answers]
    flat, n = [value for row in values for value in row], len(pairs)
    return {
        "parts": {name: sum(value[name] for value in flat) / n for name in flat[0]},
        "accuracy": sum(accuracy(*pair) for pair in pairs) / n,
        "well_formed": sum(well_formed(*pair) for pair in pairs) / n,
        "mean_tokens": sum(len(answer.tokens) for _, answer in pairs) / n,
        "ended": sum(answer.ended for _, answer in pairs) / n,
    }


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
