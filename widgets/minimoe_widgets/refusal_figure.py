"""The live picture of RefusalExplorer: one plotly figure with two views, shares over steps and the guard's scores.

A FigureWidget costs 5 MB, so the views share one; each has axes of its own on the same canvas.

How the production version differs: nobody watches a refusal go; it is counted before and after.
"""

import plotly.graph_objects as go

from minimoe_widgets.twin import OKABE_ITO

__all__ = ["RefusalFigure", "spread_out"]

PANEL = 115  # pixels
LINES = (("refused", "blue", "circle", "solid"), ("right code", "vermillion", "square", "dash"))


def spread_out(count: int, row: int) -> list[float]:
    """Places for `count` points around a row, so that equal scores do not hide each other."""
    return [row + ((7 * place) % 11 / 10 - 0.5) * 0.6 for place in range(count)]


class RefusalFigure(go.FigureWidget):
    """The figure for these groups of requests; each `show_` method draws one view in the place of the other."""

    def __init__(self, groups: list[str]):
        self._groups, self._view, self._guard = groups, None, len(groups) + 1
        super().__init__(layout=_layout(groups))
        self._config = {"responsive": True, "displaylogo": False}

    def _draw(self, view: str, traces: list, axes: dict):
        """Enter `view` if it is not the one shown, else move its traces; then set what its axes say."""
        names = {"tuning": ["xaxis", *_panel_axes(self._groups)]}
        names["guard"] = [f"xaxis{self._guard}", f"yaxis{self._guard}"]
        with self.batch_update():
            for axis, values in axes.items():
                self.layout[axis].update(values)
            if view == self._view:
                for shown, trace in zip(self.data, traces, strict=True):
                    shown.update({key: value for key, value in trace.to_plotly_json().items() if key != "type"})
                return
            self.layout.height = (PANEL if view == "tuning" else 90) * len(self._groups) + 60
            for name, each in names.items():
                for axis in each:
                    self.layout[axis].visible = name == view
        self._view, self.data = view, ()
        self.add_traces(traces)

    def show_tuning(self, shares: dict[str, tuple[list, list]], before: dict[str, list] | None, at: int):
        """For each group shares (refused, right code) after every step, a line at step `at`; `before`: refused by the
        run before."""
        traces, last = [], max(1, *(len(refused) - 1 for refused, _ in shares.values()))
        for number, (group, curves) in enumerate(shares.items()):
            axis = _number("y", number)
            past = (before or {}).get(group, [])[: last + 1]
            grey = go.Scatter(x=list(range(len(past))), y=past, mode="lines", yaxis=axis, visible=bool(past))
            grey.update(line={"color": OKABE_ITO["grey"], "dash": "dot", "width": 2})
            traces.append(grey.update(hovertemplate="the run before, step %{x}: refused %{y:.0%}<extra></extra>"))
            for (name, colour, symbol, dash), values in zip(LINES, curves, strict=True):
                line = go.Scatter(x=list(range(len(values))), y=list(values), mode="lines+markers+text", yaxis=axis)
                line.update(line={"color": OKABE_ITO[colour], "dash": dash}, marker={"symbol": symbol, "size": 7})
                labelled = 0 if name == "refused" else len(values) - 1
                line.update(text=[name if place == labelled else "" for place in range(len(values))])
                line.textposition = "top right" if name == "refused" else "top left"
                line.textfont = {"color": OKABE_ITO[colour]}
                traces.append(line.update(hovertemplate=f"{group}, step %{{x}}: {name} %{{y:.0%}}<extra></extra>"))
            here = go.Scatter(x=[at, at], y=[0, 1], mode="lines", yaxis=axis, hoverinfo="skip")
            traces.append(here.update(line={"color": "#222222", "width": 1}))
        self._draw("tuning", traces, {"xaxis": {"range": [-0.3, last + 0.3], "dtick": max(1, -(-last // 16))}})

    def show_guard(self, scores: dict[str, list], wrong: dict[str, list], asked: dict[str, list], threshold: float):
        """Every request at its score; those that the guard is wrong about as crosses; a line at the threshold."""
        axes, count, traces = self._guard, len(scores), []
        for kind, colour, symbol in (("right", "grey", "circle-open"), ("wrong", "vermillion", "x")):
            xs, ys, texts = [], [], []
            for row, (group, each) in enumerate(scores.items()):
                places = spread_out(len(each), row)
                for place, score in enumerate(each):
                    if (place in wrong[group]) == (kind == "wrong"):
                        xs.append(score)
                        ys.append(places[place])
                        texts.append(asked[group][place])
            dots = go.Scatter(x=xs, y=ys, text=texts, mode="markers", xaxis=f"x{axes}", yaxis=f"y{axes}")
            dots.update(marker={"color": OKABE_ITO[colour], "symbol": symbol, "size": 7})
            traces.append(dots.update(hovertemplate="%{text}<br>score %{x:.2f}<extra></extra>"))
        line = go.Scatter(x=[threshold] * 2, y=[-0.5, count - 0.5], mode="lines", xaxis=f"x{axes}", yaxis=f"y{axes}")
        traces.append(line.update(line={"color": OKABE_ITO["blue"], "width": 3}, hoverinfo="skip"))
        ticks = [f"{name}<br>{len(wrong[name])} of {len(scores[name])} wrong" for name in scores]
        names = {"tickvals": list(range(count)), "ticktext": ticks, "range": [count - 0.5, -0.5]}
        self._draw("guard", traces, {f"yaxis{axes}": names})


def _number(axis: str, number: int) -> str:
    return axis if number == 0 else f"{axis}{number + 1}"


def _panel_axes(groups: list[str]) -> dict:
    """The y axes of the panels, the first group's above."""
    height, axes = 1 / len(groups), {}
    for number, group in enumerate(groups):
        top = 1 - number * height
        axes[_number("yaxis", number)] = {
            "domain": [top - height + 0.04, top],
            "range": [-0.08, 1.35],
            "tickvals": [0, 0.5, 1],
            "tickformat": ".0%",
            "title": {"text": f"{group}<br>share", "standoff": 4},
            "gridcolor": "#e6e6e6",
            "zeroline": False,
            "automargin": True,
        }
    return axes


def _layout(groups: list[str]) -> dict:
    guard, plain = len(groups) + 1, {"showgrid": False, "zeroline": False, "automargin": True}
    score = "score of a request; what is on the line or right of it is blocked"
    return {
        "template": "plotly_white",
        "autosize": True,
        "margin": {"l": 8, "r": 16, "t": 8, "b": 8},
        "showlegend": False,
        "font": {"size": 12, "color": "#222222"},
        "plot_bgcolor": "rgba(0,0,0,0)",  # the views' axes overlap: an opaque one would cover another view
        "xaxis": plain | {"anchor": _number("y", len(groups) - 1), "title": "steps"},
        f"xaxis{guard}": plain | {"anchor": f"y{guard}", "range": [-0.02, 1.02], "title": score},
        f"yaxis{guard}": plain | {"anchor": f"x{guard}"},
        **_panel_axes(groups),
    }
