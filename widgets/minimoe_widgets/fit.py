"""A plot as wide as its place: on a phone, in half a window, after the file browser was folded away.

How the production version differs: a plotting library that measures its container needs none of this.
"""

from pathlib import Path

import anywidget
import ipywidgets as widgets

__all__ = ["fitted"]


class _Watch(anywidget.AnyWidget):
    """An invisible line that notices when the plot above it appears and when its own width changes."""

    _esm = Path(__file__).with_name("fit.js")


def fitted(plot) -> widgets.VBox:
    """`plot`, a responsive FigureWidget, in a box whose width it takes and keeps."""
    box = widgets.VBox([plot, _Watch(layout={"width": "100%", "height": "0", "margin": "0"})], layout={"width": "100%"})
    box.add_class("minimoe-plot")
    return box
