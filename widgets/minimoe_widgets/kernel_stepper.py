"""KernelStepper: a matrix product in tiles, stepped program by program in the simulator, its traffic counted.

The reader chooses sizes, tiles and the order, and sees which band of A and of B each program reads, which tile of C it
writes, and what that costs beside the least possible. A kernel of the reader's own is stepped the same way; one that
leaves its matrices stops at the access that the simulator refused. `KernelStepper.decode` steps the project's
`mla_decode` instead.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: Nsight Compute shows the traffic of a whole launch; no tool steps programs.
"""

import threading

import ipywidgets as widgets

from minimoe_kernels.kernel import Kernel
from minimoe_widgets.kernel_stepper_canvas import StepperCanvas
from minimoe_widgets.kernel_stepper_decode import DecodeStepper
from minimoe_widgets.kernel_stepper_matmul import matmul
from minimoe_widgets.kernel_stepper_trace import ORDERS, Sizes, trace
from minimoe_widgets.kernel_stepper_twin import draw_twin
from minimoe_widgets.kernel_stepper_view import SteppedView
from minimoe_widgets.kernel_stepper_words import Picture
from minimoe_widgets.text_input import said

__all__ = ["KernelStepper"]

HINT = "move Programs run to the end, then set Order to grouped: which curve moves, and why does the other one not?"
TILES, LEAST, MOST = (16, 32, 64, 128), 1, 256
MOST_PROGRAMS = 256


