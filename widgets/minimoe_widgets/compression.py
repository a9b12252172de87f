"""CompressionExplorer: what the cache costs, where heads look, and how much of the latent is used.

Three views of one question, whether MLA's small latent is a bargain. The bill compares MHA, GQA, MQA and MLA at sizes
of the reader's choice; the attention maps and the latent's spectrum are read from the reader's own model. The numbers
come from `minimoe.accounting` and `minimoe.inference`; the explorer draws them.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: the bill is the same and decides which batch fits on a GPU; the other two views
belong to research.
"""

import threading

import ipywidgets as widgets

from minimoe import V3
from minimoe_widgets import compression_words as words
from minimoe_widgets.cache_bill import bill
from minimoe_widgets.compression_figure import CompressionFigure
from minimoe_widgets.compression_twin import attention_twin, bill_twin, rank_twin
from minimoe_widgets.fit import fitted
from minimoe_widgets.model_reading import ModelReading
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["CompressionExplorer"]

TEXT = "a large animal with a long tail that lives in the forest and eats the leaves of trees"
VIEWS = {"What the cache costs": "bill", "Where heads look": "attention", "What the latent holds": "rank"}
HINTS = {
    "bill": "set the latent size to 2048 and see which of the others MLA still beats.",
    "attention": "move the head and look for one that reads the previous token.",
    "rank": "lower the rank until the loss moves, then look how little of the latent was left.",
}
PRECISIONS = {"8 bits": 8, "BF16": "bf16", "FP32": "fp32"}
MOST_OF_IT = 0.9  # the rank view opens where this share of the latent is kept


