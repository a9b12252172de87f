"""RefusalExplorer: fine-tune a refusal away, read what is said at every step, and set a guard's threshold.

Two views. In the first the reader chooses documents and a rate, a thread makes the steps, and a slider scrubs over
those that are made. In the second a guard scores the same requests, and a rule on answers reads what the tuned model
says. Shares, scores and rules are `minimoe.rl.refusal`'s and `minimoe.rl.guard`'s.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), and so does the picture
of a run under way, hence the lock; a step is never made under it.

How the production version differs: a fine-tuning service shows a loss, and nobody asks what else was changed.
"""

import contextlib
import threading
import weakref

import ipywidgets as widgets

from minimoe.rl.guard import WordGuard
from minimoe.rl.refusal import ASKED
from minimoe.training import BackgroundRun
from minimoe_widgets import refusal_controls as controls
from minimoe_widgets import refusal_words as words
from minimoe_widgets.fit import fitted
from minimoe_widgets.refusal_figure import RefusalFigure
from minimoe_widgets.refusal_guard import Reading, trained_guard
from minimoe_widgets.refusal_run import Recipe, Tuning, first_below_half, forbidden_groups, telling
from minimoe_widgets.refusal_twin import guard_twin, tuning_twin
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["RefusalExplorer"]

PAUSE_S, STOP_S = 0.2, 10.0
_running: "weakref.WeakSet[RefusalExplorer]" = weakref.WeakSet()


