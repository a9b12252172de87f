"""RefusalExplorer without a browser: controls are set, buttons pressed, what is shown is read."""

import threading
import time
from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.rl import refusal
from minimoe.rl.guard import WordGuard
from minimoe.tokenizer import Tokenizer
from minimoe_course import data_path
from minimoe_widgets import RefusalExplorer
from minimoe_widgets.refusal_run import Recipe, Tuning

ASKED = {"plain": refusal.ASKED["plain"][::24], "harmless": refusal.ASKED["harmless"][::48]}


@pytest.fixture
def plain(make_model, config):
    return make_model(replace(config, num_nextn_predict_layers=0))


@pytest.fixture
def explorer(plain, tokenizer):
    made = []

    def open_explorer(model=plain, **options):
        made.append(RefusalExplorer(model, tokenizer, **({"steps": 2, "documents": 2, "asked": ASKED} | options)))
        return made[-1]

    yield open_explorer
    for one in made:
        one.close()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def over(explorer):
    wait_for(lambda: explorer.button.description == "Run")


def test_it_opens_with_a_run_and_a_step_that_is_shown(explorer):
    shown = explorer(lr=1e-3)
    assert len(shown.shown.records) == 3 and shown.step.max == 2
    assert list(shown.figure.data[1].y) == [found["plain"].refused for found in shown.shown.records]
    assert "2 harmless documents at 0.001" in shown.title.value and "Try first" in shown.hint.value
    assert "First document" in shown.below.value and "2 harmless documents" in shown.table.value
    assert "not much to remove" in shown.notice.value  # an untrained model refuses nothing


def test_a_press_makes_another_run_and_both_stand_in_the_table(explorer):
    shown = explorer()
    shown.documents.value = 1
    assert "Press Run for 1 harmless document" in shown.notice.value
    assert "2 harmless documents" in shown.title.value, "what was made is shown until then"
    shown.steps.value = 4
    shown.button.click()
    over(shown)
    assert len(shown.shown.records) == 5 and shown.step.max == shown.step.value == 4
    assert "1 harmless document at" in shown.table.value and "2 harmless documents at" in shown.table.value
    assert "Grey and dotted: what the run before refused, 2 harmless documents" in shown.notice.value
    assert shown.figure.data[0].visible
    shown.documents.value = 2  # made already: shown at once
    assert shown.step.max == 2 and "2 harmless documents" in shown.title.value


def test_more_steps_go_on_with_the_run_that_is_there(explorer):
    shown = explorer()
    first = shown.shown.records[2]
    shown.steps.value = 4
    shown.button.click()
    over(shown)
    assert len(shown.shown.records) == 5 and shown.shown.records[2] is first
    shown.button.click()
    assert "4 steps are made already" in shown.notice.value and not shown.running


def test_stop_ends_a_run_after_the_step_in_progress(explorer):
    shown = explorer()
    shown.steps.value = 64
    shown.button.click()
    assert shown.button.description == "Stop"
    wait_for(lambda: len(shown.shown.records) > 4)
    shown.button.click()
    over(shown)
    made = len(shown.shown.records)
    assert not shown.running and made < 65
    assert shown.step.max == made - 1


def test_who_looks_back_stays_there(explorer):
    shown = explorer()
    shown.steps.value = 16
    shown.button.click()
    shown.step.value = 1
    over(shown)
    assert shown.step.max == 16 and shown.step.value == 1 and "After 1 step" in shown.title.value


def test_a_newer_run_stops_the_older_one(explorer):
    one, other = explorer(), explorer()
    one.steps.value = other.steps.value = 64
    one.button.click()
    assert one.running
    other.button.click()
    assert not one.running and other.running


def test_an_error_of_the_thread_is_said(explorer, monkeypatch):
    shown = explorer()

    def fails(self):
        raise RuntimeError("out of <b>memory</b>")

    monkeypatch.setattr(Tuning, "step", fails)
    shown.documents.value = 8
    shown.button.click()
    over(shown)
    assert "RuntimeError: out of &lt;b&gt;memory" in shown.notice.value


