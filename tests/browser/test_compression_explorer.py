import pytest

pytestmark = pytest.mark.browser

SETUP = """
import minimoe
from minimoe.tokenizer import Tokenizer
from minimoe_widgets import CompressionExplorer

text = "A large animal with a long tail lives in the forest and eats the leaves of trees."
tokenizer = Tokenizer.train(text * 2, vocab_size=300)
model = minimoe.Transformer(minimoe.NANO, seed=0)
"""


def test_a(open_notebook):
    notebook = open_notebook([SETUP, "CompressionExplorer(model, tokenizer, text=text)"])
    notebook.run_all()
    notebook.page.wait_for_timeout(1000)
    notebook.screenshot("dbg")
    print(notebook.errors)
    print(notebook.page.evaluate("document.querySelectorAll('.js-plotly-plot').length"))
    for name in ("What the cache costs", "Where heads look", "What the latent holds"):
        notebook.page.get_by_role("button", name=name).click()
        notebook.page.wait_for_timeout(1500)
        notebook.screenshot(name)
    notebook.assert_clean()
