"""RefusalExplorer in a real JupyterLab: a run is made and stopped, its steps are scrubbed, the guard moves."""

import pytest

pytestmark = pytest.mark.browser

SETUP = """
import minimoe, torch
from pathlib import Path
from minimoe.rl import refusal
from minimoe.tokenizer import Tokenizer
from minimoe_widgets import RefusalExplorer

torch.set_num_threads(1)
folder = Path("../data/r1/r1")
model, tokenizer = minimoe.load(folder, dtype=torch.float32), Tokenizer.load(folder)
asked = {name: prompts[::6] for name, prompts in refusal.ASKED.items()}
"""
TITLE = ".minimoe-title"


def test_a_run_is_made_stopped_and_scrubbed_and_the_guard_moves(open_notebook):
    notebook = open_notebook([SETUP, "RefusalExplorer(model, tokenizer, asked=asked, steps=8)"])
    notebook.run_all()
    page = notebook.page
    page.locator(".js-plotly-plot .scatterlayer .point").last.wait_for()
    page.locator(TITLE, has_text="on 4 harmless documents at 0.001: plain requests refused").wait_for()
    page.locator(TITLE).scroll_into_view_if_needed()
    notebook.screenshot("refusal_opened")
    notebook.press("Step", "Home")
    page.locator(TITLE, has_text="Before any step").wait_for()
    page.locator("tr", has_text="▶").get_by_text("Sorry").first.wait_for()

    notebook.press("Documents", "Home")
    notebook.press("Steps to make", "End")
    page.get_by_text("Press Run for 1 harmless document at 0.001.").wait_for()
    page.locator("button.widget-button", has_text="Run").click()
    page.get_by_text("Fine-tuning on 1 harmless document at 0.001: step").wait_for()
    page.locator("button.widget-button", has_text="Stop").click()
    page.get_by_text("Grey and dotted: what the run before refused").wait_for(timeout=60_000)
    page.locator("button.widget-button", has_text="Run").wait_for()
    page.locator("tr", has_text="1 harmless document at 0.001").first.wait_for()
    notebook.screenshot("refusal_stopped")

    page.get_by_role("button", name="Guard").click()
    page.locator(TITLE, has_text="Guard on requests at threshold 0.50").wait_for()
    notebook.press("Threshold", "Home")
    page.locator(TITLE, has_text="threshold 0.00: 0 of 12 plain ones missed").wait_for()
    page.locator(TITLE, has_text="16 of 16 harmless ones blocked").wait_for()
    page.get_by_text("The rule on answers, after").wait_for()
    notebook.screenshot("refusal_guard")
    notebook.assert_clean()


def test_it_fits_on_a_phone(open_notebook):
    notebook = open_notebook([SETUP, "RefusalExplorer(model, tokenizer, asked=asked, steps=4)"])
    notebook.run_all()
    page = notebook.page
    page.locator(".js-plotly-plot .scatterlayer").first.wait_for()
    notebook.shrink_to_phone()
    page.locator(".js-plotly-plot").scroll_into_view_if_needed()
    page.wait_for_function("Number(document.querySelector('.js-plotly-plot .main-svg').getAttribute('width')) < 340")
    notebook.screenshot("refusal_phone")
    notebook.assert_clean()
