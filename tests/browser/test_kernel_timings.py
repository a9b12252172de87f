"""KernelTimings in a real JupyterLab: it draws, follows its pickers, says that nothing is measured, and times."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

CLOCK = Path(__file__).parents[1] / "kernels" / "pretend_clock.py"
MARK = ".js-plotly-plot .scatterlayer .point"
# On small cases and a clock that pretends to be a GPU's; it waits, so that there is a while to be seen.
TIMED = f"""
import runpy, tempfile, time
from dataclasses import replace
from minimoe_widgets import KernelTimings, kernel_timings
from minimoe_widgets.kernel_timings_bounds import CASES

made = runpy.run_path({str(CLOCK)!r})

class Slow(made["PretendClock"]):
    def sample(self, call):
        time.sleep(0.5)
        return super().sample(call)

kernel_timings.CASES = tuple(replace(case, sizes=case.small) for case in CASES)
folder, clock = tempfile.mkdtemp(), Slow(200.0, made["VERSIONS"], "events")
"""


def choose(page, picker, option):
    page.locator(".widget-dropdown", has_text=picker).locator("select").select_option(option)


def test_it_draws_follows_its_pickers_and_fits_on_a_phone(open_notebook):
    notebook = open_notebook(["from minimoe_widgets import KernelTimings", "KernelTimings(counted=12.0)"])
    notebook.run_all()
    page = notebook.page
    page.locator(MARK).last.wait_for()
    page.get_by_text("no time of this kernel is recorded").wait_for()
    page.locator(".minimoe-bar").last.wait_for()
    notebook.screenshot("timings_opened")
    choose(page, "Shape", "128 sequences, 4,096 cached, 128 heads, latent 512, rotary 64")
    page.locator(".minimoe-title", has_text="128 heads").wait_for()
    page.locator(".minimoe-resources", has_text="HGMMA").wait_for()
    choose(page, "Kernel", "permute")
    page.get_by_text("0 FLOPs: no place under this roof").wait_for()
    notebook.screenshot("timings_permute")
    choose(page, "Kernel", "fp8_gemm")
    page.locator(".minimoe-title", has_text="fp8_gemm").wait_for()
    page.locator(".minimoe-title", has_text="compute-bound").wait_for()
    ticks = page.locator(".js-plotly-plot .ytick")
    assert ticks.count() >= 2 and page.locator(".js-plotly-plot .legendtext").count() == 4
    notebook.screenshot("timings_fp8")
    notebook.darken()
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    notebook.screenshot("timings_dark")
    notebook.shrink_to_phone()
    page.wait_for_function("Number(document.querySelector('.js-plotly-plot .main-svg').getAttribute('width')) < 340")
    page.locator(".minimoe-title").scroll_into_view_if_needed()
    cut = """() => {
        const box = (node) => node.getBoundingClientRect(), plot = box(document.querySelector('.js-plotly-plot'));
        const texts = [...document.querySelectorAll('.js-plotly-plot text')].filter((node) => box(node).width);
        const cut = (text) => box(text).left < plot.left - 1 || box(text).right > plot.right + 1;
        return texts.filter(cut).map((text) => text.textContent);
    }"""
    assert page.evaluate(cut) == []
    page.locator(".js-plotly-plot").scroll_into_view_if_needed()
    notebook.screenshot("timings_phone")
    page.locator(".minimoe-bars").scroll_into_view_if_needed()
    notebook.screenshot("timings_phone_bars")
    notebook.assert_clean()


def test_a_kernel_is_timed_by_the_button_and_its_record_shown(open_notebook):
    notebook = open_notebook([TIMED, "KernelTimings('swiglu', timings=folder, clock=clock)"])
    notebook.run_all()
    page = notebook.page
    page.locator(MARK).last.wait_for()
    page.get_by_text("torch.compile too").click()
    button = page.get_by_role("button", name="Run on my GPU")
    button.click()
    page.locator(".minimoe-notice", has_text="timing the kernel and its peers in turns").wait_for()
    assert button.is_disabled()
    page.locator(".minimoe-notice").scroll_into_view_if_needed()
    notebook.screenshot("timings_running")
    page.locator(".minimoe-badge", has_text="Recorded on NVIDIA H100 80GB HBM3, driver 580.1").wait_for()
    page.locator(".minimoe-notice", has_text="Timed, and written below").wait_for()
    page.locator(".minimoe-spread").last.wait_for()
    page.locator(".minimoe-badge").scroll_into_view_if_needed()
    notebook.screenshot("timings_recorded")
    assert button.is_enabled()
    button.click()
    page.locator(".minimoe-badge", has_text="1 older record of it").wait_for()
    notebook.assert_clean()


def test_without_a_gpu_the_button_says_why_it_is_off(open_notebook):
    notebook = open_notebook(["from minimoe_widgets import KernelTimings", "KernelTimings('rope')"])
    notebook.run_all()
    notebook.page.locator(".minimoe-notice", has_text="there is no GPU here that PyTorch can use").wait_for()
    assert notebook.page.get_by_role("button", name="Run on my GPU").is_disabled()
    notebook.assert_clean()
