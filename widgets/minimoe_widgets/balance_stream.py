"""A training run as it grows: loads, MaxVio and loss by step, the reader's switches, and the part of it that is drawn.

`Stream` takes the records that `minimoe.training` makes, one a step, and gives a `Window`: so many columns, each one
step or the mean of a few neighbouring ones. It counts and averages for the eye and measures nothing of its own.

How the production version differs: a tracking service keeps the records of all runs and thins old ones out; a run of a
few thousand steps fits in memory whole.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["COLUMNS", "Stream", "Window"]

COLUMNS = 240


@dataclass(frozen=True)
class Window:
    """What is drawn of one layer, column by column.

    `steps`: the first step of each column; `stride`: steps in a column; `load`: tokens an expert [columns, experts];
    `maxvio`: layer -> MaxVio [columns]; `loss`: next-token loss in nats [columns]; `marks`: (step, what changed then).
    """

    layer: int
    steps: np.ndarray
    stride: int
    load: np.ndarray
    maxvio: dict[int, np.ndarray]
    loss: np.ndarray
    marks: tuple[tuple[int, str], ...]

    @property
    def of_mean(self) -> np.ndarray:
        """Each expert's load as a multiple of the mean load in its column: the colour of a cell."""
        return self.load / self.load.mean(axis=1, keepdims=True)

    @property
    def last_step(self) -> int:
        """The newest step that is in the window."""
        return int(self.steps[-1]) + self.stride - 1

    def mode_at(self, step: int) -> str:
        """What was switched on at `step`: the label of the last mark up to there."""
        labels = [label for at, label in self.marks if at <= step]
        return labels[-1] if labels else ""


class Stream:
    """The records of one run, and the marks at the steps where a setting changed.

    A record is a step's dictionary of `minimoe.training`; "mark" in it names a change that begins with that step.
    """

    def __init__(self, records=()):
        self.records: list[dict] = []
        self.marks: dict[int, str] = {}
        self.extend(records)

    @classmethod
    def load(cls, path) -> "Stream":
        """Read a recorded run: one JSON record a line. Raises ValueError for a file that holds no such records."""
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        stream = cls(json.loads(line) for line in lines)
        if not stream.records:
            raise ValueError(f"{path} holds no steps")
        return stream

    def __len__(self) -> int:
        return len(self.records)

    def extend(self, records) -> None:
        """Take new records. Raises ValueError for one without load: a run whose model routes nothing."""
        for record in records:
            if not record.get("load"):
                raise ValueError(f"step {record.get('step')} has no expert load: its keys are {', '.join(record)}")
            self.records.append(record)
            if "mark" in record:
                self.mark(record["step"], record["mark"])

    def mark(self, step: int, label: str) -> None:
        """Note that a setting changed with `step`; of several changes before one step the last counts."""
        self.marks[step] = label

    @property
    def layers(self) -> list[int]:
        """The layers that route, MTP modules included."""
        return sorted(int(layer) for layer in self.records[0]["load"]) if self.records else []

    def window(self, layer: int, whole: bool = False) -> Window:
        """The last `COLUMNS` steps, or with `whole` all steps in at most that many columns of their means.

        In a column of several steps MaxVio is the mean of theirs, not that of their mean load. Raises ValueError for a
        layer that does not route, or before the first step.
        """
        if layer not in self.layers:
            raise ValueError(f"layer={layer} is not in the records; the layers there are {self.layers}")
        stride = -(-len(self.records) // COLUMNS) if whole else 1
        columns = min(len(self.records) // stride, COLUMNS)
        # Of the whole run the newest steps wait until they fill a column: else every step would move all columns.
        part = self.records[: columns * stride] if whole else self.records[-columns:]

        def mean(values) -> np.ndarray:
            values = np.asarray(values, dtype=float)
            return values.reshape(columns, stride, *values.shape[1:]).mean(axis=1)

        return Window(
            layer,
            np.array([record["step"] for record in part[::stride]]),
            stride,
            mean([record["load"][str(layer)] for record in part]),
            {n: mean([record["maxvio_by_layer"][str(n)] for record in part]) for n in self.layers},
            mean([record["next_token"] for record in part]),
            tuple(sorted(self.marks.items())),
        )
