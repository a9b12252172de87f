"""FP8Explorer: a matrix in FP8, who shares its scales, its bits, and what adding up in 14 bits costs.

Two views. "Scales and bits": one matrix, three choices of who shares a scale, and an outlier that grows; an element is
chosen on a map and its byte is taken apart. "Adding up": the error of dot products by their length and by how often
partial sums go to float32. All numbers are of the very matrix shown, or of a seeded draw that is named.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: see `minimoe.training.fp8_product` for the arithmetic. No tool shows bytes.
"""

import threading

import ipywidgets as widgets

from minimoe_widgets.fp8_bits import FORMATS
from minimoe_widgets.fp8_canvas import FP8Canvas
from minimoe_widgets.fp8_curve import curve
from minimoe_widgets.fp8_scales import KINDS, activations, checked, scale_all, with_outlier
from minimoe_widgets.fp8_sums import DRAWS, INTERVALS, LENGTHS, PAPER_INTERVAL
from minimoe_widgets.fp8_twin import scales_twin, sums_twin
from minimoe_widgets.fp8_words import ScalesPicture, SumsPicture
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["FP8Explorer"]

VIEWS = {"Scales and bits": "scales", "Adding up": "sums"}
HINTS = {
    "scales": "guess which map changes least when the outlier grows to 1,048,576, then move the slider there.",
    "sums": "move K from 128 to 4,096: the error in one piece grows. Does it at the interval of 128?",
}
FACTORS = tuple(2**n for n in range(21))
ALIGNED = {"aligned with the products": True, "added unaligned": False}


