"""The live picture of KernelTimings: a roofline at the left, times or floors at the right, in one plotly figure.

What was measured is filled; what is a bound or a count is hollow, and says so.

How the production version differs: Nsight Compute draws the same roofline, for the GPU at hand.
"""

import plotly.graph_objects as go

from minimoe_widgets.twin import OKABE_ITO

__all__ = ["TimingsFigure", "reach"]


def reach(picture) -> tuple[float, float]:
    """The ends of the intensity axis: a factor of three beyond all that is drawn."""
    at = [*picture.marks.values(), *(point[0] for point in picture.points.values()), picture.ridge]
    return min(at) / 3, max(at) * 6


class TimingsFigure(go.FigureWidget):
    """The figure; `show` draws a `Picture` in place of the last."""

    def __init__(self):
        grid = {"gridcolor": "#e6e6e6", "zeroline": False, "automargin": True}
        layout = {
            "template": "plotly_white", "autosize": True, "height": 380, "showlegend": False,
            "margin": {"l": 8, "r": 24, "t": 12, "b": 8}, "font": {"size": 12, "color": "#222222"},
            "xaxis": grid | {"type": "log", "title": "FLOPs a byte", "domain": [0, 0.6], "dtick": 1},
            "yaxis": grid | {"type": "log", "title": "TFLOP/s", "dtick": 1},
            "xaxis2": grid | {"domain": [0.74, 1.0], "anchor": "y2", "rangemode": "tozero", "nticks": 4},
            "yaxis2": grid | {"anchor": "x2", "autorange": "reversed"},
        }  # fmt: skip
        super().__init__(layout=layout)
        self._config = {"responsive": True, "displaylogo": False}

    def show(self, picture):
        """Roofs, points, and the bars of `picture`."""
        low, high = reach(picture)
        traces = []
        for number, (name, (peak, wide)) in enumerate(picture.roofs.items()):
            xs = [low, 1e3 * peak / wide, high]
            roof = go.Scatter(x=xs, y=[low * wide / 1e3, peak, peak], mode="lines+text", text=["", name, ""])
            roof.update(textposition="bottom right" if number else "top left", hoverinfo="skip")
            roof.update(line={"color": OKABE_ITO["grey" if number else "blue"], "dash": "dash" if number else "solid"})
            traces.append(roof)
        for name, intensity in picture.marks.items():
            mark = go.Scatter(x=[intensity], y=[picture.roof(intensity)], mode="markers+text", text=[name])
            mark.update(
                marker={"symbol": "diamond-open", "size": 11, "color": "#222222"},
                textposition=f"bottom {'left' if intensity > picture.ridge else 'right'}",
            )
            mark.hovertemplate = f"{name}: %{{x:.3g}} FLOPs a byte, at most %{{y:.3g}} TFLOP/s<extra></extra>"
            traces.append(mark)
        for number, (name, (x, y, least, most)) in enumerate(picture.points.items()):
            point = go.Scatter(x=[x], y=[y], mode="markers", marker={"size": 10, "color": _colour(number)})
            point.error_y = {"type": "data", "symmetric": False, "array": [most - y], "arrayminus": [y - least]}
            point.hovertemplate = f"{name}: %{{y:.3g}} TFLOP/s, measured<extra></extra>"
            traces.append(point)
        traces.append(_bars(picture))
        with self.batch_update():
            self.data = ()
            self.add_traces(traces)
            self.layout.xaxis2.title = "us, median, p20 to p80" if picture.record else "us at least"


def _colour(number: int) -> str:
    return OKABE_ITO["vermillion" if number == 0 else "grey"]


def _bars(picture):
    values = [value for value, _, _ in picture.bars.values()]
    bar = go.Bar(y=list(picture.bars), x=values, orientation="h", xaxis="x2", yaxis="y2")
    bar.hovertemplate = "%{y}: %{x:.4g} us<extra></extra>"
    if not picture.record:
        return bar.update(marker={"color": "white", "line": {"color": "#222222", "width": 1.5}})
    spreads = [(value, low or value, high or value) for value, low, high in picture.bars.values()]
    bar.error_x = {
        "type": "data", "symmetric": False, "array": [high - value for value, _, high in spreads],
        "arrayminus": [value - low for value, low, _ in spreads],
    }  # fmt: skip
    return bar.update(marker={"color": [_colour(number) for number in range(len(values))]})
