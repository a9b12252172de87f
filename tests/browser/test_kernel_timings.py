"""KernelTimings in a real JupyterLab: it draws, follows its pickers, and says that nothing is measured."""

import pytest

pytestmark = pytest.mark.browser


def test_it_draws_follows_its_pickers_and_fits_on_a_phone(open_notebook):
    notebook = open_notebook(["from minimoe_widgets import KernelTimings", "KernelTimings(counted=12.0)"])
    notebook.run_all()
    page = notebook.page
    page.locator(".js-plotly-plot .barlayer .point").last.wait_for()
    page.get_by_text("no time of this kernel is recorded").wait_for()
    notebook.screenshot("timings_opened")
    shape = page.locator(".widget-dropdown", has_text="Shape").locator("select")
    shape.select_option(label="128 sequences of 4096, 128 heads")
    page.locator(".minimoe-title", has_text="128 heads").wait_for()
    page.locator(".minimoe-resources", has_text="HGMMA").wait_for()
    page.locator(".widget-dropdown", has_text="Kernel").locator("select").select_option("fp8_gemm")
    page.locator(".minimoe-title", has_text="fp8_gemm").wait_for()
    page.locator(".minimoe-title", has_text="compute-bound").wait_for()
    notebook.screenshot("timings_fp8")
    notebook.shrink_to_phone()
    page.wait_for_function("Number(document.querySelector('.js-plotly-plot .main-svg').getAttribute('width')) < 340")
    notebook.screenshot("timings_phone")
    notebook.assert_clean()