class KernelStepper(SteppedView):
    """C (M x F) = A (M x D) B (D x F) in tiles, one program after the other.

    `kernel`: any `@triton.jit` kernel of (a_ptr, b_ptr, c_ptr, M, D, F, BLOCK_M, BLOCK_D, BLOCK_F), the last three
    `tl.constexpr`; without one a right kernel is stepped. `grid` takes the sizes (`.M`, `.BLOCK_M`, ...) and gives the
    launch's grid; by default one program a tile, rows first. `order` is one of "row by row", "grouped", "reversed",
    "shuffled"; `together` programs are taken to run at a time; `at` is where it opens (by default in the middle).
    Raises ValueError for sizes, tiles or orders that are none, TypeError for a kernel with other arguments. Chapter 14.
    """

    _draw = staticmethod(draw_twin)

    def __init__(
        self, kernel: Kernel | None = None, M: int = 120, D: int = 40, F: int = 124, tiles=(16, 16, 16),
        order: str = "row by row", together: int = 8, at: int | None = None, grid=None,
    ):  # fmt: skip
        self._check(M, D, F, tiles, order, together)
        self.kernel, self.grid = kernel or matmul, grid
        self._lock, self._quiet = threading.RLock(), False
        self._trace = trace(self.kernel, Sizes(M, D, F, *tiles), grid)
        self._build((M, D, F), tiles, order, together)
        super().__init__(self._arrange())
        self._fill(len(self._trace.programs) * 3 // 5 if at is None else at)
        for control in (*self.sizes, *self.tiles):
            control.observe(self._on_sizes, "value")
        for control in (self.order, self.together, self.step):
            control.observe(self._on_look, "value")

    @staticmethod
    def decode(splits: int = 2, heads: int = 16, lengths=(75, 21, 0), page: int = 16, at: int | None = None):
        """The other view: the project's `mla_decode` on a paged cache, stepped block by block of every program.

        `splits`: shares of each sequence, 1 to 8. `heads`: 8, 16, 32, 64 or 128; above 64 a page is read once for each
        64. `lengths`: entries of each sequence, 0 to 128, one to six of them. `page`: entries of a page, 8, 16 or 32.
        `at`: the step it opens at; by default one in which a maximum rises. Latents of 32 and rotary keys of 16
        numbers, in bfloat16. Raises ValueError for other values. Chapter 16.
        """
        return DecodeStepper(splits, heads, lengths, page, at)

    @staticmethod
    def _check(M, D, F, tiles, order, together):
        for name, size in (("M", M), ("D", D), ("F", F)):
            if not LEAST <= size <= MOST:
                raise ValueError(f"{name}={size}: the stepper shows {LEAST} to {MOST}")
        if len(tiles) != 3 or any(tile not in TILES for tile in tiles):
            raise ValueError(f"tiles={tiles}: three of {', '.join(map(str, TILES))}, for M, D and F")
        if order not in ORDERS:
            raise ValueError(f"order={order!r}: one of {', '.join(ORDERS)}")
        if not 1 <= together <= 32:
            raise ValueError(f"together={together}: 1 to 32 programs at a time")
        _few(Sizes(M, D, F, *tiles))

    def _build(self, sizes, tiles, order, together):
        looks = {"style": {"description_width": "auto"}, "continuous_update": False}
        narrow, short = {"width": "250px", "max_width": "100%"}, {"width": "150px", "max_width": "100%"}
        names = ("Rows of A (M)", "Inner axis (D)", "Columns of B (F)")
        self.sizes = [
            widgets.IntSlider(size, min=LEAST, max=max(160, size), description=name, layout=narrow, **looks)
            for name, size in zip(names, sizes, strict=True)
        ]
        self.tiles = [
            widgets.Dropdown(options=TILES, value=tile, description=f"Tile {name}", layout=short,
                             style={"description_width": "auto"})
            for name, tile in zip("MDF", tiles, strict=True)
        ]  # fmt: skip
        wide = {"width": "210px", "max_width": "100%"}
        self.order = widgets.Dropdown(options=ORDERS, value=order, description="Order", layout=wide,
                                      style={"description_width": "auto"})  # fmt: skip
        self.together = widgets.IntSlider(together, min=1, max=32, description="At a time", layout=narrow, **looks)
        self.step = widgets.IntSlider(0, min=0, max=1, description="Programs run", style=looks["style"],
                                      layout={"width": "460px", "max_width": "100%"})  # fmt: skip
        self.canvas = StepperCanvas(layout={"width": "100%", "min_width": "0"})
        self.hint, self.state, self.notice = widgets.HTML(said(f"Try first: {HINT}")), widgets.HTML(), widgets.HTML()

    def _arrange(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        top, middle = widgets.Box([*self.sizes, *self.tiles], layout=flow), [self.order, self.together]
        return [self.hint, top, widgets.Box(middle, layout=flow), self.step, self.canvas, self.state, self.notice]

    def _on_sizes(self, _):
        with self._lock:
            if self._quiet:
                return
            sizes = Sizes(*(slider.value for slider in self.sizes), *(tile.value for tile in self.tiles))
            try:
                _few(sizes)
            except ValueError as error:
                self.notice.value = said(f"The picture still shows the last product: {error}")
                return
            self._trace = trace(self.kernel, sizes, self.grid)
            self._fill(len(self._trace.programs) * 3 // 5)

    def _on_look(self, _):
        with self._lock:
            if not self._quiet:
                self._show()

    def _fill(self, at):
        """A new trace: the slider gets its length. One that was stopped opens where it stopped."""
        count = len(self._trace.programs)
        self._quiet = True
        self.step.max = count
        self.step.value = count if self._trace.stopped else max(0, min(at, count))
        self.order.disabled = self._trace.stopped
        self._quiet = False
        self._show()

    @property
    def picture(self) -> Picture:
        """What is shown: counts, titles, shades."""
        return Picture(self._trace, self.order.value, self.together.value, self.step.value)

    def __repr__(self) -> str:
        return "KernelStepper (live: run this cell in Jupyter; the figure below shows the same state)"


def _few(sizes: Sizes):
    """Raise if the product has more programs than one would step through."""
    tall, wide = sizes.grid
    if tall * wide > MOST_PROGRAMS:
        raise ValueError(f"{tall} x {wide} tiles are {tall * wide} programs; the stepper takes {MOST_PROGRAMS}")
