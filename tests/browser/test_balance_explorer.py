"""BalanceExplorer in a real JupyterLab: a model trains behind the page, its balancing is switched while it does, it is
stopped and resumed, and the kernel answers all the while."""

import re

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]

SETUP = """
import threading
from minimoe.tokenizer import Tokenizer
from minimoe.training import load_corpus
from minimoe.training.data import encode_documents
from minimoe_course import data_path, setup
from minimoe_widgets import BalanceExplorer

setup(seed=0)
tokenizer = Tokenizer.load(data_path("nano") / "tokenizer.json")
documents = encode_documents(tokenizer, load_corpus(data_path("wordnet")).train[:1500])
"""
SHOW = "explorer = BalanceExplorer(documents)\nexplorer"
ASK = "print('answered', explorer.live.running, len(threading.enumerate()) > 1)"
STREAM = "document.querySelector('.mm-stream').dataset"


def step(notebook) -> int:
    return int(notebook.page.evaluate(f"{STREAM}.step || 0"))


def wait_for_step(notebook, at_least: int):
    notebook.page.wait_for_function(f"at => Number({STREAM}.step || 0) >= at", arg=at_least, timeout=90_000)


def press(notebook, name: str):
    # by its text: the icon's character is part of the accessible name
    notebook.page.locator("button.jupyter-button", has_text=re.compile(rf"^\s*{name}\s*$")).click()


def opened(open_notebook, *cells):
    notebook = open_notebook([SETUP, *cells])
    notebook.run_all()
    notebook.page.locator(".mm-stream").scroll_into_view_if_needed()
    return notebook


def test_the_balancing_is_switched_while_the_model_trains(open_notebook):
    notebook = opened(open_notebook, SHOW)
    page = notebook.page
    press(notebook, "Start")
    wait_for_step(notebook, 10)
    above_2 = "() => parseFloat(document.querySelector('.mm-stream h4').innerText.split('MaxVio ')[1]) > 2"
    page.wait_for_function(above_2, timeout=120_000)
    notebook.screenshot("balance_without")
    assert "no balancing" in page.locator(".mm-stream h4").inner_text()
    press(notebook, "loss-free")
    page.get_by_text("γ (bias step)").wait_for()
    switched = step(notebook)
    page.get_by_text("loss-free, γ 0.02.").first.wait_for(timeout=30_000)
    wait_for_step(notebook, switched + 20)
    below_1 = above_2.replace("> 2", "< 1")
    page.wait_for_function(below_1, timeout=120_000)
    notebook.screenshot("balance_loss_free")
    page.get_by_label("Show", exact=True).select_option("whole run")
    page.locator(".mm-run").focus()
    page.keyboard.press("ArrowDown")
    page.get_by_text("expert 1:").wait_for()
    press(notebook, "Stop")
    page.get_by_text("Stopped.").wait_for()
    notebook.screenshot("balance_stopped")
    notebook.assert_clean()


def test_a_run_stops_and_resumes_and_the_kernel_answers_meanwhile(open_notebook):
    notebook = opened(open_notebook, SHOW, ASK.replace("print", "ask = lambda: print"))
    page = notebook.page
    press(notebook, "Start")
    wait_for_step(notebook, 5)
    page.locator(".jp-CodeCell").last.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("; ask()")
    page.keyboard.press("Control+Enter")
    page.get_by_text("answered True True").wait_for(timeout=20_000)
    before = step(notebook)
    wait_for_step(notebook, before + 3)
    press(notebook, "Stop")
    page.get_by_text("Stopped.").wait_for()
    page.wait_for_timeout(600)
    stopped = step(notebook)
    page.wait_for_timeout(1500)
    assert step(notebook) == stopped
    press(notebook, "Start")
    wait_for_step(notebook, stopped + 5)
    title = page.locator(".mm-stream h4").inner_text()
    assert f"step {stopped}" not in title and "no balancing" in title
    notebook.shrink_to_phone()
    page.wait_for_function("() => document.querySelector('.mm-run').clientWidth < 380")
    page.locator(".mm-stream").scroll_into_view_if_needed()
    notebook.screenshot("balance_phone")
    press(notebook, "Reset")
    page.get_by_text("Nothing is trained yet: press Start.").wait_for()
    assert step(notebook) == 0
    notebook.assert_clean()
