"""ContextExplorer: how fast rotary pairs turn, what YaRN does to them, and what the model still finds in long rows.

Two views of one question, how far a model can read. The first holds the wavelength of every rotary pair against the
trained length; the sliders are YaRN's. The second is the retrieval map: recorded maps, and one measured at a press on
the reader's own model, stretched as the sliders say and not trained further.

A measurement takes seconds, so it runs on a thread of its own and can be stopped; callbacks may arrive on yet another
thread (JupyterLab uses subshells). Hence the lock, which is never held while the model computes.

How the production version differs: a map at 128K tokens takes a GPU for hours, so it is recorded only.
"""

import threading

import ipywidgets as widgets

from minimoe import V3
from minimoe.inference.retrieval import Needles, RetrievalMap, retrieval
from minimoe.inference.wavelengths import rotary_pairs, trained_tokens
from minimoe.training.context import plain_config, rebuild, yarn_config
from minimoe_widgets import context_words as words
from minimoe_widgets.context_figure import ContextFigure
from minimoe_widgets.context_twin import angles_twin, retrieval_twin
from minimoe_widgets.fit import fitted
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["ContextExplorer"]

VIEWS = {"How fast pairs turn": "angles", "What is still found": "retrieval"}
HINTS = {
    "angles": "move the factor to 1 and look for the pairs above the trained length, then stretch them.",
    "retrieval": "press Measure; then set mscale to 0 and press again: same angles, a flatter softmax.",
}
FACTORS, SLOW, SHARP = (1, 2, 4, 8, 16, 32, 40), (0.25, 0.5, 1, 2, 4), (0, 0.5, 0.707, 1, 1.5, 2, 3)
DEPTHS, TRIALS, LONGEST = (0.0, 0.25, 0.5, 0.75, 1.0), 8, 2048
LIVE = "measured here"
NO_MSCALE = 1e-12  # a config takes 0 for "not given"


