"""RolloutExplorer in a real JupyterLab: a recorded run is scrubbed and read, a run under way is watched and stopped."""

import json
import os
import re
import runpy
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]

RECORDING = runpy.run_path(str(Path(__file__).parents[1] / "widgets" / "rollout_recording.py"))
SHOW = """
from minimoe_widgets import RolloutExplorer

RolloutExplorer({runs})
"""
# A run that replays the recording: what a trainer in a thread looks like from outside.
LIVE = """
import threading, time
from minimoe_widgets import RolloutExplorer
from minimoe_widgets.rollout_log import read_lines

class Replay:
    done = False

    def __init__(self, folder):
        self.all_records, self.all_groups = (read_lines(f"{{folder}}/{{name}}.jsonl")[0] for name in ("log", "groups"))
        self.records, self.groups, self.thread = [], [g for g in self.all_groups if g["step"] == 0], None

    @property
    def running(self):
        return self.thread is not None and self.thread.is_alive()

    def start(self):
        self.stopping = False
        self.thread = threading.Thread(target=self.steps, daemon=True)
        self.thread.start()

    def steps(self):
        while not self.stopping and len(self.records) < len(self.all_records):
            time.sleep(0.1)
            self.records.append(self.all_records[len(self.records)])
            self.groups += [g for g in self.all_groups if g["step"] == self.records[-1]["step"]]

    def stop(self, timeout=None):
        self.stopping = True
        self.thread.join(timeout)

RolloutExplorer(Replay({folder!r}), band={folder!r} + "/band.json")
"""
ROLL = "document.querySelector('.mm-roll')"
SCRUB = """async (keys) => {
    const roll = document.querySelector('.mm-roll'), canvas = roll.querySelector('.mm-curves'), times = [];
    for (const key of keys) {
        const before = roll.dataset.step;
        const drawn = new Promise(done => {
            const observer = new MutationObserver(() => {
                if (roll.dataset.step !== before) { observer.disconnect(); done(); }
            });
            observer.observe(roll, {attributes: true, attributeFilter: ['data-drawn']});
        });
        const start = performance.now();
        canvas.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
        await drawn;
        times.push(performance.now() - start);
        await new Promise(done => setTimeout(done, 50));
    }
    return times;
}"""


def explorer(open_notebook, cell, **size):
    notebook = open_notebook([cell], **size)
    notebook.run_all()
    notebook.page.wait_for_function(f"() => {ROLL}?.querySelector('.mm-curves').clientWidth > 0")
    notebook.page.locator(".mm-roll").scroll_into_view_if_needed()
    return notebook


def title(page) -> str:
    return page.locator(".mm-roll h4").inner_text()


def wait_for_step(page, step: int):
    page.wait_for_function(f"at => {ROLL}.dataset.step === String(at)", arg=step, timeout=15_000)


def press(page, name: str):
    # by its text: the icon's character is part of the accessible name
    page.locator("button.jupyter-button", has_text=re.compile(rf"^\s*{name}\s*$")).click()


def pixels(page) -> str:
    return page.evaluate(f"{ROLL}.querySelector('.mm-curves').toDataURL()")


def test_a_recorded_run_is_scrubbed_and_read(open_notebook, tmp_path):
    folder = RECORDING["write"](tmp_path / "zero")
    notebook = explorer(open_notebook, SHOW.format(runs=repr(str(folder))))
    page = notebook.page
    notebook.screenshot("rollout_start")
    assert title(page).startswith("Step 8, ") and "3 of 6 answers are right" in title(page)
    assert page.locator(".mm-roll li").count() == 6
    slider, before = page.get_by_label("Step", exact=True), pixels(page)
    slider.focus()
    slider.press("Home")
    wait_for_step(page, 0)
    assert pixels(page) != before, "the mark in the curves has moved"
    assert title(page).startswith("Before training")
    assert slider.get_attribute("aria-valuetext") == "step 0, before training"
    assert page.locator(".mm-roll li :is(.mm-more, .mm-less)").count() == 0
    slider.press("End")
    wait_for_step(page, 40)
    assert page.locator(".mm-roll li .mm-more").count() == 6
    notebook.screenshot("rollout_last_step")
    page.locator(".mm-roll ol").focus()
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    page.locator(".mm-say").get_by_text("Answer 1, token 2 “8”: log-ratio +2.5").wait_for()
    page.keyboard.press("ArrowDown")
    page.locator(".mm-tip").get_by_text("Answer 2, token 2").wait_for()
    notebook.screenshot("rollout_token")
    page.locator(".mm-curves").click(position={"x": 60, "y": 50})
    page.wait_for_function(f"() => Number({ROLL}.dataset.step) < 12")
    press(page, "only the wrong ones")
    page.wait_for_function(f"() => {ROLL}.querySelectorAll('li').length < 6")
    assert page.locator(".mm-roll li.mm-right").count() == 0
    first = title(page)
    page.get_by_label("Prompt", exact=True).select_option(index=1)
    page.wait_for_function(f"old => {ROLL}.querySelector('h4').innerText !== old", arg=first)
    notebook.screenshot("rollout_wrong_ones")
    notebook.assert_clean()
    assert len(json.dumps(notebook.save())) < 100_000


