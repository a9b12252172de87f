"""KernelStepper's decode view in a real JupyterLab: stepped with the keyboard, split, in the dark and on a phone."""

import pytest

pytestmark = pytest.mark.browser

OPEN = ["from minimoe_widgets import KernelStepper", "KernelStepper.decode()"]
TITLE, MOST_SAVED = ".mm-title", 100_000  # bytes of a saved notebook


def changed(notebook, what):
    """Do it; return when the pixels are others."""
    before = notebook.canvas_hash()
    what()
    notebook.page.wait_for_function("(old) => document.querySelector('.mm-map').toDataURL() !== old", arg=before)


def test_blocks_are_stepped_to_the_combination_and_shares_make_programs(open_notebook):
    notebook = open_notebook(OPEN)
    notebook.run_all()
    page = notebook.page
    page.locator(TITLE, has_text="2 of 16 steps: 4,740 bytes").wait_for()
    page.get_by_text("The maximum rises for 7 of 16 heads").wait_for()
    notebook.screenshot("decode_opened")
    changed(notebook, lambda: notebook.press("Steps run", "ArrowRight"))
    page.get_by_text("entries 32 to 47, in page 8").wait_for()
    changed(notebook, lambda: notebook.press("Steps run", "ArrowRight"))
    page.get_by_text("share 0 stores its result").wait_for()
    notebook.screenshot("decode_stored")
    changed(notebook, lambda: notebook.press("Steps run", "End"))
    page.get_by_text("Second launch, sequence 2").wait_for()
    changed(notebook, lambda: notebook.press("Steps run", "ArrowLeft", "ArrowLeft"))
    page.get_by_text("Second launch, sequence 0").wait_for()
    notebook.screenshot("decode_combined")

    changed(notebook, lambda: notebook.press("Shares (splits)", "ArrowRight", "ArrowRight", "ArrowRight"))
    page.locator(TITLE, has_text="15 programs, the longest of 1 block").wait_for()
    heads = page.locator(".widget-dropdown", has_text="Heads").locator("select")
    changed(notebook, lambda: heads.select_option("128"))
    page.locator(TITLE, has_text="30 programs").wait_for()
    page.get_by_text("once twice").wait_for()
    notebook.screenshot("decode_128_heads")
    field = page.locator(".widget-text input")
    field.fill("75, 2000")
    field.press("Enter")
    page.get_by_text("still shows the last launch").wait_for()
    field.fill("128, 40, 3, 0")
    changed(notebook, lambda: field.press("Enter"))
    notebook.screenshot("decode_four_sequences")
    notebook.assert_clean()


def test_it_is_seen_in_the_dark_and_on_a_phone_and_saves_no_state(open_notebook):
    notebook = open_notebook(OPEN)
    notebook.run_all()
    page = notebook.page
    page.locator(TITLE, has_text="2 of 16 steps").wait_for()
    changed(notebook, notebook.darken)
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    page.locator(TITLE).scroll_into_view_if_needed()
    notebook.screenshot("decode_dark")
    changed(notebook, notebook.shrink_to_phone)
    page.wait_for_function("document.querySelector('.mm-map').getBoundingClientRect().width < 340")
    page.locator(".mm-map").scroll_into_view_if_needed()
    notebook.screenshot("decode_phone")
    page.locator(".mm-curve").scroll_into_view_if_needed()
    notebook.screenshot("decode_phone_below")
    width = page.evaluate(
        "document.querySelector('.mm-step').scrollWidth - document.querySelector('.mm-step').clientWidth"
    )
    assert width <= 0
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("menuitem", name="File", exact=True).wait_for()
    saved = notebook.save()
    assert "widgets" not in saved["metadata"] and len(str(saved)) < MOST_SAVED
    notebook.assert_clean()
