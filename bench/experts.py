"""(d): the cost of more routed experts, 8 to 64, while every token still uses four of them.

A training step's arithmetic does not change with the number of experts; what grows is the number of blocks, the weights
that the optimizer touches, and for decoding the weights that a step reads.
"""

from dataclasses import replace

import decode
import torch
from pair import CONFIG, EXPERTS, pair
from rounds import compare, interleave, summary
from train import ADAMW, BATCH, TOKENS, agree, training_step

COUNTS = (8, 16, 32, 64)


def measure(experts: int, rounds: int, seed: int) -> dict:
    """A training step and a batch-64 decoding run with this many routed experts, on both sides."""
    models = pair(replace(CONFIG, n_routed_experts=experts), EXPERTS)
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(0, CONFIG.vocab_size, (BATCH, TOKENS), generator=generator)
    agree(models, ids_BT)
    steps = {}
    for name, model in models.items():
        optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
        steps[name] = lambda model=model, optimizer=optimizer: training_step(model, optimizer, ids_BT)
    train = interleave(steps, rounds)
    with torch.no_grad():  # training has moved the sides apart by rounding: decode from equal weights again
        models = pair(replace(CONFIG, n_routed_experts=experts), EXPERTS)
    prompts_BT = torch.randint(0, CONFIG.vocab_size, (64, decode.PROMPT), generator=generator)
    todo = decode.cases(models, prompts_BT, new=32)
    todo.pop("transformers grouped_mm, generate")
    said = {name: run() for name, run in todo.items()}
    assert all(tokens == said["minimoe"] for tokens in said.values()), f"tokens differ with {experts} experts"
    decoding = interleave(todo, max(3, rounds // 2))
    out = {"experts": experts}
    for what, times in (("train", train), ("decode", decoding)):
        out[what] = {name: summary(t["cpu_ms"]) for name, t in times.items()}
        out[f"{what}_ratio"] = compare(times)
        out[f"{what}_rounds"] = times
    return out


def run(rounds: int, seed: int) -> dict:
    """Measure every number of experts with the threads torch has now."""
    return {
        "what": f"{BATCH} x {TOKENS} tokens a training step; decoding 64 rows by 32 tokens; K = 4 of E routed experts",
        "threads": torch.get_num_threads(),
        "counts": [measure(experts, rounds, seed) for experts in COUNTS],
    }
