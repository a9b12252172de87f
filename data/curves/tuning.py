"""Tuning AdamW and Muon on the study's setting, with the same effort for both, before they are compared.

    python data/curves/tuning.py                # every run that is not in tuning.jsonl yet; about 15 CPU-minutes
    python data/curves/tuning.py adamw          # one optimizer
    python data/curves/tuning.py --table        # what came out

Three rounds for each optimizer. First a grid, 100 steps with seed 0: the rate `lr` of the matrices in steps of two, and
how much further embedding and head step (`table_rate`) in steps of about three. Then, at the grid's best, one change
at a time: a longer warm-up, no weight decay. Last, 200 steps, since a longer run may want another rate: the best of all
at its rate, at half and at double with one seed, and on by factors of two while the best stands at the edge; then the
better two of these with a second seed. The last round's seeds are
10 and 11 and the study's 0 to 4, so that the final choice is not made by the numbers that are reported.
"""

import argparse
import dataclasses
import fcntl
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import minimoe
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, load_corpus, train
from minimoe.training.data import encode_documents, pack

HERE = Path(__file__).parent
RESULTS = HERE / "tuning.jsonl"
SEQUENCES, ROW_TOKENS = 8, 128  # as in study.py
SHORT, SHORT_SEED = 100, 0
LONG, LONG_SEEDS = 200, (10, 11)
GRID = {  # optimizer: {table rate: rates of the matrices}
    "adamw": {
        1.0: (2e-3, 4e-3, 8e-3, 1.6e-2),
        3.0: (1e-3, 2e-3, 4e-3, 8e-3),
        10.0: (1e-3, 2e-3, 4e-3, 8e-3),
        30.0: (1e-3, 2e-3),
    },
    "muon": {1.0: (1e-2, 2e-2), 3.0: (5e-3, 1e-2, 2e-2, 4e-2), 10.0: (5e-3, 1e-2, 2e-2)},
}
CHANGES = ({"warmup": 0.1}, {"weight_decay": 0.0})


@dataclass(frozen=True)
class Recipe:
    """What is tuned."""

    optimizer: str
    lr: float
    table_rate: float
    warmup: float = 0.03
    weight_decay: float = 0.1

    @property
    def changes(self) -> dict:
        """What differs from the grid's settings."""
        plain = Recipe(self.optimizer, self.lr, self.table_rate)
        return {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}


class Bench:
    """Corpus, tokenizer and validation rows, read once."""

    def __init__(self):
        corpus, tokenizer = load_corpus(HERE.parent / "wordnet"), Tokenizer.load(HERE.parent / "nano")
        self.documents = encode_documents(tokenizer, corpus.train)
        self.validation = pack(encode_documents(tokenizer, corpus.validation), ROW_TOKENS)

    def run(self, recipe: Recipe, steps: int, seed: int) -> dict:
        """Train NANO with one recipe and give its line; a loss that is no longer finite is written down as such."""
        model = minimoe.Transformer(minimoe.NANO, seed=seed)
        settings = Settings(steps=steps, save_every=0, **asdict(recipe))
        batches = Batches(self.documents, SEQUENCES, ROW_TOKENS, seed)
        line, start_s = asdict(recipe) | {"steps": steps, "seed": seed}, time.process_time()
        try:
            history = train(model, batches, settings, self.validation, label=None)
        except ValueError as error:
            return line | {"validation": None, "cpu_s": round(time.process_time() - start_s, 2), "error": str(error)}
        return line | {"validation": round(history["validation"][-1], 5), "cpu_s": round(history["cpu_s"][-1], 2)}


def results() -> list[dict]:
    """The lines that are there."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def loss_of(recipe: Recipe, steps: int, seed: int) -> float | None:
    """The validation loss of a run: infinite if it diverged, None if it has not been made."""
    wanted = asdict(recipe) | {"steps": steps, "seed": seed}
    for line in results():
        if all(line[name] == value for name, value in wanted.items()):
            return float("inf") if line["validation"] is None else line["validation"]
    return None


def measure(bench: Bench, recipe: Recipe, steps: int, seed: int) -> float:
    """The validation loss of a run, made now if it has not been made before."""
    if (known := loss_of(recipe, steps, seed)) is not None:
        return known
    line = bench.run(recipe, steps, seed)
    with (HERE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)
    return loss_of(recipe, steps, seed)


def tune(bench: Bench, optimizer: str) -> Recipe:
    """The three rounds; gives the winner."""
    grid = [Recipe(optimizer, lr, table_rate) for table_rate, rates in GRID[optimizer].items() for lr in rates]
    short = {recipe: measure(bench, recipe, SHORT, SHORT_SEED) for recipe in grid}
    best = min(short, key=short.get)
    for change in CHANGES:
        changed = dataclasses.replace(best, **change)
        short[changed] = measure(bench, changed, SHORT, SHORT_SEED)
    best = min(short, key=short.get)
    first, second = LONG_SEEDS
    long = {}
    for factor in (0.5, 1, 2):
        recipe = dataclasses.replace(best, lr=best.lr * factor)
        long[recipe] = measure(bench, recipe, LONG, first)
    while (beyond := beyond_the_edge(long)) is not None:
        long[beyond] = measure(bench, beyond, LONG, first)
    final = {r: statistics.fmean((long[r], measure(bench, r, LONG, second))) for r in sorted(long, key=long.get)[:2]}
    return min(final, key=final.get)


def beyond_the_edge(losses: dict[Recipe, float]) -> Recipe | None:
    """The recipe to try next where the best rate is the lowest or the highest tried; None where it lies between."""
    best, rates = min(losses, key=losses.get), [recipe.lr for recipe in losses]
    if best.lr not in (min(rates), max(rates)):
        return None
    return dataclasses.replace(best, lr=best.lr * (0.5 if best.lr == min(rates) else 2))


def table() -> str:
    """All runs, by optimizer, steps and table rate, as text."""
    lines = [f"{'optimizer':10}{'steps':>6}{'seed':>5}{'table rate':>11}{'lr':>9}{'validation':>11}{'CPU s':>7}"]
    for run in sorted(results(), key=lambda r: (r["optimizer"], r["steps"], r["seed"], r["table_rate"], r["lr"])):
        recipe = Recipe(**{field.name: run[field.name] for field in dataclasses.fields(Recipe)})
        loss = "diverged" if run["validation"] is None else f"{run['validation']:.3f}"
        changes = ", ".join(f"{name} {value:g}" for name, value in recipe.changes.items())
        lines.append(
            f"{run['optimizer']:10}{run['steps']:>6}{run['seed']:>5}{run['table_rate']:>11g}{run['lr']:>9g}{loss:>11}"
            f"{run['cpu_s']:>7.1f}  {changes}".rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optimizers", nargs="*", metavar="OPTIMIZER", help=", ".join(GRID))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.optimizers if name not in GRID]
    if unknown:
        parser.error(f"no optimizer {unknown[0]!r}; there are {', '.join(GRID)}")
    if not arguments.table:
        torch.set_num_threads(1)
        bench = Bench()
        for optimizer in arguments.optimizers or GRID:
            print("best:", tune(bench, optimizer), flush=True)
    print(table())


if __name__ == "__main__":
    main()
