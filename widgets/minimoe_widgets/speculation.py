"""SpeculationExplorer: drafted, kept and rejected tokens as they come, beside plain decoding on the same clock.

The explorer lets `minimoe.generate` continue a prompt twice and plays both runs back. What is kept and what is struck
out, and how long each call took, comes from the runs; the explorer draws it. Above temperature 0 the two texts differ,
because they are two draws; that both come from one distribution is chapter 05's to show.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: speculation is judged on a day's traffic and not on one prompt.
"""

import threading

import ipywidgets as widgets
import torch

from minimoe_widgets.speculation_figure import alt_text, draw_twin, title
from minimoe_widgets.speculation_run import race
from minimoe_widgets.speculation_stream import SpeculationStream, pack_race
from minimoe_widgets.text_input import encode, label, said
from minimoe_widgets.twin import Twin

__all__ = ["SpeculationExplorer"]

TEXT = "forest (noun):"
RANDOM_TOKENS = 8
HINT = "raise the temperature, then look at which drafts are struck out, and whether fewer calls were less time."


class SpeculationExplorer(widgets.VBox):
    """A prompt continued by `model`, plainly and with its MTP module's drafts, side by side on one clock.

    Takes a `minimoe.Transformer` with an MTP module; without `tokenizer` the prompt is a fixed draw of random tokens
    and tokens are shown as numbers. `temperature`, `new_tokens` and `seed` are where it opens. Raises `ValueError` for
    a model without an MTP module, for an empty text, and for a context that leaves no room. Chapter 05.
    """

    def __init__(
        self, model, tokenizer=None, text: str = TEXT, temperature: float = 0.0, new_tokens: int = 48, seed: int = 0
    ):
        if model.config.num_nextn_predict_layers == 0:
            raise ValueError(
                "this model has no MTP module (num_nextn_predict_layers=0), so nothing can draft; "
                "train or load one with num_nextn_predict_layers=1"
            )
        self.model, self.tokenizer, self._seed = model, tokenizer, seed
        self._lock = threading.RLock()
        self._context = model.config.max_position_embeddings
        if self._context < 4:
            raise ValueError(f"the context is {self._context} tokens; two lanes of decoding need at least 4")
        self._build(text, temperature, min(new_tokens, self._context // 2))
        super().__init__([self.hint, self.text, self._controls(), self.stream, self.notice])
        self._run(text)
        for control in (self.text, self.temperature, self.new_tokens):
            control.observe(self._on_change, "value")
        self.again.on_click(self._on_again)

    def _build(self, text, temperature, new_tokens):
        style, narrow = {"description_width": "auto"}, {"width": "330px", "max_width": "100%"}
        self.hint = widgets.HTML(said(f"Try first: {HINT}"))
        self.text = widgets.Text(
            text, description="Prompt", style=style, layout={"width": "98%"}, continuous_update=False
        )
        if self.tokenizer is None:
            self.text.value, self.text.disabled = "(random tokens: no tokenizer was given)", True
        self.temperature = widgets.FloatSlider(
            temperature, min=0.0, max=1.5, step=0.1, description="Temperature", readout_format=".1f", style=style,
            layout=narrow, continuous_update=False,
        )  # fmt: skip
        self.new_tokens = widgets.IntSlider(
            new_tokens, min=2, max=min(96, self._context // 2), description="New tokens", style=style, layout=narrow,
            continuous_update=False,
        )  # fmt: skip
        self.again = widgets.Button(description="Draw again", layout={"width": "120px"})
        self.stream = SpeculationStream(layout={"width": "100%", "min_width": "0"})
        self.notice = widgets.HTML()

    def _controls(self):
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        return widgets.Box([self.temperature, self.new_tokens, self.again], layout=flow)

    def _on_change(self, change):
        with self._lock:
            self._try()

    def _on_again(self, button):
        with self._lock:
            self._seed += 1
            self._try()

    def _try(self):
        try:
            self._run(self.text.value)
        except ValueError as error:
            self._say(f"The picture still shows the last run: {error}.")

    def _run(self, text):
        """Continue `text` both ways and show it. On an error nothing has changed."""
        room = self._context - self.new_tokens.value
        ids, notice = self._prompt(text, room)
        self._runs = race(self.model, ids, self.new_tokens.value, self.temperature.value, self._seed)
        self._shown = self.temperature.value
        self.again.disabled = self._shown == 0
        self.stream.frame = pack_race(self._runs, self._label, title(*self._runs), self.alt_text())
        self._say(f"{notice} {self._comment()}")

    def _prompt(self, text, room) -> tuple[list[int], str]:
        if self.tokenizer is None:
            count, generator = min(RANDOM_TOKENS, room), torch.Generator().manual_seed(0)
            ids = torch.randint(self.model.config.vocab_size, (count,), generator=generator).tolist()
            return ids, f"No tokenizer was given: the prompt is {count} random tokens."
        return encode(self.tokenizer, text, room)

    def _label(self, token: int) -> str:
        if self.tokenizer is None:
            return str(token)
        text = label(self.tokenizer, token)
        if text.startswith("<｜") and text.endswith("｜>"):  # "<｜end▁of▁sentence｜>" would fill half a line
            return f"⟨{text[2:-2].split('▁')[0]}⟩"
        return text

    def _comment(self) -> str:
        plain, speculative = self._runs
        if self._shown > 0:
            return "Two draws from one distribution: the texts differ, their statistics do not."
        if plain.tokens == speculative.tokens:
            return "Temperature 0: both lanes say the same, token for token."
        return "Temperature 0, and the lanes differ: two logits are equal up to rounding."

    def _say(self, text):
        self.notice.value = said(text.strip())

    def static(self) -> Twin:
        """The same runs as a matplotlib figure that needs no kernel."""
        with self._lock:
            return draw_twin(self._runs, self._label, title(*self._runs), self.alt_text())

    def alt_text(self) -> str:
        """The picture in words."""
        with self._lock:
            return alt_text(*self._runs, self._shown)

    def __repr__(self) -> str:
        return "SpeculationExplorer (live: run this cell in Jupyter; the figure below shows the same state)"
