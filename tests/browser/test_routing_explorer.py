"""RoutingExplorer in a real JupyterLab: controls move, the picture changes, nothing else happens."""

import pytest

pytestmark = pytest.mark.browser

SETUP = """
import dataclasses, torch, minimoe
from minimoe.tokenizer import Tokenizer
from minimoe_widgets import RoutingExplorer

text = "A large animal with a long tail lives in the forest and eats the leaves of trees. " * {repeats}
tokenizer = Tokenizer.train(text, vocab_size=300)
config = dataclasses.replace(minimoe.NANO, n_routed_experts={experts}, n_group=8, topk_group=4, num_hidden_layers=6)
model = minimoe.Transformer(config, seed=0)
generator = torch.Generator().manual_seed(0)
for router in model.routers().values():
    router.e_score_correction_bias.normal_(std=0.03, generator=generator)
"""


def wait_drawn(notebook, more_than=0):
    notebook.page.wait_for_function(
        "n => Number(document.querySelector('.mm-heat')?.dataset.drawn || 0) > n", arg=more_than, timeout=30_000
    )
    return int(notebook.page.locator(".mm-heat").first.get_attribute("data-drawn"))


def test_a_control_moves_and_the_picture_changes(open_notebook):
    notebook = open_notebook([SETUP.format(repeats=2, experts=16), "RoutingExplorer(model, tokenizer, text=text[:82])"])
    notebook.run_all()
    wait_drawn(notebook)
    notebook.page.locator(".mm-heat").first.scroll_into_view_if_needed()
    notebook.screenshot("routing_start")
