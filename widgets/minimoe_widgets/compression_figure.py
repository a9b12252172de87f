"""The live picture of CompressionExplorer: one plotly figure with three views.

A FigureWidget costs 5 MB, so the three views share one. Each has axes of its own on the same canvas. A view is
entered by replacing the traces and showing its axes, and then updated in place, which keeps the reader's zoom.

How the production version differs: dashboards draw the bill; the other two views belong to papers.
"""

import math

import numpy as np
import plotly.graph_objects as go

from minimoe_widgets.cache_bill import GPU_BYTES, human_bytes
from minimoe_widgets.twin import OKABE_ITO

__all__ = ["CompressionFigure", "bar_colour"]

COLOUR_OF = {"MHA": "vermillion", "GQA": "orange", "MQA": "sky", "MLA": "blue"}
AXES = {
    "bill": ("xaxis", "yaxis"),
    "attention": ("xaxis2", "yaxis2"),
    "rank": ("xaxis3", "yaxis3", "xaxis4", "yaxis4"),
}
HEIGHT = {"bill": 400, "attention": 540, "rank": 460}
GREY_DASH = {"color": OKABE_ITO["grey"], "dash": "dash"}


def bar_colour(line) -> str:
    """Each way of attention has its colour; models that exist are grey."""
    return OKABE_ITO["grey" if line.exists else COLOUR_OF[line.name[:3]]]


class CompressionFigure(go.FigureWidget):
    """The figure with its three views; each `show_` method draws one in the place of the others."""

    def __init__(self):
        super().__init__(layout=_layout())
        self._config = {
            "responsive": True,
            "displaylogo": False,
        }  # without it the plot keeps the width it was born with
        self._view = None

    def _draw(self, view: str, traces: list, axes: dict):
        """Enter `view` if it is not the one shown, else move its traces; then set what its axes say."""
        with self.batch_update():
            for axis, values in axes.items():
                self.layout[axis].update(values)
            if view == self._view:
                for shown, trace in zip(self.data, traces, strict=True):
                    shown.update({key: value for key, value in trace.to_plotly_json().items() if key != "type"})
                return
            self.layout.height = HEIGHT[view]
            for name, own in AXES.items():
                for axis in own:
                    self.layout[axis].visible = name == view
        self._view, self.data = view, ()
        self.add_traces(traces)

    def show_bill(self, lines):
        """One bar a line on a logarithmic scale, and one GPU's memory for scale."""
        sizes, places = [line.cache_bytes for line in lines], list(range(len(lines)))
        names = [f"{line.name}<br><i>{human_bytes(line.token_bytes)} a token</i>" for line in lines]
        low, high = math.log10(min(sizes)) - 0.7, math.log10(max(sizes)) + 1.2
        bars = go.Bar(x=sizes, y=places, orientation="h", textposition="outside", cliponaxis=False)
        bars.text = [human_bytes(size) for size in sizes]
        bars.marker = {"color": [bar_colour(line) for line in lines]}
        bars.marker.pattern = {"shape": ["/" if line.exists else "" for line in lines]}
        bars.hovertemplate = "%{text}<extra></extra>"
        memory = go.Scatter(x=[GPU_BYTES] * 2, y=[-0.9, len(lines) - 0.5], mode="lines+text", line=GREY_DASH)
        memory.update(text=["one H100:<br>80 GB", ""], textposition="middle right", hoverinfo="skip", cliponaxis=False)
        memory.visible = low < math.log10(GPU_BYTES) < high
        rows = {"tickvals": places, "ticktext": names, "range": [len(lines) - 0.4, -1.3]}
        self._draw("bill", [bars, memory], {"xaxis": {"range": [low, high]}, "yaxis": rows})

    def show_attention(self, weights_TS, labels):
        """Row t: where token t looks. Weights are rounded to three digits: they travel as text.

        The colours end at the highest weight of the rows from the fourth on; the first rows have too little choice.
        """
        tokens = len(labels)
        # None and not NaN: two-dimensional arrays travel as JSON, which knows no NaN
        seen = np.where(np.tri(tokens, dtype=bool), np.round(weights_TS.astype(float), 3), None)
        heat = go.Heatmap(z=seen)
        heat.update(xaxis="x2", yaxis="y2", colorscale="Viridis", xgap=1, ygap=1, hoverongaps=False)
        heat.update(
            zmin=0.0, zmax=float(weights_TS[min(3, tokens - 1) :].max()), colorbar={"title": "weight", "thickness": 12}
        )
        heat.customdata = [[f"{query} looks at {key}" for key in labels] for query in labels]
        heat.hovertemplate = "%{customdata}: %{z:.3f}<extra></extra>"
        ends = [-0.5, tokens - 0.5]
        x_ticks, y_ticks = _ticks(labels, 40), _ticks(labels, 28)
        self._draw(
            "attention", [heat], {"xaxis2": x_ticks | {"range": ends}, "yaxis2": y_ticks | {"range": ends[::-1]}}
        )

    def show_rank(self, spectra, ranks, losses, rank):
        """Above, the singular values of each part of the entry; below, the loss by rank with `rank` marked."""
        traces, top = [], 0.0
        for (name, values), colour, symbol in zip(
            spectra.items(), ("blue", "vermillion"), ("circle", "square"), strict=True
        ):
            count, top = len(values), max(top, float(values.max()))
            traces.append(_line("3", list(range(1, count + 1)), values.tolist(), colour, symbol))
            labelled = max(count - 4, 0) if colour == "blue" else 1  # apart: the curves may meet in the middle
            traces[-1].text = [name if i == labelled else "" for i in range(count)]
        traces.append(go.Scatter(x=[rank + 0.5] * 2, y=[0, top], mode="lines", line=GREY_DASH, xaxis="x3", yaxis="y3"))
        traces.append(_line("4", ranks, losses, "black", "circle"))
        uncut = go.Scatter(x=[ranks[0], ranks[-1]], y=[losses[-1]] * 2, mode="lines+text", line=GREY_DASH)
        uncut.update(xaxis="x4", yaxis="y4", text=["", "uncut"], textposition="top left", hoverinfo="skip")
        chosen = go.Scatter(x=[rank], y=[losses[ranks.index(rank)]], mode="markers", xaxis="x4", yaxis="y4")
        chosen.update(marker={"size": 14, "symbol": "diamond", "color": OKABE_ITO["orange"]}, hoverinfo="skip")
        chosen.marker.line = {"color": "#222222", "width": 1.5}
        width = {"range": [-0.02 * ranks[-1], 1.04 * ranks[-1]]}
        self._draw("rank", [*traces, uncut, chosen], {"xaxis3": width, "xaxis4": width})


