"""RoutingExplorer: type a text, see which experts serve each token, in every layer, with and without the bias.

The explorer asks `minimoe.inference.routing_trace` what the routers do and hands the arrays to the canvas in
`heatmap.py`. It computes nothing of its own, so what it shows is what the model does.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: nobody looks at single tokens there; the same loads, summed over a day's traffic,
decide which experts get a second copy (EPLB).
"""

import threading

import ipywidgets as widgets

from minimoe.inference.routing_trace import changed_choices, trace_routing
from minimoe_widgets.heatmap import COLOURS, RoutingHeatMap, pack_frame
from minimoe_widgets.routing_figure import alt_text, draw_twin, title
from minimoe_widgets.text_input import encode, labels, said
from minimoe_widgets.twin import Twin

__all__ = ["RoutingExplorer"]

TEXT = "a large animal with a long tail that lives in the forest and eats the leaves of trees"


class _Side:
    """One model: its text as tokens, and its routing with and without the bias."""

    def __init__(self, model, tokenizer, name: str):
        if not model.routers():
            raise ValueError(
                f"{name} has no MoE layer (n_routed_experts={model.config.n_routed_experts}, "
                f"first_k_dense_replace={model.config.first_k_dense_replace}): there is no routing to show"
            )
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.canvas = RoutingHeatMap(layout={"flex": "1 1 330px", "min_width": "0", "overflow": "hidden"})

    def read(self, text: str) -> str:
        """Route `text`; gives the notice about a text that was cut. On an error nothing has changed."""
        ids, notice = encode(self.tokenizer, text, self.model.config.max_position_embeddings)
        with_bias, without = trace_routing(self.model, ids), trace_routing(self.model, ids, use_bias=False)
        self.traces, self.tokens = {True: with_bias, False: without}, labels(self.tokenizer, ids)
        return notice

    def layer_name(self, layer: int) -> str:
        trunk = self.model.config.num_hidden_layers
        return f"layer {layer}" if layer < trunk else f"MTP layer {layer}"

    def picture(self, layer: int, use_bias: bool):
        """Title, alt text, token labels and trace of one layer."""
        trace = self.traces[use_bias][layer]
        name = self.layer_name(layer)
        name = f"{self.name}, {name}" if self.name else name[0].upper() + name[1:]
        return title(name, trace, use_bias), alt_text(name, trace, use_bias), self.tokens[: len(trace.scores_ME)], trace

    def hover(self, layer: int) -> list[str]:
        """The words said when a token is pointed at; an MTP layer reads two tokens at each position."""
        depth = layer - self.model.config.num_hidden_layers + 1
        if depth < 1:
            return self.tokens
        return [f"{here} … {ahead}" for here, ahead in zip(self.tokens, self.tokens[depth:], strict=False)]

    def bias_effect(self, layer: int) -> str:
        """What the bias changes in this layer, in one sentence."""
        on, off = self.traces[True].get(layer), self.traces[False].get(layer)
        if on is None:
            return f"{self.name or 'This model'} has no routing in layer {layer}."
        if self.model.routers()[layer].e_score_correction_bias is None:
            return "This router has no selection bias."
        changed, total = changed_choices(on, off), int(on.chosen_ME.sum())
        return (
            f"In {self.layer_name(layer)} the bias decides {changed} of {total} choices; "
            f"MaxVio {off.max_violation:.2f} without it, {on.max_violation:.2f} with it."
        )


