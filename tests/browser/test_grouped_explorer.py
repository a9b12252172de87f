"""GroupedExplorer in a real JupyterLab: way and loads are chosen, loads are typed, on a phone and in the dark."""

import pytest

pytestmark = pytest.mark.browser

OPEN = """
from minimoe_widgets import GroupedExplorer
GroupedExplorer({"uneven": [70, 0, 3, 41], "even": [28, 28, 29, 29]}, tile=16)
"""


WIDTH = "document.querySelector('.mm-grouped').getBoundingClientRect().width"


def test_the_way_is_chosen_loads_are_typed_and_it_fits_on_a_phone(open_notebook):
    notebook = open_notebook([OPEN])
    notebook.run_all()
    page = notebook.page
    picture = page.locator("svg.mm-grouped")
    page.get_by_text("loop over experts: 4 units").first.wait_for()
    opened = picture.locator("rect").count()
    page.locator(".widget-dropdown", has_text="Way").locator("select").select_option("weight gradient")
    page.get_by_text("weight gradient: 5 units").first.wait_for()
    page.locator(".widget-dropdown", has_text="Loads").locator("select").select_option("even")
    page.get_by_text("weight gradient: 4 units").first.wait_for()
    typed = page.locator(".widget-text input")
    typed.fill("64, 16")
    typed.press("Enter")
    page.get_by_text("weight gradient: 4 units, 42%").first.wait_for()
    assert picture.locator("rect").count() != opened
    notebook.screenshot("grouped_typed")

    picture.click()  # the keys that fold the file browser away are not the text box's
    notebook.shrink_to_phone()
    picture.scroll_into_view_if_needed()
    page.wait_for_function(WIDTH + " > 250 && " + WIDTH + " < 380")
    assert page.evaluate("document.querySelector('.mm-grouped text').getBoundingClientRect().height") > 11
    notebook.screenshot("grouped_phone")
    notebook.assert_clean()


INK = """() => {
  const picture = document.querySelector(".mm-grouped");
  const ink = getComputedStyle(picture.querySelector("text")).fill;
  return [getComputedStyle(picture).backgroundColor, Math.max(...ink.match(/\\d+/g).slice(0, 3).map(Number))];
}"""


def test_its_words_follow_the_theme(open_notebook):
    notebook = open_notebook([OPEN])
    notebook.run_all()
    notebook.page.get_by_text("loop over experts: 4 units").first.wait_for()
    paper, ink = notebook.page.evaluate(INK)
    assert paper == "rgba(0, 0, 0, 0)" and ink < 128
    notebook.screenshot("grouped_light")
    notebook.darken()
    paper, ink = notebook.page.evaluate(INK)
    assert paper == "rgba(0, 0, 0, 0)" and ink > 128
    notebook.page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')")
    notebook.screenshot("grouped_dark")
    notebook.assert_clean()
