"""The driver sees what the other tests rely on it to see: errors, outputs of failed cells, requests that leave."""

import pytest

pytestmark = pytest.mark.browser

# An address of the block reserved for documentation; the request is noted and then stopped inside the browser.
OUTSIDE = "http://192.0.2.1/picture.png"


def test_console_errors_failed_cells_and_requests_to_other_machines_are_noticed(open_notebook):
    show = "from IPython.display import HTML"
    picture = f'HTML(\'<img src="{OUTSIDE}" alt="none">\')'
    notebook = open_notebook([show, picture, "1 / 0", "2"])
    notebook.page.route("http://192.0.2.1/**", lambda route: route.abort())
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        notebook.run_all()
    notebook.page.evaluate("console.error('something broke')")
    notebook.page.wait_for_function("() => document.querySelector('img[alt=none]')")
    assert set(notebook.left_machine) == {OUTSIDE}
    assert "something broke" in notebook.errors
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        notebook.assert_clean()
