"""Distillation: a small model learns from what a reinforced one wrote.

R1's report ends with a short experiment that most readers remember best. 800,000 verified answers of R1, learned by
plain supervised fine-tuning, took a dense 32B model to 72.6% on AIME 2024. Reinforcement learning on the same 32B model
took it to 47.0%, and a 7B model or a 16B mixture gained nothing from it. What a small model cannot find by trying, it
can be shown.

Three steps, each a function here. The teacher answers problems (`harvest`), and what a verifier approves is kept once.
The student learns to write it (`teach`): next-token loss over the response, nothing else. `distill` does both from
checkpoint to checkpoint.

The verifier reads answers and not thoughts: a lucky guess is kept like a proof. And nothing here makes a student better
than its teacher on the teacher's own task.

How the production version differs: R1's samples were also filtered for mixed languages, long paragraphs and code
blocks, a strong model judged what no rule could, and 200,000 samples of other tasks were mixed in; the students were
finished base models, trained for two to three epochs.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from minimoe.checkpoint import load, load_into, save
from minimoe.config import ModelConfig
from minimoe.rl.rewards import Rule, accuracy
from minimoe.rl.rollout import Group, rollout
from minimoe.rl.tasks import Question, Task
from minimoe.tokenizer import Tokenizer
from minimoe.training.history import History
from minimoe.training.loop import LOG_NAME, train
from minimoe.training.progress import ProgressLine
from minimoe.training.reasoning import document, draw_problems, encode_document
from minimoe.training.responses import ResponseLearner, padded_batches
from minimoe.training.settings import Settings

__all__ = ["SAMPLES_NAME", "Harvest", "Sample", "Sampling", "distill", "divergence", "harvest", "keep_verified"]
__all__ += ["students_to_pay", "teach"]

SAMPLES_NAME = "samples.jsonl"
ROWS = 512  # answers sampled in one batch
SFT = Settings(steps=200, lr=2e-2, balance="none")  # rows are padded here: biases stay as they are


@dataclass(frozen=True)
class Sample:
    """A problem and a response that is worth imitating."""

    problem: str
    response: str


@dataclass(frozen=True)
class Sampling:
    """How a teacher is asked: `answers` to each of `problems` training problems, of which `per_problem` are kept.

    Raises ValueError naming the number.
    """

    problems: int = 1600
    answers: int = 2
    per_problem: int = 1
    max_new_tokens: int = 64
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for name in ("problems", "answers", "per_problem", "max_new_tokens", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0")


@dataclass
class Harvest:
    """What a teacher gave. `approved`: answers that the rule accepts; `different`: those, equal ones counted once.

    `samples` has at most `per_problem` of the different ones; `unsolved` counts problems without any.
    """

    samples: list[Sample]
    answers: int
    approved: int
    different: int
    unsolved: int

    @property
    def approved_share(self) -> float:
        """The share of all answers that the rule accepts."""
        return self.approved / self.answers

    def describe(self) -> dict:
        """The counts, as plain values."""
        return {"kept": len(self.samples)} | {k: v for k, v in vars(self).items() if k != "samples"}


def keep_verified(groups: list[Group], per_problem: int = 1, rule: Rule = accuracy) -> Harvest:
    """Rejection sampling: of every group, the first `per_problem` different answers that the rule gives more than 0.

    Source: arXiv 2501.12948 section 2.3.3. Chapter 12.
    """
    found = Harvest([], 0, 0, 0, 0)
    for group in groups:
        good = [answer.text for answer in group.answers if rule(group.question, answer) > 0]
        texts = list(dict.fromkeys(good))
        found.samples += [Sample(group.question.problem, text) for text in texts[:per_problem]]
        found.answers += len(group.answers)
        found.approved += len(good)
        found.different += len(texts)
        found.unsolved += not texts
    return found


def harvest(
    teacher, tokenizer: Tokenizer, task: Task, sampling: Sampling, rule: Rule = accuracy, label: str | None = None
) -> Harvest:
    """Let the teacher answer training problems and keep what is right.

    No problem is held out, none comes twice. `label` shows a progress line. Raises ValueError if nothing is kept: a
    teacher that solves no problem teaches none. Chapter 12.
    """
    problems = draw_problems(task, sampling.problems, sampling.seed)
    size = max(1, ROWS // sampling.answers)
    line = ProgressLine(label) if label is not None else None
    groups = []
    for start in range(0, len(problems), size):
        questions = [Question(task, problem) for problem in problems[start : start + size]]
        seed = (sampling.seed * 1_000_003 + start) % 2**62
        groups += rollout(
            teacher, tokenizer, questions, sampling.answers, sampling.max_new_tokens, sampling.temperature, seed=seed
        )
        if line is not None:
            line.update(len(groups) / len(problems), f"{len(groups)} problems")
    if line is not None:
        line.close()
    found = keep_verified(groups, sampling.per_problem, rule)
    if not found.samples:
        asked = f"{found.answers} answers to {len(problems)} problems of {task}"
        raise ValueError(f"the teacher gave {asked}, and none of them is right: there is nothing to learn from")
    return found


def teach(
    student: ResponseLearner,
    tokenizer: Tokenizer,
    samples: list[Sample],
    settings: Settings = SFT,
    sequences: int = 32,
    seed: int = 0,
    label: str | None = None,
    on_step: Callable[[dict], bool | None] | None = None,
) -> History:
    """Supervised fine-tuning on the samples, in place: the mean of -log p over the tokens of the responses.

    Raises ValueError for fewer samples than a batch of `sequences`, and as `train` does. Chapter 12.
    """
    if len(samples) < sequences:
        raise ValueError(f"{len(samples)} samples do not fill a batch of sequences={sequences}: ask for more problems")
    rows = [encode_document(tokenizer, document(sample.problem, sample.response)) for sample in samples]
    return train(student, padded_batches(rows, sequences, seed), settings, on_step=on_step, label=label)


def distill(
    teacher,
    student,
    out,
    task: Task,
    sampling: Sampling = Sampling(),
    settings: Settings = SFT,
    sequences: int = 32,
    rule: Rule = accuracy,
    label: str | None = "distillation",
) -> tuple[Harvest, History]:
    """Teach the checkpoint in the folder `student` what the one in `teacher` can do, and write it into `out`.

    Beside the student's weights and tokenizer `out` gets samples.jsonl, what was kept of the teacher's answers;
    harvest.json, their counts; and log.jsonl, a record a step. Gives harvest and history.
    Raises OSError and ValueError as `load` does, ValueError for two tokenizers that differ (the texts would be the
    same, the lengths and what is one decision would not) and for a teacher that solves nothing.
    Source: arXiv 2501.12948 sections 2.4 and 4.1. Chapter 12.
    """
    teacher, student, out = Path(teacher), Path(student), Path(out)
    tokenizer = _common_tokenizer(teacher, student)
    learner = ResponseLearner(ModelConfig.from_json(student))
    load_into(learner, student)
    found = harvest(load(teacher, dtype=torch.float32), tokenizer, task, sampling, rule, label and f"{label}: teacher")
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in found.samples]
    (out / SAMPLES_NAME).write_text("".join(lines), encoding="utf-8")
    counts = found.describe() | {"sampling": asdict(sampling), "task": repr(task)}
    (out / "harvest.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    history = teach(
        learner, tokenizer, found.samples, settings, sequences, sampling.seed, label and f"{label}: student"
    )
    save(learner, out, dtype=torch.bfloat16)
    tokenizer.save(out)
    history.save(out / LOG_NAME)
    return found, history


def divergence(student_MV: torch.Tensor, teacher_MV: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """How far two models' next tokens are apart, from their logits: the mean over the rows of KL, in nats.

    Forward, KL(teacher || student) = sum_v p_T log(p_T / p_S), is what fine-tuning on unfiltered samples of the teacher
    minimises on average, up to the teacher's entropy. Reverse, KL(student || teacher), is what on-policy distillation
    minimises, on texts that the student wrote. Source of the second: arXiv 2606.19348 (DeepSeek-V4). Chapter 12.
    """
    p_MV, q_MV = teacher_MV.log_softmax(-1), student_MV.log_softmax(-1)
    if reverse:
        p_MV, q_MV = q_MV, p_MV
    return (p_MV.exp() * (p_MV - q_MV)).sum(-1).mean()


def students_to_pay(once_s: float, each_s: float, alone_s: float) -> float:
    """How many students it takes until a teacher for all is cheaper than each student by itself.

    The smallest whole N with once + N each < N alone; infinity if there is none. Chapter 12.
    """
    saved_s = alone_s - each_s
    return math.floor(once_s / saved_s) + 1 if saved_s > 0 else math.inf


def _common_tokenizer(teacher: Path, student: Path) -> Tokenizer:
    """The tokenizer of both folders. Raises ValueError if they do not read texts alike."""
    theirs, ours = Tokenizer.load(teacher), Tokenizer.load(student)
    if (theirs.vocab_size, theirs.merges, theirs.special_tokens) != (ours.vocab_size, ours.merges, ours.special_tokens):
        said = f"{theirs.vocab_size} tokens, {len(theirs.merges)} merges in {teacher}"
        raise ValueError(
            f"teacher and student have different tokenizers: {said}; "
            f"{ours.vocab_size} tokens, {len(ours.merges)} merges in {student}"
        )
    return ours
