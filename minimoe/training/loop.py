"""The training loop: batch, loss, gradients, clip, step, bias, and a record of it all.

One step: the loss is next-token cross-entropy, plus lambda times the MTP loss, plus the sequence-wise balance loss with
the config's weight, plus the auxiliary loss if that is how experts are balanced. Gradients are clipped to a common
norm, the optimizers step at the schedule's rate, and last the router biases move by the load that the step just showed.

A run ends after `steps` steps or `cpu_seconds` seconds of this process's CPU time, whichever comes first, and the
schedule follows the same clock. Only a run limited by steps is repeatable: a seed then fixes every number up to
rounding, and a run that was killed and goes on from its folder makes the same numbers, bit by bit, as one that was not.

How the production version differs: the batch is spread over thousands of GPUs, activations are recomputed, and matrix
products run in FP8.
"""

import time
from collections.abc import Callable, Iterable

import torch

from minimoe.training.balance import batch_balance_loss, update_bias, use_rule, violations
from minimoe.training.contention import Contention
from minimoe.training.data import Batches
from minimoe.training.history import History
from minimoe.training.optimizer import build_optimizers
from minimoe.training.progress import ProgressLine
from minimoe.training.settings import Settings
from minimoe.training.snapshot import RunFolder

__all__ = ["LOG_NAME", "Trainer", "evaluate", "train"]

LOG_NAME = "log.jsonl"


@torch.no_grad()
def evaluate(model, rows_BT: torch.Tensor, sequences: int = 16) -> float:
    """The mean next-token loss (nats a token) over all rows; the model's mode is left as it was."""
    was_training = model.training
    model.eval()
    total = 0.0
    for part in rows_BT.split(sequences):
        out = model(part, labels=part, mtp=False)
        total += out.losses["next_token"].item() * len(part)
    model.train(was_training)
    return total / len(rows_BT)