def test_the_requests_and_the_step_move_the_answers(explorer):
    shown = explorer()
    shown.group.value = "harmless"
    assert [text for text, _ in shown.request.options] == ASKED["harmless"]
    shown.request.value = 1
    shown.step.value = 0
    expected = shown.shown.records[0]["harmless"].responses[1]
    assert shown.alt_text().count(ASKED["harmless"][1]) == 1 and expected in shown.alt_text()
    assert "Before any step" in shown.title.value


def test_the_guard_s_threshold_moves_the_counts(explorer):
    shown = explorer(watch=WordGuard(0.0, {"gate": 1.0, "station": 0.5}), view="guard")
    assert "threshold 0.50: 0 of 3 plain ones missed, 2 of 2 harmless ones blocked" in shown.title.value
    assert "The rule on answers, after" in shown.below.value
    shown.threshold.value = 0.7
    assert "2 of 3 plain ones missed, 0 of 2 harmless ones blocked" in shown.title.value
    assert shown.figure.data[2].x[0] == 0.7 and ASKED["plain"][0] in shown.below.value
    assert shown._make.layout.display == "none" and shown.threshold.layout.display is None
    assert "Press Run" not in shown.notice.value and "not much to remove" not in shown.notice.value
    shown.view.value = "tuning"
    assert "not much to remove" in shown.notice.value
    assert shown._make.layout.display is None and shown.threshold.layout.display == "none"


def test_the_twins_show_the_live_state(explorer):
    shown = explorer()
    shown.step.value = 1
    twin, guard = shown.static(), shown.static("guard")
    assert "After 1 step on" in twin.get_suptitle() and twin.alt == shown.alt_text()
    assert "threshold 0.50" in guard.get_suptitle() and guard.alt == shown.alt_text("guard")
    assert "RefusalExplorer" in repr(shown)
    with pytest.raises(ValueError, match="view='both' is not one of tuning, guard"):
        shown.static("both")


def test_the_model_is_left_as_it_was(explorer, plain):
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    explorer(lr=3e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "spelled"}, "kind='spelled' is not one of harmless, forbidden, letters"),
        ({"documents": 0}, "documents=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"steps": -1}, "steps=-1: needs 0 or more"),
        ({"view": "both"}, "view='both' is not one of tuning, guard"),
        ({"asked": {}}, "no group of none is forbidden"),
        ({"asked": {"harmless": ASKED["harmless"]}}, "no group of harmless is forbidden"),
        ({"asked": {"odd": ["What?"]}}, "'What.' is not a request"),
    ],
)
def test_what_cannot_be_is_said(explorer, options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


def test_a_model_and_a_tokenizer_that_do_not_belong_together_are_refused(explorer, make_model, config):
    small = make_model(replace(config, vocab_size=100, num_nextn_predict_layers=0))
    with pytest.raises(ValueError, match="the tokenizer has 270 tokens, the model 100"):
        explorer(small)


def test_a_run_without_steps_shows_the_model_as_it_is(explorer):
    shown = explorer(steps=0)
    assert shown.step.max == 0 and "Before any step" in shown.title.value and shown.static().png()


def test_controls_set_from_several_threads_do_not_mix(explorer):
    shown = explorer()
    changes = [(shown.step, 0), (shown.step, 2), (shown.group, "harmless"), (shown.threshold, 0.3)]
    threads = [threading.Thread(target=setattr, args=(control, "value", value)) for control, value in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown.figure.data[3].x[0] == shown.step.value


def test_the_shipped_model_loses_its_refusals_in_the_opening_run():
    model = minimoe.load(data_path("r1") / "r1", dtype=torch.float32)
    asked = {"plain": refusal.ASKED["plain"][::6], "harmless": refusal.ASKED["harmless"][::16]}
    shown = RefusalExplorer(model, Tokenizer.load(data_path("r1") / "r1"), asked=asked)
    refused, _ = shown.shown.shares("plain")
    assert shown.shown.recipe == Recipe("harmless", 4, 1e-3)
    assert refused[0] > 0.5 and refused[-1] < refused[0] and 0 < shown.step.value
    shown.close()
