"""The moving picture of BalanceExplorer: experts x steps as colours, MaxVio and the loss below, on one canvas.

One picture is a few kilobytes: a byte a cell for the colours, four a step for the curves. It is sent whole, a few times
a second, so that a page opened late or reloaded shows what every other page shows.

How the production version differs: a dashboard polls a database; here the kernel that trains is one process away.
"""

import anywidget
import numpy as np
import traitlets

from minimoe_widgets.balance_stream import COLUMNS, Window
from minimoe_widgets.canvas import script, viridis

__all__ = ["BalanceCanvas", "colour_bytes", "pack_frame"]


def colour_bytes(of_mean: np.ndarray, top: float) -> np.ndarray:
    """Loads as multiples of the mean -> bytes: 0 for an idle expert, else 1 to 255 on a straight scale up to `top`."""
    scaled = np.rint(255 * of_mean / top).clip(1, 255)
    return np.where(of_mean > 0, scaled, 0).astype(np.uint8)


def pack_frame(window: Window, title: str, alt: str, names: dict[int, str], most: float, whole: bool) -> dict:
    """One picture as names, numbers and bytes: what `balance.js` reads, and all that it reads.

    `names`: layer -> how it is called; `most`: E / K, the load of an expert that serves every token, as a multiple of
    the mean; `whole`: the columns fill the width instead of entering from the left.
    """
    columns, experts = window.load.shape
    order = [n for n in window.maxvio if n != window.layer] + [window.layer]  # the one looked at is drawn last, on top
    top = min(most, 4.0)
    return {
        "title": title,
        "alt": alt,
        "experts": experts,
        "first": int(window.steps[0]),
        "columns": columns,
        "stride": window.stride,
        "room": columns if whole else COLUMNS,
        "top": top,
        "worst": most - 1,
        "shade": colour_bytes(window.of_mean, top).tobytes(),
        "layers": [names[n] for n in order],
        "maxvio": [window.maxvio[n].astype("<f4").tobytes() for n in order],
        "loss": window.loss.astype("<f4").tobytes(),
        "marks": [[step, label] for step, label in window.marks],
    }


class BalanceCanvas(anywidget.AnyWidget):
    """The canvas. Set `frame` to a `pack_frame` and the picture changes, all of it at once."""

    _esm = script("balance.js")
    frame = traitlets.Dict().tag(sync=True)
    palette = traitlets.Bytes().tag(sync=True)

    def __init__(self, **traits):
        super().__init__(palette=viridis(), **traits)
