"""R1-Zero on chains: the reasoning base, reinforced; five fresh seeds, a base without the skill, and weak rewards.

    python data/zero/train.py                     # the shipped run: data/reason reinforced, into this folder
    python data/zero/train.py --fresh             # five seeds from nothing, base training included; band.json
    python data/zero/train.py --control           # the same for bases that were never shown how to work a chain out
    python data/zero/train.py --weak              # other rewards on the shipped base

What is in `results.jsonl` already is kept, so a command that was stopped can be given again. The configuration below
was frozen after runs on the shipped base (seed 0) and before any of the other seeds was run.
"""

import argparse
import importlib.util
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import minimoe
from minimoe.rl.rewards import R1_ZERO, Rewards, well_formed
from minimoe.rl.settings import RLSettings
from minimoe.rl.zero import r1_zero, sampled_scores
from minimoe.tokenizer import Tokenizer
from minimoe.training import train
from minimoe.training.history import History
from minimoe.training.reasoning import Chain, byte_tokenizer, draw_documents, draw_problems, encode_document
from minimoe.training.responses import ResponseLearner, padded_batches

HERE = Path(__file__).parent
BASE = HERE.parent / "reason"
RESULTS, BAND = HERE / "results.jsonl", HERE / "band.json"

TASK = Chain(operations=6)
SETTINGS = RLSettings(steps=20, prompts=16, answers=16, max_new_tokens=48, lr=3e-4, evaluate_every=2)
FRESH = (10, 11, 12, 13, 14)
CONTROL = (10, 11, 12)
WITHOUT_SKILL = {"lazy": 0.875, "bare": 0.125}  # the lazy stage's answers without a thought, in its proportions
MEASURED, ANSWERS, ANSWERS_OF_A_SEED = 256, 64, 16
COLUMNS = ("accuracy", "well_formed", "mean_tokens", "reward", "kl", "clip_fraction", "entropy")
COLUMNS += ("evaluation.accuracy", "evaluation.mean_tokens")


def length(question, answer) -> float:
    """A weak rule: the longer the better, up to the limit."""
    return len(answer.tokens) / SETTINGS.max_new_tokens


def workings(question, answer) -> float:
    """A weak rule: as many lines of working as the chain has operations, whatever stands in them."""
    return min(answer.text.count("=") / TASK.operations, 1.0)


