"""FP8Explorer in a real JupyterLab: the outlier grows, elements are chosen with keys and a click, sums are promoted."""

import pytest

pytestmark = pytest.mark.browser

OPEN = """
from minimoe_widgets import FP8Explorer
FP8Explorer()
"""
TITLE, BITS = ".mm-title", ".mm-bits"


def choose(notebook, label, option):
    dropdown = notebook.page.locator(".widget-dropdown", has=notebook.page.get_by_text(label, exact=True))
    dropdown.locator("select").select_option(option)


def opened(open_notebook):
    """The explorer as it opens, drawn."""
    notebook = open_notebook([OPEN])
    notebook.run_all()
    notebook.page.locator(TITLE, has_text="one value times 1,024").wait_for()
    return notebook


def hashes(notebook):
    return [notebook.canvas_hash(index) for index in range(3)]


def test_an_outlier_grows_and_elements_are_taken_apart(open_notebook):
    notebook = opened(open_notebook)
    page = notebook.page
    page.locator(TITLE, has_text="e4m3, one value times 1,024: RMS error 32.8%").wait_for()
    page.locator(BITS, has_text="subnormal").wait_for()
    page.locator(".mm-map").first.scroll_into_view_if_needed()
    notebook.screenshot("fp8_opened")
    before = hashes(notebook)
    notebook.press("Outlier times", "ArrowRight", "ArrowRight")
    page.locator(TITLE, has_text="one value times 4,096").wait_for()
    assert all(was != now for was, now in zip(before, hashes(notebook), strict=True))

    before = hashes(notebook)
    canvas = page.locator(".mm-map").first
    canvas.focus()
    canvas.press("ArrowUp")
    page.get_by_text("Row 14, column 198:").wait_for()
    canvas.press("Shift+ArrowRight")
    page.get_by_text("Row 14, column 326:").wait_for()
    assert all(was != now for was, now in zip(before, hashes(notebook), strict=True))
    for _ in range(3):
        canvas.press("Shift+ArrowRight")
    page.get_by_text("Row 14, column 383:").wait_for()

    third = page.locator(".mm-map").nth(2)
    third.scroll_into_view_if_needed()
    box = third.bounding_box()
    edge = 8  # pixels around the map, for the marks
    across, down = (box["width"] - 2 * edge) / 384, (box["height"] - 2 * edge) / 16
    third.click(position={"x": edge + 166.5 * across, "y": edge + 7.5 * down})
    page.get_by_text("Row 7, column 166:").wait_for()
    page.locator(BITS, has_text="Tiles of 1 x 128: normal").wait_for()
    choose(notebook, "Format", "e5m2")
    page.locator(TITLE, has_text="e5m2, one value times 4,096").wait_for()
    choose(notebook, "Scales", "float32, stale")
    page.get_by_text("1 clamped at 57,344").first.wait_for()
    notebook.screenshot("fp8_clamped")
    notebook.assert_clean()


def test_sums_are_promoted_and_the_view_comes_back(open_notebook):
    notebook = opened(open_notebook)
    page = notebook.page
    before = hashes(notebook)
    page.get_by_role("button", name="Adding up").click()
    page.get_by_text("K = 4,096, promoted every 128: off by up to 0.043%").wait_for()
    notebook.screenshot("fp8_sums")
    drawn = page.locator(".mm-sums").inner_html()
    notebook.press("Promoted every", "End")
    page.get_by_text("K = 4,096 in one piece: off by up to 0.78%").wait_for()
    assert page.locator(".mm-sums").inner_html() != drawn
    choose(notebook, "Numbers", "all positive")
    page.get_by_text("K = 4,096 in one piece: off by up to 7.7%").wait_for()
    notebook.press("Length K of the sum", "Home")
    page.get_by_text("K = 128 in one piece").wait_for()
    page.get_by_role("button", name="Scales and bits").click()
    page.locator(TITLE, has_text="one value times 1,024").wait_for()
    page.wait_for_function("document.querySelectorAll('.mm-map').length === 3")
    assert hashes(notebook) == before
    notebook.assert_clean()


def test_it_fits_on_a_phone_in_the_dark(open_notebook):
    notebook = opened(open_notebook)
    page = notebook.page
    before = hashes(notebook)
    notebook.darken()
    page.wait_for_function(
        "(was) => document.querySelector('.mm-map').toDataURL() !== was", arg=before[0], timeout=60_000
    )
    page.locator(".mm-map").first.scroll_into_view_if_needed()
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    notebook.screenshot("fp8_dark")
    notebook.shrink_to_phone()
    page.wait_for_function("document.querySelector('.mm-map').getBoundingClientRect().width < 360")
    page.locator(".mm-map").first.scroll_into_view_if_needed()
    notebook.screenshot("fp8_phone")
    page.locator(BITS).scroll_into_view_if_needed()
    notebook.screenshot("fp8_phone_bits")
    fits = "[...document.querySelectorAll('.mm-fp8, .mm-bits')].every((e) => e.scrollWidth <= e.clientWidth + 1)"
    assert page.evaluate(fits)
    page.get_by_role("button", name="Adding up").click()
    page.locator(".mm-sums").scroll_into_view_if_needed()
    assert page.locator(".mm-sums").bounding_box()["width"] < 380
    notebook.screenshot("fp8_phone_sums")
    notebook.assert_clean()
