"""KernelTimings: how fast a kernel is, how fast it could be, and what the compiler made of it.

A roofline with the datasheet's roofs and, where a record says them, the measured ones; the recorded kernel and its
peers with their spread; registers, spills and shared memory beside it. A kernel without a record stands there as what
is known without a GPU: the least that it must move and compute, and what the simulator counted. That it is not
measured is said in words, and nothing estimated is drawn as a time.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: nobody ships the environment with the numbers; here a record without it is an error.
"""

import json
import threading
from pathlib import Path

import ipywidgets as widgets

from minimoe_kernels.resources import PATH as RESOURCES
from minimoe_kernels.sim import Counts, Session
from minimoe_kernels.timing_records import TIMINGS, latest, read_records
from minimoe_widgets.fit import fitted
from minimoe_widgets.kernel_timings_bounds import CASES, counted
from minimoe_widgets.kernel_timings_figure import TimingsFigure
from minimoe_widgets.kernel_timings_twin import draw_twin
from minimoe_widgets.kernel_timings_words import NOT_MEASURED, Picture, resource_table
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["KernelTimings"]

HINT = "choose mla_decode and go from 16 heads to 128: the point climbs. Does it reach the ridge?"


class KernelTimings(widgets.VBox):
    """Recorded times under their roofs, or bounds and counts where nothing is recorded.

    `kernel` and `shape` are where it opens (a shape may be a part of its name). `counted` is the reader's own
    arithmetic intensity: FLOPs a byte, a `sim.Session` or its `.total`, or a dict of these by name. `timings` is the
    folder of records, a folder for each GPU. Raises `ValueError` for a kernel or shape that is not there, a count that
    moved nothing, or a record that cannot be true. Chapter 16.
    """

    def __init__(self, kernel: str = "mla_decode", shape: str | None = None, counted=None, timings=TIMINGS):
        self._lock, self._quiet, self._counts = threading.RLock(), True, {}
        self.records = latest(read_records(timings))
        self.own = _intensities(counted)
        report = json.loads(Path(RESOURCES).read_text())
        self._resources, self._triton = report["kernels"], report["triton"]
        self._build()
        self._choose(kernel, shape)
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        pickers = widgets.Box([self.gpu, self.kernel, self.shape, self.dtype], layout=flow)
        self.figure, self.title, self.badge = TimingsFigure(), widgets.HTML(), widgets.HTML()
        self.state, self.report = widgets.HTML(), widgets.HTML()
        self.title.add_class("minimoe-title")
        self.badge.add_class("minimoe-badge")
        hint = widgets.HTML(said(f"Try first: {HINT}"))
        super().__init__([hint, pickers, self.title, self.badge, fitted(self.figure), self.state, self.report])
        for picker in (self.gpu, self.kernel, self.shape, self.dtype):
            picker.observe(self._on_pick, "value")
        self._quiet = False
        self._show()

    def _build(self):
        gpus = list(dict.fromkeys(record.gpu for record in self.records))
        self.gpu, self.kernel, self.shape, self.dtype = (
            widgets.Dropdown(description=name, style={"description_width": "auto"}, layout={"width": "auto"})
            for name in ("Times of", "Kernel", "Shape", "Numbers")
        )
        self.gpu.options = [*gpus, NOT_MEASURED]
        self.gpu.value = self.gpu.options[0]

    def _all(self):
        """What the chosen GPU has: its records, or the formulas."""
        mine = [record for record in self.records if record.gpu == self.gpu.value]
        return mine if self.gpu.value != NOT_MEASURED else list(CASES)

    def _choose(self, kernel, shape):
        names = dict.fromkeys(found.kernel for found in (*self.records, *CASES))
        if kernel not in names:
            raise ValueError(f"kernel={kernel!r} is not one of {', '.join(names)}")
        if kernel not in {found.kernel for found in self._all()}:
            self.gpu.value = NOT_MEASURED
        self._fill(kernel)
        if shape is not None:
            fits = [name for name in self.shape.options if shape in name]
            if not fits:
                raise ValueError(f"shape={shape!r} is in none of: {'; '.join(self.shape.options)}")
            self.shape.value = fits[0]
            self._fill(kernel, fits[0])

    def _fill(self, kernel=None, shape=None):
        """Give every picker what the pickers before it leave; keep what can be kept."""
        found = self._all()
        self._options(self.kernel, [f.kernel for f in found], kernel)
        found = [f for f in found if f.kernel == self.kernel.value]
        self._options(self.shape, [f.shape for f in found], shape)
        self._options(self.dtype, [f.dtype for f in found if f.shape == self.shape.value], self.dtype.value)

    @staticmethod
    def _options(picker, names, wanted):
        names = list(dict.fromkeys(names))
        if list(picker.options) != names:
            picker.options = names
        picker.value = wanted if wanted in names else names[0]

    def _on_pick(self, _):
        with self._lock:
            if self._quiet:
                return
            self._quiet = True
            try:
                self._fill(self.kernel.value, self.shape.value)
            finally:
                self._quiet = False
            self._show()

    @property
    def chosen(self):
        """The `Record` or the `Case` that is shown."""
        want = self.kernel.value, self.shape.value, self.dtype.value
        return next(f for f in self._all() if (f.kernel, f.shape, f.dtype) == want)

    @property
    def picture(self) -> Picture:
        """Everything that is drawn and said."""
        shown = self.chosen
        if self.gpu.value != NOT_MEASURED:
            return Picture(None, None, shown, self.own)
        if shown not in self._counts:
            self._counts[shown] = counted(shown)
        return Picture(shown, self._counts[shown], None, self.own)

    @property
    def compiled(self) -> dict:
        """The compiler's report of the launches shown: {launch: {arch: resources}}."""
        shown = self.chosen
        words = getattr(shown, "resources", None)
        words = words or next((case.resources[:1] for case in CASES if case.kernel == shown.kernel), None)
        if words is None:
            return {}
        return {n: by for n, by in self._resources.items() if n.startswith(words[0]) and all(w in n for w in words)}

    def _show(self):
        picture = self.picture
        self.figure.show(picture)
        self.title.value = said(picture.title(), bold=True)
        self.badge.value, self.state.value = said(picture.badge()), said(picture.state())
        self.report.value = resource_table(self.compiled, self._triton)

    def static(self) -> Twin:
        """The same state as a matplotlib figure that needs no kernel."""
        with self._lock:
            return draw_twin(self.picture)

    def alt_text(self) -> str:
        """The picture in words."""
        with self._lock:
            return self.picture.alt()

    def __repr__(self) -> str:
        return "KernelTimings (live: run this cell in Jupyter; the figure below shows the same state)"


def _intensities(own) -> dict:
    """{name: FLOPs a byte} of whatever the reader handed in."""
    named = own if isinstance(own, dict) else {} if own is None else {"yours": own}
    return {str(name): _intensity(name, value) for name, value in named.items()}


def _intensity(name, value) -> float:
    value = value.total if isinstance(value, Session) else value
    value = value.intensity if isinstance(value, Counts) else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"counted, {name}: {value!r} is no count of FLOPs a byte above 0 (a number, or a sim.session)")
    return float(value)
