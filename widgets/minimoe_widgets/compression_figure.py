"""The live picture of CompressionExplorer: one plotly figure with three views.

A FigureWidget costs 5 MB, so the three views share one: each has its own axes on the same canvas, and a view is shown
by making its traces and axes visible and the others not.

How the production version differs: nothing here is special to production.
"""

import math

import numpy as np
import plotly.graph_objects as go

from minimoe_widgets.cache_bill import GPU_BYTES, human_bytes
from minimoe_widgets.twin import OKABE_ITO

__all__ = ["COLOUR_OF", "CompressionFigure"]

COLOUR_OF = {"MHA": "vermillion", "GQA": "orange", "MQA": "sky", "MLA": "blue"}
AXES = {
    "bill": ("xaxis", "yaxis"),
    "attention": ("xaxis2", "yaxis2"),
    "rank": ("xaxis3", "yaxis3", "xaxis4", "yaxis4"),
}
INK = "#222222"


def bar_colour(line) -> str:
    """Each way of attention has its colour; models that exist are grey."""
    return OKABE_ITO["grey" if line.exists else COLOUR_OF[line.name[:3]]]


class CompressionFigure(go.FigureWidget):
    """The figure with its three views; each `show_` method draws one and hides the others."""

    def __init__(self):
        super().__init__(layout=_layout())
        self.add_traces(_traces())

    def _select(self, view: str):
        for trace in self.data:
            trace.visible = trace.meta == view
        for name, axes in AXES.items():
            for axis in axes:
                self.layout[axis].visible = name == view

    def show_bill(self, lines):
        """One bar a line on a logarithmic scale, and one GPU's memory for scale."""
        bars, memory = self.data[0], self.data[1]
        sizes = [line.cache_bytes for line in lines]
        names = [f"{line.name}<br><i>{human_bytes(line.token_bytes)} a token</i>" for line in lines]
        low, high = math.log10(min(sizes)) - 0.7, math.log10(max(sizes)) + 1.0
        with self.batch_update():
            self._select("bill")
            bars.x, bars.y = sizes, list(range(len(lines)))
            self.layout.yaxis.update(tickvals=list(range(len(lines))), ticktext=names, range=[len(lines) - 0.4, -1.1])
            bars.text = [human_bytes(size) for size in sizes]
            bars.marker.color = [bar_colour(line) for line in lines]
            bars.marker.pattern.shape = ["/" if line.exists else "" for line in lines]
            memory.x, memory.y = [GPU_BYTES, GPU_BYTES], [-0.62, len(names) - 0.5]
            memory.visible = low < math.log10(GPU_BYTES) < high
            self.layout.xaxis.range = [low, high]

    def show_attention(self, weights_TS, labels):
        """Row t: where token t looks. Weights are rounded to three digits: they travel as text."""
        tokens = len(labels)
        every = max(1, tokens // 40)
        ticks = {"tickvals": list(range(0, tokens, every)), "ticktext": labels[::every]}
        seen = np.where(np.tri(tokens, dtype=bool), np.round(weights_TS, 3).astype(float), np.nan)
        with self.batch_update():
            self._select("attention")
            self.data[2].update(z=seen, customdata=[[f"{q} → {k}" for k in labels] for q in labels])
            self.layout.xaxis2.update(ticks)
            self.layout.yaxis2.update(ticks)

    def show_rank(self, spectra, ranks, losses, rank):
        """Above, the singular values of each part of the entry; below, the loss by rank with `rank` marked."""
        shown = list(spectra.items())
        with self.batch_update():
            self._select("rank")
            for trace, (name, values) in zip(self.data[3:5], shown, strict=True):
                x = list(range(1, len(values) + 1))
                trace.update(
                    x=x, y=values.tolist(), name=name, text=[name if i == len(x) // 2 else "" for i in range(len(x))]
                )
            self.data[5].update(x=ranks, y=losses)
            self.data[6].update(x=[rank], y=[losses[ranks.index(rank)]])
            self.data[7].update(x=[ranks[0], ranks[-1]], y=[losses[-1], losses[-1]])
            top = max(float(values.max()) for _, values in shown)
            self.data[8].update(x=[rank + 0.5, rank + 0.5], y=[0, top])
            for axis in (self.layout.xaxis3, self.layout.xaxis4):
                axis.range = [-0.02 * ranks[-1], 1.04 * ranks[-1]]


def _traces():
    dash = {"color": OKABE_ITO["grey"], "dash": "dash"}
    bars = {
        "orientation": "h",
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{text}<extra></extra>",
    }
    return [
        go.Bar(meta="bill", **bars),
        go.Scatter(
            meta="bill", mode="lines+text", line=dash, text=["80 GB: one H100", ""], textposition="top right", hoverinfo="skip"
        ),
        go.Heatmap(
            meta="attention", xaxis="x2", yaxis="y2", colorscale="Viridis", reversescale=True, zmin=0, zmax=1, xgap=1, ygap=1,
            colorbar={"title": "weight", "thickness": 12}, hoverongaps=False,
            hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
        ),
        _line("rank", "3", "blue", "circle"),
        _line("rank", "3", "vermillion", "square"),
        _line("rank", "4", "black", "circle"),
        go.Scatter(
            meta="rank", xaxis="x4", yaxis="y4", mode="markers", name="chosen rank", hoverinfo="skip",
            marker={"size": 14, "symbol": "diamond", "color": OKABE_ITO["orange"], "line": {"color": INK, "width": 1.5}},
        ),
        go.Scatter(
            meta="rank", xaxis="x4", yaxis="y4", mode="lines+text", line=dash, text=["", "uncut"], textposition="top left",
            hoverinfo="skip",
        ),
        go.Scatter(meta="rank", xaxis="x3", yaxis="y3", mode="lines", line=dash, hoverinfo="skip"),
    ]  # fmt: skip


def _line(view, axis, colour, symbol):
    return go.Scatter(
        meta=view, xaxis=f"x{axis}", yaxis=f"y{axis}", mode="lines+markers+text", textposition="top right",
        line={"color": OKABE_ITO[colour]}, marker={"symbol": symbol, "size": 5}, textfont={"color": OKABE_ITO[colour]},
        hovertemplate="%{x}: %{y:.3f}<extra></extra>",
    )  # fmt: skip


def _layout():
    grid = {"gridcolor": "#e6e6e6", "zeroline": False, "automargin": True}
    return {
        "template": "plotly_white",
        "autosize": True,
        "height": 400,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "showlegend": False,
        "font": {"size": 12, "color": INK},
        "xaxis": grid
        | {"type": "log", "title": "bytes of cache (logarithmic)", "exponentformat": "SI", "ticksuffix": "B"},
        "yaxis": {"automargin": True, "showgrid": False, "zeroline": False},
        "xaxis2": {"title": "looked at", "automargin": True, "anchor": "y2", "tickangle": -60, "showgrid": False},
        "yaxis2": {"title": "looks", "autorange": "reversed", "automargin": True, "anchor": "x2", "showgrid": False},
        "xaxis3": grid | {"anchor": "y3", "title": "direction, strongest first"},
        "yaxis3": grid | {"anchor": "x3", "domain": [0.58, 1.0], "title": "singular value", "rangemode": "tozero"},
        "xaxis4": grid | {"anchor": "y4", "title": "directions kept in every layer"},
        "yaxis4": grid | {"anchor": "x4", "domain": [0.0, 0.42], "title": "loss (nats)"},
    }
