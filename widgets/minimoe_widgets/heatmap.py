"""The tokens x experts heat map: a canvas that draws one layer's routing.

`pack_frame` turns one layer's arrays into the bytes of a picture; `RoutingHeatMap` carries them to the browser, where
`heatmap.js` paints them. The colours go as one byte a cell. The exact scores travel beside them, so that pointing at a
cell answers without asking the kernel.

A canvas of our own rather than a plotting library: a library's heat map ships 5 MB of code and sends every number as
JSON text; this one is 13 KB of code, and 64 experts x 200 tokens follow a slider without lag.

How the production version differs: a serving engine shows no single token's routing. It exports per-expert counters
to a dashboard, because at thousands of tokens a second only the loads can still be read.
"""

import anywidget
import numpy as np
import traitlets

from minimoe_widgets.canvas import script, viridis

__all__ = ["COLOURS", "RoutingHeatMap", "pack_frame", "shade"]

COLOURS = {"gate": "gates", "score": "scores", "score with bias": "selection"}


def shade(values: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Bytes 1..255 for `values` between their lowest and highest shown one, 0 where `shown` is False.

    Takes two arrays of one shape; gives the bytes and the two ends. Where all shown values are equal, all get 255.
    """
    if not shown.any():
        return np.zeros(values.shape, np.uint8), 0.0, 0.0
    low, high = float(values[shown].min()), float(values[shown].max())
    scaled = (values - low) / (high - low) if high > low else np.ones_like(values)
    return np.where(shown, 1 + np.rint(254 * scaled.clip(0, 1)), 0).astype(np.uint8), low, high


def pack_frame(layer, tokens: list[str], hover: list[str], colour: str, title: str, alt: str) -> dict:
    """One picture as names, numbers and bytes: what `heatmap.js` reads, and all that it reads.

    `layer` is a `minimoe.inference.routing_trace.LayerTrace`; `tokens` are the short labels under the columns,
    `hover` the words said when a cell is pointed at; `colour` is a key of `COLOURS`.
    """
    values = getattr(layer, COLOURS[colour] + "_ME")
    chosen_ME = layer.chosen_ME
    shown = chosen_ME if colour == "gate" else np.isfinite(values)
    shade_ME, low, high = shade(values, shown)
    return {
        "title": title,
        "alt": alt,
        "tokens": tokens,
        "hover": hover,
        "experts": int(values.shape[1]),
        "groups": int(layer.kept_MG.shape[1]),
        "shade": shade_ME.tobytes(),
        "shade_name": colour,
        "shade_low": low,
        "shade_high": high,
        "chosen": chosen_ME.astype(np.uint8).tobytes(),
        "kept": layer.kept_MG.astype(np.uint8).tobytes(),
        "scores": layer.scores_ME.astype("<f4").tobytes(),
        "selection": layer.selection_ME.astype("<f4").tobytes(),
        "gates": layer.gates_ME.astype("<f4").tobytes(),
        "load": [int(n) for n in layer.load_E],
        "violation": float(layer.max_violation),
    }


class RoutingHeatMap(anywidget.AnyWidget):
    """The canvas. Set `frame` to a `pack_frame` and the picture changes, all of it at once."""

    _esm = script("heatmap.js")
    frame = traitlets.Dict().tag(sync=True)
    palette = traitlets.Bytes().tag(sync=True)

    def __init__(self, **traits):
        super().__init__(palette=viridis(), **traits)