class Trainer:
    """A run, one step at a time: `step()` until `done`. `train` drives it in a cell, `BackgroundRun` in a thread.

    `batches`: a `Batches`, or any iterable of token rows (int64), which then cannot be saved. `validation`: packed rows
    whose loss is measured at the end and every `evaluate_every` steps. `folder`: where the run keeps its log and state;
    if it holds a state of the same run, the run goes on from it. `settings` may be replaced between steps.
    Raises ValueError if `folder` holds another run, OSError if it cannot be written.
    """

    def __init__(self, model, batches, settings: Settings, validation: torch.Tensor | None = None, folder=None):
        if folder is not None and not isinstance(batches, Batches):
            kind = type(batches).__name__
            raise ValueError(f"a run with a folder needs a Batches, which can go back to a place, not a {kind}")
        self.model, self.settings, self.validation = model, settings, validation
        self.batches = batches if isinstance(batches, Batches) else iter(batches)
        self.optimizers = build_optimizers(
            model, settings.optimizer, settings.lr, settings.weight_decay, table_rate=settings.table_rate
        )
        self.records: list[dict] = []
        self.steps, self.tokens, self.cpu_s, self.wall_s = 0, 0, 0.0, 0.0
        self.exhausted, self.contention = False, Contention()
        self.between_steps = True  # a run interrupted inside a step is in no state that could be saved
        self.folder, self.log = None, None
        if folder is not None:
            self._open(folder)

    @property
    def progress(self) -> float:
        """How much of the run is over; 1 or more when it is."""
        return self.settings.progress(self.steps, self.cpu_s)

    @property
    def done(self) -> bool:
        """Whether the run is over: its limit is reached, or the batches have run out."""
        return self.exhausted or self.progress >= 1

    def step(self) -> dict | None:
        """Make one step and give its record; None if the run is over."""
        if self.done:
            return None
        self.between_steps = False
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        batch_BT = self._next_batch()
        if batch_BT is None:
            self.exhausted = self.between_steps = True
            return None
        record = {"step": self.steps + 1, "sequences": len(batch_BT)} | self._learn(batch_BT)
        self.steps, self.tokens = self.steps + 1, self.tokens + batch_BT.numel()
        spent_s, passed_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        self.cpu_s, self.wall_s = self.cpu_s + spent_s, self.wall_s + passed_s
        self.contention.note(spent_s, passed_s)
        pace = batch_BT.numel() / passed_s if passed_s > 0 else 0.0
        record |= {"tokens": self.tokens, "cpu_s": self.cpu_s, "wall_s": self.wall_s, "tokens_per_s": pace}
        self.records.append(record)
        every = self.settings.evaluate_every
        if self.validation is not None and (self.done or (every and self.steps % every == 0)):
            record["validation"] = evaluate(self.model, self.validation)
        if self.log is not None:
            self.log.add(record)
        self.between_steps = True
        if self.log is not None and self.settings.save_every and self.steps % self.settings.save_every == 0:
            self.save()
        return record

    def _next_batch(self) -> torch.Tensor | None:
        if isinstance(self.batches, Batches):
            return self.batches.take(self.settings.sequences(self.progress, self.batches.sequences))
        return next(self.batches, None)

    def _learn(self, batch_BT: torch.Tensor) -> dict:
        """Forward, backward, clip, step, bias; returns the step's numbers."""
        model, settings, progress = self.model, self.settings, self.progress
        if not model.training:
            model.train()
        use_rule(model, settings.bias_rule)
        out = model(batch_BT, labels=batch_BT)
        total, parts = self._loss(out, progress)
        loss = total.item()
        if not loss < float("inf"):
            raise ValueError(f"the loss is {loss} at {progress:.0%} of the run: lower lr={settings.lr}")
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm).item()
        rate = settings.rate(progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak_lr"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        gamma = settings.gamma_at(progress)
        if gamma > 0:
            update_bias(model, out.routing, gamma, settings.bias_rule)
        by_layer = {str(layer): value for layer, value in violations(out.routing).items()}
        load = {str(layer): decision.load_E.tolist() for layer, decision in out.routing.items()}
        record = {"lr": rate * settings.lr, "loss": loss} | {name: part.item() for name, part in parts.items()}
        balance = {"maxvio": max(by_layer.values(), default=0.0), "maxvio_by_layer": by_layer, "load": load}
        return record | {"grad_norm": norm} | balance

    def _loss(self, out, progress: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted sum that is minimised, and its unweighted parts."""
        config, parts = self.model.config, dict(out.losses)
        total = parts["next_token"]
        if "mtp" in parts:
            total = total + self.settings.mtp_weight_at(progress, config.mtp_loss_weight) * parts["mtp"]
        if "balance" in parts:
            total = total + config.aux_loss_alpha * parts["balance"]
        if self.settings.balance == "aux" and out.routing:
            losses = [batch_balance_loss(r.scores_ME, r.chosen_MK) for r in out.routing.values()]
            parts["aux"] = torch.stack(losses).sum()
            total = total + self.settings.aux_alpha * parts["aux"]
        return total, parts

    # --- the state on disk --------------------------------------------------------------------------------------------

    def _open(self, folder) -> None:
        """Go on from the folder's state, if there is one, and open the log."""
        identity = {
            "config": self.model.config.to_dict(),
            "settings": _plain(self.settings.to_dict()),
            "data": {"fingerprint": self.batches.fingerprint, "sequences": self.batches.sequences},
        }
        self.folder = RunFolder(folder, identity)
        state = self.folder.stored()
        if state is not None:
            self._restore(state)
        self.log = self.folder.open_log(LOG_NAME, self.records)

    def _restore(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.batches.go_to(state["place"])
        torch.set_rng_state(state["rng"])
        self.settings = Settings(**_tuples(state["settings"]))
        self.steps, self.tokens = state["steps"], state["tokens"]
        self.cpu_s, self.wall_s = state["cpu_s"], state["wall_s"]
        self.records = self.folder.records(LOG_NAME, self.steps)

    def save(self) -> None:
        """Write the state of the run into its folder, entirely or not at all. Raises OSError with the reason."""
        if self.folder is None:
            raise ValueError("this run has no folder to save to")
        state = {
            "settings": _plain(self.settings.to_dict()),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "place": self.batches.place(),
            "rng": torch.get_rng_state(),
            "tokens": self.tokens,
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
        }
        self.folder.save(self.steps, state)

    def close(self) -> None:
        """Save what is not saved yet, unless the run was interrupted inside a step, and close the log."""
        if self.folder is not None:
            try:
                if self.between_steps and self.folder.saved_at != self.steps:
                    self.save()
            finally:
                self.folder.close()


def _plain(values):
    """Tuples as lists, all the way down: what comes back from a file equals what went in."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values


def _tuples(values: dict) -> dict:
    """Lists as tuples, as `Settings` has them."""

    def convert(value):
        return tuple(convert(part) for part in value) if isinstance(value, list) else value

    return {key: convert(value) for key, value in values.items()}


def train(
    model,
    batches: Batches | Iterable[torch.Tensor],
    settings: Settings,
    validation: torch.Tensor | None = None,
    on_step: Callable[[dict], bool | None] | None = None,
    label: str | None = "training",
    folder=None,
) -> History:
    """Train `model` in place and give the history.

    `validation`: packed rows whose loss is measured at the end and every `settings.evaluate_every` steps. `on_step` is
    called with each record and stops the run by returning False. `label=None` shows no progress line. `folder`: the run
    keeps its log and its state there; the same call, made again after the run was stopped or killed, goes on where the
    state was saved.
    Raises ValueError if the loss is no longer finite, or if `folder` holds another run, and OSError if the folder
    cannot be written. Source: arXiv 2412.19437 section 4.2. Chapter 07.
    """
    trainer = Trainer(model, batches, settings, validation, folder)
    line = ProgressLine(label) if label is not None else None
    try:
        while (record := trainer.step()) is not None:
            if line is not None:
                text = f"step {record['step']}  loss {record['next_token']:.3f}  {record['tokens_per_s']:,.0f} tokens/s"
                line.update(trainer.progress, f"{text}  {trainer.contention.message or ''}")
            if on_step is not None and on_step(record) is False:
                break
    finally:
        trainer.close()
        if line is not None:
            line.close()
    return History(trainer.records)
