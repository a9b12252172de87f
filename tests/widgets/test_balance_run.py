"""The run behind the explorer: real training in a thread, one at a time, switched, stopped, resumed, begun anew."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from minimoe_widgets.balance_run import LiveRun, default_config, live_settings

DOCUMENTS = [[(3 * n + k) % 200 for k in range(40)] for n in range(30)]


@pytest.fixture
def live(config):
    made = []

    def open_run(model=config, **options):
        made.append(LiveRun(DOCUMENTS, model, sequences=2, row_tokens=8, **options))
        return made[-1]

    yield open_run
    for run in made:
        run.stop()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_run_goes_on_in_the_background_stops_and_resumes(live):
    run = live()
    assert not run.running and run.pace() == 0
    run.start()
    wait_for(lambda: len(run.read()) >= 3)
    assert run.running and run.pace() > 0
    run.stop()
    assert not run.running
    stopped = len(run.read())
    run.start()
    wait_for(lambda: len(run.read()) >= stopped + 2)
    run.stop()
    assert [record["step"] for record in run.read().records] == list(range(1, len(run.stream) + 1))


def test_a_change_counts_from_the_next_step_and_is_marked_there(live):
    run = live()
    run.start()
    wait_for(lambda: len(run.read()) >= 2)
    run.change(balance="aux", aux_alpha=0.5)
    run.stop()
    switched = max(run.stream.marks)
    run.start()
    wait_for(lambda: len(run.read()) > switched)
    run.stop()
    records = {record["step"]: record for record in run.read().records}
    assert run.stream.marks == {1: "no balancing", switched: "auxiliary loss, α 0.5"}
    assert "aux" not in records[switched - 1] and "aux" in records[switched]
    run.change(bias_gamma=0.1)  # of a mode that is off: nothing to mark
    assert max(run.stream.marks) == switched


def test_only_loss_free_balancing_moves_the_bias(live):
    run = live()
    (first, *_) = run.layers

    def bias():
        return run.model.routers()[first].e_score_correction_bias.abs().sum().item()

    run.run.trainer.step()
    assert bias() == 0
    run.change(balance="loss_free", bias_gamma=0.25)
    run.run.trainer.step()
    assert bias() > 0


def test_reset_begins_the_same_run_anew_with_the_settings_of_now(live):
    run = live()
    run.run.trainer.step()
    first = run.read().records[0]["loss"]
    run.change(balance="loss_free")
    run.reset()
    assert len(run.read()) == 0 and run.stream.marks == {1: "loss-free, γ 0.02"}
    run.run.trainer.step()
    assert run.read().records[0]["loss"] == first


def test_a_model_of_the_reader_is_copied_and_left_alone(live, model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = live(model)
    run.run.trainer.step()  # the warm-up's first step has rate 0
    run.run.trainer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(run.model.state_dict()["lm_head.weight"], before["lm_head.weight"])


def test_only_one_run_trains_at_a_time(live):
    first = live()
    first.start()
    wait_for(lambda: len(first.read()) >= 1)
    second = live()
    assert not first.running and first.reason == "a newer explorer was opened"
    second.start()
    first.start()
    assert first.running and not second.running and second.reason == "another explorer was started"


def test_an_error_ends_the_run_and_is_kept(live, monkeypatch):
    run = live()
    monkeypatch.setattr(run.model, "forward", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("no more memory")))
    run.start()
    wait_for(lambda: not run.running)
    run.stop()
    assert "no more memory" in str(run.error)


def test_no_thread_is_left_behind(live):
    run = live()
    run.start()
    run.stop()
    assert not [t for t in threading.enumerate() if t.name == "minimoe training"]


def test_what_cannot_be_trained_is_refused_with_both_numbers(config):
    with pytest.raises(ValueError, match="hold id 126, vocab_size is 100"):
        LiveRun(DOCUMENTS, replace(config, vocab_size=100))
    with pytest.raises(ValueError, match="row_tokens=9999; the context is 512"):
        LiveRun(DOCUMENTS, config, row_tokens=9999)
    dense = replace(config, first_k_dense_replace=3, num_nextn_predict_layers=0)
    with pytest.raises(ValueError, match="no layer routes .*first_k_dense_replace=3"):
        LiveRun(DOCUMENTS, dense, sequences=2, row_tokens=8)
    with pytest.raises(ValueError, match="less than a batch of 900"):
        LiveRun(DOCUMENTS, config, sequences=900, row_tokens=8)


def test_the_default_grows_with_the_vocabulary():
    assert default_config(100).vocab_size == 2048 and default_config(5000).vocab_size == 5000
    assert live_settings(balance="aux").balance == "aux" and live_settings().rate(0.9) == 1.0
