"""A run that goes on while the notebook answers: in a thread, watched live, stopped between two steps, resumed.

A cell that trains blocks its kernel: no slider moves, no button answers, until it is done. Here the steps are made by a
thread, and the cell returns at once. Torch releases Python's lock inside its products, so the kernel stays responsive.

How the production version differs: training is a job on a cluster, and what is watched is its log.
"""

import atexit
import threading

from minimoe.training.history import History
from minimoe.training.loop import Trainer

__all__ = ["BackgroundRun"]


class BackgroundRun:
    """`start()`, look at `records` while they grow, `stop()`, `start()` again.

    Takes what `Trainer` takes. `change(balance="none", ...)` alters settings between two steps. An error in the thread
    ends the run and is kept in `error`; `wait` raises it. With a folder, every stop saves. Chapter 07.
    """

    def __init__(self, model, batches, settings, validation=None, folder=None):
        self._keep(Trainer(model, batches, settings, validation, folder))

    @classmethod
    def around(cls, trainer) -> "BackgroundRun":
        """A run of a trainer that is there already: a `Trainer`, or `minimoe.rl`'s `GRPOTrainer`."""
        run = cls.__new__(cls)
        run._keep(trainer)
        return run

    def _keep(self, trainer) -> None:
        self.trainer = trainer
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._between_steps = threading.Lock()

    @property
    def records(self) -> list[dict]:
        """The records so far, a list of its own."""
        return list(self.trainer.records)

    @property
    def history(self) -> History:
        """The records so far as a `History`."""
        return History(self.records)

    @property
    def progress(self) -> float:
        """How much of the run is over, from 0 to 1."""
        return min(self.trainer.progress, 1.0)

    @property
    def running(self) -> bool:
        """Whether steps are being made."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def done(self) -> bool:
        """Whether the run has reached its end."""
        return self.trainer.done

    @property
    def groups(self) -> list[dict]:
        """The recorded groups of answers so far, of a trainer that records them."""
        return list(getattr(self.trainer, "groups", []))

    @property
    def message(self) -> str | None:
        """What keeps the run from learning, or from its usual pace, if anything does."""
        return getattr(self.trainer, "notice", None) or self.trainer.contention.message

    def start(self) -> "BackgroundRun":
        """Make steps until the run is over or stopped; does nothing if it is running or over."""
        if not self.running and not self.done:
            self.error = None
            self._stopping.clear()
            self._thread = threading.Thread(target=self._steps, name="minimoe training", daemon=True)
            atexit.register(self._leave)
            self._thread.start()
        return self

    def _steps(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._between_steps:
                    record = self.trainer.step()
                if record is None:
                    break
            if self.trainer.log is not None:
                self.trainer.save()
        except BaseException as error:  # shown where the run is watched: a thread has nobody to raise to
            self.error = error
        finally:
            atexit.unregister(self._leave)  # which would keep the model alive as long as the interpreter

    def stop(self, timeout: float | None = 60.0) -> None:
        """Stop after the step in progress and wait for it. Raises the error that ended the run, if one did."""
        self._stopping.set()
        self.wait(timeout)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the thread ends. Raises its error, and TimeoutError if it is still running after `timeout` s."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"the run is still going after {timeout} s")
        if self.error is not None:
            raise self.error

    def _leave(self) -> None:
        """At the interpreter's end: a thread that is still inside torch would crash it."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(30.0)

    def change(self, **changes) -> None:
        """Alter settings from the next step on, such as `balance` or `bias_gamma`.

        Raises ValueError for a setting that does not exist or cannot change during a run.
        """
        for name in ("optimizer", "lr", "table_rate", "weight_decay", "steps", "cpu_seconds"):
            if name in changes:
                raise ValueError(f"{name} is fixed when the run begins; make another run to change it")
        if not hasattr(self.trainer.settings, "changed"):
            raise ValueError(f"{', '.join(changes)}: a {type(self.trainer).__name__} keeps its settings to the end")
        with self._between_steps:
            self.trainer.settings = self.trainer.settings.changed(**changes)
