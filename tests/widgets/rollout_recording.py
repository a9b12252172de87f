"""A made-up recording of reinforcement learning, in the exact format of `minimoe.rl`: for tests, and a run of nothing.

Tokens, verifiers and tasks are the real ones of `minimoe.training.reasoning`; the policy is a coin that thinks with a
chance that grows from step to step. `python tests/widgets/rollout_recording.py FOLDER` writes one.
"""

import json
import math
import random
import statistics
import sys
from pathlib import Path

from minimoe.tokenizer import SPECIAL_TOKENS
from minimoe.training.reasoning import Chain, byte_tokenizer, draw_problems, split_response

TASK, STEPS, EVERY, ANSWERS, LONGEST = Chain(4), 40, 4, 6, 24
TOKENIZER = byte_tokenizer()


def chance(step: int) -> float:
    """That an answer of this step thinks."""
    return 1 / (1 + math.exp(2.5 - 0.15 * step))


def make_answer(problem: str, step: int, rng: random.Random) -> dict:
    """One sampled answer with the chances that the coin had, now and at the start."""
    thinks = rng.random() < chance(step)
    response = TASK.think(problem) if thinks else TASK.skip(problem)
    if not thinks and rng.random() < 0.7:
        response = response[:-1] + str(rng.randrange(10))
    ids = TOKENIZER.encode(response + SPECIAL_TOKENS[1], special=True)[:LONGEST]
    now, then = (p if thinks else 1 - p for p in (chance(step), chance(0)))
    known = [math.log(0.96)] * len(ids)
    turn = min(1, len(ids) - 1)  # the token after <think>: a digit, or the end of an empty thought
    logprobs, reference = [*known], [*known]
    logprobs[turn], reference[turn] = math.log(now), math.log(then)
    ended = ids[-1] == TOKENIZER.encode(SPECIAL_TOKENS[1], special=True)[0]
    text = TOKENIZER.decode(ids[:-1] if ended else ids)
    formed = split_response(text)[0] is not None
    parts = {"accuracy": float(ended and TASK.is_correct(problem, text)), "format": float(formed)}
    answer = {"pieces": [TOKENIZER.decode([one]) for one in ids], "logprobs": logprobs, "reference": reference}
    return answer | {
        "text": text, "ended": ended, "parts": parts, "reward": parts["accuracy"] + 0.1 * parts["format"],
    }  # fmt: skip


def make_group(problem: str, step: int, stage: str, answers: int = ANSWERS, seed: int = 0) -> dict:
    """One line of groups.jsonl."""
    rng = random.Random(f"{problem} {step} {seed}")
    made = [make_answer(problem, step, rng) for _ in range(answers)]
    rewards = [answer["reward"] for answer in made]
    mean, spread = statistics.mean(rewards), statistics.stdev(rewards)
    for answer in made:
        answer["advantage"] = (answer["reward"] - mean) / (spread + 1e-4) if spread else 0.0
    return {"step": step, "stage": stage, "problem": problem, "answers": made}


def make_record(step: int, stage: str) -> dict:
    """One line of log.jsonl."""
    p = chance(step)
    parts = {"accuracy": 0.2 + 0.75 * p, "format": 1.0}
    record = {"step": step, "stage": stage, "reward": parts["accuracy"] + 0.1, "parts": parts}
    record |= {"accuracy": parts["accuracy"], "well_formed": 1.0, "mean_tokens": 4 + 18 * p}
    record |= {"kl": 0.004 * p * step / STEPS}
    record |= {"clip_fraction": 0.02 * p * (1 - p), "entropy": 0.5 - 0.3 * p, "loss": 0.0, "grad_norm": 0.8}
    record |= {"groups": 16, "learnable": 11, "skipped": False, "lr": 3e-4, "cpu_s": 1.5 * step, "wall_s": 1.6 * step}
    if step % 5 == 0:
        tokens = 4 + 18 * p
        record["evaluation"] = {"accuracy": 0.18 + 0.8 * p, "well_formed": 1.0, "mean_tokens": tokens, "waits": 0.0}
    return record


def make_band() -> dict:
    """band.json, of five seeds that differ by a few hundredths."""
    columns = {}
    for name in ("evaluation.accuracy", "accuracy", "mean_tokens", "kl", "clip_fraction"):
        top, *rest = name.split(".")
        records = [make_record(step, "") for step in range(1, STEPS + 1)]
        found = [(r["step"], r[top][rest[0]] if rest else r[top]) for r in records if top in r]
        steps, values = [step for step, _ in found], [value for _, value in found]
        columns[name] = {"step": steps, "lowest": [0.85 * v for v in values], "highest": [1.1 * v for v in values]}
    return {"command": "made up for tests", "columns": columns, "seeds": [0, 1, 2, 3, 4]}


def write(folder, stage: str = "r1_zero", answers: int = ANSWERS, band: bool = True, prompts: int = 3) -> Path:
    """A whole recording into `folder`, which is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    groups = [
        make_group(problem, step, stage, answers)
        for step in range(0, STEPS + 1, EVERY)
        for problem in draw_problems(TASK, prompts, seed=0, held_out=True)
    ]
    for name, lines in (("log", [make_record(n, stage) for n in range(1, STEPS + 1)]), ("groups", groups)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if band:
        (folder / "band.json").write_text(json.dumps(make_band()), encoding="utf-8")
    return folder


if __name__ == "__main__":
    write(sys.argv[1])
