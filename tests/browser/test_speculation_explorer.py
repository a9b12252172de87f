"""SpeculationExplorer in a real JupyterLab: the lanes fill, the clock and the controls move them, nothing else."""

import json

import pytest

pytestmark = pytest.mark.browser

NANO = """
import torch, minimoe
from pathlib import Path
from minimoe.tokenizer import Tokenizer
from minimoe_widgets import SpeculationExplorer

torch.set_num_threads(1)
model = minimoe.load(Path("../data/nano"), dtype=torch.float32).requires_grad_(False)
tokenizer = Tokenizer.load(Path("../data/nano"))
SpeculationExplorer(model, tokenizer)
"""
VISIBLE = "[...document.querySelectorAll('.mm-spec li')].filter((li) => !li.classList.contains('mm-later')).length"
PLAYED = "() => document.querySelector('.mm-spec')?.dataset.share === '1.000'"


def explorer(open_notebook):
    notebook = open_notebook([NANO])
    notebook.run_all()
    notebook.page.locator(".mm-spec").wait_for()
    notebook.page.locator(".mm-spec").scroll_into_view_if_needed()
    return notebook


def title(page):
    return page.locator(".mm-spec h4").inner_text()


def counts(page):
    return page.locator(".mm-spec .mm-count").all_inner_texts()


def test_tokens_stream_then_the_clock_and_the_keys_read_them(open_notebook):
    notebook = explorer(open_notebook)
    page = notebook.page
    early = page.evaluate(VISIBLE)
    page.wait_for_function(f"(early) => {VISIBLE} > early", arg=early)
    notebook.screenshot("speculation_streaming")
    page.wait_for_function(PLAYED, timeout=20_000)
    notebook.screenshot("speculation_played")
    for lane in ("plain", "speculative"):  # on a busy machine the last tokens are drawn a moment after the clock's end
        page.get_by_text(f"{lane}: 48 tokens").first.wait_for(timeout=20_000)
    whole = page.evaluate(VISIBLE)
    assert [text.split(",")[0] for text in counts(page)] == ["plain: 48 tokens", "speculative: 48 tokens"]
    slider = page.get_by_label("Clock")
    slider.focus()
    slider.press("Home")
    assert page.evaluate(VISIBLE) == 0
    slider.press("End")
    assert page.evaluate(VISIBLE) == whole
    page.locator(".mm-spec ol").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Call 1 reads the prompt").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Call 2 checks the draft").wait_for()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"(whole) => {VISIBLE} < whole", arg=whole)
    page.wait_for_function(PLAYED, timeout=20_000)
    notebook.assert_clean()
    assert len(json.dumps(notebook.save())) < 100_000


def test_prompt_temperature_length_and_seed_make_new_runs(open_notebook):
    notebook = explorer(open_notebook)
    page = notebook.page
    page.wait_for_function(PLAYED, timeout=20_000)

    def changed(action):
        before = page.locator(".mm-spec").inner_text()
        action()
        other = "(before) => document.querySelector('.mm-spec')?.innerText !== before"
        page.wait_for_function(other, arg=before, timeout=20_000)
        page.wait_for_function(PLAYED, timeout=20_000)

    assert page.get_by_role("button", name="Draw again").is_disabled()
    prompt = page.get_by_label("Prompt")
    prompt.fill("small animal (noun):")
    changed(lambda: prompt.press("Enter"))

    changed(lambda: notebook.press("Temperature", "PageUp"))
    page.get_by_text("Two draws from one distribution").wait_for()
    notebook.screenshot("speculation_sampled")
    changed(lambda: page.get_by_role("button", name="Draw again").click())
    changed(lambda: notebook.press("New tokens", "ArrowRight"))
    assert counts(page)[0].startswith("plain: 49 tokens")
    prompt.fill("  ")
    prompt.press("Enter")
    page.get_by_text("type at least one word").wait_for()
    notebook.assert_clean()


def test_it_fits_on_a_phone_in_the_dark(open_notebook):
    notebook = explorer(open_notebook)
    page = notebook.page
    page.wait_for_function(PLAYED, timeout=20_000)
    notebook.darken()
    notebook.shrink_to_phone()
    page.wait_for_function("document.querySelector('.mm-spec').clientWidth < 360")
    page.locator(".mm-spec").scroll_into_view_if_needed()
    overflow = "document.querySelector('.mm-spec').scrollWidth - document.querySelector('.mm-spec').clientWidth"
    assert page.evaluate(overflow) <= 1
    page.wait_for_timeout(500)
    notebook.screenshot("speculation_phone_dark")
    notebook.assert_clean()
