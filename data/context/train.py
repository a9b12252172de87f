"""Train a model that looks things up within 64 tokens, stretch it to 512, and measure where it still finds them.

    python data/context/train.py                       # seed 0: both models and its maps; at most 120 CPU-seconds
    python data/context/train.py --seeds 1 2 3 4       # maps of further seeds, added to retrieval.json
    python data/context/train.py --out FOLDER --share 0.02

Written are `base/` and `extended/` (official layout, bfloat16, from seed 0), `tokenizer.json` in both, `retrieval.json`
(maps by length and depth, and accuracy along the second phase, of every seed) and `receipt.json`.

Six ways to read 8 times as far are compared, all with the same weights and the same second phase: YaRN with V3's betas
(32 and 1) and with Kimi-K2's (1 and 1); its two parts alone, the slower pairs and the sharper softmax; position
interpolation, which slows every pair down alike; and extrapolation, which changes nothing.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import torch

import minimoe
from minimoe.inference.retrieval import Needles, RetrievalMap, retrieval
from minimoe.model.rope import rope_turns, softmax_scale
from minimoe.tokenizer import Tokenizer
from minimoe.training import Settings, train
from minimoe.training.context import extend, lengthen, practice

HERE = Path(__file__).parent
TRAINED, FACTOR = 64, 8
CONFIG = replace(
    minimoe.NANO,
    vocab_size=266,
    hidden_size=64,
    num_hidden_layers=2,
    first_k_dense_replace=2,
    n_routed_experts=None,
    intermediate_size=64,
    num_attention_heads=2,
    num_key_value_heads=2,
    q_lora_rank=None,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    rope_theta=100.0,  # so that 5 of 8 pairs complete a turn in 64 tokens, as 23 of 32 do in V3's 4,096
    max_position_embeddings=TRAINED,
    num_nextn_predict_layers=0,
    initializer_range=0.05,
)
FIRST = Settings(steps=1300, lr=2e-3, hold=0.85, floor=0.1)
SHORT_SHARE = 0.6  # of the first phase: crowded rows of half the length, in which looking up is learned sooner
ASKED = (5, 8)  # records and questions a row of the second phase
SECOND = Settings(steps=160, lr=1e-3, warmup=0.2)  # half at 256 tokens, half at 512, as V3 at 32K and then at 128K
LENGTHS, DEPTHS, TRIALS = (32, 64, 128, 256, 512), tuple(i / 8 for i in range(9)), 20
ALONG, ALONG_DEPTHS, ALONG_TRIALS = (10, 20, 40, 60, 80, 100, 130, 160), (0.0, 0.25, 0.5, 0.75, 1.0), 8


class Interpolated(minimoe.Transformer):
    """Position m turns every pair as position m / 8 would: arXiv 2306.15595 equation 4. For whole rows only."""

    def _span(self, ids, cache, path):
        if cache is not None:
            raise ValueError("an interpolated model takes no cache")
        positions = torch.arange(ids.shape[1], device=ids.device)[None] / FACTOR
        return replace(super()._span(ids, cache, path), turns=rope_turns(self.config, positions, self.dtype))


def interpolate(model) -> Interpolated:
    """The same weights, every position divided by 8."""
    slowed = Interpolated(lengthen(model, FACTOR).config)
    slowed.load_state_dict(model.state_dict())
    return slowed


def sharpen(model) -> minimoe.Transformer:
    """The same weights and angles; only the softmax is as sharp as under YaRN."""
    sharper, scale = lengthen(model, FACTOR), softmax_scale(extend(model, FACTOR).config)
    for layer in sharper.model.layers:
        layer.self_attn.scale = scale
    return sharper


WAYS = {
    "yarn": lambda model: extend(model, FACTOR),
    "yarn, betas 1": lambda model: extend(model, FACTOR, beta_fast=1),
    "slower pairs alone": lambda model: extend(model, FACTOR, mscale=1e-12),  # 0 means "not given" to a config
    "sharper softmax alone": sharpen,
    "interpolation": interpolate,
    "extrapolation": lambda model: lengthen(model, FACTOR),
}
SHIPPED = "yarn, betas 1"  # within 64 tokens no pair turns 32 times: V3's ramp would slow every pair but one


def first_rows(needles: Needles, seed: int, steps: int) -> Iterator[torch.Tensor]:
    """The first phase: 16 crowded rows of 32 tokens a step, then 8 rows of 64 with hay as in the test."""
    short = practice(needles, 16, TRAINED // 2, seed, records=4, questions=7)
    return chain(islice(short, round(SHORT_SHARE * steps)), practice(needles, 8, TRAINED, seed, 4, 5))


def second_rows(needles: Needles, seed: int, steps: int) -> Iterator[torch.Tensor]:
    """The second phase: 4 rows of 256 tokens a step, then 2 rows of 512."""
    middle, long = practice(needles, 4, 256, seed, *ASKED), practice(needles, 2, 512, seed, *ASKED)
    return chain(islice(middle, steps // 2), long)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the steps and of the trials, to try the command")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.train("", CONFIG.vocab_size)
    needles = Needles.from_tokenizer(tokenizer)
    for seed in arguments.seeds:
        found, models = study(needles, seed, arguments.share)
        add(arguments.out / "retrieval.json", seed, found)
        print(json.dumps({"seed": seed} | summary(found)))
        if seed == 0:
            for name, model in models.items():
                minimoe.save(model, arguments.out / name, dtype=torch.bfloat16)
                tokenizer.save(arguments.out / name)
            write(arguments.out / "receipt.json", receipt(needles, found, models, arguments))


def study(needles: Needles, seed: int, share: float = 1.0) -> tuple[dict, dict]:
    """One seed: the base model, the six ways before and after the second phase; gives the record and two models."""
    first = replace(FIRST, steps=max(2, round(FIRST.steps * share)))
    second = replace(SECOND, steps=max(2, round(SECOND.steps * share)))
    trials = max(2, round(TRIALS * share))
    begun_s = time.process_time()
    base = minimoe.Transformer(CONFIG, seed=seed)
    history = train(base, first_rows(needles, seed, first.steps), first, label=f"seed {seed}: {TRAINED} tokens")
    record = {"first_phase_cpu_s": round(time.process_time() - begun_s, 1), "tokens": history["tokens"][-1], "ways": {}}
    record["base"] = retrieval(base, needles, LENGTHS, DEPTHS, trials).to_dict()
    models = {"base": base}
    for way, make in WAYS.items():
        model = make(base)
        same = way == "extrapolation"  # nothing is changed, so there is nothing to measure again
        before = record["base"] if same else retrieval(model, needles, LENGTHS, DEPTHS, trials).to_dict()
        begun_s, along = time.process_time(), {0: at_full_length(model, needles, trials)}

        def watch(step_record, model=model, along=along):
            if step_record["step"] in ALONG:
                along[step_record["step"]] = at_full_length(model, needles, trials)

        train(model, second_rows(needles, seed, second.steps), second, on_step=watch, label=f"seed {seed}: {way}")
        spent_s = round(time.process_time() - begun_s, 1)
        after = retrieval(model, needles, LENGTHS, DEPTHS, trials).to_dict()
        record["ways"][way] = {"before": before, "along": along, "after": after, "second_phase_cpu_s": spent_s}
        if way == SHIPPED:
            models["extended"] = model
    return record, models


def at_full_length(model, needles: Needles, trials: int) -> float:
    """Accuracy over all depths at the longest length, with other rows than the maps'."""
    trials = min(trials, ALONG_TRIALS)
    return retrieval(model, needles, LENGTHS[-1:], ALONG_DEPTHS, trials, seed=1).by_length()[LENGTHS[-1]]


