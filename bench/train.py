"""(a) and (c): one training step of 8 x 256 tokens, and where its time goes."""

import torch
from pair import EXPERTS, pair
from products import products_alone
from profile_step import shares
from rounds import compare, interleave, summary

ADAMW = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.1, "fused": True}
BATCH, TOKENS = 8, 256


def training_step(model, optimizer, ids_BT):
    """Forward, backward, AdamW: what both sides run."""
    loss = model(ids_BT, labels=ids_BT).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def agree(models: dict, ids_BT) -> dict:
    """Loss and gradient norm of every side; asserts that they are the same up to float32 rounding."""
    seen = {}
    for name, model in models.items():
        loss = model(ids_BT, labels=ids_BT).loss
        loss.backward()
        squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
        seen[name] = {"loss": loss.item(), "gradient_norm": torch.stack(squares).sum().sqrt().item()}
        model.zero_grad()
    first = seen["minimoe"]
    for name, values in seen.items():
        for key, value in values.items():
            # some ten thousand float32 additions: 1e-5 relative is 100 units in the last place
            assert abs(value - first[key]) <= 1e-5 * abs(first[key]), f"{key} of {name}: {value}, minimoe: {first[key]}"
    return seen


def run(rounds: int, seed: int, detail: bool = True) -> dict:
    """Measure with the threads torch has now; `detail` adds the profile and the bare matrix products."""
    generator = torch.Generator().manual_seed(seed)
    models = pair(experts=EXPERTS)
    ids_BT = torch.randint(0, models["minimoe"].config.vocab_size, (BATCH, TOKENS), generator=generator)
    agreement = agree(models, ids_BT)
    steps = {}
    for name, model in models.items():
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
        steps[name] = lambda model=model, optimizer=optimizer: training_step(model, optimizer, ids_BT)
    times = interleave(steps, rounds)
    result = {
        "what": f"training step, {BATCH} x {TOKENS} tokens, torch.optim.AdamW({ADAMW}) on both sides",
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in models["minimoe"].parameters()),
        "agreement": agreement,
        "cpu_ms": {name: summary(t["cpu_ms"]) for name, t in times.items()},
        "wall_ms": {name: summary(t["wall_ms"]) for name, t in times.items()},
        "cpu_ratio": compare(times, clock="cpu_ms"),
        "wall_ratio": compare(times, clock="wall_ms"),
        "rounds": times,
    }
    if detail:
        result["shares"] = {name: shares(step) for name, step in steps.items()}
        result["products_alone"] = products_alone(steps["minimoe"], rounds)
    return result
