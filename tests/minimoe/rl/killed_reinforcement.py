"""A process whose children reinforce into one folder and are killed, one after the other; see test_trainer.py.

    python killed_reinforcement.py FOLDER KILLS

The pattern is that of tests/minimoe/training/killed_run.py: half of the kills come as soon as a save is seen to begin,
the other half at a random time. A goal of three steps or more leaves a save behind. What is found after each kill is
printed as one JSON line, and last what the run that was left to finish had made.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # every optimizer imports it; here once, and not in each child

sys.path.insert(0, str(Path(__file__).parent))
from tiny_policy import ask, timeless, trainer  # noqa: E402

from minimoe.rl.grpo import GRPO  # noqa: E402
from minimoe.training.loop import LOG_NAME  # noqa: E402
from minimoe.training.snapshot import STATE_NAME, read_state  # noqa: E402

STEPS = 24
SETTINGS = {"steps": STEPS, "reference_every": 3, "objective": GRPO, "updates": 2, "evaluate_every": 7} | {
    "prompts": 2,
    "answers": 3,
    "max_new_tokens": 3,
}


def learn(folder) -> list:
    """The run that is killed; gives its records, its watched groups and a sum of every weight, as JSON would."""
    torch.set_num_threads(1)
    made = trainer(folder, watch=ask("3 1 4", "7"), evaluation=lambda model: {"accuracy": 1 / 3}, **SETTINGS)
    while made.step() is not None:
        pass
    made.close()
    sums = [parameter.double().sum().item() for parameter in made.model.parameters()]
    return json.loads(json.dumps([timeless(made.records), made.groups, sums]))


def child(folder) -> int:
    pid = os.fork()
    if pid == 0:
        learn(folder)
        os._exit(0)
    return pid


def wait_until(condition, pid: int) -> None:
    """Look again and again, until it is so or the child has finished."""
    until_s = time.monotonic() + 60
    while not condition() and time.monotonic() < until_s and os.waitpid(pid, os.WNOHANG)[0] == 0:
        time.sleep(0.002)


def steps_done(folder: Path) -> int:
    state = read_state(folder) if folder.exists() else None
    return 0 if state is None else state["steps"]


def lines_of(folder: Path) -> int:
    log = folder / LOG_NAME
    return log.read_bytes().count(b"\n") if log.exists() else 0


def main(folder: Path, kills: int) -> None:
    moments, fresh = random.Random(12), folder / (STATE_NAME + ".new")
    for i in range(kills):
        fresh.unlink(missing_ok=True)
        goal, saving = steps_done(folder) + moments.randrange(3, 6), i % 2 == 0
        pid = child(folder)
        wait_until(lambda goal=goal, saving=saving: lines_of(folder) >= goal and (fresh.exists() or not saving), pid)
        time.sleep(moments.uniform(0, 0.001 if saving else 0.05))
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it had finished
        print(json.dumps(steps_done(folder)), flush=True)
    print(json.dumps(learn(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