def test_a_group_of_16_long_answers_follows_the_slider(open_notebook, tmp_path):
    folder = RECORDING["write"](tmp_path / "big", answers=16)
    notebook = explorer(open_notebook, SHOW.format(runs=f"{str(folder)!r}, step=0"))
    keys = ["ArrowRight"] * 8 + ["ArrowLeft"] * 4
    times_ms = notebook.page.evaluate(SCRUB, keys)
    assert len(times_ms) == 12 and notebook.page.locator(".mm-roll li").count() == 16
    out = os.environ.get("MINIMOE_SCREENSHOTS")
    if out:
        Path(out, "rollout_scrub_ms.json").write_text(json.dumps(times_ms))
    print("milliseconds from key to picture:", [round(t) for t in times_ms])
    notebook.assert_clean()


def test_a_run_under_way_is_watched_and_stopped(open_notebook, tmp_path):
    folder = RECORDING["write"](tmp_path / "zero")
    notebook = explorer(open_notebook, LIVE.format(folder=str(folder)))
    page = notebook.page
    page.get_by_text("Nothing is trained yet: press Start.").wait_for()
    assert title(page).startswith("Before training")
    press(page, "Start")
    wait_for_step(page, 8)  # who looks at the newest step is taken along
    slider = page.get_by_label("Step", exact=True)
    slider.focus()
    slider.press("Home")
    wait_for_step(page, 0)
    most = int(slider.get_attribute("max"))
    page.wait_for_function(f"most => Number({ROLL}.querySelector('input').max) > most", arg=most)
    assert page.evaluate(f"{ROLL}.dataset.step") == "0", "who looks back stays there"
    press(page, "Stop")
    page.get_by_text("Stopped.").wait_for()
    notebook.screenshot("rollout_live")
    notebook.assert_clean()


def test_four_stages_fit_on_a_phone_in_the_dark(open_notebook, tmp_path):
    for stage in ("reasoning RL", "RL for all scenarios"):
        RECORDING["write"](tmp_path / stage, stage, band=stage.startswith("reasoning"))
    (tmp_path / "cold start").mkdir()
    (tmp_path / "cold start" / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    runs = [str(tmp_path / name) for name in ("cold start", "reasoning RL", "RL for all scenarios")]
    notebook = explorer(open_notebook, SHOW.format(runs=f"{runs}, stage='reasoning RL'"))
    page = notebook.page
    notebook.darken()
    page.wait_for_function(f"() => {ROLL}.classList.contains('mm-dark')")
    page.locator("#jupyterlab-splash").wait_for(state="hidden")
    page.wait_for_timeout(800)
    notebook.screenshot("rollout_dark")
    notebook.shrink_to_phone()
    page.wait_for_function(f"() => {ROLL}.clientWidth < 360")
    page.wait_for_timeout(500)
    page.locator(".mm-roll").scroll_into_view_if_needed()
    overflow = f"{ROLL}.scrollWidth - {ROLL}.clientWidth"
    assert page.evaluate(overflow) <= 1
    notebook.screenshot("rollout_phone_dark")
    page.locator(".mm-roll h4").scroll_into_view_if_needed()
    page.locator(".mm-roll li").nth(2).scroll_into_view_if_needed()
    notebook.screenshot("rollout_phone_dark_answers")
    page.get_by_label("Stage", exact=True).select_option("cold start")
    page.get_by_text("In this stage no answers were recorded").wait_for()
    assert page.locator(".mm-roll li").count() == 0
    notebook.assert_clean()