class FP8Explorer(widgets.VBox):
    """A matrix in FP8 three ways, the bits of each element, and the error of limited accumulation.

    `x_XZ`: float32 tensor or array of two axes, up to 256 x 1024; without one, a seeded draw of 16 x 384 that is made
    like activations. Its largest magnitude is the outlier, multiplied by `factor` (a power of two up to 2^20).
    `format`: "e4m3" or "e5m2". `scales`: "float32", "powers of two", or "float32, stale" (made before the outlier
    grew). `length` and `interval` are where the second view opens. `view`: "scales" or "sums".
    Raises ValueError for a matrix or a setting that cannot be shown.
    Source: arXiv 2412.19437 section 3.3.2; arXiv 2505.09343 section 3.1.1. Chapter 17.
    """

    def __init__(
        self, x_XZ=None, factor: int = 1024, format: str = "e4m3", scales: str = "float32",
        length: int = LENGTHS[-1], interval: int = PAPER_INTERVAL, view: str = "scales",
    ):  # fmt: skip
        for name, value, options in (
            ("factor", factor, FACTORS), ("format", format, FORMATS), ("scales", scales, KINDS),
            ("length", length, LENGTHS), ("interval", interval, INTERVALS), ("view", view, VIEWS.values()),
        ):  # fmt: skip
            if value not in options:
                raise ValueError(f"{name}={value!r}: one of {', '.join(map(str, options))}")
        self._x_XZ = activations() if x_XZ is None else checked(x_XZ)
        self._outlier = divmod(int(self._x_XZ.abs().argmax()), self._x_XZ.shape[1])
        self._lock, self._last = threading.RLock(), None
        self._build(factor, format, scales, length, interval, view)
        super().__init__([self.view, self.hint, self.panel, self.stage, self.notice])
        self._show()
        for control in (self.view, self.factor, self.format, self.scales, self.length, self.interval):
            control.observe(self._on_change, "value")
        for control in (self.draw, self.aligned):
            control.observe(self._on_change, "value")
        self.canvas.observe(self._on_at, "at")

    def _build(self, factor, format, scales, length, interval, view):
        wide = {"width": "340px", "max_width": "100%"}
        self.view = widgets.ToggleButtons(options=VIEWS, value=view, style={"button_width": "auto"})
        self.factor = _slider("Outlier times", FACTORS, factor, wide)
        self.format = _choice("Format", tuple(FORMATS), format)
        self.scales = _choice("Scales", tuple(KINDS), scales)
        self.length = _slider("Length K of the sum", LENGTHS, length, wide)
        self.interval = _slider("Promoted every", INTERVALS, interval, wide)
        self.draw = _choice("Numbers", tuple(DRAWS), "bell-shaped")
        self.aligned = _choice("Sum so far", ALIGNED, True)
        self.canvas = FP8Canvas(at=self._opening(), layout={"width": "100%", "min_width": "0"})
        self.bits, self.title = widgets.HTML(), widgets.HTML()
        self.curve = widgets.HTML(layout={"width": "100%", "min_width": "0"})
        self.hint, self.notice = widgets.HTML(), widgets.HTML()
        self.panel = widgets.Box(layout={"flex_flow": "row wrap", "align_items": "center", "width": "100%"})
        self.stage = widgets.VBox(layout={"width": "100%"})

    def _opening(self) -> list[int]:
        """A row below the outlier, in its columns: the element of middling size, which only tiles protect."""
        row, column = (self._outlier[0] + 1) % len(self._x_XZ), self._outlier[1] // 128 * 128
        near_Z = self._x_XZ[row, column : column + 128].abs()
        return [row, column + int((near_Z - self._x_XZ.abs().median()).abs().argmin())]

    def _on_change(self, _):
        with self._lock:
            self._show()

    def _on_at(self, change):
        """The browser may send anything: what is no element is not taken."""
        with self._lock:
            rows, columns = self._x_XZ.shape
            at = change["new"]
            if len(at) == 2 and all(isinstance(i, int) for i in at) and 0 <= at[0] < rows and 0 <= at[1] < columns:
                self.bits.value = self.scales_picture.cards()
            else:
                self.canvas.at = change["old"]

    def _show(self):
        view = self.view.value
        self.hint.value = said(f"Try first: {HINTS[view]}")
        if view == "scales":
            self.panel.children, self.stage.children = [self.factor, self.format, self.scales], [self.canvas, self.bits]
            picture = self.scales_picture
            self.canvas.frame, self.bits.value = picture.frame(), picture.cards()
            about = "Shares and the RMS (root mean square) of relative errors are of the numbers that are not zero."
            self.notice.value = said(f"{about} Scales: {KINDS[self.scales.value]}.")
            return
        self.panel.children = [self.length, self.interval, self.draw, self.aligned]
        self.stage.children = [self.title, self.curve]
        picture = self.sums_picture
        self.title.value, self.curve.value = said(picture.title(), bold=True), curve(picture)
        self.notice.value = said(picture.notice())

    @property
    def scales_picture(self) -> ScalesPicture:
        """What the first view shows: numbers and sentences."""
        with self._lock:
            settings = self.factor.value, self.format.value, self.scales.value
            if not self._last or self._last[0] != settings:
                x_XZ = with_outlier(self._x_XZ, self._outlier, self.factor.value)
                choices = scale_all(self._x_XZ, x_XZ, FORMATS[self.format.value], self.scales.value)
                self._last = settings, choices
            at = tuple(self.canvas.at)
            return ScalesPicture(self._last[1], self.scales.value, self._outlier, self.factor.value, at)

    @property
    def sums_picture(self) -> SumsPicture:
        """What the second view shows."""
        return SumsPicture(self.draw.value, self.aligned.value, self.length.value, self.interval.value)

    def _picture(self, view):
        view = view or self.view.value
        if view not in VIEWS.values():
            raise ValueError(f"view={view!r}: one of {', '.join(VIEWS.values())}")
        return self.scales_picture if view == "scales" else self.sums_picture

    def static(self, view: str | None = None) -> Twin:
        """The same state (or the other view of it) as a matplotlib figure that needs no kernel."""
        with self._lock:
            picture = self._picture(view)
            return scales_twin(picture) if isinstance(picture, ScalesPicture) else sums_twin(picture)

    def alt_text(self, view: str | None = None) -> str:
        """The picture in words."""
        with self._lock:
            return self._picture(view).alt()

    def __repr__(self) -> str:
        return "FP8Explorer (live: run this cell in Jupyter; the figure below shows the same state)"


def _slider(name, options, value, layout):
    labels = [(f"{option:,}", option) for option in options]
    return widgets.SelectionSlider(options=labels, value=value, description=name, layout=layout,
                                   style={"description_width": "auto"})  # fmt: skip


def _choice(name, options, value):
    return widgets.Dropdown(options=options, value=value, description=name, style={"description_width": "auto"},
                            layout={"width": "auto", "max_width": "100%"})  # fmt: skip
