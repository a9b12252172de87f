"""The box that keeps a plot as wide as its place. That it does is seen in a browser: test_compression_explorer.py
there."""

import ipywidgets as widgets

from minimoe_widgets.fit import fitted


def test_the_plot_stands_in_a_box_that_the_script_can_find():
    plot = widgets.HTML()
    box = fitted(plot)
    assert box.children[0] is plot and "minimoe-plot" in box._dom_classes
    assert ".minimoe-plot" in str(box.children[1]._esm) and "http" not in str(box.children[1]._esm)
