"""GroupedExplorer: the tiles of a grouped product by expert, and the time that the loads cost on many multiprocessors.

The reader chooses loads (given by name, or typed), a tile and a way: a loop over experts, one launch, or the gradient
of the weights. Above stand the tiles with their padding, below the programs on the multiprocessors, with the gaps where
one waits.

Callbacks may arrive on another thread than the one that runs cells (JupyterLab uses subshells), hence the lock.

How the production version differs: Nsight Systems shows such bars as recorded on a GPU.
"""

import threading

import ipywidgets as widgets

from minimoe_widgets.grouped_picture import Picture
from minimoe_widgets.grouped_schedule import WAYS
from minimoe_widgets.text_input import said
from minimoe_widgets.twin import Twin

__all__ = ["GroupedExplorer"]

HINT = "set Way to one launch, then Loads to another router. Which way feels the loads, and which only the padding?"
TILES = (4, 8, 16, 32, 64, 128)
EVEN, TYPED = {"even": (64,) * 8}, "typed below"
MOST_PROGRAMS, MOST_EXPERTS = 2000, 32


class GroupedExplorer(widgets.VBox):
    """Tiles and schedule of a grouped product.

    `loads`: {name: tokens of each expert}, such as `routing.load_E` of the reader's own model. `tile`: rows of a tile;
    `across`: tiles beside each other; `processors`: multiprocessors; `way`: one of "loop over experts", "one launch",
    "weight gradient". The unit of time is one tile's product: a count, never a measurement.
    Raises `ValueError` for loads, tiles or ways that are none. Chapter 15.
    """

    def __init__(self, loads=None, tile: int = 32, across: int = 4, processors: int = 12, way: str = WAYS[0]):
        self.loads = {name: _checked(load_E) for name, load_E in (loads or EVEN).items()}
        if tile not in TILES or way not in WAYS:
            raise ValueError(f"tile={tile}, way={way!r}: tiles are {TILES}, ways {WAYS}")
        if not (1 <= across <= 16 and 1 <= processors <= 32):
            raise ValueError(f"across={across}, processors={processors}: 1 to 16 and 1 to 32")
        self._lock, self._picture = threading.RLock(), None
        self._build(tile, across, processors, way)
        flow = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        first = widgets.Box([self.which, self.way, self.tile], layout=flow)
        second = widgets.Box([self.across, self.processors, self.typed], layout=flow)
        super().__init__([self.hint, first, second, self.title, self.canvas, self.notice])
        self._show()
        for control in (self.which, self.way, self.tile, self.across, self.processors, self.typed):
            control.observe(self._on_change, "value")

    def _build(self, tile, across, processors, way):
        auto, names = {"description_width": "auto"}, [*self.loads, TYPED]
        narrow, wide = {"width": "230px", "max_width": "100%"}, {"width": "420px", "max_width": "100%"}
        self.which = widgets.Dropdown(options=names, description="Loads", layout=narrow, style=auto)
        self.way = widgets.Dropdown(options=WAYS, value=way, description="Way", layout=narrow, style=auto)
        self.tile = widgets.Dropdown(options=TILES, value=tile, description="Rows of a tile", style=auto,
                                     layout={"width": "180px", "max_width": "100%"})  # fmt: skip
        looks = {"layout": narrow, "style": auto, "continuous_update": False}
        self.across = widgets.IntSlider(across, min=1, max=16, description="Tiles beside", **looks)
        self.processors = widgets.IntSlider(processors, min=1, max=32, description="Multiprocessors", **looks)
        first = ", ".join(map(str, next(iter(self.loads.values()))))
        self.typed = widgets.Text(first, description="Typed", layout=wide, style=auto, continuous_update=False)
        self.hint, self.title = widgets.HTML(said(f"Try first: {HINT}")), widgets.HTML()
        self.canvas, self.notice = widgets.HTML(layout={"width": "100%", "min_width": "0"}), widgets.HTML()

    def _on_change(self, change):
        with self._lock:
            if change["owner"] is self.typed:
                self.which.value = TYPED
            self._show()

    def _show(self):
        try:
            name = self.which.value
            load_E = _checked(self.typed.value.split(",")) if name == TYPED else self.loads[name]
            rows, tile, across = sum(load_E), self.tile.value, self.across.value
            if (rows // tile + len(load_E)) * across > MOST_PROGRAMS:
                raise ValueError(f"{rows} rows in tiles of {tile}, {across} beside: above {MOST_PROGRAMS} programs")
        except ValueError as error:
            self.notice.value = said(f"The picture still shows the last loads: {error}", bold=True)
            return
        self._picture = Picture(name, load_E, tile, across, self.processors.value, self.way.value)
        self.title.value, self.canvas.value = said(self._picture.title(), bold=True), self._picture.svg()
        self.notice.value = said("Units are counted, not measured: one is the product of one tile.")

    @property
    def picture(self) -> Picture:
        """What is shown: tiles, schedule, title."""
        return self._picture

    def static(self) -> Twin:
        """The same state as a matplotlib figure that needs no kernel."""
        with self._lock:
            return self._picture.twin()

    def alt_text(self) -> str:
        """The picture in words."""
        with self._lock:
            return self._picture.alt()

    def __repr__(self) -> str:
        return "GroupedExplorer (live: run this cell in Jupyter; the figure below shows the same state)"


def _checked(load_E) -> tuple[int, ...]:
    """Loads as whole numbers. Raises ValueError for none, too many, negative ones, or all zero."""
    try:
        loads = tuple(int(load) for load in load_E)
    except (TypeError, ValueError):
        raise ValueError(f"loads {load_E!r} are not whole numbers with commas between them") from None
    if not 1 <= len(loads) <= MOST_EXPERTS or min(loads) < 0 or not sum(loads):
        raise ValueError(f"loads {loads}: 1 to {MOST_EXPERTS} whole numbers, none negative, not all zero")
    return loads
