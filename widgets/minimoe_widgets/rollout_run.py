"""A run of reinforcement learning that goes on while it is watched: started, stopped, read as it grows.

Anything will do that has `records` and `groups`, both growing, `running`, `start()` and `stop()`: a
`minimoe.training.BackgroundRun` around a trainer of `minimoe.rl`. One such run trains at a time, for a cell that is run
again leaves its old explorer behind, with a thread that nobody could stop any more.

How the production version differs: rollouts and updates run on different machines, and what is watched is behind both.
"""

import threading
import weakref

from minimoe_widgets.rollout_log import Stage

__all__ = ["LiveStage", "is_run"]

STOP_S = 10.0
_opened: "weakref.WeakSet[LiveStage]" = weakref.WeakSet()


def is_run(thing) -> bool:
    """Whether `thing` is a run and not the path of a recorded one."""
    return hasattr(thing, "records") and hasattr(thing, "start")


class LiveStage(Stage):
    """A `Stage` that is a run under way: `read()` takes what it has recorded since.

    Raises ValueError for a run that records no groups. Opening one stops every other, and so does starting it.
    """

    def __init__(self, name: str, run):
        self.run, self.reason = run, ""
        self._lock = threading.RLock()
        self._source = run if hasattr(run, "groups") else getattr(run, "trainer", None)
        if not hasattr(self._source, "groups"):
            raise ValueError(f"{type(run).__name__} has no groups: it records no answers to watch")
        super().__init__(name)
        self.read()
        self._stop_others("a newer explorer was opened")
        _opened.add(self)

    def _stop_others(self, reason: str) -> None:
        for other in list(_opened):
            if other is not self and other.run is not self.run and other.running:
                other.stop(reason)

    @property
    def running(self) -> bool:
        """Whether steps are being made."""
        return self.run.running

    @property
    def over(self) -> bool:
        """Whether there is no step left to make."""
        return bool(getattr(self.run, "done", False))

    def read(self) -> "LiveStage":
        """Take what is new."""
        with self._lock:
            groups, records = list(self._source.groups), list(self.run.records)
            self.extend(records[len(self.records) :], groups[len(self.groups) :])
            return self

    def start(self) -> None:
        """Begin, or go on."""
        self._stop_others("another explorer was started")
        self.reason = ""
        self.run.start()

    def stop(self, reason: str = "") -> None:
        """Stop after the step in progress. What ended the run is in `error`."""
        self.reason = reason
        try:
            self.run.stop(timeout=STOP_S)
        except TimeoutError:
            self.reason = reason or "the step in progress is still being made"
        except Exception as error:  # a run raises what ended it; it is said in the explorer
            if getattr(self.run, "error", None) is None:
                raise error

    def state(self) -> str:
        """Where the run stands, in a sentence."""
        error, message = getattr(self.run, "error", None), getattr(self.run, "message", None)
        if error is not None:
            return f"The run ended at step {self.last_step} with {type(error).__name__}: {error}"
        if self.running:
            return f"Training, step {self.last_step}{'; ' + message if message else ''}."
        if self.over:
            return f"The run is over, at step {self.last_step}."
        if not self.records:
            return "Nothing is trained yet: press Start."
        return f"Stopped{' since ' + self.reason if self.reason else ''}. Start goes on where it stopped."