def _ticks(labels, most):
    every = -(-len(labels) // most)
    return {"tickvals": list(range(0, len(labels), every)), "ticktext": labels[::every]}


def _line(axis, x, y, colour, symbol):
    line = go.Scatter(x=x, y=y, xaxis=f"x{axis}", yaxis=f"y{axis}", mode="lines+markers+text", textposition="top right")
    line.update(line={"color": OKABE_ITO[colour]}, marker={"symbol": symbol, "size": 5})
    return line.update(textfont={"color": OKABE_ITO[colour]}, hovertemplate="%{x}: %{y:.3f}<extra></extra>")


def _layout():
    grid = {"gridcolor": "#e6e6e6", "zeroline": False, "automargin": True}
    plain = {"showgrid": False, "zeroline": False, "automargin": True}
    return {
        "template": "plotly_white",
        "autosize": True,
        "margin": {"l": 8, "r": 48, "t": 12, "b": 8},
        "showlegend": False,
        "font": {"size": 12, "color": "#222222"},
        "plot_bgcolor": "rgba(0,0,0,0)",  # the views' axes overlap: an opaque one would cover another view
        "xaxis": grid
        | {
            "type": "log",
            "dtick": 1,
            "title": "cache (logarithmic)",
            "exponentformat": "SI",
            "ticksuffix": "B",
        },
        "yaxis": plain,
        "xaxis2": plain | {"title": "looked at", "anchor": "y2", "tickangle": -60},
        "yaxis2": plain | {"title": "looks", "anchor": "x2"},
        "xaxis3": grid | {"anchor": "y3", "title": "direction, strongest first"},
        "yaxis3": grid | {"anchor": "x3", "domain": [0.6, 1.0], "title": "singular value", "rangemode": "tozero"},
        "xaxis4": grid | {"anchor": "y4", "title": "directions kept in every layer"},
        "yaxis4": grid | {"anchor": "x4", "domain": [0.0, 0.4], "title": "loss (nats)"},
    }
