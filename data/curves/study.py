"""The five-seed study: one small model, one change at a time, the same data and the same number of steps.

    python data/curves/study.py                       # every variant, seeds 0 to 4; what is there already is kept
    python data/curves/study.py aux none --seeds 0 1   # some of it
    python data/curves/study.py --table                # what came out

Each run is one line of `results.jsonl`: what was run, on what machine, and its curves, averaged over ten steps. The
variants called `..._long` have the same change and as many more steps as fit into the reference's CPU-seconds.
"""

import argparse
import dataclasses
import fcntl
import json
import platform
import statistics
from pathlib import Path

import torch

import minimoe
from minimoe.accounting import flops, parameters
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, load_corpus, train
from minimoe.training.data import encode_documents, pack

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SEQUENCES, ROW_TOKENS, STEPS, EVERY = 8, 128, 200, 10
VALIDATION_ROWS = 96
SEEDS = (0, 1, 2, 3, 4)
DENSE = {"n_routed_experts": None, "intermediate_size": 240}  # 5 experts of 48 serve a token: 240 wide, in every layer
WIDE_EXPERTS = {"n_routed_experts": 7, "num_experts_per_tok": 2, "moe_intermediate_size": 120, "n_shared_experts": 0}
WIDE_EXPERTS |= {"n_group": 1, "topk_group": 1}  # 240 wide too, out of 840 in place of 816
ADAMW = {"optimizer": "adamw", "lr": 4e-3, "warmup": 0.1}  # best of tuning.jsonl; Muon's best is the reference's
NO_LOSS = {"aux_loss_alpha": 0.0}

# name: (changes of NANO, settings, steps)
VARIANTS: dict[str, tuple[dict, dict, int]] = {
    "reference": ({}, {}, STEPS),
    "none": (NO_LOSS, {"balance": "none"}, STEPS),
    "aux_weak": (NO_LOSS, {"balance": "aux", "aux_alpha": 1e-3}, STEPS),
    "aux": (NO_LOSS, {"balance": "aux", "aux_alpha": 1e-2}, STEPS),
    "aux_strong": (NO_LOSS, {"balance": "aux", "aux_alpha": 1e-1}, STEPS),
    "no_mtp": ({"num_nextn_predict_layers": 0}, {}, STEPS),
    "dense": (DENSE, {}, STEPS),
    "dense_long": (DENSE, {}, 242),
    "no_mtp_long": ({"num_nextn_predict_layers": 0}, {}, 308),
    "coarse": (WIDE_EXPERTS, {}, STEPS),
    "no_shared": (
        {"n_routed_experts": 17, "num_experts_per_tok": 5, "n_shared_experts": 0, "n_group": 1, "topk_group": 1},
        {},
        STEPS,
    ),
    "no_groups": ({"n_group": 1, "topk_group": 1}, {}, STEPS),
    "adamw": ({}, ADAMW, STEPS),
    "adamw_long": ({}, ADAMW, 228),
    "adamw_half": ({}, ADAMW | {"lr": 2e-3}, STEPS),  # the best for 100 steps, and so is muon_tuned
    "muon_tuned": ({}, {"lr": 2e-2}, STEPS),
}


def variant_config(name: str) -> minimoe.ModelConfig:
    """NANO with the variant's changes."""
    return dataclasses.replace(minimoe.NANO, **VARIANTS[name][0])


