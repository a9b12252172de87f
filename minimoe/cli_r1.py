"""What `minimoe r1` does: all stages of R1 in one folder, with a table of scores that grows by a line a stage.

How the production version differs: months, teams and 147,000 GPU-hours lie between the first line and the last.
"""

from dataclasses import replace

import torch

from minimoe.rl.recipe import RECIPE, run_recipe

__all__ = ["TABLE", "line", "run"]

# Heading of a column, and the score it shows: of greedy answers, or of answers at temperature 1.
TABLE = {
    "en": "accuracy_en",
    "zh": "accuracy_zh",
    "en in en": "language_en",
    "zh in zh": "language_zh",
    "zh T=1": "sampled_language_zh",
    "format": "well_formed",
    "readable": "readable",
    "tokens": "mean_tokens",
    "wins": "win_rate",
    "wins T=1": "sampled_win_rate",
    "refused": "refused_plain",
    "wrapped": "refused_wrapped",
    "jailbreak": "refused_jailbreak",
    "harmless": "refused_harmless",
}
WIDTH = 10


def run(out, seed: int = 0) -> None:
    """Run the recipe with this seed in the folder `out` and print the table; goes on where a run there was stopped.

    Raises ValueError and OSError as `run_recipe` does.
    """
    torch.set_num_threads(1)
    print(f"{'stage':<13}" + "".join(f"{name:>{WIDTH}}" for name in TABLE) + f"{'CPU-s':>8}", flush=True)
    entries = run_recipe(out, replace(RECIPE, seed=seed), on_stage=lambda entry: print(line(entry), flush=True))
    made, measured = (sum(entry[name] for entry in entries) for name in ("cpu_s", "measuring_cpu_s"))
    print(f"{made:.0f} CPU-seconds for the stages, {measured:.0f} for measuring them; everything is in {out}")


def line(entry: dict) -> str:
    """One stage as a line of the table: shares, and the tokens of an answer to a word problem."""
    cells = []
    for score in TABLE.values():
        value = entry["scores"][score]
        cells.append(f"{value:>{WIDTH}.1f}" if score == "mean_tokens" else f"{value:>{WIDTH}.3f}")
    return f"{entry['stage']:<13}" + "".join(cells) + f"{entry['cpu_s']:>8.0f}"
