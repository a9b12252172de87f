"""The live picture of ContextExplorer: one plotly figure with two views, wavelengths and the retrieval map.

A FigureWidget costs 5 MB, so the views share one; each has axes of its own on the same canvas.

How the production version differs: the map is the picture that long-context models are announced with.
"""

import plotly.graph_objects as go

from minimoe_widgets.context_words import human_tokens
from minimoe_widgets.twin import OKABE_ITO

__all__ = ["ContextFigure"]

AXES = {"angles": ("xaxis", "yaxis", "xaxis2", "yaxis2"), "retrieval": ("xaxis3", "yaxis3")}
HEIGHT = {"angles": 480, "retrieval": 400}


class ContextFigure(go.FigureWidget):
    """The figure with its two views; each `show_` method draws one in the place of the other."""

    def __init__(self):
        super().__init__(layout=_layout())
        self._config = {"responsive": True, "displaylogo": False}
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

    def show_angles(self, pairs):
        """Above, tokens a turn, before and with YaRN, against the two lengths; below, the ramp."""
        places = list(range(len(pairs.ramp)))
        plain = _line(places, pairs.plain_tokens, "grey", "circle-open", "before")
        now = _line(places, pairs.now_tokens, "blue", "circle", "with YaRN")
        trained = _level(places, pairs.trained_tokens, "vermillion", f"trained: {human_tokens(pairs.trained_tokens)}")
        read = _level(places, pairs.read_tokens, "green", f"to read: {human_tokens(pairs.read_tokens)}")
        read.visible = pairs.read_tokens > pairs.trained_tokens
        ramp = go.Bar(x=places, y=list(pairs.ramp), xaxis="x2", yaxis="y2")
        ramp.update(marker={"color": OKABE_ITO["orange"]}, hovertemplate="pair %{x}: %{y:.2f}<extra></extra>")
        ends = [-0.6, len(places) - 0.4]
        self._draw("angles", [plain, now, trained, read, ramp], {"xaxis": {"range": ends}, "xaxis2": {"range": ends}})

    def show_retrieval(self, lengths, depths, shares, trained):
        """Right answers by length (rows, the shortest above) and depth; None for a cell that is not measured."""
        rows = list(range(len(lengths)))
        heat = go.Heatmap(z=[list(row) for row in shares], x=list(range(len(depths))), y=rows, xaxis="x3", yaxis="y3")
        heat.update(colorscale="Viridis", zmin=0, zmax=1, xgap=2, ygap=2, hoverongaps=False, texttemplate="%{text}")
        heat.update(text=[["" if share is None else f"{share:.0%}" for share in row] for row in shares])
        heat.update(colorbar={"title": "right", "thickness": 12, "tickformat": ".0%"})
        heat.hovertemplate = "%{text}<extra></extra>"
        edge = sum(length <= trained for length in lengths) - 0.5
        line = go.Scatter(x=[-0.5, len(depths) - 0.5], y=[edge] * 2, mode="lines", xaxis="x3", yaxis="y3")
        line.update(line={"color": OKABE_ITO["vermillion"], "width": 3}, hoverinfo="skip")
        columns = {"tickvals": list(range(len(depths))), "ticktext": [f"{depth:g}" for depth in depths]}
        names = {"tickvals": rows, "ticktext": [str(n) for n in lengths], "range": [len(rows) - 0.5, -0.5]}
        self._draw("retrieval", [heat, line], {"xaxis3": columns, "yaxis3": names})


def _line(places, tokens, colour, symbol, name):
    line = go.Scatter(x=places, y=list(tokens), mode="lines+markers+text", textposition="top left")
    line.update(line={"color": OKABE_ITO[colour]}, marker={"symbol": symbol, "size": 7}, textfont_color="#222222")
    line.text = [name if place == len(places) - 1 and colour == "blue" else "" for place in places]
    return line.update(hovertemplate=f"pair %{{x}} {name}: %{{y:.1f}} tokens a turn<extra></extra>")


def _level(places, tokens, colour, name):
    level = go.Scatter(x=[-0.5, len(places) - 0.5], y=[tokens] * 2, mode="lines+text", text=[name, ""])
    level.update(line={"color": OKABE_ITO[colour], "dash": "dash"}, textposition="top right", hoverinfo="skip")
    return level.update(textfont_color=OKABE_ITO[colour])


def _layout():
    grid = {"gridcolor": "#e6e6e6", "zeroline": False, "automargin": True}
    plain = {"showgrid": False, "zeroline": False, "automargin": True}
    return {
        "template": "plotly_white",
        "autosize": True,
        "margin": {"l": 8, "r": 24, "t": 12, "b": 8},
        "showlegend": False,
        "font": {"size": 12, "color": "#222222"},
        "plot_bgcolor": "rgba(0,0,0,0)",  # the views' axes overlap: an opaque one would cover another view
        "xaxis": grid | {"anchor": "y"},
        "yaxis": grid | {"anchor": "x", "domain": [0.36, 1.0], "type": "log", "dtick": 1, "title": "tokens a turn"},
        "xaxis2": grid | {"anchor": "y2", "title": "rotary pair, fastest first"},
        "yaxis2": grid | {"anchor": "x2", "domain": [0.0, 0.26], "title": "slowed down", "range": [0, 1.05]},
        "xaxis3": plain | {"anchor": "y3", "title": "depth: 0 is the row's beginning"},
        "yaxis3": plain | {"anchor": "x3", "title": "tokens in the row"},
    }