def run(name: str, seed: int, corpus, tokenizer) -> dict:
    """Train one variant with one seed (of the weights and of the order of the data) and give its line."""
    changes, settings, steps = VARIANTS[name]
    documents = encode_documents(tokenizer, corpus.train)
    validation = pack(encode_documents(tokenizer, corpus.validation), ROW_TOKENS)[:VALIDATION_ROWS]
    config = variant_config(name)
    model = minimoe.Transformer(config, seed=seed)
    settings = Settings(**({"steps": steps, "evaluate_every": 50} | settings))
    history = train(model, Batches(documents, SEQUENCES, ROW_TOKENS, seed), settings, validation, label=None)
    count = parameters(config)
    return {
        "variant": name,
        "seed": seed,
        "changes": changes,
        "settings": settings.to_dict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "activated": count.activated.with_head,
        "train_flops_per_token": flops(config, ROW_TOKENS).training,
        "steps": len(history),
        "tokens": history["tokens"][-1],
        "cpu_s": round(history["cpu_s"][-1], 2),
        "validation": round(history["validation"][-1], 5),
        "validation_curve": {r["step"]: round(r["validation"], 4) for r in history.records if "validation" in r},
        "curves": curves(history),
        "load_last": loads(history),
        "corpus_sha256": corpus.sha256,
        "machine": machine(),
    }


def curves(history) -> dict[str, list[float]]:
    """Means over every ten steps; `cpu_s` at the end of each ten."""
    columns = [name for name in ("next_token", "mtp", "maxvio", "aux", "grad_norm") if name in history.records[0]]
    parts = range(0, len(history) - EVERY + 1, EVERY)
    means = {name: [round(statistics.fmean(history[name][i : i + EVERY]), 4) for i in parts] for name in columns}
    cpu_s = [round(history["cpu_s"][i + EVERY - 1], 2) for i in parts]
    return {"step": [i + EVERY for i in parts]} | means | {"cpu_s": cpu_s}


def loads(history, last: int = 20) -> dict[str, list[float]]:
    """Each expert's share of its layer's mean load over the last steps; 1 is perfect balance."""
    result = {}
    for layer in history.records[-1]["load"]:
        total_E = torch.tensor([r["load"][layer] for r in history.records[-last:]]).double().sum(0)
        result[layer] = [round(x, 3) for x in (total_E / total_E.mean()).tolist()]
    return result


def machine() -> dict:
    """Where and with what it was run."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": cpu, "threads": torch.get_num_threads()} | versions


def results() -> dict[tuple[str, int], dict]:
    """What has been run: (variant, seed) -> record."""
    if not RESULTS.exists():
        return {}
    records = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return {(record["variant"], record["seed"]): record for record in records}


def add(record: dict) -> None:
    """Put one record into the file, in the order of the table above; several processes may do so."""
    with (HERE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = results() | {(record["variant"], record["seed"]): record}
        order = sorted(known, key=lambda key: (list(VARIANTS).index(key[0]), key[1]))
        RESULTS.write_text("".join(json.dumps(known[key]) + "\n" for key in order), encoding="utf-8")


def table() -> str:
    """One line a variant: final validation loss, MaxVio at the end, CPU-seconds; median and range over the seeds."""
    lines = [f"{'variant':16}{'seeds':>6}{'validation loss':>24}{'MaxVio, last 50 steps':>26}{'CPU s':>8}"]
    known = results()
    for name in VARIANTS:
        mine = [record for (variant, _), record in known.items() if variant == name]
        if mine:
            loss = spread([r["validation"] for r in mine])
            vio = spread([statistics.fmean(r["curves"]["maxvio"][-5:]) for r in mine])
            cpu_s = statistics.median(r["cpu_s"] for r in mine)
            lines.append(f"{name:16}{len(mine):>6}{loss:>24}{vio:>26}{cpu_s:>8.1f}")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.variants if name not in VARIANTS]
    if unknown:
        parser.error(f"no variant {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    if not arguments.table:
        torch.set_num_threads(1)
        corpus = load_corpus(HERE.parent / "wordnet")
        tokenizer = Tokenizer.load(HERE.parent / "nano")
        for seed in arguments.seeds:
            for name in arguments.variants or VARIANTS:
                if (name, seed) not in results():
                    record = run(name, seed, corpus, tokenizer)
                    add(record)
                    print(f"{name} seed {seed}: {record['validation']:.4f}, {record['cpu_s']:.0f} CPU-s", flush=True)
    print(table())


if __name__ == "__main__":
    main()
