"""What both of KernelStepper's views do with a trace: show a picture of it, its verdict, its twin and its words.

How the production version differs: see `minimoe_widgets.kernel_stepper`.
"""

import ipywidgets as widgets

from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["SteppedView"]


class SteppedView(widgets.VBox):
    """A view has `_trace`, `_lock`, `canvas`, `state`, `notice` and `picture`; `_draw` makes a twin of a picture."""

    def _show(self):
        picture = self.picture
        self.canvas.frame = picture.frame()
        self.state.value = said(picture.state())
        self.notice.value = said(self.verdict, bold=not self._trace.right)

    @property
    def verdict(self) -> str:
        """What is wrong with the kernel, in the simulator's words, or how right its result is."""
        return self._trace.verdict

    def static(self) -> Twin:
        """The same state as a matplotlib figure that needs no kernel."""
        with self._lock:
            return self._draw(self.picture)

    def alt_text(self) -> str:
        """The picture in words."""
        with self._lock:
            return f"{self.picture.alt()} {self.verdict}"
