"""Distillation beside reinforcement learning on the same student, with the same preparation for both; five seeds.

    python data/distill/train.py                  # the shipped student: prepared, distilled, reinforced
    python data/distill/train.py --tune           # rates of both arms on seed 0, into tuning.jsonl
    python data/distill/train.py --study          # five fresh seeds, three preparations, into results.jsonl
    python data/distill/train.py --study --only middle   # one preparation alone

The teacher is data/zero, R1-Zero on chains. The student is dense and 4.5 times smaller. A preparation is what the
teacher's base had (data/reason): a stage of full skill, here of limited length, then the lazy habit. From each prepared
student two arms start, and from the middle preparation two controls:

    distilled     supervised fine-tuning on the teacher's verified answers, sampling them included in its CPU-seconds
    reinforced    R1-Zero on the student: no teacher, no traces
    true traces   as distilled, with the task's own traces for the same problems: what the teacher's errors cost
    more corpus   as distilled, with more of the lazy corpus, for as many CPU-seconds as sampling and tuning took

What is in `results.jsonl` already is kept, so a command that was stopped can be given again. The configuration below
was chosen on seed 0 before the other seeds were run (README.md says what changed on the way).
"""

import argparse
import copy
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

import minimoe
from minimoe.inference.generate import generate
from minimoe.rl.distill import Harvest, Sample, Sampling, distill, harvest, teach
from minimoe.rl.rewards import R1_ZERO
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Questions
from minimoe.rl.trainer import reinforce
from minimoe.rl.zero import r1_zero
from minimoe.training import Settings
from minimoe.training.history import History
from minimoe.training.loop import train
from minimoe.training.reasoning import (
    ASSISTANT,
    THINK,
    USER,
    Chain,
    byte_tokenizer,
    draw_documents,
    draw_problems,
    encode_document,
    encode_prompt,
)
from minimoe.training.responses import ResponseLearner, measure, padded_batches

HERE = Path(__file__).parent
TEACHER = HERE.parent / "zero"
RESULTS, TUNING = HERE / "results.jsonl", HERE / "tuning.jsonl"

TASK, SEQUENCES, MAX_TOKENS = Chain(operations=6), 32, 48
STUDENT = replace(
    minimoe.NANO,
    vocab_size=266,
    hidden_size=64,
    num_hidden_layers=2,
    first_k_dense_replace=2,
    intermediate_size=192,
    num_attention_heads=2,
    num_key_value_heads=2,
    q_lora_rank=None,
    kv_lora_rank=21,
    qk_nope_head_dim=8,
    qk_rope_head_dim=16,
    v_head_dim=16,
    n_routed_experts=None,
    num_experts_per_tok=1,
    n_group=1,
    topk_group=1,
    moe_intermediate_size=64,
    num_nextn_predict_layers=0,
    max_position_embeddings=256,
    aux_loss_alpha=0.0,
)
PREPARATIONS = {"none": 0, "middle": 170, "full": 250}  # steps of the stage of full skill
SKILL = Settings(steps=1, lr=2e-2, balance="none")
HABIT = Settings(steps=60, lr=5e-3, balance="none")
SHARES = {"lazy": 0.7, "bare": 0.1}  # of the lazy stage, as in data/reason
SAMPLING = Sampling(problems=1280, answers=1, max_new_tokens=MAX_TOKENS)
SFT = Settings(steps=40, lr=5e-3, balance="none")
FROM_NOTHING = Settings(steps=200, lr=2e-2, balance="none")  # fine-tuning where there was no stage of full skill
MORE = Settings(steps=80, lr=5e-3, balance="none")
RL = RLSettings(steps=20, prompts=16, answers=16, max_new_tokens=MAX_TOKENS, lr=5e-4, evaluate_every=2)
SHOWN = replace(RL, steps=40, evaluate_every=4)  # longer, to see whether more comes
SEEDS = (20, 21, 22, 23, 24)
CONTROLLED = ("middle",)  # preparations with the arms "true traces" and "more corpus"
HELD_OUT, ALONG, HELD_OUT_SEED = 256, 128, 99
RATES = {"distilled": (5e-3, 1e-2, 2e-2), "reinforced": (2.5e-4, 5e-4, 1e-3)}
TRIED = replace(SFT, steps=60)  # and 1,600 problems, when the rates were tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("tune", "study"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--only", choices=PREPARATIONS, nargs="+", default=list(PREPARATIONS), metavar="PREPARATION")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.tune:
        tune()
    if arguments.study:
        for seed in SEEDS:
            bench = Bench(seed)
            for preparation in arguments.only:
                keep(bench, preparation)
    if not (arguments.tune or arguments.study):
        shipped()


