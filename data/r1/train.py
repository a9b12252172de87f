"""R1-Zero and the four stages of R1: the shipped run, and the seeds that the table is made of.

    python data/r1/train.py                        # the seeds of the table, one after the other
    python data/r1/train.py --seeds 41 --work DIR  # some of them, in folders that are kept
    python data/r1/train.py --table                # from what is known: band.json and the README's tables, printed

A seed runs in DIR/seed (the same as `minimoe r1 --out DIR/seed --seed SEED`) and adds one line a stage to
`results.jsonl`; a seed that ends before its last stage adds a line to `failed.jsonl`. The checkpoints and logs of seed
41 are copied into this folder. What `results.jsonl` holds already is kept, so a command that was stopped can be given
again. The recipe was frozen three times, the last time before any of these seeds was run: seed 21 failed the first
freeze (`failed.jsonl`), seeds 22, 23 and 24 are of the second (`second_freeze.jsonl`).
"""

import argparse
import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from minimoe.cli_r1 import TABLE
from minimoe.rl.recipe import RECIPE, STAGES, run_recipe
from minimoe.rl.record import GROUPS_NAME
from minimoe.training.history import History
from minimoe.training.loop import LOG_NAME

HERE = Path(__file__).parent
RESULTS, BANDS, FAILED = HERE / "results.jsonl", HERE / "band.json", HERE / "failed.jsonl"
SECOND = HERE / "second_freeze.jsonl"
SEEDS, SHIPPED = (41, 42, 43), 41
CHECKPOINTS = ("base", "dev1", "dev2", "r1")  # chapter 11 starts from dev1
LOGGED = {"r1_zero": "r1_zero", "dev2_control": "dev2_control", "dev2": "dev2", "r1/rules": "r1", "r1/preference": "r1"}
WATCHED_ANSWERS = 6  # of each recorded group, the answers that are shipped
EVALUATED = ("accuracy_en", "accuracy_zh", "language_en", "language_zh", "mean_tokens")
COLUMNS = ("reward", "kl", "entropy", "mean_tokens", *(f"evaluation.{name}" for name in EVALUATED))
# What of the two freezes stands side by side: (stage, score).
BESIDE = (
    ("dev1", "accuracy_en"),
    ("r1", "accuracy_en"),
    ("dev1", "readable"),
    ("dev1", "language_zh"),
    ("dev1", "sampled_language_zh"),
    ("dev2_control", "sampled_language_zh"),
    ("dev2", "sampled_language_zh"),
    ("dev2_control", "sampled_accuracy_zh"),
    ("dev2", "sampled_accuracy_zh"),
    ("dev3", "sampled_win_rate"),
    ("r1", "sampled_win_rate"),
    ("r1", "refused_wrapped"),
    ("r1", "refused_jailbreak"),
    ("r1", "refused_harmless"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--work", type=Path, help="where the folders of the seeds are kept (default: nowhere)")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        for seed in arguments.seeds:
            if arguments.work is not None:
                run_seed(arguments.work / str(seed), seed)
            else:
                with TemporaryDirectory() as folder:
                    run_seed(Path(folder), seed)
    entries = known()
    BANDS.write_text(json.dumps(bands(entries), indent=None) + "\n", encoding="utf-8")
    print(table(entries), table(known(SECOND)), beside(known(SECOND), entries), sep="\n\n")


def run_seed(out: Path, seed: int) -> None:
    """All stages with one seed; every one adds its line as it comes."""
    done = {(entry["seed"], entry["stage"]) for entry in known()}

    def keep(entry: dict) -> None:
        if (seed, entry["stage"]) in done:
            return
        curves = {part: compact(out / part) for part, stage in LOGGED.items() if stage == entry["stage"]}
        line = entry | {"machine": machine(), "curves": curves}
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    if {(seed, stage) for stage in STAGES} <= done and seed != SHIPPED:
        return
    try:
        run_recipe(out, replace(RECIPE, seed=seed), on_stage=keep)
    except ValueError as error:  # a base that lacks a skill, say: shown, and the next seed goes on
        with FAILED.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"seed": seed, "error": str(error)}) + "\n")
        return
    if seed == SHIPPED:
        ship(out)


