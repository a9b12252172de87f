"""A process whose children train into one folder and are killed, one after the other; see test_snapshot.py.

    python killed_run.py FOLDER KILLS

The children are forks: real processes with their own memory, which spare the import of torch. Half of the kills come
at a random time, the other half as soon as a save is seen to begin. What is found after each kill is printed as one
JSON line; the last child is left to finish.
"""

import dataclasses
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import minimoe
from minimoe.training import Batches, Settings, train
from minimoe.training.loop import LOG_NAME
from minimoe.training.snapshot import STATE_NAME, read_state

CONFIG = dataclasses.replace(
    minimoe.NANO,
    vocab_size=400,
    hidden_size=32,
    num_hidden_layers=2,
    intermediate_size=48,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=2,
    topk_group=2,
)
SETTINGS = Settings(steps=90, save_every=2, evaluate_every=30, lr=1e-2)


def learn(folder) -> list[float]:
    """The run that is killed; gives the losses of all its steps, those before the last kill too."""
    torch.set_num_threads(1)
    order = random.Random(7)
    documents = [[order.randrange(400) for _ in range(order.randrange(5, 40))] for _ in range(200)]
    rows = torch.tensor([[(3 * i + j) % 400 for j in range(24)] for i in range(8)])
    model = minimoe.Transformer(CONFIG, seed=1)
    history = train(model, Batches(documents, 4, 24, seed=3), SETTINGS, rows, label=None, folder=folder)
    return history["loss"] + history["validation"] + [p.double().sum().item() for p in model.parameters()]


def child(folder) -> int:
    pid = os.fork()
    if pid == 0:
        learn(folder)
        os._exit(0)
    return pid


def wait_until(condition, pid: int) -> None:
    """Look again and again, until it is so or the child has finished."""
    until_s = time.monotonic() + 30
    while not condition() and time.monotonic() < until_s and os.waitpid(pid, os.WNOHANG)[0] == 0:
        time.sleep(0.0002)


def steps_done(folder: Path) -> int:
    state = read_state(folder) if folder.exists() else None
    return 0 if state is None else state["steps"]


def lines_of(folder: Path) -> int:
    log = folder / LOG_NAME
    return log.read_bytes().count(b"\n") if log.exists() else 0


def main(folder: Path, kills: int) -> None:
    moments = random.Random(11)
    fresh = folder / (STATE_NAME + ".new")
    for i in range(kills):
        fresh.unlink(missing_ok=True)
        goal = steps_done(folder) + moments.randrange(7)
        pid = child(folder)
        if i % 2:
            wait_until(lambda goal=goal: lines_of(folder) >= goal and fresh.exists(), pid)  # a save is under way
        elif i:
            wait_until(lambda goal=goal: lines_of(folder) >= goal, pid)
        time.sleep(moments.uniform(0, 0.001 if i % 2 else 0.02))
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it had finished
        print(json.dumps({"step": steps_done(folder), "while_saving": fresh.exists()}), flush=True)
    print(json.dumps(learn(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
