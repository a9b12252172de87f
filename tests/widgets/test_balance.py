"""BalanceExplorer without a browser: buttons train a real model, and the canvas gets the picture of it."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minimoe_widgets import BalanceExplorer

DOCUMENTS = [[(3 * n + k) % 200 for k in range(40)] for n in range(30)]
RECORDING = Path(__file__).resolve().parents[2] / "data" / "explorer" / "balance.jsonl"


@pytest.fixture
def explorer(config):
    made = []

    def open_explorer(model=config, **options):
        made.append(BalanceExplorer(DOCUMENTS, model, sequences=2, row_tokens=8, **options))
        return made[-1]

    yield open_explorer
    for explorer in made:
        explorer.close()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def drawn(explorer) -> int:
    """The newest step on the canvas; 0 before the first."""
    frame = explorer.canvas.frame
    return frame["first"] + frame["columns"] - 1 if frame else 0


def train(explorer, steps):
    """Start, wait until `steps` more are drawn, stop."""
    until = drawn(explorer) + steps
    explorer.start.click()
    wait_for(lambda: drawn(explorer) >= until)
    explorer.stop.click()


def test_start_trains_and_draws_and_stop_stops(explorer):
    shown = explorer()
    assert shown.stop.disabled and "press Start" in shown.notice.value and shown.canvas.frame == {}
    shown.start.click()
    assert shown.start.disabled and not shown.stop.disabled
    wait_for(lambda: drawn(shown) >= 3)
    assert "Training" in shown.notice.value and "steps a second" in shown.pace.value
    shown.stop.click()
    assert not shown.live.running and not shown.start.disabled and "Start goes on" in shown.notice.value
    assert drawn(shown) == len(shown.records)  # the picture ends with the last step made


def test_the_canvas_shows_what_the_training_recorded(explorer):
    shown = explorer(layer=1)
    train(shown, 2)
    frame, records = shown.canvas.frame, shown.records
    load = np.array([record["load"]["1"] for record in records])
    shade = np.frombuffer(frame["shade"], np.uint8).reshape(load.shape)
    np.testing.assert_allclose(shade, 255 * (load / load.mean(1, keepdims=True)) / frame["top"], atol=0.51)
    maxvio = np.float32([record["maxvio_by_layer"]["1"] for record in records])
    np.testing.assert_array_equal(np.frombuffer(frame["maxvio"][-1], "<f4"), maxvio)
    assert frame["layers"][-1] == "Layer 1" and f"step {len(records)}:" in frame["title"]


def test_balancing_is_switched_while_it_trains(explorer):
    shown = explorer()
    shown.start.click()
    wait_for(lambda: drawn(shown) >= 2)
    shown.balance.value = "loss_free"
    shown.gamma.value = 0.05
    wait_for(lambda: drawn(shown) >= max(shown.live.stream.marks))
    assert shown.live.running
    shown.stop.click()
    assert shown.canvas.frame["marks"][0] == [1, "no balancing"]
    assert shown.canvas.frame["marks"][-1][1] == "loss-free, γ 0.05"
    bias = shown.model.routers()[1].e_score_correction_bias
    assert bias.abs().sum() > 0


def test_the_strength_that_counts_is_the_one_shown(explorer):
    shown = explorer()
    assert shown._strength.children == ()
    shown.balance.value = "aux"
    assert shown._strength.children == (shown.alpha,)
    shown.balance.value = "loss_free"
    assert shown._strength.children == (shown.gamma,)


def test_reset_begins_anew(explorer):
    shown = explorer()
    train(shown, 2)
    shown.reset.click()
    assert shown.canvas.frame == {} and shown.records == [] and not shown.start.disabled
    train(shown, 1)
    assert shown.canvas.frame["first"] == 1


def test_layers_and_the_whole_run_can_be_chosen(explorer):
    shown = explorer()
    train(shown, 2)
    names = [name for name, _ in shown.layer.options]
    assert names == ["layer 1", "layer 2", "MTP layer 3"]
    shown.layer.value = 3
    assert shown.canvas.frame["title"].startswith("MTP layer 3, step")
    shown.shown.value = True
    assert shown.canvas.frame["room"] == shown.canvas.frame["columns"]


def test_an_error_in_the_thread_appears_in_the_explorer(explorer, monkeypatch):
    shown = explorer()
    monkeypatch.setattr(shown.model, "forward", lambda *a, **k: 1 / 0)
    shown.start.click()
    wait_for(lambda: "ZeroDivisionError" in shown.notice.value)
    assert shown.stop.disabled


def test_a_busy_machine_is_said(explorer, monkeypatch):
    shown = explorer()
    monkeypatch.setattr(shown.live.run.trainer.contention, "note", lambda *a: None)
    shown.live.run.trainer.contention.message = "machine busy: this run gets 40% of one core"
    shown.start.click()
    wait_for(lambda: "gets 40% of one core" in shown.notice.value)
    assert shown.live.running


def test_a_newer_explorer_stops_the_older_ones_thread(explorer):
    first = explorer()
    first.start.click()
    wait_for(lambda: drawn(first) >= 1)
    explorer()
    assert not first.live.running
    wait_for(lambda: "a newer explorer was opened" in first.notice.value)


def test_closing_ends_both_threads(explorer):
    shown = explorer()
    shown.start.click()
    wait_for(lambda: drawn(shown) >= 1)
    shown.close()
    assert not shown.live.running
    wait_for(lambda: not [t for t in threading.enumerate() if t.name in ("minimoe training", "minimoe explorer")])


def test_routers_without_a_bias_are_said_to_be_out_of_reach(explorer, config):
    softmax = {"scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False}
    shown = explorer(replace(config, n_group=1, topk_group=1, **softmax))
    shown.balance.value = "loss_free"
    assert "no selection bias" in shown.notice.value


def test_the_shipped_recording_opens_and_goes_with_the_first_start():
    shown = BalanceExplorer(DOCUMENTS, recording=RECORDING)
    try:
        assert "recorded run" in shown.notice.value and drawn(shown) == 240
        twin = shown.static()
        assert "from step 1 no balancing; from step 121 loss-free" in twin.alt and twin.png().startswith(b"\x89PNG")
        assert shown.alt_text(layer=1).startswith("Layer 1, step 240")
        shown.reset.click()
        assert shown.canvas.frame == {} and "press Start" in shown.notice.value
        assert "press Start" in shown.static().alt
    finally:
        shown.close()


def test_the_recording_shows_collapse_and_recovery():
    shown = BalanceExplorer(DOCUMENTS, recording=RECORDING)
    window = shown._recorded.window(2)
    before, after = window.maxvio[2][window.steps <= 120], window.maxvio[2][window.steps > 120]
    assert before[-20:].mean() > 2.5 and after[-20:].mean() < 1.0
    shown.close()


def test_a_recording_of_another_shape_is_refused(explorer, config):
    with pytest.raises(ValueError, match=r"the recording has layers \[1, 2\], this model routes in \[1, 2, 3\]"):
        explorer(recording=RECORDING)
    with pytest.raises(ValueError, match="the recording has 16 experts, this model 8"):
        explorer(replace(config, num_nextn_predict_layers=0), recording=RECORDING)
    with pytest.raises(ValueError, match=r"layer=0 does not route; the layers that do are \[1, 2, 3\]"):
        explorer(layer=0)
