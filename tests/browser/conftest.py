"""A real JupyterLab on loopback and a headless Chromium that drives it.

Isolated from the reader's own JupyterLab: own settings, workspaces and data folders, no news pop-up, a copy of each
notebook. `page_log` of an opened notebook records console errors and every request that would leave this machine.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("playwright", reason="browser tests need playwright; un-skip by `make setup-test`")
from playwright.sync_api import sync_playwright  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions"
).split()
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {
        "windowingMode": "none"
    },  # every cell is in the page, so every output can be checked
}
LOCAL = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:", "chrome:")


def chromium_path() -> str | None:
    """The Chromium to drive: BROWSER_PATH, else one on the PATH, else None for Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, names)), None)


class Lab:
    """One JupyterLab server over an empty folder that looks like the repository: `chapters/` and `data/`."""

    def __init__(self, folder: Path):
        self.folder, self.token = folder, secrets.token_hex(16)
        for name, values in SETTINGS.items():
            path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        self.home = folder / "root"
        (self.home / "chapters").mkdir(parents=True)
        (self.home / "data").symlink_to(ROOT / "data")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = self._start()

    def _start(self):
        folders = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
        folders |= {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
        env = os.environ | {name: str(self.folder / sub) for name, sub in folders.items()} | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        command += [
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
        ]
        command += [f"--ServerApp.root_dir={self.home}", "--ServerApp.allow_remote_access=False"]
        with open(self.folder / "server.log", "w") as log:
            return subprocess.Popen(command, env=env, cwd=self.home, stdout=log, stderr=subprocess.STDOUT)

    def wait(self, seconds: float = 60):
        """Return when the server answers; raise with its log if it stopped or stays silent."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                url = f"http://127.0.0.1:{self.port}/api/status?token={self.token}"
                with urllib.request.urlopen(url, timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("JupyterLab did not start:\n" + (self.folder / "server.log").read_text()[-3000:])

    def url(self, notebook: str) -> str:
        return f"http://127.0.0.1:{self.port}/lab/tree/chapters/{notebook}?token={self.token}&reset"

    def forget_theme(self):
        """The next notebook is opened in the light, whatever an earlier test chose."""
        chosen = self.folder / "settings" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
        chosen.write_text(json.dumps({"theme": "JupyterLab Light"}))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Notebook:
    """One notebook in one browser tab: run it, look at it, move its controls."""

    def __init__(self, page, lab: Lab, name: str):
        self.page, self.lab, self.name = page, lab, name
        self.errors, self.left_machine = [], []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", lambda r: self._note(r.url))
        page.on("websocket", lambda w: self._note(w.url))

    def _note(self, url: str):
        if not url.startswith(LOCAL):
            self.left_machine.append(url)

    def open(self):
        self.page.goto(self.lab.url(self.name))
        # Before the kernel is idle, Run All may open a "Select Kernel" dialog instead of running.
        self.page.get_by_text("| Idle").first.wait_for(timeout=60_000)
        return self

    def run_all(self, seconds: float = 120):
        """Run > Run All Cells through the menu; returns when every code cell has its number or one has failed."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        done = """() => {
            const texts = (what) => [...document.querySelectorAll(what)].map((node) => node.textContent);
            const numbers = texts('.jp-CodeCell .jp-InputPrompt');
            const shown = texts('[data-mime-type="application/vnd.jupyter.stderr"]');
            if (shown.some((t) => t.includes('Traceback'))) return true;
            return numbers.length && numbers.every((n) => /\\[\\d+\\]/.test(n));
        }"""
        self.page.wait_for_function(done, timeout=1000 * seconds)
        tracebacks = [text for text in self.stderr() if "Traceback" in text]
        assert tracebacks == []

    def stderr(self) -> list[str]:
        """What cells wrote to stderr, and their tracebacks: JupyterLab shows both alike."""
        return self.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts()

    def darken(self):
        """Choose the dark theme through the menu; returns when the page says that it is dark."""
        self.page.get_by_role("menuitem", name="Settings", exact=True).click()
        self.page.get_by_text("Theme", exact=True).first.hover()
        self.page.get_by_text("JupyterLab Dark", exact=True).click()
        self.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'", timeout=60_000)

    def shrink_to_phone(self):
        """Fold the file browser away and make the window as narrow as a phone's."""
        self.page.keyboard.press("Control+b")
        self.page.set_viewport_size({"width": 400, "height": 860})

    def screenshot(self, name: str):
        """Save the page where MINIMOE_SCREENSHOTS says, for a human to look at."""
        folder = os.environ.get("MINIMOE_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def press(self, label: str, *keys: str):
        """Keys on the handle of the slider whose whole label this is."""
        slider = self.page.locator(".widget-slider", has=self.page.get_by_text(label, exact=True))
        handle = slider.locator(".noUi-handle")
        handle.focus()
        for key in keys:
            handle.press(key)

    def canvas_hash(self, index: int = 0) -> str:
        """The pixels of the `index`-th heat map."""
        script = "([c, i]) => document.querySelectorAll(c)[i].toDataURL()"
        return self.page.evaluate(script, [".mm-map", index])

    def save(self) -> dict:
        """Save through the menu; gives the notebook as it now lies on disk."""
        path = self.lab.home / "chapters" / self.name
        before = path.stat().st_mtime_ns
        self.page.get_by_role("menuitem", name="File", exact=True).click()
        self.page.get_by_text("Save Notebook", exact=True).click()
        deadline = time.monotonic() + 15
        while path.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline, f"{self.name} was not saved"
            self.page.wait_for_timeout(100)
        self.page.get_by_text("Saving completed").wait_for()
        return json.loads(path.read_text())

    def assert_clean(self):
        """Nothing in the browser's console or on stderr (the kernel warns there), nothing asked of another machine."""
        assert self.stderr() == []
        assert self.errors == [], f"console errors: {self.errors}"
        assert self.left_machine == [], f"requests that leave this machine: {self.left_machine}"


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    server = Lab(tmp_path_factory.mktemp("lab"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(headless=True, executable_path=chromium_path(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_notebook(lab, browser):
    """A function: cells (sources) or the path of a notebook -> an opened `Notebook`. Its tab and kernel end with the
    test."""
    contexts = []

    def opened(cells_or_path, width=1280, height=900) -> Notebook:
        if isinstance(cells_or_path, Path):
            name, made = cells_or_path.name, nbformat.read(cells_or_path, as_version=4)
            for cell in made.cells:  # the committed outputs go, so that what is seen afterwards was made here
                if cell.cell_type == "code":
                    cell.update(outputs=[], execution_count=None)
        else:
            name = f"explorer_{len(contexts)}.ipynb"
            made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells_or_path])
            made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(made, lab.home / "chapters" / name)
        lab.forget_theme()
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        return Notebook(context.new_page(), lab, name).open()

    yield opened
    for context in contexts:
        context.close()
    _end_kernels(lab)


def _end_kernels(lab: Lab):
    base, headers = f"http://127.0.0.1:{lab.port}/api/sessions", {"Authorization": f"token {lab.token}"}
    with urllib.request.urlopen(urllib.request.Request(base, headers=headers), timeout=10) as answer:
        sessions = json.load(answer)
    for session in sessions:
        request = urllib.request.Request(f"{base}/{session['id']}", headers=headers, method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()
