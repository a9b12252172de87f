"""R1-Zero on a search: a base that can check and try again and gives up instead, reinforced; and one that never tried.

    python data/clock/train.py                    # the shipped run, seed 0: base/ and, reinforced, this folder
    python data/clock/train.py --fresh            # five seeds from nothing, base training included; band.json
    python data/clock/train.py --control          # the same for bases whose corpus holds no second attempt

What is in `results.jsonl` already is kept, so a command that was stopped can be given again. The configuration below
was chosen on seeds 0 and 1 and frozen in a commit of its own before any of the fresh seeds was run.
"""

import argparse
import hashlib
import importlib.util
import json
import random
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import minimoe
from minimoe.rl.grpo import R1
from minimoe.rl.rewards import R1_ZERO
from minimoe.rl.settings import RLSettings
from minimoe.rl.zero import r1_zero, sampled_scores
from minimoe.training import History, Settings, train
from minimoe.training.reasoning import Chain, Clock, byte_tokenizer, draw_documents, draw_problems, encode_document
from minimoe.training.responses import ResponseLearner, measure, ordered_batches

HERE = Path(__file__).parent
RESULTS, BAND = HERE / "results.jsonl", HERE / "band.json"

TASK, CHAIN, SEQUENCES = Clock(numbers=4), Chain(operations=6), 32
CHAINS = Settings(steps=240, lr=2e-2)
SEARCHES, CHAINS_AMONG = Settings(steps=320, lr=1e-2), 0.1
HABIT, GIVES_UP = Settings(steps=64, lr=5e-3, balance="none"), 0.65
# without R1's KL term (0.001): it would cost a pass of the reference over every answer
REINFORCE = RLSettings(
    steps=12,
    prompts=16,
    answers=12,
    max_new_tokens=208,
    lr=3e-4,
    objective=replace(R1, kl_weight=0.0),
    evaluate_every=2,
)
SEED, FRESH, CONTROL = 0, (10, 11, 12, 13, 14), (10, 11)
HELD_OUT, SAMPLED, ANSWERS, HELD_OUT_SEED = 512, 128, 16, 99
COLUMNS = ("reward", "accuracy", "well_formed", "mean_tokens", "kl", "clip_fraction", "entropy")
COLUMNS += ("evaluation.accuracy", "evaluation.mean_tokens", "evaluation.waits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("fresh", "control"):
        parser.add_argument(f"--{name}", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.fresh:
        for seed in FRESH:
            keep(f"fresh {seed}", seed)
        BAND.write_text(json.dumps(band(), indent=1) + "\n", encoding="utf-8")
    if arguments.control:
        for seed in CONTROL:
            keep(f"control {seed}", seed, never_retries=True)
    if not (arguments.fresh or arguments.control):
        HERE.joinpath("receipt.json").write_text(json.dumps(shipped(), indent=1) + "\n", encoding="utf-8")


# --- the base ---------------------------------------------------------------------------------------------------------


def searches(count: int, seed: int, lazy: float) -> list[str]:
    """The second stage's corpus: searches, with a few chains among them so that the arithmetic is kept."""
    rng = random.Random(f"searches {seed}")
    chains, tried = iter(draw_documents(CHAIN, count, seed)), iter(draw_documents(TASK, count, seed, lazy))
    return [next(chains if rng.random() < CHAINS_AMONG else tried) for _ in range(count)]


def make_base(out: Path, seed: int, never_retries: bool = False) -> dict:
    """The three stages with one seed; saves the base in `out`, gives what each stage was and came to."""
    tokenizer, model, records, stages = byte_tokenizer(), ResponseLearner(minimoe_config(), seed=seed), [], {}
    lazy, gives_up = (1.0, 1.0) if never_retries else (0.0, GIVES_UP)
    corpora = {
        "chains": (CHAINS, lambda count: draw_documents(CHAIN, count, 3 * seed)),
        "skill": (SEARCHES, lambda count: searches(count, 3 * seed + 1, lazy)),
        "habit": (HABIT, lambda count: draw_documents(TASK, count, 3 * seed + 2, gives_up)),
    }
    for name, (settings, draw) in corpora.items():
        start_s, texts = time.process_time(), draw(settings.steps * SEQUENCES)
        rows = [encode_document(tokenizer, text) for text in texts]
        history = train(model, ordered_batches(rows, SEQUENCES, seed), settings, label=None)
        records += [{"stage": name} | record for record in history.records]
        spent_s = time.process_time() - start_s
        minimoe.save(model, out, dtype=torch.bfloat16)
        stages[name] = {
            "documents": len(texts),
            "tokens": sum(map(len, rows)),
            "sha256": hashlib.sha256("".join(text + "\n" for text in texts).encode()).hexdigest(),
            "settings": settings.to_dict() | {"sequences": SEQUENCES},
            "loss, mean of the last 20 steps": rounded(sum(history["next_token"][-20:]) / 20),
            "cpu_seconds": round(spent_s, 1),
            "greedy": greedy(out),
        }
    tokenizer.save(out)
    History(records).save(out / "history.jsonl")
    return stages


def minimoe_config():
    """The model of data/reason."""
    return zero.reason.CONFIG


# --- measuring --------------------------------------------------------------------------------------------------------


def greedy(folder: Path) -> dict:
    """The stored model's greedy answers to the held-out problems."""
    model, problems = minimoe.load(folder, dtype=torch.float32), draw_problems(TASK, HELD_OUT, HELD_OUT_SEED, True)
    score = measure(model, byte_tokenizer(), TASK, problems, REINFORCE.max_new_tokens)
    numbers = {name: rounded(getattr(score, name)) for name in ("accuracy", "well_formed", "mean_tokens", "waits")}
    return numbers | {"first responses": score.responses[:3]}


def sampled(folder: Path) -> dict:
    """pass@k and cons@k of the stored model, at temperature 1, on some of the same problems."""
    model, problems = minimoe.load(folder, dtype=torch.float32), draw_problems(TASK, SAMPLED, HELD_OUT_SEED, True)
    scores = sampled_scores(model, byte_tokenizer(), TASK, problems, ANSWERS, REINFORCE.max_new_tokens)
    return {"pass": {k: rounded(v) for k, v in scores["pass"].items()}, "cons": rounded(scores["cons"])}


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


# --- runs -------------------------------------------------------------------------------------------------------------


def whole(base: Path, out: Path, seed: int, never_retries: bool = False) -> tuple[dict, list[dict]]:
    """Base and reinforcement with one seed; gives what came out and the records of the RL steps."""
    stages = make_base(base, seed, never_retries)
    start_s = time.process_time()
    trainer = r1_zero(base, out, TASK, replace(REINFORCE, seed=seed), held_out=SAMPLED, label=None)
    rl_s = time.process_time() - start_s
    base_s = sum(stage["cpu_seconds"] for stage in stages.values())
    return {
        "seed": seed,
        "cpu_seconds": {"base": round(base_s, 1), "rl": round(rl_s, 1), "both": round(base_s + rl_s, 1)},
        "machine": zero.machine(),
        "stages": stages,
        "before": stages["habit"]["greedy"] | sampled(base),
        "after": greedy(out) | sampled(out),
        "skipped_steps": trainer.skipped,
    }, trainer.records


def shipped() -> dict:
    """The run that is stored here whole: base, log, groups, reinforced model. Gives its receipt."""
    base = HERE / "base"
    base.mkdir(exist_ok=True)
    result, records = whole(base, HERE, SEED)
    History(records).save(HERE / "log.jsonl")
    (HERE / "state.pt").unlink()
    return {"command": "python data/clock/train.py"} | configuration() | result


def configuration() -> dict:
    """What all runs have in common."""
    return {
        "task": repr(TASK),
        "corpus": {"chains among searches": CHAINS_AMONG, "gives up": GIVES_UP},
        "reinforce": zero.described(REINFORCE),
        "rewards": repr(R1_ZERO),
        "held_out": {"problems": HELD_OUT, "sampled": SAMPLED, "answers": ANSWERS, "seed": HELD_OUT_SEED},
    }


def keep(name: str, seed: int, never_retries: bool = False) -> None:
    """Run unless it is known, and append what came out."""
    if any(entry["run"] == name for entry in known()):
        return
    with TemporaryDirectory() as folder:
        base, out = Path(folder) / "base", Path(folder) / "zero"
        base.mkdir()
        result, records = whole(base, out, seed, never_retries)
    entry = {"run": name} | result | {"curves": zero.curves(records, COLUMNS)}
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    skill, before, after = result["stages"]["skill"]["greedy"], result["before"], result["after"]
    right = f"{skill['accuracy']} -> {before['accuracy']} -> {after['accuracy']}"
    print(f"{name}: {right}, waits {before['waits']} -> {after['waits']}, {result['cpu_seconds']}", flush=True)


def known() -> list[dict]:
    """What is in results.jsonl already."""
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []


def band() -> dict:
    """The lowest and highest value of every column over the fresh seeds, step by step."""
    runs = [entry for entry in known() if entry["run"].startswith("fresh")]
    columns = {}
    for name in COLUMNS:
        values = list(zip(*(run["curves"][name]["value"] for run in runs), strict=True))
        steps = runs[0]["curves"][name]["step"]
        columns[name] = {"step": steps, "lowest": [min(v) for v in values], "highest": [max(v) for v in values]}
    return {"command": "python data/clock/train.py --fresh", "seeds": [run["seed"] for run in runs], "columns": columns}


def load_zero():
    """data/zero/train.py as a module: how R1-Zero's runs are described."""
    spec = importlib.util.spec_from_file_location("zero", HERE.parent / "zero" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


zero = load_zero()

if __name__ == "__main__":
    main()
