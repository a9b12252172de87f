"""The explorers as an app: voila serves the notebook as `make explorer` does, and the page works without any other
machine."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SLOW = 240_000  # milliseconds; a kernel that imports torch on a busy machine
LOCAL = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
LATER = {
    "Refusal": ".js-plotly-plot .scatterlayer .point", "FP8": ".mm-fp8", "Grouped GEMM": "svg.mm-grouped",
    "Matmul": ".mm-step .mm-map", "Decode": ".mm-step .mm-curve", "Timings": ".minimoe-bar",
}  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A running server, started by the command of the Makefile's `explorer` target."""
    folder = tmp_path_factory.mktemp("voila")
    target = (ROOT / "Makefile").read_text().split("\nexplorer: $(HAS_LAB)\n\t")[1].splitlines()[0]
    arguments = re.fullmatch(r"OMP_NUM_THREADS=1 \$\(PY\) (-m voila .+) \$\(ARGS\)", target)[1].split()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"OMP_NUM_THREADS": "1", "JUPYTER_PATH": str(ROOT / "jupyter")}
    env |= {"JUPYTER_CONFIG_PATH": str(ROOT / "jupyter"), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    env |= {"JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "JUPYTER_DATA_DIR": str(folder / "data")}
    with open(folder / "voila.log", "w") as log:
        command = [sys.executable, *arguments, "--no-browser", f"--port={port}"]
        server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None and time.monotonic() < deadline, (folder / "voila.log").read_text()[-3000:]
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(30)


def test_the_served_page_reacts_and_asks_nothing_of_another_machine(address, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    errors, outside = [], []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith(LOCAL) else outside.append(r.url))
    page.on("websocket", lambda w: None if w.url.startswith(LOCAL) else outside.append(w.url))

    def shot(name):
        if folder := os.environ.get("MINIMOE_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"app_{name}.png")

    page.goto(address, timeout=SLOW)
    page.locator(".mm-heat[data-drawn]").wait_for(timeout=SLOW)
    shot("routing")
    page.get_by_label("selection bias on").click()
    page.locator(".mm-heat h4", has_text="selection bias off").wait_for(timeout=60_000)
    page.get_by_role("tab", name="Balance").click()
    page.get_by_text("This is a recorded run.").wait_for(timeout=60_000)
    shot("balance")
    page.locator("button.jupyter-button", has_text=re.compile(r"^\s*Start\s*$")).click()
    page.wait_for_function("() => { const n = Number(document.querySelector('.mm-stream')?.dataset.step);"
                           " return n >= 3 && n < 240; }", timeout=SLOW)  # fmt: skip
    page.get_by_role("tab", name="Compression").click()
    page.locator(".js-plotly-plot .barlayer .point").first.wait_for(timeout=SLOW)
    assert page.locator(".mm-stream").count() == 0  # the training and its picture are gone
    shot("compression")
    for tab, picture in LATER.items():
        page.get_by_role("tab", name=tab).click()
        page.locator(picture).last.wait_for(timeout=SLOW)
        shot(tab.replace(" ", "_"))
    page.get_by_label("Model", exact=True).select_option("a folder of mine")
    page.get_by_label("Folder", exact=True).fill("no/such/folder")
    page.locator("button.jupyter-button", has_text="Open").click()
    page.get_by_text("no checkpoint folder at no/such/folder").wait_for(timeout=60_000)
    assert errors == [], f"console errors: {errors}"
    assert outside == [], f"requests that leave this machine: {outside}"
    page.close()
