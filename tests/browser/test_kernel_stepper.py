"""KernelStepper in a real JupyterLab: programs are stepped with the keyboard, the order is changed, a kernel stops."""

import pytest

pytestmark = pytest.mark.browser

BROKEN = """
import inspect
from minimoe_kernels.kernel import load
from minimoe_widgets import KernelStepper, kernel_stepper_matmul

source = inspect.getsource(kernel_stepper_matmul)
broken = load(source.replace("mask=(rows < M) & (across < D), other=0.0", "other=0.0")).matmul
"""
TITLE = ".mm-title"


def test_programs_are_stepped_the_order_is_changed_and_a_wrong_kernel_stops(open_notebook):
    notebook = open_notebook([BROKEN, "KernelStepper()"])
    notebook.run_all()
    page = notebook.page
    page.locator(TITLE, has_text="38 of 64 programs").wait_for()
    notebook.screenshot("stepper_opened")
    before = notebook.canvas_hash()
    notebook.press("Programs run", "ArrowRight")
    page.locator(TITLE, has_text="39 of 64 programs").wait_for()
    assert notebook.canvas_hash() != before

    notebook.press("Programs run", "End")
    page.locator(TITLE, has_text="64 of 64 programs").wait_for()
    page.get_by_text("loaded what they share once: 88,960 bytes").wait_for()
    page.locator(".widget-dropdown", has_text="Order").locator("select").select_option("grouped")
    page.get_by_text("loaded what they share once: 58,880 bytes").wait_for()
    page.get_by_text("C is right, and the same in every order").wait_for()
    notebook.screenshot("stepper_grouped")
    notebook.assert_clean()


def test_it_fits_on_a_phone_and_says_where_a_kernel_was_stopped(open_notebook):
    notebook = open_notebook([BROKEN, "KernelStepper(broken)"])
    notebook.run_all()
    page = notebook.page
    page.get_by_text("element 4800 of A without a mask").wait_for()
    notebook.shrink_to_phone()
    page.locator(".mm-map").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.mm-map').getBoundingClientRect().width < 340")
    notebook.screenshot("stepper_phone")
    notebook.assert_clean()
