"""(e): the complete training loop: what it adds to the bare step, and the same loop around transformers.

`minimoe` is one `Trainer.step`: packed rows, forward, backward, clip, AdamW, biases, MaxVio and loads of every layer, a
line in the log on disk. `minimoe, bare` is forward, backward and AdamW on rows that are there. The transformers sides
are forward, backward, clip and AdamW.
"""

import random
import tempfile
from pathlib import Path

import torch
from pair import CONFIG, pair
from profile_step import shares
from rounds import compare, interleave, summary

from minimoe.training import Batches, Settings, Trainer

BATCH, TOKENS = 8, 256
RATE, DECAY, CLIP = 1e-4, 0.1, 1.0


def bare(model, optimizer, ids_BT, clip: bool):
    """Forward, backward, optimizer."""
    model(ids_BT, labels=ids_BT).loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()


def optimizer_of(model):
    """AdamW with the trainer's constants; decay acts on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)


def run(rounds: int, seed: int) -> dict:
    """Measure with the threads torch has now."""
    order = random.Random(seed)
    documents = [[order.randrange(CONFIG.vocab_size) for _ in range(order.randrange(20, 200))] for _ in range(2000)]
    batches = Batches(documents, BATCH, TOKENS, seed)
    ids_BT = batches.take()
    models = pair()
    models["minimoe, bare"] = pair(experts=())["minimoe"]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            steps=10**6, optimizer="adamw", lr=RATE, weight_decay=DECAY, clip_norm=CLIP, warmup=0, floor=1, save_every=0
        )
        trainer = Trainer(models["minimoe"], batches, settings, folder=Path(folder))
        steps = {"minimoe": trainer.step}
        for name, model in models.items():
            if name != "minimoe":
                model.train()
                optimizer, clip = optimizer_of(model), not name.startswith("minimoe")
                steps[name] = lambda m=model, o=optimizer, c=clip: bare(m, o, ids_BT, c)
        times = interleave(steps, rounds)
        profile = shares(trainer.step)
        trainer.close()
    pairs = zip(times["minimoe"]["cpu_ms"], times["minimoe, bare"]["cpu_ms"], strict=True)
    overhead = [100 * (loop / alone - 1) for loop, alone in pairs]
    return {
        "what": f"complete training loop, {BATCH} x {TOKENS} tokens, AdamW, clip at {CLIP}",
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in models["minimoe"].parameters()),
        "cpu_ms": {name: summary(t["cpu_ms"]) for name, t in times.items()},
        "cpu_ratio": compare(times, clock="cpu_ms"),
        "overhead_percent": summary([round(x, 2) for x in overhead]),
        "shares": profile,
        "rounds": times,
    }
