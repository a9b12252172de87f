"""KernelTimings: how fast a kernel is, how fast it could be, and what the compiler made of it.

A roofline with the datasheet's roofs and, where a record says them, the measured ones; the recorded kernel and its
peers with their spread; registers, spills and shared memory beside it. A kernel without a record stands there as what
is known without a GPU: the least that it must move and compute, and what the simulator counted. That it is not
measured is said in words, and nothing estimated is drawn as a time. Where there is a GPU, a button has the bench time
the kernel on it and shows the record.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), and so does the end of
a measurement, hence the lock; nothing is timed under it.

How the production version differs: nobody ships the environment with the numbers; here a record without it is an error.
"""

import json
import threading
from pathlib import Path

import ipywidgets as widgets

from minimoe_kernels.resources import PATH as RESOURCES
from minimoe_kernels.sim import Counts, Session
from minimoe_kernels.timing_records import TIMINGS, read_records, regressions
from minimoe_widgets.fit import fitted
from minimoe_widgets.kernel_timings_bars import bars_html
from minimoe_widgets.kernel_timings_bounds import CASES, case_of, counted, key, reported
from minimoe_widgets.kernel_timings_figure import TimingsFigure
from minimoe_widgets.kernel_timings_run import Timer
from minimoe_widgets.kernel_timings_twin import draw_twin
from minimoe_widgets.kernel_timings_words import NOT_MEASURED, Picture, resource_table
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["KernelTimings"]

HINT = "choose mla_decode and go from 16 heads to 128: the point climbs. Does it reach the ridge?"
COMPILE = "torch.compile"


