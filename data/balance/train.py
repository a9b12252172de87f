"""Train one small model three times: experts balanced by the bias, by an auxiliary loss, and not at all.

    python data/balance/train.py                 # the three models, seed 0; at most 120 CPU-seconds, one thread
    python data/balance/train.py --band          # the same three with seeds 0 to 4, curves only; about ten minutes
    python data/balance/train.py --switch        # one run that is left alone for half its steps, then balanced
    python data/balance/train.py --out FOLDER --steps 20

The three runs have the same initial weights and the same batches; only `Settings.balance` differs. Written are, for
each, the official layout in bfloat16, `tokenizer.json` and the numbers of every step (`history.jsonl`), and one
`receipt.json` for all: what was run where, and what came out. `--band` writes `band.json`, the spread over five seeds;
`--switch` writes `switched.jsonl`, step by step with the load of every expert, which BalanceExplorer opens with.
"""

import argparse
import json
import platform
import re
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

import minimoe
from minimoe.model.router import max_violation
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, Trainer, evaluate, load_corpus, train
from minimoe.training.data import encode_documents, pack

HERE = Path(__file__).parent
MODES = ("loss_free", "aux", "none")
SEEDS = (0, 1, 2, 3, 4)
STEPS, SEQUENCES, ROW_TOKENS, EVERY = 300, 8, 128, 10
SETTINGS = {"optimizer": "muon", "lr": 1e-2, "bias_gamma": 0.01, "aux_alpha": 1e-2}
CONFIG = replace(  # NANO, a little narrower; the sequence-wise loss is off, so that one thing differs between the runs
    minimoe.NANO,
    vocab_size=1024,
    hidden_size=64,
    intermediate_size=128,
    moe_intermediate_size=24,
    q_lora_rank=32,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
    max_position_embeddings=256,
    aux_loss_alpha=0.0,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--band", action="store_true", help="five seeds, curves only")
    parser.add_argument("--switch", action="store_true", help="one recorded run for the explorer")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = load_corpus(HERE.parent / "wordnet")
    tokenizer = Tokenizer.train(corpus.train, CONFIG.vocab_size)
    documents = encode_documents(tokenizer, corpus.train)
    validation = pack(encode_documents(tokenizer, corpus.validation), ROW_TOKENS)
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "corpus_sha256": corpus.sha256,
        "batch": {"sequences": SEQUENCES, "row_tokens": ROW_TOKENS} | SETTINGS,
        "steps": arguments.steps,
        "tokens": arguments.steps * SEQUENCES * ROW_TOKENS,
    }
    if arguments.band:
        runs = {mode: [run(mode, seed, arguments.steps, documents, validation)[1] for seed in SEEDS] for mode in MODES}
        record = {"command": "python data/balance/train.py --band"} | facts | {"seeds": SEEDS, "modes": band(runs)}
        write(arguments.out / "band.json", record)
        return
    if arguments.switch:
        lines = [json.dumps(record) for record in switched(documents)]
        (arguments.out / "switched.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return
    record = {"command": "python data/balance/train.py"} | facts | {"seed": SEEDS[0], "modes": {}}
    for mode in MODES:
        model, history = run(mode, SEEDS[0], arguments.steps, documents, validation)
        folder = arguments.out / mode
        minimoe.save(model, folder, dtype=torch.bfloat16)
        tokenizer.save(folder)
        history.save(folder / "history.jsonl")
        record["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        record["modes"][mode] = measure(folder, validation, history)
    record["cpu_seconds"] = {"whole_command": round(time.process_time(), 1)}
    write(arguments.out / "receipt.json", record)
    print(json.dumps(record, indent=1))


def run(mode: str, seed: int, steps: int, documents, validation):
    """Train one model; the seed fixes its weights and the order of its data."""
    model = minimoe.Transformer(CONFIG, seed=seed)
    settings = Settings(steps=steps, balance=mode, evaluate_every=max(1, steps // 3), **SETTINGS)
    batches = Batches(documents, SEQUENCES, ROW_TOKENS, seed)
    return model, train(model, batches, settings, validation, label=f"{mode}, seed {seed}")


def switched(documents, half: int = 80) -> list[dict]:
    """The records of a run at a constant rate: `half` steps without balancing, then as many with the bias rule."""
    alone = Settings(steps=2 * half, warmup=0.05, hold=1.0, bias_until=1.0, balance="none", **SETTINGS)
    trainer = Trainer(minimoe.Transformer(CONFIG, seed=0), Batches(documents, SEQUENCES, ROW_TOKENS, 0), alone)
    kept, marks = ("step", "next_token", "maxvio_by_layer", "load"), {1: "no balancing", half + 1: "loss-free, γ 0.01"}
    records = []
    for step in range(1, 2 * half + 1):
        if step == half + 1:
            trainer.settings = alone.changed(balance="loss_free")
        made = trainer.step()
        record = {name: made[name] for name in kept} | ({"mark": marks[step]} if step in marks else {})
        records.append(record | {"next_token": round(made["next_token"], 4)})
    return records


def measure(folder: Path, validation, history) -> dict:
    """The stored model's loss and balance, beside those of the run."""
    model = minimoe.load(folder, dtype=torch.float32)
    with torch.no_grad():
        routing = model(validation[:32]).routing
    biases = {i: router.e_score_correction_bias for i, router in model.routers().items()}
    return {
        "loss_nats_per_token": {
            "training, mean of the last 50 steps": round(mean(history["next_token"][-50:]), 3),
            "validation, float32 in training": round(history["validation"][-1], 4),
            "validation, as stored": round(evaluate(model, validation), 4),
        },
        "maxvio": {
            "worst layer, mean of the first 20 steps": round(mean(history["maxvio"][:20]), 2),
            "worst layer, mean of the last 50 steps": round(mean(history["maxvio"][-50:]), 2),
            "validation by layer": {i: round(max_violation(r.load_E), 2) for i, r in routing.items()},
        },
        "largest bias by layer": {i: round(bias.abs().max().item(), 3) for i, bias in biases.items()},
        "training_cpu_seconds": round(history["cpu_s"][-1], 1),
    }


def band(runs: dict) -> dict:
    """For every mode: the ends of all seeds, and [lowest, median, highest] of the means over ten steps."""
    found = {}
    for mode, histories in runs.items():
        curves = {}
        for name in ("next_token", "maxvio"):
            means = [[mean(h[name][i : i + EVERY]) for i in range(0, len(h), EVERY)] for h in histories]
            curves[name] = [[round(f(at), 4) for f in (min, statistics.median, max)] for at in zip(*means, strict=True)]
        found[mode] = {
            "validation": [round(h["validation"][-1], 4) for h in histories],
            "training, mean of the last 50 steps": [round(mean(h["next_token"][-50:]), 4) for h in histories],
            "maxvio, mean of the last 50 steps": [round(mean(h["maxvio"][-50:]), 3) for h in histories],
            "cpu_seconds": [round(h["cpu_s"][-1], 1) for h in histories],
            f"curves, means of {EVERY} steps: lowest, median, highest": curves,
        }
    return found


def write(path: Path, record: dict) -> None:
    """Write JSON; lists stay on one line, so that a curve does not take a thousand."""
    text = json.dumps(record, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    path.write_text(text + "\n", encoding="utf-8")


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
