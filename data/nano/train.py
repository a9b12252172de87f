"""Train the course's first base model: WordNet's definitions in, a DeepSeek-V3-shaped checkpoint out.

    python data/nano/train.py                 # writes into this folder; at most 120 CPU-seconds, one thread
    python data/nano/train.py --out FOLDER --steps 20
    python data/nano/train.py --band          # the reference band: the same run with five seeds, about ten CPU-minutes

Written are the official layout in bfloat16 (`config.json`, `model.safetensors`), `tokenizer.json`, the numbers of every
step (`history.jsonl`) and `receipt.json`: what was run where, and what came out, beside what counting n-grams achieves.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path

import torch

import minimoe
from minimoe.model.router import max_violation
from minimoe.tokenizer import Tokenizer
from minimoe.training import Settings, evaluate, load_corpus, train
from minimoe.training.baseline import ngram_losses
from minimoe.training.data import Batches, encode_documents, pack

HERE = Path(__file__).parent
SEED, STEPS, SEQUENCES, ROW_TOKENS = 0, 540, 8, 128
BAND_SEEDS, EVERY = (0, 1, 2, 3, 4), 10
SETTINGS = {"optimizer": "muon", "lr": 1e-2, "warmup": 0.03, "floor": 0.02, "bias_gamma": 0.01}
PROMPTS = ("", "tree (noun):", "to run (verb):", "happy (adjective):", "slowly (adverb):")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--band", action="store_true", help="the same run with five seeds: band.json, no model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.band:
        write_band(arguments.out, arguments.steps)
        return
    corpus, tokenizer, documents, validation = data()
    before_s = time.process_time()
    model, history = run(documents, validation, arguments.steps, arguments.seed)
    after_s = time.process_time()
    arguments.out.mkdir(parents=True, exist_ok=True)
    minimoe.save(model, arguments.out, dtype=torch.bfloat16)
    tokenizer.save(arguments.out)
    history.save(arguments.out / "history.jsonl")
    receipt = {
        "command": "python data/nano/train.py",
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seed": arguments.seed,
        "corpus_sha256": corpus.sha256,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "batch": {"sequences": SEQUENCES, "row_tokens": ROW_TOKENS} | SETTINGS,
        "steps": len(history),
        "tokens": history["tokens"][-1],
        "epoch_tokens": sum(map(len, documents)),
    }
    receipt |= measure(arguments.out, corpus, documents, validation, history)
    receipt["cpu_seconds"] = {"training": round(after_s - before_s, 1), "whole_command": round(time.process_time(), 1)}
    text = json.dumps(receipt, indent=1, ensure_ascii=False)
    (arguments.out / "receipt.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def data():
    """The corpus, its tokenizer, the training documents as ids, the held-out rows."""
    corpus = load_corpus(HERE.parent / "wordnet")
    tokenizer = Tokenizer.train(corpus.train, minimoe.NANO.vocab_size)
    documents = encode_documents(tokenizer, corpus.train)
    return corpus, tokenizer, documents, pack(encode_documents(tokenizer, corpus.validation), ROW_TOKENS)


def run(documents, validation, steps: int, seed: int):
    """Train; the seed is that of the weights and of the order of the documents."""
    model = minimoe.Transformer(minimoe.NANO, seed=seed)
    settings = Settings(steps=steps, evaluate_every=200, **SETTINGS)
    return model, train(model, Batches(documents, SEQUENCES, ROW_TOKENS, seed), settings, validation)


def write_band(folder: Path, steps: int) -> None:
    """What five seeds give, in means over ten steps: where a run of this recipe may be expected. Seeds that are in the
    file already are kept, so that the command can be stopped and repeated."""
    path = folder / "band.json"
    band = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"steps": steps, "runs": {}}
    corpus, _, documents, validation = data()
    if band["steps"] != steps:
        raise ValueError(f"{path} has runs of {band['steps']} steps, not {steps}")
    for seed in (seed for seed in BAND_SEEDS if str(seed) not in band["runs"]):
        _, history = run(documents, validation, steps, seed)
        parts = range(0, steps - EVERY + 1, EVERY)
        columns = ("next_token", "mtp", "maxvio")
        curves = {name: [round(mean(history[name][i : i + EVERY]), 4) for i in parts] for name in columns}
        final = {"validation": round(history["validation"][-1], 4), "cpu_s": round(history["cpu_s"][-1], 1)}
        band["runs"][str(seed)] = final | curves
        band |= {"command": "python data/nano/train.py --band", "step": [i + EVERY for i in parts]}
        band |= {"corpus_sha256": corpus.sha256, "machine": {"cpu": cpu_name(), "torch": torch.__version__}}
        path.write_text(json.dumps(band) + "\n", encoding="utf-8")
    finals = [one["validation"] for one in band["runs"].values()]
    print(f"validation loss of {len(finals)} seeds: {min(finals):.3f} to {max(finals):.3f}")


def measure(folder: Path, corpus, documents, validation, history) -> dict:
    """The stored model's losses beside those of n-grams, its balance, and what it writes."""
    model, tokenizer = minimoe.load(folder, dtype=torch.float32), Tokenizer.load(folder)
    loss = evaluate(model, validation)
    bytes_per_token = sum(len(document) for document in corpus.train) / sum(map(len, documents))
    stream = [token for document in documents for token in document]
    with torch.no_grad():
        routing = model(validation[:32]).routing
    return {
        "bytes_per_token": round(bytes_per_token, 3),
        "loss_nats_per_token": {
            "training, mean of the last 50 steps": round(mean(history["next_token"][-50:]), 3),
            "mtp, mean of the last 50 steps": round(mean(history["mtp"][-50:]), 3),
            "validation, float32 in training": round(history["validation"][-1], 4),
            "validation, as stored": round(loss, 4),
        }
        | {
            f"validation, {n}-gram": round(x, 3)
            for n, x in ngram_losses(stream, validation, tokenizer.vocab_size).items()
        },
        "validation_bits_per_byte": round(loss / math.log(2) / bytes_per_token, 3),
        "maxvio": {
            "worst layer, mean of the first 20 steps": round(mean(history["maxvio"][:20]), 2),
            "worst layer, mean of the last 50 steps": round(mean(history["maxvio"][-50:]), 2),
            "validation by layer": {i: round(max_violation(r.load_E), 2) for i, r in routing.items()},
        },
        "samples": {prompt or "(nothing)": write(model, tokenizer, prompt) for prompt in PROMPTS},
    }


def write(model, tokenizer, prompt: str) -> str:
    """One entry, sampled at temperature 0.7 with seed 0."""
    ids = tokenizer.encode(prompt, bos=True)
    stop = [tokenizer.eos_id]
    result = minimoe.generate(model, [ids], max_new_tokens=60, temperature=0.7, seed=SEED, stop_tokens=stop)
    return tokenizer.decode(ids + result.tokens[0], skip_special=True)


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
