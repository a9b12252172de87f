"""KernelStepper's decode view: `mla_decode` in the simulator, block by block of every program, its traffic counted.

The reader chooses shares, heads and the lengths of the sequences, and sees which pages of the cache each program reads,
how its maximum, sum and unfinished output change, what it stores, and how the second launch weighs the shares.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: see `minimoe_widgets.kernel_stepper`.
"""

import threading
from collections.abc import Iterable
from operator import index

import ipywidgets as widgets

from minimoe_widgets.kernel_stepper_canvas import DecodeCanvas
from minimoe_widgets.kernel_stepper_decode_trace import Decode, trace_decode
from minimoe_widgets.kernel_stepper_decode_twin import draw_decode_twin
from minimoe_widgets.kernel_stepper_decode_words import DecodePicture
from minimoe_widgets.kernel_stepper_view import SteppedView
from minimoe_widgets.text_input import said

__all__ = ["DecodeStepper"]

HINT = "set Shares to 1, then to 5. How many programs are there, how long is the longest, and which bytes pay for it?"
HEADS, PAGES = (8, 16, 32, 64, 128), (8, 16, 32)
MOST_SPLITS, MOST_SEQUENCES, MOST_ENTRIES = 8, 6, 128


class DecodeStepper(SteppedView):
    """Made by `KernelStepper.decode`, which says what it takes."""

    _draw = staticmethod(draw_decode_twin)

    def __init__(self, splits: int, heads: int, lengths, page: int, at: int | None):
        asked = _checked(splits, heads, lengths, page)
        self._lock, self._quiet = threading.RLock(), False
        self._trace = trace_decode(asked)
        count = len(self._trace.steps)
        if at is not None and not 0 <= _whole("at", at) <= count:
            raise ValueError(f"at={at}: this launch has {count} steps, so 0 to {count}")
        self._build(asked)
        super().__init__(self._arrange())
        self._fill(self._opening() if at is None else at)
        for control in (self.splits, self.heads, self.page, self.lengths):
            control.observe(self._on_launch, "value")
        self.step.observe(self._on_step, "value")

    def _build(self, asked):
        auto, small = {"description_width": "auto"}, {"width": "160px", "max_width": "100%"}
        looks = {"style": auto, "continuous_update": False}
        self.splits = widgets.IntSlider(asked.splits, min=1, max=MOST_SPLITS, description="Shares (splits)",
                                        layout={"width": "260px", "max_width": "100%"}, **looks)  # fmt: skip
        self.heads = widgets.Dropdown(options=HEADS, value=asked.heads, description="Heads", layout=small, style=auto)
        self.page = widgets.Dropdown(options=PAGES, value=asked.page, description="Entries a page", layout=small,
                                     style=auto)  # fmt: skip
        self.lengths = widgets.Text(", ".join(map(str, asked.lengths)), description="Entries by sequence",
                                    layout={"width": "300px", "max_width": "calc(100% - 8px)"}, **looks)  # fmt: skip
        self.step = widgets.IntSlider(0, min=0, max=1, description="Steps run", style=auto, continuous_update=False,
                                      layout={"width": "460px", "max_width": "100%"})  # fmt: skip
        self.canvas = DecodeCanvas(layout={"width": "100%", "min_width": "0"})
        self.hint, self.notice = widgets.HTML(said(f"Try first: {HINT}")), widgets.HTML()
        self.state = widgets.HTML(layout={"min_height": "4.5em"})  # so that the picture stays where it is

    def _arrange(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        controls = widgets.Box([self.splits, self.heads, self.page, self.lengths], layout=flow)
        return [self.hint, controls, self.step, self.state, self.canvas, self.notice]

    def _on_launch(self, _):
        with self._lock:
            try:
                asked = _checked(self.splits.value, self.heads.value, self.lengths.value, self.page.value)
            except ValueError as error:
                self.notice.value = said(f"The picture still shows the last launch: {error}", bold=True)
                return
            self._trace = trace_decode(asked)
            self._fill(self._opening())

    def _on_step(self, _):
        with self._lock:
            if not self._quiet:
                self._show()

    def _opening(self) -> int:
        """The first step in which a maximum is replaced by a larger one; else the first of all."""
        for number, step in enumerate(self._trace.steps, 1):
            if step.kind == "block" and step.block and DecodePicture(self._trace, number).raised()[0]:
                return number
        return 1

    def _fill(self, at):
        """A new trace: the slider gets its length."""
        self._quiet = True
        self.step.max = len(self._trace.steps)
        self.step.value = at
        self._quiet = False
        self._show()

    @property
    def picture(self) -> DecodePicture:
        """What is shown: counts, titles, states."""
        return DecodePicture(self._trace, self.step.value)

    def __repr__(self) -> str:
        return "KernelStepper.decode (live: run this cell in Jupyter; the figure below shows the same state)"


def _checked(splits, heads, lengths, page) -> Decode:
    """What is asked, as a `Decode`. Raises ValueError for what the view does not show."""
    if not isinstance(lengths, Iterable):
        raise ValueError(f"lengths={lengths!r}: want whole numbers, one a sequence")
    typed = lengths.split(",") if isinstance(lengths, str) else lengths
    splits, heads, page = _whole("splits", splits), _whole("heads", heads), _whole("page", page)
    entries = tuple(_whole("lengths", each) for each in typed)
    if not 1 <= splits <= MOST_SPLITS:
        raise ValueError(f"splits={splits}: 1 to {MOST_SPLITS} shares of a sequence")
    for name, value, choices in (("heads", heads, HEADS), ("page", page, PAGES)):
        if value not in choices:
            raise ValueError(f"{name}={value}: one of {', '.join(map(str, choices))}")
    if not 1 <= len(entries) <= MOST_SEQUENCES:
        raise ValueError(f"lengths={entries}: 1 to {MOST_SEQUENCES} sequences")
    if not all(0 <= length <= MOST_ENTRIES for length in entries):
        raise ValueError(f"lengths={entries}: 0 to {MOST_ENTRIES} entries each")
    return Decode(splits, heads, entries, page)


def _whole(name, value) -> int:
    """`value`, or what was typed for it, as a whole number. Raises ValueError if it is none."""
    try:
        return int(value) if isinstance(value, str) else index(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is no whole number") from None
