"""(b): greedy decoding, 16-token prompts, 128 new tokens, one row and 64 rows.

Three ways of transformers: a hand-written loop over its model and cache, with each implementation of the experts, and
its own `generate`. On our side `minimoe.generate`, which also returns the log-probability of every token.
"""

import torch
from pair import pair
from rounds import compare, interleave, summary

import minimoe

PROMPT, NEW = 16, 128


@torch.inference_mode()
def loop(model, ids_BT, new: int = NEW) -> list[list[int]]:
    """The shortest greedy loop over a transformers model: one forward a token, its cache carried along."""
    out = model(ids_BT, use_cache=True, logits_to_keep=1)
    tokens = [out.logits[:, -1].argmax(-1, keepdim=True)]
    for _ in range(new - 1):
        out = model(tokens[-1], past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
        tokens.append(out.logits[:, -1].argmax(-1, keepdim=True))
    return torch.cat(tokens, dim=1).tolist()


def own_generate(model, ids_BT, new: int = NEW) -> list[list[int]]:
    """transformers' `generate`, greedy, stopping at no token."""
    model.generation_config.eos_token_id = None
    mask = torch.ones_like(ids_BT)
    out = model.generate(ids_BT, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=0)
    return out[:, ids_BT.shape[1] :].tolist()


def cases(models: dict, ids_BT, new: int = NEW) -> dict:
    """Name -> function that decodes and gives the new tokens."""
    prompts = ids_BT.tolist()
    out = {"minimoe": lambda: minimoe.generate(models["minimoe"], prompts, new, stop_tokens=[]).tokens}
    for name, model in models.items():
        if name != "minimoe":
            model.eval()
            out[f"{name}, loop"] = lambda model=model: loop(model, ids_BT, new)
    out["transformers grouped_mm, generate"] = lambda: own_generate(models["transformers grouped_mm"], ids_BT, new)
    return out


def measure(models: dict, batch: int, rounds: int, seed: int) -> dict:
    """Times for one batch size; asserts first that all sides say the same."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(0, models["minimoe"].config.vocab_size, (batch, PROMPT), generator=generator)
    todo = cases(models, ids_BT)
    tokens = {name: run() for name, run in todo.items()}
    for name, said in tokens.items():
        for row, (mine, other) in enumerate(zip(tokens["minimoe"], said, strict=True)):
            assert mine == other, f"row {row} of {name} differs from minimoe's: {other[:8]}... and {mine[:8]}..."
    times = interleave(todo, rounds)
    per_second = {n: round(batch * NEW / summary(t["cpu_ms"])["median"] * 1e3, 1) for n, t in times.items()}
    return {
        "batch": batch,
        "tokens_equal": batch * NEW,
        "cpu_ms": {name: summary(t["cpu_ms"]) for name, t in times.items()},
        "wall_ms": {name: summary(t["wall_ms"]) for name, t in times.items()},
        "tokens_per_cpu_second": per_second,
        "cpu_ratio": compare(times, clock="cpu_ms"),
        "wall_ratio": compare(times, clock="wall_ms"),
        "rounds": times,
    }


def run(rounds: int, seed: int, batches=(1, 64)) -> dict:
    """Measure every batch size with the threads torch has now."""
    models = pair()
    return {
        "what": f"greedy decoding, prompts of {PROMPT} tokens, {NEW} new tokens, sdpa attention in transformers",
        "threads": torch.get_num_threads(),
        "batches": [measure(models, b, rounds if b == 1 else max(3, rounds // 2), seed) for b in batches],
    }
