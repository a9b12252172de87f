"""CompressionExplorer in a real JupyterLab: every view draws, follows its controls, and asks nothing of another
machine."""

import pytest

pytestmark = pytest.mark.browser

SETUP = """
import minimoe
from minimoe.tokenizer import Tokenizer
from minimoe_widgets import CompressionExplorer

text = "A large animal with a long tail lives in the forest."
tokenizer = Tokenizer.train(text * 2, vocab_size=300)
model = minimoe.Transformer(minimoe.NANO, seed=0)
"""
PLOT = "document.querySelector('.js-plotly-plot .main-svg').outerHTML"
TITLE = ".minimoe-title"
WIDE = """() => Math.abs(document.querySelector('.js-plotly-plot .main-svg').getAttribute('width')
    - document.querySelector('.minimoe-plot').clientWidth) < 12"""


def changed(notebook, action):
    """Do `action`, wait until the plot and the title above it are others; gives the title."""
    page = notebook.page
    before, title = page.evaluate(PLOT), page.locator(TITLE).inner_text()
    action()
    script = f"([plot, title]) => {PLOT} !== plot && document.querySelector('{TITLE}').innerText !== title"
    page.wait_for_function(script, arg=[before, title], timeout=20_000)
    return page.locator(TITLE).inner_text()


def test_every_view_draws_and_follows_its_controls(open_notebook):
    notebook = open_notebook([SETUP, "CompressionExplorer(model, tokenizer, text=text)"])
    notebook.run_all()
    page = notebook.page
    page.locator(".js-plotly-plot .barlayer .point").first.wait_for()
    page.get_by_text("70.272 KB a token").first.wait_for()
    page.wait_for_function(WIDE)  # as wide as its place, without anyone having touched the window
    page.locator(TITLE).scroll_into_view_if_needed()
    notebook.screenshot("compression_bill")
    assert "17.398 GB" in changed(notebook, lambda: notebook.press("Latent size", "ArrowRight"))

    def view(name):
        return lambda: page.get_by_role("button", name=name).click()

    assert changed(notebook, view("Where heads look")).startswith("Layer")
    notebook.screenshot("compression_attention")
    key = "ArrowLeft" if "head 3" in page.locator(TITLE).inner_text() else "ArrowRight"
    changed(notebook, lambda: notebook.press("Head", key))
    assert "directions keep" in changed(notebook, view("What the latent holds"))
    notebook.screenshot("compression_rank")
    changed(notebook, lambda: notebook.press("Rank kept", "ArrowLeft"))
    notebook.assert_clean()


def test_the_bill_fits_on_a_phone(open_notebook):
    notebook = open_notebook([SETUP, "CompressionExplorer(model, tokenizer, text=text)"])
    notebook.run_all()
    page = notebook.page
    page.locator(".js-plotly-plot .barlayer .point").first.wait_for()
    notebook.shrink_to_phone()
    page.locator(".js-plotly-plot").scroll_into_view_if_needed()
    page.wait_for_function("Number(document.querySelector('.js-plotly-plot .main-svg').getAttribute('width')) < 340")
    notebook.screenshot("compression_phone")
    notebook.assert_clean()
