"""BalanceExplorer: watch experts collapse, switch the balancing while the model trains, watch them recover.

The cell returns at once; `balance_run` trains in a thread, and a second thread looks a few times a second at what it
has recorded and hands a picture to the canvas. The explorer computes nothing of its own.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), and so does the picture
of a running model, hence the lock.

How the production version differs: the picture is a dashboard of a job with thousands of GPUs, and whoever watches it
has an alert for MaxVio and no button.
"""

import threading

import ipywidgets as widgets

from minimoe_widgets.balance_canvas import BalanceCanvas, pack_frame
from minimoe_widgets.balance_run import STEPS, LiveRun, live_settings
from minimoe_widgets.balance_stream import Stream
from minimoe_widgets.balance_twin import draw_twin
from minimoe_widgets.balance_words import alt_text, title
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["BalanceExplorer"]

PAUSE_S = 0.25
BALANCE = {"none": "none", "loss-free": "loss_free", "auxiliary loss": "aux"}
GAMMAS = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1)
ALPHAS = (0.0001, 0.001, 0.01, 0.1, 1.0)
HINT = "Try first: press Start, wait until MaxVio is above 2, then choose “loss-free” while it runs."
RECORDED = "This is a recorded run. Start trains a model here, from step 1."


class BalanceExplorer(widgets.VBox):
    """Load of every expert, MaxVio and loss of a model that trains while you watch and switch its balancing.

    Takes documents (lists of token ids); `model`, a `ModelConfig`, or a `Transformer` of which a copy is trained
    further (default: NANO without MTP); `recording`, records or a file of them, which is shown until the first start;
    `balance` and `layer`, where it opens; the learning rate, the seed, and the shape of a batch. `model` is the model
    as it is now. Raises `ValueError` as `LiveRun` does, and for a recording of another shape. Chapter 04.
    """

    def __init__(
        self, documents, model=None, recording=None, balance: str = "none", layer: int | None = None, lr: float = 1e-2,
        seed: int = 0, sequences: int = 8, row_tokens: int = 64,
    ):  # fmt: skip
        self._lock = threading.RLock()
        self._closed = False
        settings = live_settings(balance=balance, lr=lr)
        self.live = LiveRun(documents, model, settings, seed, sequences, row_tokens)
        self._recorded = self._checked(recording)
        self._build(settings, layer)
        self.canvas = BalanceCanvas(layout={"width": "100%", "min_width": "0", "overflow": "hidden"})
        super().__init__(self._arrange())
        self._observe()
        self._show_state()
        self._draw()

    @property
    def model(self):
        """The model in training, as it is now."""
        return self.live.model

    @property
    def records(self) -> list[dict]:
        """One record for each step made so far."""
        return list(self.live.read().records)

    def _checked(self, recording) -> Stream | None:
        if recording is None:
            return None
        stream = Stream(recording) if isinstance(recording, list) else Stream.load(recording)
        if stream.layers != self.live.layers:
            raise ValueError(f"the recording has layers {stream.layers}, this model routes in {self.live.layers}")
        experts = len(stream.records[0]["load"][str(stream.layers[0])])
        if experts != self.live.config.n_routed_experts:
            raise ValueError(f"the recording has {experts} experts, this model {self.live.config.n_routed_experts}")
        return stream

    def _layer_name(self, layer: int) -> str:
        return f"Layer {layer}" if layer < self.live.config.num_hidden_layers else f"MTP layer {layer}"

    def _build(self, settings, layer):
        layers, trunk = self.live.layers, self.live.config.num_hidden_layers
        layer = max([n for n in layers if n < trunk], default=layers[0]) if layer is None else layer
        if layer not in layers:
            raise ValueError(f"layer={layer} does not route; the layers that do are {layers}")
        button = {"width": "90px"}
        self.start = widgets.Button(description="Start", icon="play", button_style="primary", layout=button)
        self.stop = widgets.Button(description="Stop", icon="stop", layout=button)
        self.reset = widgets.Button(
            description="Reset", icon="undo", layout=button, tooltip="Begin anew with an untrained model"
        )
        self.balance = widgets.ToggleButtons(options=BALANCE, value=settings.balance)
        self.balance.style.button_width = self.balance.layout.width = "auto"
        self.gamma = _slider("γ (bias step)", [(f"{x:g}", x) for x in GAMMAS], settings.bias_gamma)
        self.alpha = _slider("α (weight)", [(f"{x:g}", x) for x in ALPHAS], settings.aux_alpha)
        self.layer = _slider("Layer", [(self._layer_name(n).lower().replace("mtp", "MTP"), n) for n in layers], layer)
        shown = {"last 240 steps": False, "whole run": True}
        self.shown = widgets.Dropdown(options=shown, value=False, description="Show", layout={"width": "190px"})
        self.shown.style.description_width = "auto"
        self.pace, self.notice = widgets.HTML(), widgets.HTML()

    def _arrange(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%", "overflow": "visible"}
        run = widgets.Box([self.start, self.stop, self.reset, self.pace], layout=flow)
        self._strength = widgets.Box([self.gamma], layout={"overflow": "visible"})
        balance = widgets.Box([widgets.Label("Balancing"), self.balance, self._strength], layout=flow)
        view = widgets.Box([self.layer, self.shown], layout=flow)
        return [widgets.HTML(said(HINT)), run, balance, view, self.notice, self.canvas]

    def _observe(self):
        self.start.on_click(self._guarded(self._on_start))
        self.stop.on_click(self._guarded(self._on_stop))
        self.reset.on_click(self._guarded(self._on_reset))
        for control in (self.balance, self.gamma, self.alpha):
            control.observe(self._guarded(self._on_change), "value")
        for control in (self.layer, self.shown):
            control.observe(self._guarded(self._on_view), "value")

    def _guarded(self, act):
        """`act` under the lock; what it raises is said in the explorer, since a callback has nobody to raise to."""

        def call(_):
            with self._lock:
                try:
                    act()
                except Exception as error:
                    self._say(f"{type(error).__name__}: {error}")

        return call

    def _on_start(self):
        self._recorded = None
        self.live.start()
        self._show_state()
        threading.Thread(target=self._follow, args=(self.live.run,), name="minimoe explorer", daemon=True).start()

    def _on_stop(self):
        self.live.stop()
        self._draw()
        self._show_state()

    def _on_reset(self):
        self._recorded = None
        self.live.reset()
        self.canvas.frame = {}
        self._show_state()

    def _on_change(self):
        changes = {"balance": self.balance.value, "bias_gamma": self.gamma.value, "aux_alpha": self.alpha.value}
        self.live.change(**changes)
        self._draw()
        self._show_state()

    def _on_view(self):
        self._draw()

    def _follow(self, run):
        """Draw while `run` goes on, a few times a second, and once after it."""
        wait = threading.Event()
        while run.running and not self._closed:
            wait.wait(PAUSE_S)
            self._guarded(self._draw)(None)
        if not self._closed:
            self._guarded(self._show_state)(None)
            self._guarded(self._draw)(None)

    def _draw(self):
        stream = self._recorded or self.live.read()
        if len(stream) == 0 or self._closed:
            return
        window = stream.window(self.layer.value, self.shown.value)
        name, config = self._layer_name(self.layer.value), self.live.config
        names = {n: self._layer_name(n) for n in stream.layers}
        most = config.n_routed_experts / config.num_experts_per_tok
        heading, alt = title(name, window), alt_text(name, window)
        self.canvas.frame = pack_frame(window, heading, alt, names, most, self.shown.value)
        self.pace.value = "" if self._recorded else f"&ensp;step {len(stream)}, {self.live.pace():.1f} steps a second"
        if self.live.running:
            self._say(self._state())

    def _state(self) -> str:
        """Where the run stands, in a sentence."""
        live, steps = self.live, len(self.live.stream)
        if self._recorded:
            return RECORDED
        if live.error is not None:
            return f"The run ended at step {steps} with {type(live.error).__name__}: {live.error}"
        if live.running:
            return f"Training; {live.message}." if live.message else "Training."
        if live.run.done:
            return f"The run is over: {STEPS} steps. Reset begins a new one."
        if steps == 0:
            return "Nothing is trained yet: press Start."
        return f"Stopped{' since ' + live.reason if live.reason else ''}. Start goes on where it stopped."

    def _show_state(self):
        running, live = self.live.running, self.live
        self.start.disabled, self.stop.disabled = running or live.run.done, not running
        self._strength.children = {"loss_free": [self.gamma], "aux": [self.alpha], "none": []}[self.balance.value]
        words = [self._state()]
        if self.balance.value == "loss_free" and not live.config.uses_bias:
            words.append("This model's routers have no selection bias, so loss-free balancing cannot act.")
        self._say(" ".join(words))

    def _say(self, text: str):
        value = said(text)
        if value != self.notice.value:  # a screen reader reads it out each time it is set
            self.notice.value = value

    def close(self):
        """Stop the run and take the widget off the page."""
        self._closed = True
        if hasattr(self, "live"):  # a widget is closed also when its making failed
            self.live.stop()
        super().close()

    def static(self, layer: int | None = None) -> Twin:
        """The run so far, or the recording, as a matplotlib figure that needs no kernel."""
        with self._lock:
            stream = self._recorded or self.live.read()
            if len(stream) == 0:
                return Twin("No step is trained yet, so there is nothing to see: press Start.", 6.4, 0.6)
            layer = self.layer.value if layer is None else layer
            window, name = stream.window(layer, whole=True), self._layer_name(layer)
            worst = self.live.config.n_routed_experts / self.live.config.num_experts_per_tok - 1
            return draw_twin(window, title(name, window), alt_text(name, window), worst)

    def alt_text(self, layer: int | None = None) -> str:
        """The picture in words."""
        return self.static(layer).alt

    def __repr__(self) -> str:
        return "BalanceExplorer (live: run this cell in Jupyter; the figure below shows a run)"


def _slider(name, options, value):
    layout = {"width": "300px", "max_width": "100%"}
    slider = widgets.SelectionSlider(options=list(options), value=value, description=name, layout=layout)
    slider.style.description_width = "auto"
    return slider
