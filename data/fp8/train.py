"""FP8 beside float32: one model trained twice on the same batches, with three seeds.

    python data/fp8/train.py               # a run is a line of results.jsonl; what is there already is kept
    python data/fp8/train.py --table       # what came out

The pairs differ in one thing: `use_fp8` has handed the products of `minimoe.training.fp8` to one of the two models.
The control, `float32_reordered`, runs the experts one after the other in float32: sums in another order, nothing else.
"""

import argparse
import functools
import json
import platform
import statistics
from pathlib import Path

import torch

import minimoe
from minimoe.model.moe import MoE, loop
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, evaluate, load_corpus, train
from minimoe.training.data import encode_documents, pack
from minimoe.training.fp8 import release_fp8, use_fp8

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SEEDS, PRECISIONS, CONTROL = (0, 1, 2), ("float32", "fp8"), "float32_reordered"
STEPS, SEQUENCES, ROW_TOKENS, VALIDATION_ROWS, LAST = 120, 8, 128, 96, 20
SETTINGS = {"optimizer": "muon", "lr": 1e-2, "warmup": 0.03, "floor": 0.02, "bias_gamma": 0.01}  # data/nano's


@functools.cache
def data():
    """The corpus, the training documents as ids, the held-out rows."""
    corpus, tokenizer = load_corpus(HERE.parent / "wordnet"), Tokenizer.load(HERE.parent / "nano")
    validation = pack(encode_documents(tokenizer, corpus.validation), ROW_TOKENS)[:VALIDATION_ROWS]
    return corpus, encode_documents(tokenizer, corpus.train), validation


def run(seed: int, precision: str, steps: int = STEPS, on_step=None) -> dict:
    """Train one model; the seed is that of the weights and of the order of the documents."""
    corpus, documents, validation = data()
    batches = Batches(documents, SEQUENCES, ROW_TOKENS, seed)
    model = minimoe.Transformer(minimoe.NANO, seed=seed)
    if precision == "fp8":
        use_fp8(model)
    elif precision == CONTROL:
        for module in model.modules():
            if isinstance(module, MoE):
                module.dispatch = loop
    history = train(model, batches, Settings(steps=steps, **SETTINGS), validation, on_step=on_step, label=None)
    return {
        "precision": precision,
        "seed": seed,
        "steps": len(history),
        "tokens": history["tokens"][-1],
        "settings": SETTINGS,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_s": round(history["cpu_s"][-1], 1),
        "validation": round(history.records[-1].get("validation", float("nan")), 5),
        "validation_computed_in_float32": round(evaluate(release_fp8(model), validation), 5),
        "next_token": [round(x, 5) for x in history["next_token"]],
        "mtp": [round(x, 5) for x in history["mtp"]],
        "grad_norm": [round(x, 4) for x in history["grad_norm"]],
        "maxvio": [round(x, 3) for x in history["maxvio"]],
        "corpus_sha256": corpus.sha256,
        "machine": machine(),
    }


def machine() -> dict:
    """Where and with what it was run."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": cpu, "threads": torch.get_num_threads()} | versions


def results() -> dict[tuple[int, str], dict]:
    """What has been run: (seed, precision) -> record."""
    if not RESULTS.exists():
        return {}
    records = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return {(record["seed"], record["precision"]): record for record in records}


def compare(known: dict) -> dict[str, dict]:
    """Each seed's relative differences (fp8 - float32) / float32, in percent, and the distance of seeds beside them."""
    out = {}
    for seed in SEEDS:
        plain, rounded = (known[seed, precision] for precision in PRECISIONS)
        steps = [percent(b, a) for a, b in zip(plain["next_token"], rounded["next_token"], strict=True)]
        means = [statistics.fmean(one["next_token"][-LAST:]) for one in (plain, rounded)]
        control = known[seed, CONTROL]
        out[str(seed)] = {
            "training loss, mean of the last 20 steps": round(percent(means[1], means[0]), 3),
            "training loss, single steps, mean magnitude": round(statistics.fmean(map(abs, steps)), 3),
            "training loss, single steps, largest magnitude": round(max(map(abs, steps)), 3),
            "held-out loss": round(percent(rounded["validation"], plain["validation"]), 3),
            "held-out loss, both computed in float32": round(
                percent(rounded["validation_computed_in_float32"], plain["validation_computed_in_float32"]), 3
            ),
            "control: training loss, mean of the last 20 steps": round(
                percent(statistics.fmean(control["next_token"][-LAST:]), means[0]), 3
            ),
            "control: held-out loss": round(percent(control["validation"], plain["validation"]), 3),
            "cpu_s": [plain["cpu_s"], rounded["cpu_s"]],
        }
    finals = [known[seed, "float32"]["validation"] for seed in SEEDS]
    out["seeds of float32 apart, held-out loss"] = round(percent(max(finals), min(finals)), 3)
    return out


def percent(new: float, old: float) -> float:
    """By how much `new` exceeds `old`, in percent of `old`."""
    return 100 * (new - old) / old


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [(seed, precision) for seed in SEEDS for precision in (*PRECISIONS, CONTROL)]
    for seed, precision in [] if arguments.table else wanted:
        if (seed, precision) not in results():
            record = run(seed, precision)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            print(f"{precision} seed {seed}: {record['validation']:.4f}, {record['cpu_s']:.0f} CPU-s", flush=True)
    if all(key in results() for key in wanted):
        text = json.dumps({"command": "python data/fp8/train.py"} | compare(results()), indent=1)
        (HERE / "receipt.json").write_text(text + "\n", encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
