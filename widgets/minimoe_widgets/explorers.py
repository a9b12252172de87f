"""Explorers: every explorer on any model, one tab each. The model is picked from a list, or its folder is named.

A tab's explorer is made when the tab is opened and closed when another is opened: a plot brings five megabytes to the
page, a training run takes a whole core, and a reader looks at one thing at a time.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: these are five teams' tools, on five addresses.
"""

import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import comm
import ipywidgets as widgets

from minimoe.rl.record import GROUPS_NAME
from minimoe.rl.refusal import ASKED, answer
from minimoe.tokenizer import SPECIAL_TOKENS
from minimoe.training import load_corpus
from minimoe.training.loop import LOG_NAME
from minimoe_widgets.balance import BalanceExplorer
from minimoe_widgets.balance_run import default_config
from minimoe_widgets.compression import CompressionExplorer
from minimoe_widgets.context import ContextExplorer
from minimoe_widgets.fp8 import FP8Explorer
from minimoe_widgets.fp8_scales import MOST_COLUMNS, MOST_ROWS
from minimoe_widgets.grouped import GroupedExplorer
from minimoe_widgets.kernel_stepper import KernelStepper
from minimoe_widgets.kernel_timings import KernelTimings
from minimoe_widgets.model_folder import ModelFolder, open_folder, shipped
from minimoe_widgets.refusal import RefusalExplorer
from minimoe_widgets.rollout import RolloutExplorer
from minimoe_widgets.routing import RoutingExplorer
from minimoe_widgets.speculation import SpeculationExplorer
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["Explorers"]

OWN = "a folder of mine"
# Tabs as wide as their names, in as many rows as they need.
STYLE = """<style>
.minimoe-tabs > .lm-TabBar, .minimoe-tabs > .lm-TabBar > .lm-TabBar-content { height: auto; flex-wrap: wrap; }
.minimoe-tabs > .lm-TabBar .lm-TabBar-tab { flex: 0 0 auto; min-width: 0; }
</style>"""
MARKS = set(SPECIAL_TOKENS[:2])  # begin and end of a document
DOCUMENTS = 2000
MOST_TRAINED = 20_000_000  # parameters; above, a step of training takes many seconds