class Bench:
    """What every arm of one seed shares: tokenizer, teacher, held-out problems, and how an arm is measured."""

    def __init__(self, seed: int):
        self.seed, self.tokenizer = seed, byte_tokenizer()
        self.problems = draw_problems(TASK, HELD_OUT, HELD_OUT_SEED, held_out=True)
        self.teacher, self.harvested = minimoe.load(TEACHER, dtype=torch.float32), None

    def score(self, model) -> dict:
        """Greedy answers to all held-out problems; `sampled`: at temperature 1; `made_to_think`: begun as a thought."""
        found = measure(model, self.tokenizer, TASK, self.problems, MAX_TOKENS)
        sampled = measure(model, self.tokenizer, TASK, self.problems, MAX_TOKENS, temperature=1.0, seed=0)
        begun = [f"{THINK}{problem[0]}" for problem in self.problems]
        pairs = zip(self.problems, begun, strict=True)
        prompts = [encode_prompt(self.tokenizer, p) + self.tokenizer.encode(b, special=True) for p, b in pairs]
        result = generate(model, prompts, MAX_TOKENS, stop_tokens=[self.tokenizer.eos_id])
        ended = [reason == "stop" for reason in result.finish_reasons]
        texts = [b + self.tokenizer.decode(tokens) for b, tokens in zip(begun, result.tokens, strict=True)]
        right = [e and TASK.is_correct(p, t) for e, p, t in zip(ended, self.problems, texts, strict=True)]
        score = {name: digits(getattr(found, name)) for name in ("accuracy", "well_formed", "mean_tokens")}
        return score | {"sampled": digits(sampled.accuracy), "made_to_think": digits(sum(right) / len(right))}

    def along(self, model) -> float:
        """Greedy accuracy on the first of the held-out problems, for curves."""
        return digits(measure(model, self.tokenizer, TASK, self.problems[:ALONG], MAX_TOKENS).accuracy)

    def prepare(self, steps: int) -> tuple[ResponseLearner, dict]:
        """A new student after both stages."""
        student, start_s = ResponseLearner(STUDENT, seed=self.seed), time.process_time()
        for stage, (settings, shares) in enumerate(((replace(SKILL, steps=max(steps, 1)), {}), (HABIT, SHARES))):
            if steps or stage:
                texts = draw_documents(TASK, settings.steps * SEQUENCES, seed=2 * self.seed + stage, **shares)
                rows = [encode_document(self.tokenizer, text) for text in texts]
                train(student, padded_batches(rows, SEQUENCES, self.seed), settings, label=None)
        return student, {"cpu_seconds": round(time.process_time() - start_s, 1)} | self.score(student)

    def tuned(self, student, samples: list[Sample], settings: Settings, spent_s: float = 0.0) -> dict:
        """Supervised fine-tuning of a copy of the student; `spent_s` went before."""
        student, curve = copy.deepcopy(student), []

        def look(record):
            if record["step"] % 10 == 0:
                curve.append((record["step"], digits(spent_s + record["cpu_s"]), self.along(student)))

        history = teach(student, self.tokenizer, samples, settings, SEQUENCES, self.seed, on_step=look)
        return {"cpu_seconds": digits(spent_s + history["cpu_s"][-1])} | self.score(student) | {"curve": curve}

    def harvest(self) -> tuple[Harvest, float]:
        """What is kept of the teacher's answers to this seed's problems, and the CPU-seconds that it took."""
        if self.harvested is None:
            start_s = time.process_time()
            found = harvest(self.teacher, self.tokenizer, TASK, sampling(self.seed))
            self.harvested = found, digits(time.process_time() - start_s)
        return self.harvested

    def distilled(self, student, settings: Settings = SFT) -> dict:
        """The arm: the teacher's answers, then fine-tuning on them."""
        found, spent_s = self.harvest()
        other = sum(sample.response != TASK.think(sample.problem) for sample in found.samples)
        counts = found.describe() | {"other_traces": other}
        arm = self.tuned(student, found.samples, settings, spent_s)
        return arm | {"sampling_cpu_seconds": spent_s, "harvest": counts}

    def reinforced(self, student, settings: RLSettings = RL) -> dict:
        """R1-Zero on a copy of the student; evaluations are not in its CPU-seconds."""
        student, looking = copy.deepcopy(student), [0.0]

        def evaluation(model):
            start_s = time.process_time()
            accuracy = self.along(model)
            looking[0] += time.process_time() - start_s
            return {"accuracy": accuracy, "looking_s": looking[0]}

        run = reinforce(
            student, self.tokenizer, Questions(TASK, self.seed), R1_ZERO, replace(settings, seed=self.seed),
            evaluation=evaluation,
        )  # fmt: skip
        seen = [record for record in run.records if "evaluation" in record]
        curve = [(0, 0.0, run.records[0]["evaluation_before"]["accuracy"])]
        spent_s = [digits(record["cpu_s"] - record["evaluation"]["looking_s"]) for record in seen]
        curve += [(r["step"], s, r["evaluation"]["accuracy"]) for r, s in zip(seen, spent_s, strict=True)]
        learnable = digits(sum(record["learnable"] for record in run.records) / len(run.records))
        spent = {"cpu_seconds": curve[-1][1], "skipped_steps": run.skipped, "learnable_groups": learnable}
        return spent | self.score(student) | {"curve": curve}