def known(file: Path = RESULTS) -> list[dict]:
    """The lines of results.jsonl, or of another freeze's."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def compact(folder: Path) -> dict[str, list]:
    """A run's curves: for each column the steps that have it and its values."""
    curves = {}
    for record in History.load(folder / LOG_NAME).records:
        before = {f"evaluation.{name}": value for name, value in record.get("evaluation_before", {}).items()}
        after = record | {f"evaluation.{name}": value for name, value in record.get("evaluation", {}).items()}
        for step, values in ((record["step"] - 1, before), (record["step"], after)):
            for column in COLUMNS:
                if column in values:
                    curve = curves.setdefault(column, {"step": [], "value": []})
                    curve["step"].append(step)
                    curve["value"].append(round(values[column], 4))
    return curves


def bands(entries: list[dict]) -> dict:
    """For each reinforced stage, every column's lowest and highest value over the seeds, at the steps that all have.

    A step whose groups all had equal rewards was skipped and has no KL and no entropy.
    """
    parts: dict[str, dict] = {}
    for part, stage in LOGGED.items():
        runs = [entry["curves"][part] for entry in entries if entry["stage"] == stage]
        columns = [column for column in (runs[0] if runs else ()) if all(column in run for run in runs)]
        parts[part] = {column: _band([run[column] for run in runs]) for column in columns}
    seeds = sorted({entry["seed"] for entry in entries})
    return {"command": "python data/r1/train.py", "seeds": seeds, "stages": parts}


def _band(curves: list[dict]) -> dict:
    """The steps that all curves have, and the lowest and highest value there."""
    points = [dict(zip(curve["step"], curve["value"], strict=True)) for curve in curves]
    steps = [step for step in curves[0]["step"] if all(step in point for point in points)]
    return {
        "step": steps,
        "lowest": [min(point[step] for point in points) for step in steps],
        "highest": [max(point[step] for point in points) for step in steps],
    }


def table(entries: list[dict]) -> str:
    """The stage table in Markdown: the mean over seeds, and lowest and highest where they differ."""
    lines = ["| stage | " + " | ".join(TABLE) + " | CPU-s |", "|---|" + "---:|" * (len(TABLE) + 1)]
    for stage in STAGES:
        rows = [entry for entry in entries if entry["stage"] == stage]
        if rows:
            cells = [_cell([row["scores"][score] for row in rows], score) for score in TABLE.values()]
            cells.append(f"{sum(row['cpu_s'] for row in rows) / len(rows):.0f}")
            lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def beside(second: list[dict], third: list[dict]) -> str:
    """The two freezes side by side in Markdown, seed by seed."""
    heads = [", ".join(str(seed) for seed in dict.fromkeys(e["seed"] for e in entries)) for entries in (second, third)]
    lines = [f"| | second freeze: {heads[0]} | third freeze: {heads[1]} |", "|---|---:|---:|"]
    for stage, score in BESIDE:
        cells = [
            ", ".join(f"{entry['scores'][score]:.2f}" for entry in entries if entry["stage"] == stage)
            for entries in (second, third)
        ]
        lines.append(f"| `{stage}`, {score} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float], score: str) -> str:
    digits = 1 if score == "mean_tokens" else 2
    mean, low, high = (f"{v:.{digits}f}" for v in (sum(values) / len(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low}-{high})"


def ship(out: Path) -> None:
    """Copy checkpoints, logs and shortened groups of a finished run into this folder."""
    for stage in STAGES:
        folder = HERE / stage
        folder.mkdir(exist_ok=True)
        shutil.copy(out / stage / "scores.json", folder / "receipt.json")
        if stage in CHECKPOINTS:
            for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
                shutil.copy(out / stage / name, folder / name)
        if (out / stage / "history.jsonl").exists():
            shutil.copy(out / stage / "history.jsonl", folder / "history.jsonl")
        parts = [out / part for part, of in LOGGED.items() if of == stage]
        if parts:
            for name in (LOG_NAME, GROUPS_NAME):
                lines = [line for part in parts for line in (part / name).read_text(encoding="utf-8").splitlines()]
                lines = lines if name == LOG_NAME else [_shorten(line) for line in lines]
                (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _shorten(line: str) -> str:
    """A recorded group with its first answers alone."""
    group = json.loads(line)
    return json.dumps(group | {"answers": group["answers"][:WATCHED_ANSWERS]}, ensure_ascii=False)


def machine() -> dict:
    """Where the numbers come from."""
    return {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__} | {
        "python": platform.python_version()
    }


def cpu_name() -> str:
    """The processor's model name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