class KernelTimings(widgets.VBox):
    """Recorded times under their roofs, or bounds and counts where nothing is recorded.

    `kernel` and `shape` are where it opens (a shape may be a part of its name). `counted` is the reader's own
    arithmetic intensity: FLOPs a byte, a `sim.Session` or its `.total`, or a dict of these by name. `timings` is the
    folder of records, a folder for each GPU: it is read, and a measurement of the reader's is appended to it. `clock`
    times instead of the GPU's own (see `minimoe_kernels.bench.clock`). Raises `ValueError` for a kernel or shape that
    is not there, a count that moved nothing, or a record that cannot be true. Chapter 16.
    """

    def __init__(self, kernel: str = "mla_decode", shape: str | None = None, counted=None, timings=TIMINGS, clock=None):
        self._lock, self._quiet, self._closed = threading.RLock(), True, False
        self._counts, self._reports, self._unwritten = {}, {}, []
        self.records, self.timer = read_records(timings), Timer(timings, clock)
        self.own = _intensities(counted)
        report = json.loads(Path(RESOURCES).read_text())
        self._resources, self._triton = report["kernels"], report["triton"]
        self._build()
        self._choose(kernel, shape)
        super().__init__(self._arrange())
        for picker in (self.gpu, self.kernel, self.shape, self.dtype):
            picker.observe(self._on_pick, "value")
        self.run.on_click(self._on_run)
        self._quiet = False
        self._show()

    def _build(self):
        look = {"width": "auto", "max_width": "100%"}
        self.gpu, self.kernel, self.shape, self.dtype = (
            widgets.Dropdown(description=name, style={"description_width": "auto"}, layout=look)
            for name in ("Times of", "Kernel", "Shape", "Numbers")
        )
        self.run = widgets.Button(description="Run on my GPU", icon="play", layout={"width": "auto"})
        self.compile = widgets.Checkbox(True, description=f"{COMPILE} too (minutes)", indent=False, layout=look)
        self.run.disabled = bool(self.timer.lacks)
        self.title, self.badge, self.bars, self.state, self.report = (widgets.HTML() for _ in range(5))
        self.notice = widgets.HTML(said(self.timer.lacks), layout={"margin": "0 8px"})
        self.title.add_class("minimoe-title")
        self.badge.add_class("minimoe-badge")
        self.notice.add_class("minimoe-notice")
        self.figure = TimingsFigure()
        self._fill_gpus(None)

    def _arrange(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        pickers = widgets.Box([self.gpu, self.kernel, self.shape, self.dtype], layout=flow)
        running = widgets.Box([self.run, *([] if self.timer.lacks else [self.compile]), self.notice], layout=flow)
        plot = fitted(self.figure)
        plot.layout = {"flex": "2 1 360px", "width": "auto", "min_width": "0"}
        self.bars.layout = {"flex": "1 1 220px", "width": "auto", "min_width": "0", "margin": "0 8px"}
        pictures = widgets.Box([plot, self.bars], layout=flow | {"align_items": "flex-start"})
        hint = widgets.HTML(said(f"Try first: {HINT}"))
        return [hint, pickers, self.title, self.badge, pictures, self.state, running, self.report]

    def _fill_gpus(self, wanted):
        self._options(self.gpu, [*(record.gpu for record in self.records), NOT_MEASURED], wanted)

    def _all(self) -> dict:
        """{key: records, oldest first} of the chosen GPU, or {key: cases}."""
        mine = [record for record in self.records if record.gpu == self.gpu.value]
        found = {}
        for each in mine if self.gpu.value != NOT_MEASURED else CASES:
            found.setdefault(key(each), []).append(each)
        return found

    def _choose(self, kernel, shape):
        names = dict.fromkeys(found.kernel for found in (*CASES, *self.records))
        if kernel not in names:
            raise ValueError(f"kernel={kernel!r} is not one of {', '.join(names)}")
        fits = [at for at in self._all() if at[0] == kernel and (shape or "") in at[1]]
        if not fits:
            self.gpu.value = NOT_MEASURED
            fits = [at for at in self._all() if at[0] == kernel and (shape or "") in at[1]]
        if not fits:
            known = "; ".join(name for of, name, _ in self._all() if of == kernel)
            raise ValueError(f"shape={shape!r} is in none of: {known}")
        self._fill(*fits[0])

    def _fill(self, kernel, shape, dtype):
        """Give every picker what the pickers before it leave; keep what can be kept."""
        found = list(self._all())
        self._options(self.kernel, [name for name, _, _ in found], kernel)
        found = [at[1:] for at in found if at[0] == self.kernel.value]
        self._options(self.shape, [name for name, _ in found], shape)
        self._options(self.dtype, [name for of, name in found if of == self.shape.value], dtype)

    @staticmethod
    def _options(picker, names, wanted):
        names = list(dict.fromkeys(names))
        if list(picker.options) != names:
            picker.options = names
        picker.value = wanted if wanted in names else names[0]

    def _on_pick(self, _):
        with self._lock:
            if not self._quiet:
                self._turn_to(self.kernel.value, self.shape.value, self.dtype.value)

    def _turn_to(self, *wanted):
        self._quiet = True
        try:
            self._fill(*wanted)
        finally:
            self._quiet = False
        self._show()

    def _on_run(self, _):
        with self._lock:
            if self.timer.lacks or self.timer.running:
                return
            self.run.disabled = True
            leave_out = () if self.compile.value else (COMPILE,)
            self.timer.start(self.picture.case, leave_out, self._say, self._ended)

    def _say(self, text):
        with self._lock:
            if not self._closed:
                self.notice.value = said(text)

    def _ended(self, record, text):
        """From the timer's thread: show what was measured, or why nothing was."""
        with self._lock:
            if self._closed:
                return
            try:
                if record is not None:
                    self._add(record)
            except Exception as error:  # a callback has nobody to raise to
                text = f"{text} It cannot be shown: {type(error).__name__}: {error}"
            self._say(text)
            self.run.disabled = False

    def _add(self, record):
        found = read_records(self.timer.folder)
        if all(old.line != record.line for old in found):
            self._unwritten.append(record)
        self.records = [*found, *self._unwritten]
        self._quiet = True
        try:
            self._fill_gpus(record.gpu)
        finally:
            self._quiet = False
        self._turn_to(*key(record))

    @property
    def chosen(self):
        """The newest `Record` or the `Case` that is shown."""
        return self._all()[self.kernel.value, self.shape.value, self.dtype.value][-1]

    @property
    def picture(self) -> Picture:
        """Everything that is drawn and said."""
        at = self.kernel.value, self.shape.value, self.dtype.value
        *older, shown = self._all()[at]
        if self.gpu.value != NOT_MEASURED:
            slower = regressions([*older, shown])[len(regressions(older)) :]
            return Picture(case_of(shown, CASES), None, shown, self.own, len(older), "".join(slower))
        if at not in self._counts:
            self._counts[at] = counted(shown)
        return Picture(shown, self._counts[at], None, self.own)

    @property
    def compiled(self) -> dict:
        """The compiler's report of the launches shown: {launch: {arch: resources}}."""
        case = self.picture.case
        if key(case) not in self._reports:
            self._reports[key(case)] = reported(case, self._resources)
        return self._reports[key(case)]

    def _show(self):
        picture = self.picture
        self.figure.show(picture)
        self.title.value = said(picture.title(), bold=True)
        self.badge.value, self.state.value = said(picture.badge()), said(picture.state())
        self.bars.value = bars_html(picture)
        self.report.value = resource_table(self.compiled, self._triton, picture.record)

    def wait(self, seconds: float | None = None):
        """Return when a measurement under way is over."""
        self.timer.wait(seconds)

    def close(self):
        """Take the widget off the page. A measurement under way goes on, and its record is written."""
        self._closed = True
        super().close()

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