def keep(bench: Bench, preparation: str) -> None:
    """All arms of one seed and preparation, unless they are known; appended to the results."""
    seed = bench.seed
    if any((entry["seed"], entry["preparation"]) == (seed, preparation) for entry in known(RESULTS)):
        return
    student, prepared = bench.prepare(PREPARATIONS[preparation])
    tuning = SFT if PREPARATIONS[preparation] else FROM_NOTHING
    rl = SHOWN if preparation == "middle" else RL
    arms = {"distilled": bench.distilled(student, tuning), "reinforced": bench.reinforced(student, rl)}
    if preparation in CONTROLLED:
        traces = [Sample(sample.problem, TASK.think(sample.problem)) for sample in bench.harvest()[0].samples]
        arms["true traces"] = bench.tuned(student, traces, SFT)
        arms["more corpus"] = bench.tuned(student, lazy_samples(MORE.steps * SEQUENCES, seed), MORE)
    entry = {"seed": seed, "preparation": preparation, "prepared": prepared, "arms": arms, "machine": machine()}
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    accuracies = ", ".join(f"{name} {arm['accuracy']} ({arm['cpu_seconds']} s)" for name, arm in arms.items())
    before = f"{prepared['accuracy']}, {prepared['made_to_think']} if made to think"
    print(f"{seed} {preparation}: {before} -> {accuracies}", flush=True)


def lazy_samples(count: int, seed: int) -> list[Sample]:
    """More of what the lazy stage was made of: other problems, the same shares."""
    texts = draw_documents(TASK, count, seed=2000 + seed, **SHARES)
    return [Sample(*text.removeprefix(USER).split(ASSISTANT)) for text in texts]


def tune() -> None:
    """Both arms of the shipped student (seed 0, middle preparation) at three rates each."""
    bench = Bench(0)
    student, prepared = bench.prepare(PREPARATIONS["middle"])
    runs = [(lr, bench.distilled(student, replace(TRIED, lr=lr)), "distilled") for lr in RATES["distilled"]]
    runs += [(lr, bench.reinforced(student, replace(RL, lr=lr)), "reinforced") for lr in RATES["reinforced"]]
    lines = [json.dumps({"arm": name, "lr": lr, "prepared": prepared["accuracy"]} | arm) for lr, arm, name in runs]
    TUNING.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    for lr, arm, name in runs:
        print(name, lr, arm["accuracy"], arm["curve"])


def shipped() -> None:
    """Seed 0, middle preparation: prepared/, the distilled student here, the reinforced one in reinforced/."""
    start_s, bench = time.process_time(), Bench(0)
    student, prepared = bench.prepare(PREPARATIONS["middle"])
    minimoe.save(student, HERE / "prepared", dtype=torch.bfloat16)
    bench.tokenizer.save(HERE / "prepared")
    found, _ = distill(TEACHER, HERE / "prepared", HERE, TASK, sampling(0), SFT)
    run = r1_zero(HERE / "prepared", HERE / "reinforced", TASK, SHOWN, held_out=ALONG, label="R1-Zero on the student")
    History(run.records).save(HERE / "reinforced" / "log.jsonl")
    (HERE / "reinforced" / "state.pt").unlink()
    folders = {"distilled": HERE, "reinforced": HERE / "reinforced"}
    receipt = {
        "command": "python data/distill/train.py",
        "machine": machine(),
        "parameters": {
            "teacher": sum(p.numel() for p in bench.teacher.parameters()),
            "student": sum(p.numel() for p in student.parameters()),
        },
        "task": repr(TASK),
        "preparation": {"skill_steps": PREPARATIONS["middle"], "habit_steps": HABIT.steps, **SHARES},
        "sampling": asdict(sampling(0)),
        "fine_tuning": SFT.to_dict() | {"sequences": SEQUENCES},
        "reinforcement": {name: value for name, value in vars(SHOWN).items() if isinstance(value, int | float | str)},
        "harvest": found.describe(),
        "prepared": prepared,
        **{name: bench.score(minimoe.load(folder, dtype=torch.float32)) for name, folder in folders.items()},
        "cpu_seconds": round(time.process_time() - start_s, 1),
    }
    (HERE / "receipt.json").write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")


def sampling(seed: int) -> Sampling:
    """Problems that no preparation of this seed has."""
    return replace(SAMPLING, seed=1000 + seed)


def known(path: Path) -> list[dict]:
    """What is in a file of results already."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def machine() -> dict:
    """Where it ran."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": cpu_name(), "threads": torch.get_num_threads()} | versions


def cpu_name() -> str:
    """The processor's model name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