class RoutingExplorer(widgets.VBox):
    """Tokens x experts of every layer of `model`, for a text that can be edited.

    Takes a `minimoe.Transformer` and its tokenizer (anything with `encode` and `decode`); `other`, a second (model,
    tokenizer), is shown beside the first; `names` says which is which; `layer` is where it opens (default: where the
    bias changes most). Raises `ValueError` for an empty text and for a model without MoE layers. Chapters 00 and 03.
    """

    def __init__(
        self, model, tokenizer, text: str = TEXT, other=None, names=("first", "second"), layer: int | None = None
    ):
        pairs = [(model, tokenizer)] + ([tuple(other)] if other is not None else [])
        self._lock = threading.RLock()
        self._sides = [
            _Side(*pair, name if other is not None else "") for pair, name in zip(pairs, names, strict=False)
        ]
        notices = [side.read(text) for side in self._sides]
        layers = sorted({number for side in self._sides for number in side.traces[True]})
        if layer is None:
            layer = self._busiest_layer()
        if layer not in layers:
            raise ValueError(f"layer={layer} does not route; the layers that do are {layers}")
        self._build(text, layers, layer)
        super().__init__(self._arrange())
        self._show(notices)

    def _busiest_layer(self) -> int:
        first = self._sides[0]
        on, off = first.traces[True], first.traces[False]
        trunk = [
            n for n in on if n < first.model.config.num_hidden_layers
        ]  # the MTP module comes after the trunk is seen
        return max(trunk, key=lambda n: (changed_choices(on[n], off[n]), on[n].max_violation))

    def _build(self, text, layers, layer):
        wide = {"description_width": "auto"}
        name = self._sides[0].layer_name
        self.text = widgets.Textarea(text, description="Text", rows=2, style=wide, layout={"width": "98%"})
        self.layer = widgets.SelectionSlider(
            options=[(name(n), n) for n in layers],
            value=layer,
            description="Layer",
            layout={"width": "330px", "max_width": "100%"},
        )
        self.bias = widgets.Checkbox(True, description="selection bias on", indent=False, layout={"width": "160px"})
        self.colour = widgets.Dropdown(
            options=list(COLOURS), description="Colour shows", style=wide, layout={"width": "230px"}
        )
        self.hint = widgets.HTML(said("Try first: untick “selection bias on” and watch the bars at the right."))
        self.notice = widgets.HTML()
        self.text.observe(self._on_text, "value")
        for control in (self.layer, self.bias, self.colour):
            control.observe(self._on_view, "value")

    def _arrange(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        controls = widgets.Box([self.layer, self.bias, self.colour], layout=flow)
        maps = widgets.Box([side.canvas for side in self._sides], layout={"flex_flow": "row wrap", "width": "100%"})
        return [self.hint, self.text, controls, maps, self.notice]

    def _on_text(self, change):
        with self._lock:
            try:
                notices = [side.read(change["new"]) for side in self._sides]
            except ValueError as error:
                self._say([f"The picture still shows the last text: {error}."])
                return
            self._show(notices)

    def _on_view(self, change):
        with self._lock:
            self._show([])

    def _show(self, notices):
        layer, use_bias = self.layer.value, self.bias.value
        for side in self._sides:
            has_layer = layer in side.traces[use_bias]
            side.canvas.layout.visibility = "visible" if has_layer else "hidden"
            if has_layer:
                heading, alt, tokens, trace = side.picture(layer, use_bias)
                side.canvas.frame = pack_frame(trace, tokens, side.hover(layer), self.colour.value, heading, alt)
        self._say([*notices, *(side.bias_effect(layer) for side in self._sides)])

    def _say(self, sentences):
        self.notice.value = said(" ".join(s for s in sentences if s))

    def _pictures(self, layer, use_bias):
        layer = self.layer.value if layer is None else layer
        use_bias = self.bias.value if use_bias is None else use_bias
        pictures = [side.picture(layer, use_bias) for side in self._sides if layer in side.traces[use_bias]]
        if not pictures:
            raise ValueError(
                f"layer={layer} does not route; the layers that do are {[n for _, n in self.layer.options]}"
            )
        return pictures

    def static(self, layer: int | None = None, use_bias: bool | None = None) -> Twin:
        """The same state (or another layer, or bias on or off) as a matplotlib figure that needs no kernel."""
        with self._lock:
            return draw_twin(self._pictures(layer, use_bias), self.colour.value)

    def alt_text(self, layer: int | None = None, use_bias: bool | None = None) -> str:
        """The picture in words."""
        with self._lock:
            return " ".join(alt for _, alt, _, _ in self._pictures(layer, use_bias))

    def __repr__(self) -> str:
        return "RoutingExplorer (live: run this cell in Jupyter; the figure below shows the same state)"
