"""What happened in a run: one record a step, in memory and as JSON lines that can be followed while they grow.

A log is evidence only if it agrees with the weights beside it. Each line is on its way to the disk before the state
that includes its step is written, and a run that goes on from a state first drops the lines that came after it, and
half a line that a kill left behind.

How the production version differs: the records go to a tracking service, from one rank of thousands.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["History", "Log"]


@dataclass
class History:
    """One record (a dict of numbers) a step; `history["loss"]` is a column of it as a list.

    Keys: step, tokens, sequences, cpu_s, wall_s, tokens_per_s (by the wall clock), lr, loss, next_token, mtp, balance,
    aux, grad_norm, maxvio (the worst layer's), maxvio_by_layer and load (by layer), and validation on the steps that
    measured it.
    """

    records: list[dict] = field(default_factory=list)

    def __getitem__(self, name: str) -> list:
        if not any(name in record for record in self.records):
            raise KeyError(
                f"{name!r} was not recorded; there are {', '.join(self.records[0]) if self.records else 'none'}"
            )
        return [record[name] for record in self.records if name in record]

    def __len__(self) -> int:
        return len(self.records)

    def save(self, path) -> None:
        """Write the records as JSON lines, six digits a number and without the loads of single experts."""
        lines = [json.dumps({k: _rounded(v) for k, v in r.items() if k != "load"}) for r in self.records]
        Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, path) -> "History":
        """Read JSON lines: what `save` wrote, or a log, also one that is still growing."""
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        return cls([json.loads(line) for line in lines[:-1]])  # what follows the last line end is not finished


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


class Log:
    """The records of a run as a file that grows by one line a step; every digit is kept.

    Takes the records that are already known: the file is written anew with them, all or nothing, and then appended to.
    Raises OSError with the file's name.
    """

    def __init__(self, path, records: list[dict]):
        self.path = Path(path)
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("wb") as file:
            file.writelines(_line(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)
        self.file = self.path.open("ab", buffering=0)  # nothing waits in a buffer when the disk is full

    def add(self, record: dict) -> None:
        """Append one record; a reader sees it at once."""
        line = _line(record)
        try:
            written = self.file.write(line)
        except OSError as error:
            raise OSError(f"could not write step {record.get('step')} to {self.path}: {error}") from error
        if written != len(line):
            raise OSError(f"could not write step {record.get('step')} to {self.path}: the disk is full")

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _line(record: dict) -> bytes:
    return json.dumps(record).encode() + b"\n"
