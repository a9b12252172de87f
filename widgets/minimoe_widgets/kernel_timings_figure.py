"""The live roofline of KernelTimings. What was measured is filled; what is a bound or a count is hollow.

Names stand in a legend below: beside their points they would touch where two points are near, and be cut on a phone.

How the production version differs: Nsight Compute draws the same roofline, for the GPU at hand.
"""

import math

import plotly.graph_objects as go

from minimoe_widgets.kernel_timings_bars import colour
from minimoe_widgets.twin import OKABE_ITO

__all__ = ["ROOFS", "SYMBOLS", "TimingsFigure"]

SYMBOLS = {"diamond": "D", "square": "s", "triangle-up": "^", "circle": "o", "pentagon": "p"}  # plotly's, matplotlib's
ROOM = 0.15  # decades left of and below the lowest ticks, whose labels would touch in the corner
ROOFS = (("blue", "solid", "-"), ("grey", "dash", "--"))


class TimingsFigure(go.FigureWidget):
    """The figure; `show` draws a `Picture` in place of the last."""

    def __init__(self):
        axis = {"gridcolor": "#e6e6e6", "zeroline": False, "automargin": True, "type": "log", "dtick": 1}
        axis |= {"tickformat": ",~g"}
        layout = {
            "template": "plotly_white", "autosize": True, "height": 430, "showlegend": True,
            "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
            "margin": {"l": 8, "r": 16, "t": 12, "b": 8}, "font": {"size": 12, "color": "#222222"},
            "xaxis": axis | {"title": {"text": "FLOPs a byte", "standoff": 8}},
            "yaxis": axis | {"title": {"text": "TFLOP/s", "standoff": 8}},
        }  # fmt: skip
        super().__init__(layout=layout)
        self._config = {"responsive": True, "displaylogo": False}

    def show(self, picture):
        """Roofs and points of `picture`."""
        (left, right), (bottom, top) = picture.axes
        traces = [_roof(*named, left, right, look) for named, look in zip(picture.roofs.items(), ROOFS, strict=False)]
        symbols = [*SYMBOLS]
        for number, (name, intensity) in enumerate(picture.marks.items()):
            look = {"symbol": f"{symbols[number % len(symbols)]}-open", "size": 11, "color": "#222222"}
            mark = go.Scatter(x=[intensity], y=[picture.roof(intensity)], mode="markers", name=name)
            mark.marker = look | {"line": {"width": 2}}
            mark.hovertemplate = f"{name}: %{{x:.3g}} FLOPs a byte, at most %{{y:.3g}} TFLOP/s<extra></extra>"
            traces.append(mark)
        for number, (name, (x, y, least, most)) in reversed([*enumerate(picture.points.items())]):  # the kernel on top
            point = go.Scatter(x=[x], y=[y], mode="markers", name=name, legendrank=1001 + number)
            point.marker = {"size": 11, "color": colour(number), "symbol": symbols[(number + 3) % len(symbols)]}
            point.error_y = {"type": "data", "symmetric": False, "array": [most - y], "arrayminus": [y - least]}
            point.hovertemplate = f"{name}: %{{y:.3g}} TFLOP/s, measured<extra></extra>"
            traces.append(point)
        with self.batch_update():
            self.data = ()
            self.add_traces(traces)
            self.layout.xaxis.range = [math.log10(left) - ROOM, math.log10(right)]
            self.layout.yaxis.range = [math.log10(bottom) - ROOM, math.log10(top)]
            self.layout.annotations = [_note(picture.placeless)] if picture.placeless else []


def _roof(name, roof, left, right, look):
    peak, wide = roof
    xs, ys = [left, 1e3 * peak / wide, right], [left * wide / 1e3, peak, peak]
    line = {"color": OKABE_ITO[look[0]], "dash": look[1]}
    return go.Scatter(x=xs, y=ys, mode="lines", name=name, line=line, hoverinfo="skip")


def _note(text):
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.05, "showarrow": False}
