"""Record the run that BalanceExplorer opens with: 120 steps without balancing, then 120 with the loss-free bias.

    python data/explorer/record.py           about 20 seconds of one core; writes data/explorer/balance.jsonl

One JSON record a step, with what the explorer draws: the loss, MaxVio and the load of every expert by layer, and at the
steps where the balancing changed a "mark".
"""

import json
from pathlib import Path

import torch

from minimoe.tokenizer import Tokenizer
from minimoe.training import load_corpus
from minimoe.training.data import encode_documents
from minimoe_widgets.balance_run import LiveRun

HERE = Path(__file__).resolve().parent
PLAN = ((120, {"balance": "none"}), (120, {"balance": "loss_free"}))


def record(documents: list[list[int]], plan=PLAN) -> list[dict]:
    """The records of a run of the explorer's default model, changed as `plan` says: (steps, settings)."""
    live = LiveRun(documents)
    for steps, changes in plan:
        live.change(**changes)
        for _ in range(steps):
            live.run.trainer.step()
    stream = live.read()
    marked = [{"mark": stream.marks[step["step"]]} if step["step"] in stream.marks else {} for step in stream.records]
    return [_slim(step) | mark for step, mark in zip(stream.records, marked, strict=True)]


def _slim(step: dict) -> dict:
    rounded = {layer: round(value, 4) for layer, value in step["maxvio_by_layer"].items()}
    kept = {"step": step["step"], "next_token": round(step["next_token"], 4)}
    return kept | {"maxvio_by_layer": rounded, "load": step["load"]}


def main():
    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(HERE.parent / "nano" / "tokenizer.json")
    records = record(encode_documents(tokenizer, load_corpus(HERE.parent / "wordnet").train))
    lines = [json.dumps(step, separators=(",", ":"), ensure_ascii=False) + "\n" for step in records]
    (HERE / "balance.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"balance.jsonl: {len(records)} steps")


if __name__ == "__main__":
    main()
