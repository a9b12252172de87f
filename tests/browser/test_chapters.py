"""Every chapter, and the explorer notebook, as a reader meets it: opened in JupyterLab, run to the end, its explorers
drawn."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "chapters").glob("*.ipynb"))


def test_there_are_chapters():
    assert CHAPTERS, "chapters/ holds no notebook: build them with `make chapters`"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_to_its_end_without_an_error(open_notebook, chapter):
    notebook = open_notebook(chapter)
    notebook.run_all(seconds=300)
    page = notebook.page
    explorers = page.locator(".mm-fp8, .mm-grouped, .mm-heat, .mm-roll, .mm-spec, .mm-step, .js-plotly-plot")
    for index in range(explorers.count()):
        explorers.nth(index).scroll_into_view_if_needed()
        notebook.screenshot(f"chapter_{chapter.stem}_explorer_{index}")
    assert explorers.count() > 0
    notebook.assert_clean()