class CompressionExplorer(widgets.VBox):
    """Cache bytes by way of attention, and attention maps, spectrum and loss by rank of `model` on a text.

    Takes a `minimoe.Transformer`; without `tokenizer` the text is a fixed draw of random tokens. `view` is where it
    opens: "bill", "attention" or "rank". Raises `ValueError` for an empty text or an unknown view. Chapters 01 and
    02.
    """

    def __init__(self, model, tokenizer=None, text: str = TEXT, view: str = "bill"):
        if view not in VIEWS.values():
            raise ValueError(f"view={view!r} is not one of {', '.join(VIEWS.values())}")
        self.model, self.tokenizer = model, tokenizer
        self._lock = threading.RLock()
        self._reading = ModelReading(model, tokenizer, text)
        self._placed = set()  # views whose sliders already stand at an interesting place
        self.figure = CompressionFigure()
        self._build_bill()
        self._build_model(text)
        self.view = widgets.ToggleButtons(options=VIEWS, value=view, style={"button_width": "auto"})
        self.hint, self.title, self.notice = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.title.add_class("minimoe-title")
        self.panel = widgets.Box(layout={"flex_flow": "row wrap", "align_items": "center", "width": "100%"})
        super().__init__([self.view, self.hint, self.panel, self.title, fitted(self.figure), self.notice])
        self._observe()
        self._show()

    def _build_bill(self):
        config = self.model.config
        own_latent = config.kv_lora_rank or config.head_dim
        steps = sorted({2**n for n in range(8)} | {V3.num_attention_heads, config.num_attention_heads})
        latents = sorted({2**n for n in range(4, 12)} | {V3.kv_lora_rank, own_latent})
        lengths = {2**n for n in range(7, 21)} | {config.max_position_embeddings}
        self.base = widgets.Dropdown(
            options={"DeepSeek-V3": V3, "this model": config}, value=V3, description="Layers, widths of"
        )
        self.heads = _slider("Heads", steps, V3.num_attention_heads)
        self.latent = _slider("Latent size", latents, V3.kv_lora_rank)
        self.context = _slider("Context", [(_thousands(n), n) for n in sorted(lengths)], 2**17)
        self.batch = _slider("Batch", [2**n for n in range(10)], 1)
        self.precision = widgets.Dropdown(options=PRECISIONS, value="bf16", description="Precision")
        for dropdown in (self.base, self.precision):
            dropdown.style.description_width = "auto"
            dropdown.layout.width = "auto"

    def _build_model(self, text):
        config = self.model.config
        self.text = widgets.Textarea(text, description="Text", rows=2, layout={"width": "98%"})
        self.text.style.description_width = "auto"
        if self.tokenizer is None:
            self.text.value, self.text.disabled = "(random tokens: no tokenizer was given)", True
        self.layer = _slider("Layer", range(config.num_hidden_layers), 0)
        self.rank_layer = _slider("Layer", range(config.num_hidden_layers), config.num_hidden_layers - 1)
        self.head = _slider("Head", range(config.num_attention_heads), 0)
        self.rank = _slider("Rank kept", self._reading.ranks, self._reading.ranks[-1])

    def _observe(self):
        self.text.observe(self._on_text, "value")
        self.base.observe(self._on_base, "value")
        controls = (self.view, self.heads, self.latent, self.context, self.batch, self.precision)
        for control in (*controls, self.layer, self.head, self.rank_layer, self.rank):
            control.observe(self._on_change, "value")

    def _on_change(self, change):
        with self._lock:
            self._show()

    def _on_base(self, change):
        with self._lock:
            config = change["new"]
            self.heads.value = config.num_attention_heads
            self.latent.value = config.kv_lora_rank or config.head_dim
            self._show()

    def _on_text(self, change):
        with self._lock:
            try:
                self._reading = ModelReading(self.model, self.tokenizer, change["new"])
            except ValueError as error:
                self._say(f"The picture still shows the last text: {error}.")
                return
            self._show()

    def _show(self):
        view = self.view.value
        self._place(view)
        panels = {
            "bill": [self.base, self.heads, self.latent, self.context, self.batch, self.precision],
            "attention": [self.text, self.layer, self.head],
            "rank": [self.text, self.rank_layer, self.rank],
        }
        self.panel.children = panels[view]
        self.hint.value = said(f"Try first: {HINTS[view]}")
        reading = self._reading
        if view == "bill":
            self.figure.show_bill(self._lines())
        elif view == "attention":
            self.figure.show_attention(reading.maps[self.layer.value][self.head.value], reading.labels)
        else:
            spectra = reading.spectra[self.rank_layer.value]
            self.figure.show_rank(spectra, reading.ranks, reading.losses, self.rank.value)
        self.title.value = said(self._words()[0], bold=True)
        self._say("" if view == "bill" else reading.notice)

    def _place(self, view):
        """On its first showing, a view's sliders go where there is something to see."""
        if view in self._placed:
            return
        self._placed.add(view)
        reading = self._reading
        if view == "attention":
            self.layer.value, self.head.value = reading.sharpest_head()
        if view == "rank":
            enough = (r for r in reading.ranks if reading.share(self.rank_layer.value, r) >= MOST_OF_IT)
            self.rank.value = next(enough, reading.ranks[-1])

    def _lines(self):
        tokens = self.batch.value * self.context.value
        return bill(self.base.value, self.heads.value, self.latent.value, tokens, self.precision.value)

    def _words(self, view=None) -> tuple[str, str]:
        """Title and alt text of a view."""
        view, reading = view or self.view.value, self._reading
        if view == "bill":
            about = (self._lines(), self.batch.value, self.context.value)
            return words.bill_title(*about), words.bill_alt(*about)
        if view == "attention":
            about = (reading, self.layer.value, self.head.value)
            return words.attention_title(*about), words.attention_alt(*about)
        about = (reading, self.rank_layer.value, self.rank.value)
        return words.rank_title(*about), words.rank_alt(*about)

    def _say(self, notice):
        self.notice.value = said(notice)

    def static(self, view: str | None = None) -> Twin:
        """The same state (or another view of it) as a matplotlib figure that needs no kernel."""
        view = view or self.view.value
        if view not in VIEWS.values():
            raise ValueError(f"view={view!r} is not one of {', '.join(VIEWS.values())}")
        with self._lock:
            self._place(view)
            reading, (title, alt) = self._reading, self._words(view)
            if view == "bill":
                return bill_twin(self._lines(), title, alt)
            if view == "attention":
                return attention_twin(reading.maps[self.layer.value][self.head.value], reading.labels, title, alt)
            spectra = reading.spectra[self.rank_layer.value]
            return rank_twin(spectra, reading.ranks, reading.losses, self.rank.value, title, alt)

    def alt_text(self, view: str | None = None) -> str:
        """The picture in words."""
        with self._lock:
            self._place(view or self.view.value)
            return self._words(view)[1]

    def __repr__(self) -> str:
        return "CompressionExplorer (live: run this cell in Jupyter; the figure below shows the same state)"


def _slider(name, options, value):
    layout = {"width": "300px", "max_width": "100%"}
    return widgets.SelectionSlider(options=list(options), value=value, description=name, layout=layout)


def _thousands(n: int) -> str:
    return f"{n // 1024}K" if n >= 1024 and n % 1024 == 0 else str(n)
