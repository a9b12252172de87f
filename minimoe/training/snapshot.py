"""The whole state of a run in one file that is always complete.

A state is everything that the next step depends on: weights and biases, the optimizers' averages, how far the schedule
and the data have come, the random generator. It is written under another name, flushed to the disk, and then takes its
name in one move, which a file system does entirely or not at all: kill the process at any moment, and the file is the
old state or the new one. When the disk is full, the old state is still there and the error says so.

How the production version differs: weights and averages of thousands of ranks are written in parallel, asynchronously,
and a coordinator declares the state complete when all have reported.
"""

import os
import pickle
from pathlib import Path

import torch

from minimoe.training.history import History, Log

__all__ = ["STATE_NAME", "RunFolder", "compare_runs", "read_state", "write_state"]

STATE_NAME = "state.pt"


def write_state(folder, state: dict) -> None:
    """Replace the state in `folder` by this one, entirely or not at all.

    Takes tensors and plain values, nested. Raises OSError with the reason; the state before it is then untouched.
    """
    path = Path(folder) / STATE_NAME
    fresh = path.with_name(STATE_NAME + ".new")
    try:
        with fresh.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
        fresh.unlink(missing_ok=True)
        kept = f"the state before it is still at {path}" if path.exists() else "there is no earlier state"
        raise OSError(f"could not save the run to {folder}: {error}; {kept}") from error


def _flush_folder(folder: Path) -> None:
    """Make the new name itself permanent; not every system can open a folder."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_state(folder) -> dict | None:
    """The state in `folder`, or None if there is none. Raises ValueError for a file that is not a state."""
    path = Path(folder) / STATE_NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is not the state of a run: {reason}") from error
    if not isinstance(state, dict) or "run" not in state:
        raise ValueError(f"{path} is not the state of a run: it holds no description of one")
    return state


def compare_runs(stored: dict, wanted: dict, folder) -> None:
    """Raise ValueError if the run in `folder` is not the wanted one, naming the first difference with both values."""
    for part in wanted:
        before, now = stored.get(part), wanted[part]
        names = sorted({*before, *now}) if isinstance(before, dict) and isinstance(now, dict) else None
        for name in names or [None]:
            old, new = (before.get(name), now.get(name)) if names else (before, now)
            if old != new:
                label = f"{part}.{name}" if names else part
                raise ValueError(
                    f"{folder} holds another run: {label} was {old!r} there and is {new!r} here; "
                    f"give another folder, or delete {STATE_NAME} to start anew"
                )


class RunFolder:
    """The folder of one run: its logs, open while the run goes on, and its state, written between two steps.

    `identity`: what makes it this run and no other, as dicts of plain values ("config", "settings", "data").
    """

    def __init__(self, folder, identity: dict):
        self.path, self.identity, self.saved_at, self.logs = Path(folder), identity, None, []

    def stored(self) -> dict | None:
        """The state to go on from, None if there is none. Raises ValueError if it is another run's, or no state."""
        state = read_state(self.path)
        if state is not None:
            compare_runs(state["run"], self.identity, self.path)
        return state

    def records(self, name: str, steps: int) -> list[dict]:
        """The first `steps` lines of the log called `name`. Raises ValueError if it has fewer."""
        path = self.path / name
        known = History.load(path).records if path.exists() else []
        if len(known) < steps:
            raise ValueError(f"{path} has {len(known)} steps, the state beside it {steps}: the log was cut")
        return known[:steps]

    def open_log(self, name: str, records: list[dict]) -> Log:
        """A log that begins with what is known. Raises OSError with the folder and the reason."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.logs.append(Log(self.path / name, records))
        except OSError as error:
            raise OSError(f"cannot keep a run in {self.path}: {error}") from error
        return self.logs[-1]

    def save(self, steps: int, state: dict) -> None:
        """Write the state after `steps` steps, entirely or not at all. Raises OSError with the reason."""
        for log in self.logs:
            log.sync()
        write_state(self.path, {"run": self.identity, "steps": steps} | state)
        self.saved_at = steps

    def close(self) -> None:
        """Close the logs."""
        for log in self.logs:
            log.close()
