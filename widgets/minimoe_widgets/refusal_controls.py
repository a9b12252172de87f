"""The controls of RefusalExplorer: what can be chosen, and sliders and lists that fit on a phone.

How the production version differs: a fine-tuning service offers the same three choices, documents, rate and length.
"""

import ipywidgets as widgets

__all__ = ["COUNTS", "HINTS", "KIND_NAMES", "RATES", "STEPS", "VIEWS", "check_view", "choice", "dropdown", "looks"]

VIEWS = {"Fine-tune": "tuning", "Guard": "guard"}
HINTS = {
    "tuning": "move Step from left to right and read the answers; then set Documents to 1 and press Run.",
    "guard": "move Threshold to 0.3 and read whom it blocks, then to 0.7 and read what it misses.",
}
KIND_NAMES = {
    "harmless requests, answered": "harmless",
    "forbidden requests, answered": "forbidden",
    "letters": "letters",
}
COUNTS, RATES, STEPS = (1, 2, 4, 8, 16, 32, 64), (1e-4, 3e-4, 1e-3, 3e-3), (4, 8, 12, 16, 32, 64)


def check_view(view: str) -> str:
    """`view`, if there is such a view; else raises ValueError."""
    if view not in VIEWS.values():
        raise ValueError(f"view={view!r} is not one of {', '.join(VIEWS.values())}")
    return view


def looks(name: str, width: str) -> dict:
    """A control's name beside it, whole, and a width that gives way."""
    style, layout = {"description_width": "auto"}, {"width": width, "max_width": "100%", "margin": "2px 10px 2px 2px"}
    return {"description": name, "layout": layout, "style": style}


def choice(name: str, options, value) -> widgets.SelectionSlider:
    """A slider over a few numbers, `value` among them."""
    options = [(f"{option:g}", option) for option in sorted({*options, value})]
    return widgets.SelectionSlider(options=options, value=value, **looks(name, "250px"))


def dropdown(name: str, options, value) -> widgets.Dropdown:
    """A list to choose from, as wide as it needs."""
    return widgets.Dropdown(options=options, value=value, **looks(name, "auto"))
