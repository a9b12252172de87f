"""Train the reasoning base model: arithmetic it can do when it thinks, and the habit of not thinking.

    python data/reason/train.py                    # writes into this folder; at most 120 CPU-seconds, one thread
    python data/reason/train.py --seed 1 --out FOLDER
    python data/reason/train.py --band             # five seeds, and what they have in common: band.json

Two stages on chains of six operations (`minimoe.training.reasoning`): full skill, then the lazy habit. Written are both
models in the official layout in bfloat16 (the base that RL starts from here, the skilled one in `skill/`), the
tokenizer, the numbers of every step (`history.jsonl`) and `receipt.json`: what was run where, and what came out.
"""

import argparse
import hashlib
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import minimoe
from minimoe.training import History, Settings, train
from minimoe.training.reasoning import Chain, byte_tokenizer, document, draw_documents, draw_problems, encode_document
from minimoe.training.responses import ResponseLearner, measure, padded_batches, response_loss

HERE = Path(__file__).parent
CONFIG = replace(
    minimoe.NANO,
    vocab_size=266,
    q_lora_rank=None,
    n_routed_experts=8,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    moe_intermediate_size=64,
    num_nextn_predict_layers=0,
    max_position_embeddings=256,
    aux_loss_alpha=0.0,
)
TASK, SEQUENCES = Chain(operations=6), 32
SKILL = Settings(steps=200, lr=2e-2)
HABIT = Settings(steps=100, lr=5e-3, balance="none")  # rows are padded here: biases stay as they are
SHARES = {"lazy": 0.7, "bare": 0.1}
HELD_OUT, HELD_OUT_SEED = 512, 99
PROTOTYPE_CPU_S = 33.0
BAND_SEEDS = (0, 1, 2, 3, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--band", nargs="*", type=int, metavar="SEED", help="measure these seeds (default: five)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.band is not None:
        print(json.dumps(band(arguments.out / "band.json", arguments.band or BAND_SEEDS)["bands"], indent=1))
    else:
        print(json.dumps(run(arguments.out, arguments.seed), indent=1))


def run(out: Path, seed: int) -> dict:
    """Both stages with one seed; writes everything into `out` and gives the receipt."""
    start_s, tokenizer = time.process_time(), byte_tokenizer()
    problems = draw_problems(TASK, HELD_OUT, HELD_OUT_SEED, held_out=True)
    model, records, stages = ResponseLearner(CONFIG, seed=seed), [], {}
    for name, settings, shares in (("skill", SKILL, {}), ("habit", HABIT, SHARES)):
        texts = draw_documents(TASK, settings.steps * SEQUENCES, seed=2 * seed + len(stages), **shares)
        rows = [encode_document(tokenizer, text) for text in texts]
        history = train(model, padded_batches(rows, SEQUENCES, seed), settings, label=name)
        records += [{"stage": name} | record for record in history.records]
        folder = out / "skill" if name == "skill" else out
        minimoe.save(model, folder, dtype=torch.bfloat16)
        tokenizer.save(folder)
        stages[name] = describe(texts, rows, settings, shares, history) | score(folder, tokenizer, problems)
    History(records).save(out / "history.jsonl")
    receipt = {
        "command": "python data/reason/train.py",
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "task": repr(TASK),
        "held_out": {"problems": HELD_OUT, "seed": HELD_OUT_SEED},
        "stages": stages,
        "at_equal_cpu_seconds": equal_seconds(records),
        "cpu_seconds": round(time.process_time() - start_s, 1),
    }
    text = json.dumps(receipt, indent=1, ensure_ascii=False)
    (out / "receipt.json").write_text(text + "\n", encoding="utf-8")
    return receipt


def describe(texts, rows, settings: Settings, shares: dict, history: History) -> dict:
    """One stage's corpus, recipe and losses."""
    return {
        "corpus": {
            "documents": len(texts),
            "tokens": sum(map(len, rows)),
            "sha256": hashlib.sha256("".join(text + "\n" for text in texts).encode()).hexdigest(),
            **shares,
        },
        "settings": settings.to_dict() | {"sequences": SEQUENCES},
        "loss_nats_per_response_token": {
            "mean of the first 20 steps": digits(mean(history["next_token"][:20])),
            "mean of the last 20 steps": digits(mean(history["next_token"][-20:])),
        },
        "maxvio, mean of the last 20 steps": digits(mean(history["maxvio"][-20:])),
        "cpu_seconds": round(history["cpu_s"][-1], 1),
    }


def score(folder: Path, tokenizer, problems: list[str]) -> dict:
    """The stored model on held-out problems: greedy, at temperature 1, and its loss on full responses."""
    model = minimoe.load(folder, dtype=torch.float32)
    rows = [encode_document(tokenizer, document(problem, TASK.think(problem))) for problem in problems]
    measured = {"held-out loss on full responses": digits(response_loss(model, rows))}
    for name, sampling in {"greedy": {}, "temperature 1": {"temperature": 1.0, "seed": 0}}.items():
        found = measure(model, tokenizer, TASK, problems, **sampling)
        measured[name] = {
            "accuracy": digits(found.accuracy),
            "well_formed": digits(found.well_formed),
            "mean_tokens": digits(found.mean_tokens),
            "first responses": found.responses[:3],
        }
    return {"held_out": measured}


def equal_seconds(records: list[dict]) -> dict:
    """The skill stage beside the prototype, which had 200 steps in 33 CPU-seconds and a loss of .155 to .239.

    The loss is the mean of the last 20 steps before that time, or of the stage's end if it comes sooner.
    """
    skill = [record for record in records if record["stage"] == "skill"]
    before = [record for record in skill if record["cpu_s"] <= PROTOTYPE_CPU_S][-20:]
    return {
        "cpu_seconds": digits(before[-1]["cpu_s"]),
        "steps": before[-1]["step"],
        "loss, mean of 20 steps": digits(mean([record["next_token"] for record in before])),
        "cpu_seconds to a loss below 0.155": next(
            (
                digits(skill[i]["cpu_s"])
                for i in range(19, len(skill))
                if mean([record["next_token"] for record in skill[i - 19 : i + 1]]) < 0.155
            ),
            None,
        ),
    }


def band(path: Path, seeds) -> dict:
    """Train each of the seeds in a folder of its own, and keep what they found beside what is known of others."""
    known = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    runs = {result["seed"]: result for result in known}
    for seed in seeds:
        with TemporaryDirectory() as folder:
            runs[seed] = summary(run(Path(folder), seed))
        result = join([runs[seed] for seed in sorted(runs)])
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def summary(receipt: dict) -> dict:
    """The numbers of one run that the band is made of."""
    skill, habit = receipt["stages"]["skill"], receipt["stages"]["habit"]
    return {
        "seed": receipt["seed"],
        "skill_loss": skill["loss_nats_per_response_token"]["mean of the last 20 steps"],
        "habit_loss": habit["loss_nats_per_response_token"]["mean of the last 20 steps"],
        "skill_accuracy": skill["held_out"]["greedy"]["accuracy"],
        "base_accuracy": habit["held_out"]["greedy"]["accuracy"],
        "base_sampled_accuracy": habit["held_out"]["temperature 1"]["accuracy"],
        "skill_tokens": skill["held_out"]["greedy"]["mean_tokens"],
        "base_tokens": habit["held_out"]["greedy"]["mean_tokens"],
        "base_loss_on_full_responses": habit["held_out"]["held-out loss on full responses"],
        "cpu_seconds_to_a_loss_of_0.155": receipt["at_equal_cpu_seconds"]["cpu_seconds to a loss below 0.155"],
        "cpu_seconds": receipt["cpu_seconds"],
    }


def join(runs: list[dict]) -> dict:
    """The runs, and the lowest and highest value of each of their numbers."""
    columns = {name: [run[name] for run in runs if run[name] is not None] for name in runs[0] if name != "seed"}
    bands = {name: {"lowest": min(values), "highest": max(values)} for name, values in columns.items() if values}
    return {"command": "python data/reason/train.py --band", "bands": bands, "runs": runs}


def digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def mean(values: list[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def cpu_name() -> str:
    """The processor's model name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
