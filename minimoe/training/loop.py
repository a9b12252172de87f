"""The training loop: batch, loss, gradients, clip, step, bias, and a record of it all.

One step: the model's loss is next-token cross-entropy, plus the MTP loss and the sequence-wise balance loss with the
weights in the config. Gradients are clipped to a common norm, the optimizers step at the schedule's rate, and last the
router biases move by the load that the step just showed.

A run ends after `steps` steps or `cpu_seconds` seconds of this process's CPU time, whichever comes first, and the
schedule follows the same clock. Only a run limited by steps is repeatable: a seed then fixes every number up to
rounding.

How the production version differs: the batch is spread over thousands of GPUs, activations are recomputed, matrix
products run in FP8, and the loop writes checkpoints from which it can go on after a failure.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from minimoe.training.balance import update_bias, violations
from minimoe.training.optimizer import build_optimizers
from minimoe.training.progress import ProgressLine
from minimoe.training.schedule import warmup_cosine

__all__ = ["History", "Settings", "evaluate", "train"]


@dataclass(frozen=True)
class Settings:
    """How to train. At least one of `steps` and `cpu_seconds` must be given.

    `lr` is the peak rate; the default suits Muon and models of a few million parameters. `bias_gamma` moves the router
    biases until the share `bias_until` of the run is over (V3 freezes them for the last 3%). `evaluate_every` steps the
    validation loss is measured; 0 means at the end alone.
    """

    steps: int | None = None
    cpu_seconds: float | None = None
    optimizer: str = "muon"
    lr: float = 1e-2
    weight_decay: float = 0.1
    warmup: float = 0.03
    floor: float = 0.02
    clip_norm: float = 1.0
    bias_gamma: float = 0.01
    bias_until: float = 0.97
    evaluate_every: int = 0

    def __post_init__(self):
        if self.steps is None and self.cpu_seconds is None:
            raise ValueError("steps=None and cpu_seconds=None: say when to stop")
        for name in ("steps", "cpu_seconds", "lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} must be greater than 0")

    def progress(self, step: int, cpu_s: float) -> float:
        """How much of the run is over, from 0 to 1 (or more, once it is)."""
        parts = [step / self.steps] if self.steps is not None else []
        parts += [cpu_s / self.cpu_seconds] if self.cpu_seconds is not None else []
        return max(parts)


@dataclass
class History:
    """What happened, one record (a dict of numbers) a step; `history["loss"]` is a column of it as a list.

    Keys: step, tokens, cpu_s, lr, loss, next_token, mtp, balance, grad_norm, maxvio (the worst layer's), and
    validation on the steps that measured it.
    """

    records: list[dict] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        if not any(name in record for record in self.records):
            raise KeyError(
                f"{name!r} was not recorded; there are {', '.join(self.records[0]) if self.records else 'none'}"
            )
        return [record[name] for record in self.records if name in record]

    def __len__(self) -> int:
        return len(self.records)

    def save(self, path) -> None:
        """Write the records as JSON lines."""
        lines = [json.dumps({k: _rounded(v) for k, v in record.items()}) for record in self.records]
        Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, path) -> "History":
        """Read what `save` wrote."""
        return cls([json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()])


def _rounded(value):
    return float(f"{value:.6g}") if isinstance(value, float) else value


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


def train(
    model,
    batches: Iterable[torch.Tensor],
    settings: Settings,
    validation: torch.Tensor | None = None,
    on_step: Callable[[dict], bool | None] | None = None,
    label: str | None = "training",
) -> History:
    """Train `model` in place on `batches` (rows of token ids, int64) and give the history.

    `validation`: packed rows whose loss is measured at the end and every `settings.evaluate_every` steps. `on_step` is
    called with each record and stops the run by returning False. `label=None` shows no progress line.
    Raises ValueError if the loss is no longer finite. Source: arXiv 2412.19437 section 4.2. Chapter 06.
    """
    optimizers = build_optimizers(model, settings.optimizer, settings.lr, settings.weight_decay)
    line = ProgressLine(label) if label is not None else None
    history, tokens, start_s = History(), 0, time.process_time()
    model.train()
    for step, batch_BT in enumerate(batches, start=1):
        progress = settings.progress(step - 1, time.process_time() - start_s)
        record = {"step": step} | _one_step(model, optimizers, batch_BT, settings, progress)
        tokens += batch_BT.numel()
        record |= {"tokens": tokens, "cpu_s": time.process_time() - start_s}
        history.records.append(record)
        progress = settings.progress(step, record["cpu_s"])
        due = settings.evaluate_every and step % settings.evaluate_every == 0
        if validation is not None and (due or progress >= 1):
            record["validation"] = evaluate(model, validation)
        if line is not None:
            line.update(progress, f"step {step}  loss {record['next_token']:.3f}")
        if (on_step is not None and on_step(record) is False) or progress >= 1:
            break
    if line is not None:
        line.close()
    return history


def _one_step(model, optimizers, batch_BT: torch.Tensor, settings: Settings, progress: float) -> dict:
    """Forward, backward, clip, step, bias; returns the step's numbers."""
    rate = warmup_cosine(progress, settings.warmup, settings.floor)
    out = model(batch_BT, labels=batch_BT)
    loss = out.loss.item()
    if not loss < float("inf"):
        raise ValueError(f"the loss is {loss} at {progress:.0%} of the run: lower lr={settings.lr}")
    out.loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm).item()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["peak_lr"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if progress < settings.bias_until:
        update_bias(model, out.routing, settings.bias_gamma)
    parts = {name: value.item() for name, value in out.losses.items()}
    worst = max(violations(out.routing).values(), default=0.0)
    return {"lr": rate * settings.lr, "loss": loss} | parts | {"grad_norm": norm, "maxvio": worst}
