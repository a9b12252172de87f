"""The canvases of KernelStepper: matrices or pages, the program at work, and the curve of bytes.

How the production version differs: see `minimoe_widgets.heatmap`, the same kind of canvas for routing.
"""

import anywidget
import traitlets

from minimoe_widgets.canvas import script, viridis

__all__ = ["DecodeCanvas", "StepperCanvas"]


class StepperCanvas(anywidget.AnyWidget):
    """Set `frame` to a `Picture.frame()` and the picture changes, all of it at once."""

    _esm = script("kernel_stepper_curves.js", "kernel_stepper.js")
    frame = traitlets.Dict().tag(sync=True)
    palette = traitlets.Bytes().tag(sync=True)

    def __init__(self, **traits):
        super().__init__(palette=viridis(), **traits)


class DecodeCanvas(StepperCanvas):
    """The same of a `DecodePicture.frame()`."""

    _esm = script("kernel_stepper_curves.js", "kernel_stepper_decode.js")