class Explorers(widgets.VBox):
    """A picker of models and a tab for each explorer; only the open tab's explorer exists.

    Takes the course's `data` folder, whose models are listed and whose `wordnet` is what BalanceExplorer trains on;
    `model` is the one it opens with. `tabs` are their names. What an explorer cannot show of a model, its tab says. The
    Rollout tab shows recorded training, the model's own or that of `zero`; the Refusal tab tunes the model if it was
    taught to refuse, else R1; FP8 shows the model's own weights. The last four tabs are about kernels, not models.
    """

    def __init__(self, data, model: str = "nano"):
        self._lock = threading.RLock()
        self._data = Path(data)
        self._corpus, self.folders = load_corpus(self._data / "wordnet").train, shipped(data)
        if model not in self.folders:
            raise ValueError(f"model={model!r} is not among the models of {data}: {', '.join(self.folders)}")
        self._opened: ModelFolder | None = None
        self._makers = {
            "Routing": self._routing,
            "Compression": self._compression,
            "Balance": self._balance,
            "Speculation": self._speculation,
            "Context": self._context,
            "Rollout": self._rollout,
            "Refusal": self._refusal,
            "FP8": self._fp8,
            "Grouped GEMM": lambda _: GroupedExplorer(),
            "Matmul": lambda _: KernelStepper(),
            "Decode": lambda _: KernelStepper.decode(),
            "Timings": lambda _: KernelTimings(),
        }
        self._build(model)
        super().__init__([self._picker, self.notice, widgets.HTML(STYLE), self.tab])
        self._open(self.folders[model])
        self._observe()

    @property
    def tabs(self) -> list[str]:
        """The names of the tabs."""
        return list(self._makers)

    @property
    def explorer(self):
        """The explorer in the open tab; None if it could not be made."""
        (shown,) = self.tab.children[self.tab.selected_index].children
        return shown if hasattr(shown, "static") else None

    def _build(self, model):
        style = {"description_width": "auto"}
        self.picker = widgets.Dropdown(options=[*self.folders, OWN], value=model, description="Model", style=style)
        self.path = widgets.Text(
            placeholder="path of a folder with config.json and *.safetensors", description="Folder", style=style,
            layout={"width": "min(520px, 70%)", "display": "none"}, continuous_update=False,
        )  # fmt: skip
        self.load = widgets.Button(description="Open", layout={"width": "80px", "display": "none"})
        self.notice = widgets.HTML()
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        self._picker = widgets.Box([self.picker, self.path, self.load], layout=flow)
        self.tab = widgets.Tab([widgets.VBox() for _ in self.tabs], titles=self.tabs, selected_index=0)
        self.tab.add_class("minimoe-tabs")

    def _observe(self):
        self.picker.observe(self._on_pick, "value")
        self.path.observe(self._on_path, "value")
        self.load.on_click(self._on_path)
        self.tab.observe(self._on_tab, "selected_index")

    def _on_pick(self, change):
        with self._lock:
            own = change["new"] == OWN
            self.path.layout.display = self.load.layout.display = None if own else "none"
            if not own:
                self._open(self.folders[change["new"]])

    def _on_path(self, _):
        with self._lock:
            self._open(self.path.value)

    def _on_tab(self, change):
        with self._lock:
            if change["old"] is not None:
                self._empty(self.tab.children[change["old"]])
            self._fill()

    def _open(self, folder):
        """Load the model in `folder` and show it in the open tab; on an error the last model stays."""
        try:
            self._opened = open_folder(folder)
        except (OSError, ValueError) as error:
            kept = " The model shown is still the last one." if self._opened else ""
            self.notice.value = said(f"Could not open it: {error}.{kept}")
            return
        self.notice.value = said(self._opened.summary)
        self._empty(self.tab.children[self.tab.selected_index])
        self._fill()

    def _fill(self):
        """Make the open tab's explorer; what it raises stands in its place."""
        index = self.tab.selected_index
        if index is None:
            return
        try:
            shown = self._makers[self.tabs[index]](self._opened)
        except ValueError as error:
            shown = widgets.HTML(said(f"Not for this model: {error}."))
        self.tab.children[index].children = [shown]

    def _empty(self, box):
        left, box.children = box.children, ()  # off the page first: a plot that is shown answers, and nobody would hear
        for explorer in left:
            _close(explorer)

    def _routing(self, opened: ModelFolder):
        return RoutingExplorer(opened.model, _needed(opened))

    def _compression(self, opened: ModelFolder):
        return CompressionExplorer(opened.model, opened.tokenizer)

    def _balance(self, opened: ModelFolder):
        size = sum(parameter.numel() for parameter in opened.model.parameters())
        if size > MOST_TRAINED:
            raise ValueError(f"it has {size:,} parameters; up to {MOST_TRAINED:,} can be trained while one watches")
        tokenizer = _needed(opened)
        marked = {"bos": True, "eos": True} if tokenizer.special_tokens.keys() >= MARKS else {}
        documents = [tokenizer.encode(text, **marked) for text in self._corpus[:DOCUMENTS]]
        # from new weights and without MTP: collapse shows in the first seconds, and twice as quickly
        config = replace(opened.model.config, num_nextn_predict_layers=0)
        recorded = self._data / "explorer" / "balance.jsonl" if config == default_config(config.vocab_size) else None
        return BalanceExplorer(documents, config, recorded)

    def _speculation(self, opened: ModelFolder):
        return SpeculationExplorer(opened.model, opened.tokenizer)

    def _context(self, opened: ModelFolder):
        return ContextExplorer(opened.model, opened.tokenizer)

    def _rollout(self, opened: ModelFolder):
        """The run that made the model, where its folder recorded one; else the course's R1-Zero."""
        own = (opened.folder / GROUPS_NAME).exists() and (opened.folder / LOG_NAME).exists()
        return RolloutExplorer(opened.folder if own else self._data / "zero")

    def _refusal(self, opened: ModelFolder):
        """The model where it refuses most of what is forbidden, else the course's R1."""
        if opened.tokenizer is None or answer(opened.model, opened.tokenizer, ASKED["plain"]).refused < 0.5:
            opened = open_folder(self._data / "r1" / "r1")
        return RefusalExplorer(opened.model, opened.tokenizer)

    def _fp8(self, opened: ModelFolder):
        """The first output projection of attention, or the part of it that can be shown."""
        weight_XZ = opened.model.model.layers[0].self_attn.o_proj.weight.detach()
        return FP8Explorer(weight_XZ[:MOST_ROWS, :MOST_COLUMNS])

    def static(self, tab: str | None = None) -> Twin:
        """The open tab's explorer, or that of the tab named `tab`, as a figure that needs no kernel."""
        with self._lock:
            if tab is None or tab == self.tabs[self.tab.selected_index]:
                if self.explorer is None:
                    raise ValueError("the open tab shows no explorer of this model")
                return self.explorer.static()
            with _unseen():
                explorer = self._makers[tab](self._opened)
                try:
                    return explorer.static()
                finally:
                    _close(explorer)

    def close(self):
        """Close the explorer of the open tab, and its training with it."""
        if hasattr(self, "tab"):  # a widget is closed also when its making failed
            with self._lock:
                for box in self.tab.children:
                    self._empty(box)
        super().close()

    def __repr__(self) -> str:
        return "Explorers (live: run this cell in Jupyter; the figures below show what each tab opens with)"


def _needed(opened: ModelFolder):
    if opened.tokenizer is None:
        raise ValueError("its folder has no tokenizer.json, so no text can be read")
    return opened.tokenizer


@contextmanager
def _unseen():
    """Widgets made in here are announced to no page: one that is closed at once is an error in the browser."""
    announced, comm.create_comm = comm.create_comm, comm.DummyComm
    try:
        yield
    finally:
        comm.create_comm = announced


def _close(widget):
    """Close a widget and all inside it: an explorer that only left the page would keep its data, and its thread."""
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
