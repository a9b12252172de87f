"""The training behind BalanceExplorer: one model, started, stopped, switched, begun anew, while its cell is long done.

`minimoe.training.BackgroundRun` makes the steps in a thread; this keeps the stream of what it records and the marks of
what the reader changed. One such run trains at a time: two on one core would each show half the pace, and a cell that
is run again leaves its old explorer behind, with a thread that nobody could stop any more.

How the production version differs: nobody switches the balancing of a running job by hand; the switch would be a new
run from a checkpoint.
"""

import contextlib
import copy
import threading
import weakref
from dataclasses import replace

from minimoe import NANO, ModelConfig, Transformer
from minimoe.training import BackgroundRun, Batches, Settings
from minimoe_widgets.balance_stream import Stream
from minimoe_widgets.balance_words import change_label

__all__ = ["STEPS", "LiveRun", "default_config", "live_settings"]

STEPS = 20_000  # half an hour at ten steps a second: longer than anyone watches
STOP_S = 10.0
_opened: "weakref.WeakSet[LiveRun]" = weakref.WeakSet()


def default_config(vocabulary: int) -> ModelConfig:
    """NANO without its MTP module: about ten steps of 8 x 64 tokens a second on one core."""
    return replace(NANO, num_nextn_predict_layers=0, vocab_size=max(NANO.vocab_size, vocabulary))


def live_settings(**changes) -> Settings:
    """Settings of a run without an end in sight: a short warm-up, then a constant rate; the biases move throughout."""
    values = {"steps": STEPS, "warmup": 10 / STEPS, "hold": 1.0, "bias_until": 1.0, "balance": "none"}
    return Settings(**(values | {"bias_gamma": 0.02} | changes))


class LiveRun:
    """`start`, `stop`, `reset` and `change` of one background run, and its `stream`.

    Takes documents (lists of token ids), a `ModelConfig` or a `Transformer` (of which a copy is trained), settings, a
    seed, and the shape of a batch. Raises `ValueError` for a model that routes nothing, for an id outside its
    vocabulary, and for rows longer than its context. Opening a run stops every other one, and so does starting it.
    """

    def __init__(self, documents, model=None, settings=None, seed=0, sequences=8, row_tokens=64):
        vocabulary = 1 + max((max(document, default=0) for document in documents), default=0)
        self.origin = default_config(vocabulary) if model is None else model
        self.config = self.origin if isinstance(self.origin, ModelConfig) else self.origin.config
        if vocabulary > self.config.vocab_size:
            raise ValueError(f"the documents hold id {vocabulary - 1}, vocab_size is {self.config.vocab_size}")
        if row_tokens > self.config.max_position_embeddings:
            raise ValueError(f"row_tokens={row_tokens}; the context is {self.config.max_position_embeddings} tokens")
        self.settings, self.seed = settings or live_settings(), seed
        self.batches = Batches(documents, sequences, row_tokens, seed)
        self._lock = threading.RLock()
        self.reason = ""  # why the run stands still, if it was not the reader who stopped it
        self._begin()
        if not self.layers:
            raise ValueError(
                f"no layer routes (n_routed_experts={self.config.n_routed_experts}, "
                f"first_k_dense_replace={self.config.first_k_dense_replace}): there is nothing to balance"
            )
        self._stop_others("a newer explorer was opened")
        _opened.add(self)

    def _begin(self):
        """A fresh model, the first batch, an empty stream."""
        fresh = isinstance(self.origin, ModelConfig)
        self.model = Transformer(self.origin, seed=self.seed) if fresh else copy.deepcopy(self.origin).float()
        self.batches.go_to({"epoch": 0, "row": 0})
        self.run, self.stream = BackgroundRun(self.model, self.batches, self.settings), Stream()
        self.stream.mark(1, change_label(self.settings))

    def _stop_others(self, reason: str):
        for other in list(_opened):
            if other is not self and other.running:
                other.stop(reason)

    @property
    def layers(self) -> list[int]:
        """The layers that route, MTP modules included."""
        return sorted(self.model.routers())

    @property
    def running(self) -> bool:
        """Whether steps are being made."""
        return self.run.running

    @property
    def error(self) -> BaseException | None:
        """What ended the run, if not the reader."""
        return self.run.error

    @property
    def message(self) -> str | None:
        """What keeps the run from its usual pace: a busy machine."""
        return self.run.message

    def start(self) -> None:
        """Begin, or go on."""
        self._stop_others("another explorer was started")
        with self._lock:
            self.reason = ""
            self.run.start()

    def stop(self, reason: str = "") -> None:
        """Stop after the step in progress; an error of the run stays in `error`."""
        with self._lock:
            self.reason = reason
            with contextlib.suppress(Exception):  # its error is kept in `error`; a long step ends without our waiting
                self.run.stop(timeout=STOP_S)

    def reset(self) -> None:
        """Stop, and begin anew with the settings as they are now."""
        with self._lock:
            self.stop()
            self._begin()

    def change(self, **changes) -> None:
        """Alter settings from the next step on, and mark that step."""
        with self._lock:
            self.run.change(**changes)
            self.settings = self.run.trainer.settings
            label, last = change_label(self.settings), self.stream.marks[max(self.stream.marks)]
            if label != last:  # a slider of a mode that is off changes nothing yet
                self.stream.mark(self.run.trainer.steps + 1, label)

    def read(self) -> Stream:
        """The stream, with all steps made so far."""
        with self._lock:
            self.stream.extend(self.run.records[len(self.stream) :])
            return self.stream

    def pace(self, steps: int = 20) -> float:
        """Steps a second over the last `steps`; 0 before the second step."""
        last = self.run.records[-steps - 1 :]
        passed_s = last[-1]["wall_s"] - last[0]["wall_s"] if last else 0.0
        return (len(last) - 1) / passed_s if passed_s > 0 else 0.0