def summary(found: dict) -> dict:
    """Accuracy by length of every map of a seed."""

    def line(values):
        return {length: round(share, 3) for length, share in RetrievalMap.from_dict(values).by_length().items()}

    ways = {f"{way}, {when}": line(maps[when]) for way, maps in found["ways"].items() for when in ("before", "after")}
    return {"base": line(found["base"])} | ways


def receipt(needles: Needles, found: dict, models: dict, arguments) -> dict:
    """What was run where, and what the stored models find."""
    stored = {name: minimoe.load(arguments.out / name, dtype=torch.float32) for name in models}
    trials = max(2, round(TRIALS * arguments.share))
    maps = {name: retrieval(model, needles, LENGTHS, ALONG_DEPTHS, trials) for name, model in stored.items()}
    return {
        "command": "python data/context/train.py",
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seed": 0,
        "parameters": sum(parameter.numel() for parameter in models["base"].parameters()),
        "first_phase": {"steps": FIRST.steps, "lr": FIRST.lr, "tokens": found["tokens"]},
        "second_phase": {"steps": SECOND.steps, "lr": SECOND.lr, "tokens": SECOND.steps * 1024},
        "float32": {"base": summary(found)["base"], "extended": summary(found)[f"{SHIPPED}, after"]},
        "stored": {name: {n: round(x, 3) for n, x in m.by_length().items()} for name, m in maps.items()},
        "cpu_seconds": {
            "first phase": found["first_phase_cpu_s"],
            "second phase, with what was measured along it": found["ways"][SHIPPED]["second_phase_cpu_s"],
            "whole command": round(time.process_time(), 1),
        },
    }


def add(path: Path, seed: int, found: dict) -> None:
    """Put one seed's record into the file, beside those of the others: a line a seed."""
    known = json.loads(path.read_text(encoding="utf-8"))["seeds"] if path.exists() else {}
    seeds = known | {str(seed): found}
    lines = ",\n".join(f' "{number}": {json.dumps(seeds[number])}' for number in sorted(seeds, key=int))
    head = f'"factor": {FACTOR}, "trained": {TRAINED}'
    path.write_text("{" + head + ', "seeds": {\n' + lines + "\n}}\n", encoding="utf-8")


def write(path: Path, values: dict) -> None:
    """JSON that a person can read."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def cpu_name() -> str:
    """The processor's model name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
