"""The canvas of FP8Explorer: the relative error of every element, once for each choice of scales.

How the production version differs: see `minimoe_widgets.heatmap`, the same kind of canvas for routing.
"""

import anywidget
import numpy as np
import traitlets

from minimoe_widgets.canvas import script, viridis

__all__ = ["FLUSHED", "FP8Canvas", "shade"]

FLUSHED = 255  # the byte of a number that became zero
DECADES = 3  # from 0.1% to 100%


def shade(error_XZ: np.ndarray, flushed_XZ: np.ndarray) -> np.ndarray:
    """Bytes 1..254 for relative errors of 0.1% to 100%, on a logarithmic scale; 255 for flushed, 0 where NaN."""
    known = np.isfinite(error_XZ)
    decades = np.log10(np.where(known, error_XZ, 1).clip(10.0**-DECADES, 1)) / DECADES
    scaled = 1 + np.rint(253 * (1 + decades))
    return np.where(flushed_XZ, FLUSHED, np.where(known, scaled, 0)).astype(np.uint8)


class FP8Canvas(anywidget.AnyWidget):
    """Set `frame` to a `ScalesPicture.frame()` and the picture changes; `at` is the element that was chosen on it."""

    _esm = script("fp8.js")
    frame = traitlets.Dict().tag(sync=True)
    at = traitlets.List([0, 0]).tag(sync=True)
    palette = traitlets.Bytes().tag(sync=True)

    def __init__(self, **traits):
        super().__init__(palette=viridis(), **traits)