class RefusalExplorer(widgets.VBox):
    """Fine-tuning of `model` (left as it is) on a few documents: refused, leaked and answers by step; and a guard.

    `kind`, `documents`, `lr` and `steps` are the run it opens with, which is made at once; `seed` draws documents and
    their order. `asked`: requests by group, each group forbidden or not, as `minimoe.rl.refusal.ASKED`. `watch`: a
    guard for the second view, else one is trained on 50 labelled requests. `view`: "tuning" or "guard". Raises
    ValueError for a value that is none of these, for a vocabulary that the model does not have, and for a group that
    mixes forbidden and harmless requests. Chapter 13.
    """

    def __init__(self, model, tokenizer, kind: str = "harmless", documents: int = 4, lr: float = 1e-3, steps: int = 12,
                 seed: int = 1, asked: dict[str, list[str]] | None = None, watch: WordGuard | None = None,
                 view: str = "tuning"):  # fmt: skip
        self._check(model, tokenizer, steps, view)
        self.model, self.tokenizer, self.seed = model, tokenizer, seed
        self.asked = {name: list(prompts) for name, prompts in (ASKED if asked is None else asked).items()}
        self.forbidden = forbidden_groups(self.asked)
        if not any(self.forbidden.values()):
            raise ValueError(f"no group of {', '.join(self.asked) or 'none'} is forbidden: nothing is to be refused")
        self.guard = Reading(watch or trained_guard(), self.asked, self.forbidden)
        self._lock, self._quiet, self._closed = threading.RLock(), False, False
        self._background: BackgroundRun | None = None
        self._before: Tuning | None = None
        self.runs: dict[Recipe, Tuning] = {}
        recipe = Recipe(kind, documents, lr)
        self.shown = self.runs[recipe] = self._tuning(recipe, steps)
        while not self.shown.done:
            self.shown.step()
        self._build(recipe, steps, view)
        super().__init__(self._arrange())
        self._open()
        self._observe()

    def _tuning(self, recipe: Recipe, goal: int) -> Tuning:
        return Tuning(self.model, self.tokenizer, self.asked, recipe, goal, self.seed)

    @staticmethod
    def _check(model, tokenizer, steps, view):
        controls.check_view(view)
        if steps < 0:
            raise ValueError(f"steps={steps}: needs 0 or more")
        if tokenizer.vocab_size > model.config.vocab_size:
            sizes = f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}"
            raise ValueError(f"{sizes}: they do not belong together")

    def _build(self, recipe, steps, view):
        risky = next(name for name, forbidden in self.forbidden.items() if forbidden)
        self._risky, last = risky, len(self.shown.records) - 1
        self.view = widgets.ToggleButtons(options=controls.VIEWS, value=view, style={"button_width": "auto"})
        self.kind = controls.dropdown("Set", controls.KIND_NAMES, recipe.kind)
        self.documents = controls.choice("Documents", controls.COUNTS, recipe.documents)
        self.rate = controls.choice("Learning rate", controls.RATES, recipe.lr)
        self.steps = controls.choice("Steps to make", controls.STEPS, steps)
        self.button = widgets.Button(description="Run", icon="play", layout={"width": "90px"})
        first = first_below_half(self.shown.records, risky)
        self.step = widgets.IntSlider(first or last, min=0, max=last, **controls.looks("Step", "420px"))
        self.group = controls.dropdown("Requests", list(self.asked), risky)
        self.request = controls.dropdown("Answers to", [], None)
        self.threshold = widgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.01, **controls.looks("Threshold", "420px"))
        self.hint, self.title, self.below, self.table, self.notice = (widgets.HTML() for _ in range(5))
        self.figure = RefusalFigure(list(self.asked))
        self.title.add_class("minimoe-title")

    def _arrange(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%", "overflow": "visible"}
        self._make = widgets.Box([self.kind, self.documents, self.rate, self.steps, self.button], layout=flow)
        self._pick = widgets.Box([self.group, self.request], layout=flow)
        above = [self.view, self.hint, self._make, self.notice, self.threshold, self.step, self.title]
        return [*above, fitted(self.figure), self._pick, self.below, self.table]

    def _observe(self):
        for each in (self.kind, self.documents, self.rate):
            each.observe(self._guarded(self._choose), "value")
        self.group.observe(self._guarded(self._fill_requests), "value")
        for each in (self.step, self.request, self.threshold):
            each.observe(self._guarded(self._show), "value")
        self.view.observe(self._guarded(lambda: (self._show(), self._say(self._state()))), "value")
        self.button.on_click(self._guarded(self._on_press))

    def _guarded(self, act):
        """`act` under the lock; what it raises is said in the explorer, since a callback has nobody to raise to."""

        def call(_):
            with self._lock:
                if self._quiet or self._closed:
                    return
                try:
                    act()
                except Exception as error:
                    self._say(f"{type(error).__name__}: {error}")

        return call

    @contextlib.contextmanager
    def _quietly(self):
        """Controls are set without their callbacks."""
        self._quiet, before = True, self._quiet
        try:
            yield
        finally:
            self._quiet = before

    def _open(self):
        """The first picture."""
        self._fill_requests(show=False)
        with self._quietly():
            self.request.value = telling(self.shown, self._risky)
        self._show()
        self._say(self._state())

    def _fill_requests(self, show: bool = True):
        with self._quietly():
            prompts = self.asked[self.group.value]
            self.request.options = [(prompt, place) for place, prompt in enumerate(prompts)]
            self.request.value = 0
        if show:
            self._show()

    @property
    def recipe(self) -> Recipe:
        """What the controls say."""
        return Recipe(self.kind.value, self.documents.value, self.rate.value)

    @property
    def running(self) -> bool:
        """Whether steps are being made."""
        return self._background is not None and self._background.running

    def _choose(self):
        """Other documents or another rate: show that run, if it was made."""
        run = self.runs.get(self.recipe)
        if run is not None and run.records:
            self._turn_to(run)
        self._say(self._state())

    def _turn_to(self, run: Tuning):
        if run is not self.shown:
            self._before, self.shown = self.shown, run
        self._refresh(newest=False)

    def _on_press(self):
        if self.running:
            self._halt()
        else:
            self._start()

    def _start(self):
        for other in list(_running):
            if other is not self:
                other._halt()
        run = self.runs.get(self.recipe) or self._tuning(self.recipe, self.steps.value)
        run.records = run.records or self.shown.records[:1]  # before any step all runs are the same
        run.goal = max(run.goal, self.steps.value)
        if run.done:
            self._turn_to(run)
            return self._say(f"{run.recipe}: {len(run.records) - 1} steps are made already. {self._state()}")
        for other in self.runs.values():
            if other is not run:
                other.release()
        self.runs[run.recipe] = run
        self._turn_to(run)
        self._background = BackgroundRun.around(run).start()
        self.button.description, self.button.icon = "Stop", "stop"
        self.step.value = self.step.max
        _running.add(self)
        threading.Thread(target=self._follow, args=(self._background,), name="minimoe explorer", daemon=True).start()

    def _halt(self):
        """Stop after the step in progress. What ended the run is in its `error`."""
        with contextlib.suppress(Exception):
            self._background.stop(timeout=STOP_S)

    def _follow(self, background):
        """Draw while the run goes on, a few times a second, and once after it."""
        wait = threading.Event()
        while background.running and not self._closed:
            wait.wait(PAUSE_S)
            self._guarded(self._refresh)(None)
        self._guarded(self._end)(None)

    def _end(self):
        self._refresh()
        if not self.running:
            self.button.description, self.button.icon = "Run", "play"
            _running.discard(self)
        self._say(self._state())

    def _refresh(self, newest: bool = True):
        """Take the steps that were made since. Who looks at the newest step is taken along."""
        last = len(self.shown.records) - 1
        with self._quietly():
            follows = newest and self.step.value == self.step.max
            self.step.max = last
            if follows:
                self.step.value = last
        self._show()
        if self.running:
            self._say(self._state())

    def _state(self) -> str:
        """Where things stand."""
        error = getattr(self._background, "error", None)
        if error is not None:
            return f"The run ended with {type(error).__name__}: {error}"
        if self.running:
            run = self._background.trainer
            slow = f"; {self._background.message}" if self._background.message else ""
            return f"Fine-tuning on {run.recipe}: step {len(run.records) - 1} of {run.goal}{slow}."
        if self.view.value == "guard":  # what is said about curves belongs to the other view
            return ""
        return words.state(self.shown, self._before, self.recipe, self._risky)

    def _show(self):
        view, step = self.view.value, self.step.value
        for part in (self._make, self._pick, self.table):
            part.layout.display = None if view == "tuning" else "none"
        self.threshold.layout.display = None if view == "guard" else "none"
        self.hint.value = said(f"Try first: {controls.HINTS[view]}")
        self.title.value = said(self._title(view), bold=True)
        if view == "tuning":
            shares = {name: self.shown.shares(name) for name in self.asked}
            before = self._before and {name: self._before.shares(name)[0] for name in self.asked}
            self.figure.show_tuning(shares, before, step)
            self.below.value = words.answers_html(self.shown, self.group.value, self.request.value, step)
            self.table.value = words.runs_html([r for r in self.runs.values() if r.records], self._risky)
        else:
            limit = self.threshold.value
            self.figure.show_guard(self.guard.scores, self.guard.wrong(limit), self.asked, limit)
            self.below.value = said(self._rule()) + self.guard.html(limit)

    def _rule(self) -> str:
        return self.guard.rule(self.shown.records[self.step.value], self.step.value)

    def _title(self, view: str) -> str:
        if view == "tuning":
            return words.tuning_title(self.shown, self.step.value, self.forbidden)
        return self.guard.title(self.threshold.value)

    def _say(self, text: str):
        value = said(text)
        if value != self.notice.value:  # a screen reader reads it out each time it is set
            self.notice.value = value

    def wait(self, seconds: float | None = None) -> None:
        """Return when the run under way is over."""
        if self._background is not None:
            self._background.wait(seconds)

    def static(self, view: str | None = None) -> Twin:
        """The same state, or the other view of it, as a matplotlib figure that needs no kernel.

        Raises ValueError for an unknown view.
        """
        view = controls.check_view(view or self.view.value)
        with self._lock:
            title, alt, limit = self._title(view), self.alt_text(view), self.threshold.value
            if view == "tuning":
                return tuning_twin(self.shown, self.step.value, (self.group.value, self.request.value), title, alt)
            return guard_twin(self.guard.scores, self.guard.wrong(limit), limit, self._rule(), title, alt)

    def alt_text(self, view: str | None = None) -> str:
        """The picture in words."""
        with self._lock:
            if (view or self.view.value) == "guard":
                return self.guard.alt(self.threshold.value, self._rule())
            request = self.group.value, self.request.value
            return words.tuning_alt(self.shown, self.step.value, self.forbidden, request)

    def close(self):
        """Stop a run under way and take the widget off the page."""
        self._closed = True
        if getattr(self, "_background", None) is not None:  # a widget is closed also when its making failed
            self._halt()
        super().close()

    def __repr__(self) -> str:
        return "RefusalExplorer (live: run this cell in Jupyter; the figure below shows the same state)"
