"""ContextExplorer in a real JupyterLab: both views draw, follow their controls, and a measurement runs and is seen."""

import pytest

pytestmark = pytest.mark.browser

SETUP = """
from dataclasses import replace
import minimoe
from minimoe.inference.retrieval import RetrievalMap
from minimoe_widgets import ContextExplorer

sizes = dict(vocab_size=60, hidden_size=32, num_hidden_layers=2, max_position_embeddings=64, rope_theta=100.0)
model = minimoe.Transformer(replace(minimoe.NANO, **sizes), seed=0)
counts = ((8, 8, 8), (7, 8, 8), (1, 2, 4), (0, 1, 2))
maps = {"recorded": RetrievalMap((32, 64, 128, 256), (0.0, 0.5, 1.0), counts, 8)}
"""
PLOT = "document.querySelector('.js-plotly-plot .main-svg').outerHTML"
TITLE = ".minimoe-title"


def changed(notebook, action):
    """Do `action`, wait until the plot and the title above it are others; gives the title."""
    page = notebook.page
    before, title = page.evaluate(PLOT), page.locator(TITLE).inner_text()
    action()
    script = f"([plot, title]) => {PLOT} !== plot && document.querySelector('{TITLE}').innerText !== title"
    page.wait_for_function(script, arg=[before, title], timeout=30_000)
    return page.locator(TITLE).inner_text()


def test_both_views_draw_follow_their_controls_and_a_press_measures(open_notebook):
    notebook = open_notebook([SETUP, "ContextExplorer(model, recorded=maps)"])
    notebook.run_all()
    page = notebook.page
    page.locator(".js-plotly-plot .barlayer .point").last.wait_for()
    page.get_by_text("5 of 8 pairs finish a turn within the 64 tokens").wait_for()
    page.locator(TITLE).scroll_into_view_if_needed()
    notebook.screenshot("context_angles")
    assert "to read 1K" in changed(notebook, lambda: notebook.press("Factor", "ArrowRight"))

    title = changed(notebook, lambda: page.get_by_role("button", name="What is still found").click())
    assert title.startswith("recorded: at least 96% of the answers right up to 64 tokens, 12% at 256")
    notebook.screenshot("context_recorded")
    page.get_by_role("button", name="Measure").click()
    measured = page.locator(TITLE, has_text="YaRN x16, mscale 1, not trained further:")
    measured.locator("text=at 512").wait_for(timeout=60_000)
    page.get_by_role("button", name="Measure").wait_for()
    notebook.screenshot("context_measured")
    notebook.assert_clean()


def test_it_fits_on_a_phone(open_notebook):
    notebook = open_notebook([SETUP, "ContextExplorer(model, recorded=maps, view='retrieval')"])
    notebook.run_all()
    page = notebook.page
    page.locator(".js-plotly-plot .heatmaplayer").first.wait_for()
    notebook.shrink_to_phone()
    page.locator(".js-plotly-plot").scroll_into_view_if_needed()
    page.wait_for_function("Number(document.querySelector('.js-plotly-plot .main-svg').getAttribute('width')) < 340")
    notebook.screenshot("context_phone")
    notebook.assert_clean()