LENGTH = Rewards({"length": (1.0, length)})
WORKINGS = Rewards({"workings": (1.0, workings), "format": (0.1, well_formed)})
HACKED = replace(SETTINGS, steps=30, lr=1e-3, evaluate_every=3)  # the decay is slow: a higher rate
REPAIRED = replace(SETTINGS, steps=12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("fresh", "control", "weak"):
        parser.add_argument(f"--{name}", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.fresh:
        for seed in FRESH:
            keep(f"fresh {seed}", lambda seed=seed: from_nothing(seed, reason.run))
        BAND.write_text(json.dumps(band(), indent=1) + "\n", encoding="utf-8")
    if arguments.control:
        for seed in CONTROL:
            keep(f"control {seed}", lambda seed=seed: from_nothing(seed, base_without_skill))
    if arguments.weak:
        keep("weak: length", lambda: in_passing(BASE, SETTINGS, LENGTH))
        hacked_and_repaired()
        keep("true rules: rate of the weak run", lambda: in_passing(BASE, HACKED, R1_ZERO))
    if not (arguments.fresh or arguments.control or arguments.weak):
        shipped()


def load_reason():
    """data/reason/train.py as a module: its configuration and its `run`."""
    spec = importlib.util.spec_from_file_location("reason", BASE / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reason = load_reason()


def shipped() -> None:
    """The run that chapter and explorer show: written into this folder, log and groups included."""
    start_s = time.process_time()
    trainer = r1_zero(BASE, HERE, TASK, SETTINGS)
    History(trainer.records).save(HERE / "log.jsonl")
    (HERE / "state.pt").unlink()
    receipt = {
        "command": "python data/zero/train.py",
        "machine": machine(),
        "base": "data/reason",
        "task": repr(TASK),
        "settings": described(SETTINGS),
        "rewards": repr(R1_ZERO),
        "before": measured(BASE),
        "after": measured(HERE),
        "skipped_steps": trainer.skipped,
        "cpu_seconds": round(time.process_time() - start_s, 1),
    }
    (HERE / "receipt.json").write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")


def from_nothing(seed: int, make_base) -> dict:
    """One seed: a base of its own, then RL; gives the record of both."""
    start_s = time.process_time()
    with TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        base.mkdir()
        make_base(base, seed)
        base_s = time.process_time() - start_s
        return {"base_cpu_seconds": round(base_s, 1)} | in_passing(base, replace(SETTINGS, seed=seed), R1_ZERO)


def in_passing(base, settings: RLSettings, rewards: Rewards, out=None) -> dict:
    """RL on a base, in a folder that is not kept unless `out` names one; gives what came out."""
    start_s = time.process_time()
    with TemporaryDirectory() as folder:
        out = Path(folder) / "zero" if out is None else out
        trainer = r1_zero(base, out, TASK, settings, rewards, label=None)
        rl_s = time.process_time() - start_s
        result = {"seed": settings.seed, "rewards": repr(rewards), "steps": settings.steps, "lr": settings.lr}
        result |= {"rl_cpu_seconds": round(rl_s, 1), "machine": machine(), "skipped_steps": trainer.skipped}
        result |= {"before": measured(base, ANSWERS_OF_A_SEED), "after": measured(out, ANSWERS_OF_A_SEED)}
        last = [group["answers"][0]["text"] for group in trainer.groups[-len(trainer.watch) :]]
        return result | {"last answers": last, "curves": curves(trainer.records)}


def hacked_and_repaired() -> None:
    """A reward for the look of working, then the true one on what became of the model; one after the other."""
    names = ("weak: workings", "repaired: workings")
    if all(any(entry["run"] == name for entry in known()) for name in names):
        return
    with TemporaryDirectory() as folder:
        hacked, repaired = Path(folder) / "hacked", Path(folder) / "repaired"
        first = in_passing(BASE, HACKED, WORKINGS, hacked)
        second = in_passing(hacked, REPAIRED, R1_ZERO, repaired)
        for name, result in zip(names, (first, second), strict=True):
            keep(name, lambda result=result: result)


def base_without_skill(out: Path, seed: int) -> None:
    """As `reason.run`, with answers and no thoughts in both stages: as many steps, the same form."""
    tokenizer, model = byte_tokenizer(), ResponseLearner(reason.CONFIG, seed=seed)
    for stage, settings in enumerate((reason.SKILL, reason.HABIT)):
        texts = draw_documents(TASK, settings.steps * reason.SEQUENCES, seed=2 * seed + stage, **WITHOUT_SKILL)
        rows = [encode_document(tokenizer, text) for text in texts]
        train(model, padded_batches(rows, reason.SEQUENCES, seed), replace(settings, balance="none"), label=None)
    minimoe.save(model, out, dtype=torch.bfloat16)
    tokenizer.save(out)


def measured(folder, answers: int = ANSWERS) -> dict:
    """A stored model on held-out problems, sampled: pass@k, cons@k."""
    model, tokenizer = minimoe.load(folder, dtype=torch.float32), Tokenizer.load(folder)
    problems = draw_problems(TASK, MEASURED, reason.HELD_OUT_SEED, held_out=True)
    scores = sampled_scores(model, tokenizer, TASK, problems, answers, SETTINGS.max_new_tokens)
    return {"pass": {k: round(v, 4) for k, v in scores["pass"].items()}, "cons": round(scores["cons"], 4)}


def curves(records: list[dict], columns=COLUMNS) -> dict:
    """Every recorded column as {"step": [...], "value": [...]}; an evaluation before step 1 stands at step 0."""
    found = {}
    for name in columns:
        part, _, key = name.rpartition(".")
        points = [(0, r["evaluation_before"][key]) for r in records[:1] if part]
        for record in records:
            holder = record.get(part) if part else record
            if holder is not None and key in holder:
                points.append((record["step"], holder[key]))
        found[name] = {"step": [s for s, _ in points], "value": [float(f"{v:.4g}") for _, v in points]}
    return found


def band() -> dict:
    """The lowest and highest value of every column over the fresh seeds, step by step."""
    runs = [entry for entry in known() if entry["run"].startswith("fresh")]
    columns = {}
    for name in COLUMNS:
        steps = runs[0]["curves"][name]["step"]
        values = list(zip(*(run["curves"][name]["value"] for run in runs), strict=True))
        columns[name] = {"step": steps, "lowest": [min(v) for v in values], "highest": [max(v) for v in values]}
    return {"command": "python data/zero/train.py --fresh", "seeds": [run["seed"] for run in runs], "columns": columns}


def known() -> list[dict]:
    """What is in results.jsonl already."""
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []


def keep(name: str, run) -> None:
    """Run unless it is known, and append what came out."""
    if any(entry["run"] == name for entry in known()):
        return
    entry = {"run": name} | run()
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    evaluation = entry["curves"]["evaluation.accuracy"]["value"]
    print(f"{name}: greedy {evaluation[0]} -> {evaluation[-1]}, {entry['before']['pass']['1']} sampled", flush=True)


def described(settings: RLSettings) -> dict:
    """Settings as plain values."""
    plain = (int, float, str)
    return {name: value if isinstance(value, plain) else str(value) for name, value in vars(settings).items()}


def machine() -> dict:
    """Where it ran."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": reason.cpu_name(), "threads": torch.get_num_threads()} | versions


if __name__ == "__main__":
    main()