class ContextExplorer(widgets.VBox):
    """Wavelengths of `model`'s rotary pairs under YaRN, and its retrieval map, recorded and live.

    Takes a `minimoe.Transformer` of any shape, extended or not; with a `tokenizer` haystacks are letters, capitals and
    digits, without one they are ids. `recorded`: maps by name. `view` is where it opens, "angles" or "retrieval".
    Raises `ValueError` for an unknown view, and for a vocabulary too small for a haystack. Chapter 06.
    """

    def __init__(self, model, tokenizer=None, recorded: dict[str, RetrievalMap] | None = None, view: str = "angles"):
        if view not in VIEWS.values():
            raise ValueError(f"view={view!r} is not one of {', '.join(VIEWS.values())}")
        self.model, self.recorded = model, dict(recorded or {})
        config = model.config
        self._needles = Needles.from_tokenizer(tokenizer) if tokenizer else Needles.from_vocabulary(config.vocab_size)
        self._lock, self._thread, self._stop = threading.RLock(), None, False
        self.trained = trained_tokens(config)
        wanted = [round(self.trained * times) for times in (0.5, 1, 2, 4, 8)]
        self.lengths = [n for n in wanted if 18 <= n <= LONGEST] or [64, 512, LONGEST]
        self._live: list[list[int | None]] = []
        self._live_name = ""
        self.figure = ContextFigure()
        self._build(config.rope_scaling or {})
        self.view = widgets.ToggleButtons(options=VIEWS, value=view, style={"button_width": "auto"})
        self.hint, self.title, self.notice = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.title.add_class("minimoe-title")
        self.panel = widgets.Box(layout={"flex_flow": "row wrap", "align_items": "center", "width": "100%"})
        super().__init__([self.view, self.hint, self.panel, self.title, fitted(self.figure), self.notice])
        for control in (self.view, self.base, self.factor, self.fast, self.slow, self.sharp, self.shown):
            control.observe(self._on_change, "value")
        self.button.on_click(self._on_press)
        self._show()

    def _build(self, scaling: dict):
        factors = sorted({*FACTORS, scaling.get("factor", 8)})
        slow = scaling.get("beta_slow", 1)
        self.base = _fits(widgets.Dropdown(options={"this model": self.model.config, "DeepSeek-V3": V3}))
        self.base.description = "Pairs of"
        self.factor = _slider("Factor", [(f"{f:g}", f) for f in factors], scaling.get("factor", 8))
        self.fast = _slider("Kept from (turns)", range(1, 65), min(64, max(1, round(scaling.get("beta_fast", 32)))))
        self.slow = _slider("Slowed below", [(f"{s:g}", s) for s in sorted({*SLOW, slow})], slow)
        sharp = scaling.get("mscale_all_dim", 1.0)
        self.sharp = _slider("mscale", [(f"{m:g}", m) for m in sorted({*SHARP, sharp})], sharp)
        names = [*self.recorded, LIVE]
        self.shown = _fits(widgets.Dropdown(options=names, value=names[0], description="Map"))
        self.button = widgets.Button(description="Measure", layout={"width": "110px"})

    def _on_change(self, change):
        with self._lock:
            if change["owner"] in (self.factor, self.fast, self.slow) and self.slow.value > self.fast.value:
                self._say(f"{self.slow.value:g} turns are more than {self.fast.value}: the ramp would fall. Not drawn.")
                return
            self._show()

    def stretched(self, config):
        """`config` without the YaRN that it came with, and with the sliders'."""
        plain = plain_config(config)
        if self.factor.value == 1:
            return plain
        return yarn_config(
            plain, self.factor.value, self.fast.value, self.slow.value, self.sharp.value or NO_MSCALE
        )

    def _show(self):
        view = self.view.value
        stretch = [self.factor, self.fast, self.slow]
        mine = [self.base] if view == "angles" else [self.shown, self.button]
        self.panel.children = [*mine, *stretch] if view == "angles" else [*mine, *stretch, self.sharp]
        self.hint.value = said(f"Try first: {HINTS[view]}")
        if view == "angles":
            self.figure.show_angles(rotary_pairs(self.stretched(self.base.value)))
        elif self.shown.value == LIVE:
            shares = [[None if n is None else n / TRIALS for n in row] for row in self._live]
            shares = shares or [[None] * len(DEPTHS) for _ in self.lengths]
            self.figure.show_retrieval(self.lengths, DEPTHS, shares, self.trained)
        else:
            found = self.recorded[self.shown.value]
            self.figure.show_retrieval(found.lengths, found.depths, found.accuracy, self.trained)
        self.title.value = said(self._words(view)[0], bold=True)
        self._say("" if view == "angles" else f"Chance, for a model that knows the form: {self._needles.chance:.0%}.")

    def _shown_map(self) -> tuple[str, RetrievalMap | None]:
        """Name and map of what the retrieval view shows; None while a measurement is not complete."""
        if self.shown.value != LIVE:
            return self.shown.value, self.recorded[self.shown.value]
        if not self._live or None in (n for row in self._live for n in row):
            return self._live_name, None
        counts = tuple(map(tuple, self._live))
        return self._live_name, RetrievalMap(tuple(self.lengths), DEPTHS, counts, TRIALS)

    def _words(self, view: str) -> tuple[str, str]:
        """Title and alt text of a view."""
        if view == "angles":
            pairs = rotary_pairs(self.stretched(self.base.value))
            return words.angles_title(pairs), words.angles_alt(pairs)
        name, found = self._shown_map()
        if found is None:
            cells = sum(n is not None for row in self._live for n in row)
            count = len(self.lengths) * len(DEPTHS)
            title = f"{name}: {cells} of {count} cells measured" if self._live else "Not measured yet: press Measure"
            return title, title
        return words.retrieval_title(name, found, self.trained), words.retrieval_alt(name, found, self.trained)

    def _say(self, notice: str):
        self.notice.value = said(notice)

    def _on_press(self, _button):
        with self._lock:
            if self.measuring:
                self._stop = True
                return
            if self.slow.value > self.fast.value:
                return
            config = self.stretched(self.model.config)
            factor = self.factor.value
            told = f"YaRN x{factor:g}, mscale {self.sharp.value:g}, not trained further"
            self._live_name = told if factor > 1 else "No YaRN"
            self._live = [[None] * len(DEPTHS) for _ in self.lengths]
            self._stop, self.button.description = False, "Stop"
            self.shown.value = LIVE
            self._thread = threading.Thread(target=self._measure, args=(config,), daemon=True)
            self._show()
            self._thread.start()

    @property
    def measuring(self) -> bool:
        """Whether a measurement is under way."""
        return self._thread is not None and self._thread.is_alive()

    def _measure(self, config):
        def on_cell(row, column, right):
            with self._lock:
                self._live[row][column] = right
                if self.view.value == "retrieval" and self.shown.value == LIVE:
                    self._show()
            return not self._stop

        try:
            retrieval(rebuild(self.model, config), self._needles, self.lengths, DEPTHS, TRIALS, on_cell=on_cell)
        except Exception as error:  # a thread has no cell to show its error in
            with self._lock:
                self._say(f"The measurement failed: {error}")
        finally:
            self.button.description = "Measure"

    def wait(self, seconds: float | None = None) -> None:
        """Return when the measurement under way is over."""
        if self._thread is not None:
            self._thread.join(seconds)

    def static(self, view: str | None = None) -> Twin:
        """The same state (or the other view of it) as a matplotlib figure that needs no kernel.

        Raises `ValueError` for an unknown view, and for a map that is not measured yet.
        """
        view = view or self.view.value
        if view not in VIEWS.values():
            raise ValueError(f"view={view!r} is not one of {', '.join(VIEWS.values())}")
        with self._lock:
            title, alt = self._words(view)
            if view == "angles":
                return angles_twin(rotary_pairs(self.stretched(self.base.value)), title, alt)
            found = self._shown_map()[1]
            if found is None:
                raise ValueError(f"there is no map to draw: {title}")
            return retrieval_twin(found, self.trained, title, alt)

    def alt_text(self, view: str | None = None) -> str:
        """The picture in words."""
        with self._lock:
            return self._words(view or self.view.value)[1]

    def __repr__(self) -> str:
        return "ContextExplorer (live: run this cell in Jupyter; the figure below shows the same state)"


def _slider(name, options, value):
    layout = {"width": "300px", "max_width": "100%"}
    style = {"description_width": "auto"}
    return widgets.SelectionSlider(options=list(options), value=value, description=name, layout=layout, style=style)


def _fits(dropdown):
    dropdown.style.description_width = "auto"
    dropdown.layout.width = "auto"
    return dropdown
