"""(e): speculative against plain decoding, `data/nano` and the same model made deeper, at batch 1, 8 and 64.

The text is the same either way, which is asserted. The deeper models have silent layers (their output matrices are
zero): they say what nano says, keep the drafts that nano keeps, and take the time of a trunk of that depth. Beside the
runs stand the prices of one step, from which the formula (1 + a) / (check + draft) predicts the speed-up.
"""

from pathlib import Path

import torch
from rounds import interleave, summary

import minimoe
from minimoe.accounting import speculation_speedup
from minimoe.tokenizer import Tokenizer
from minimoe.training import load_corpus
from minimoe_course.speculation_timing import deepened, step_calls

DATA = Path(__file__).parents[1] / "data"
NEW, STEPS = 64, 10
LAYERS = (3, 12, 30, 61)  # nano's own, and V3's at the end
BATCHES = (1, 8, 64)


def prompts_of(tokenizer, batch: int) -> list[list[int]]:
    """The heads of held-out entries, up to their colon: "forest (noun):"."""
    entries = load_corpus(DATA / "wordnet").validation[:batch]
    return [tokenizer.encode(entry.split(":")[0] + ":", bos=True) for entry in entries]


def measure(model, prompts, rounds: int, **options) -> dict:
    """Times of both ways on the same prompts, and the prices of a step."""
    options = {"stop_tokens": []} | options
    plain = minimoe.generate(model, prompts, NEW, **options)
    fast = minimoe.generate(model, prompts, NEW, speculative=True, **options)
    if not options.get("temperature"):
        assert fast.tokens == plain.tokens, "speculative decoding changed the text"
    times = interleave(
        {
            "plain": lambda: minimoe.generate(model, prompts, NEW, **options),
            "speculative": lambda: minimoe.generate(model, prompts, NEW, speculative=True, **options),
        },
        rounds,
    )
    calls = step_calls(model, len(prompts)).items()
    prices = interleave({name: lambda call=call: [call() for _ in range(STEPS)] for name, call in calls}, rounds)
    one, two, draft = (summary(prices[name]["cpu_ms"])["median"] / STEPS for name in ("one", "two", "draft"))
    pairs = zip(times["plain"]["cpu_ms"], times["speculative"]["cpu_ms"], strict=True)
    return {
        "layers": model.config.num_hidden_layers,
        "batch": len(prompts),
        "temperature": options.get("temperature", 0.0),
        "acceptance": round(fast.acceptance, 4),
        "calls": {"plain": plain.steps, "speculative": fast.steps},
        "cpu_ms": {name: summary(t["cpu_ms"]) for name, t in times.items()},
        "speedup": summary([a / b for a, b in pairs]),
        "step_ms": {"one": round(one, 4), "two": round(two, 4), "draft": round(draft, 4)},
        "check": round(two / one, 3),
        "draft": round(draft / one, 3),
        "predicted": round(speculation_speedup(fast.acceptance, 1, two / one, draft / one), 3),
        "rounds": times,
    }


def run(rounds: int, seed: int, layers=LAYERS, batches=BATCHES) -> dict:
    """Every depth at every batch size greedily, and nano once more with sampling."""
    nano = minimoe.load(DATA / "nano", dtype=torch.float32).requires_grad_(False)
    tokenizer = Tokenizer.load(DATA / "nano")
    results = []
    for depth in layers:
        model = deepened(nano, depth)
        results += [measure(model, prompts_of(tokenizer, b), rounds if b * depth < 400 else 3) for b in batches]
    sampled = {"temperature": 0.8, "seed": seed}
    results += [measure(nano, prompts_of(tokenizer, b), rounds, **sampled) for b in batches]
    return {
        "what": f"prompts are heads of dictionary entries, {NEW} new tokens, no token stops a row",
        "threads": torch.get_num_threads(),
        "results": results,
    }
