"""A run in a thread: watched, changed, stopped, resumed, and its errors kept."""

import dataclasses
import gc
import time
import weakref

import pytest
import torch

import minimoe
from minimoe.training import BackgroundRun, Batches, Settings, train

CONFIG = dataclasses.replace(
    minimoe.NANO,
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    intermediate_size=24,
    moe_intermediate_size=8,
)
DOCUMENTS = [[(i + j) % 40 for j in range(20)] for i in range(40)]


def parts(steps=12, **settings):
    return minimoe.Transformer(CONFIG, seed=0), Batches(DOCUMENTS, 2, 12, seed=0), Settings(steps=steps, **settings)


def until(condition, seconds=30):
    end_s = time.monotonic() + seconds
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.01)
    assert condition()


def test_it_makes_the_same_steps_as_a_run_in_a_cell():
    run = BackgroundRun(*parts()).start()
    run.wait(60)
    assert run.done and not run.running and run.progress == 1
    assert run.history["loss"] == train(*parts(), label=None)["loss"]


def test_it_can_be_stopped_and_started_again():
    run = BackgroundRun(*parts(steps=100_000)).start()
    until(lambda: len(run.records) >= 3)
    run.stop()
    made = len(run.records)
    assert not run.running and not run.done and made < 100_000
    time.sleep(0.05)
    assert len(run.records) == made
    run.start()
    until(lambda: len(run.records) >= made + 3)
    run.stop()
    assert run.history["step"] == list(range(1, len(run.records) + 1))


def test_balancing_is_switched_between_two_steps():
    run = BackgroundRun(*parts(steps=100_000, balance="none")).start()
    until(lambda: len(run.records) >= 3)
    bias_E = run.trainer.model.routers()[1].e_score_correction_bias
    assert bias_E.abs().max() == 0
    run.change(balance="loss_free", bias_gamma=0.5)
    now = len(run.records)
    until(lambda: len(run.records) >= now + 3)
    run.stop()
    assert bias_E.abs().max() >= 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [({"balanse": "none"}, "balanse"), ({"balance": "some"}, "'some'"), ({"lr": 1.0}, "lr is fixed")],
)
def test_a_change_that_cannot_be_is_refused_and_the_run_goes_on(change, words):
    run = BackgroundRun(*parts())
    with pytest.raises(ValueError, match=words):
        run.change(**change)
    run.start().wait(60)
    assert run.done


def test_an_error_in_the_thread_is_kept_and_raised_to_who_waits():
    model, batches, settings = parts()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    run = BackgroundRun(model, batches, settings).start()
    with pytest.raises(ValueError, match="the loss is nan"):
        run.wait(60)
    assert isinstance(run.error, ValueError) and not run.running


def test_a_stopped_run_with_a_folder_is_saved_and_another_object_goes_on(tmp_path):
    first = BackgroundRun(*parts(steps=40), folder=tmp_path).start()
    until(lambda: len(first.records) >= 3)
    first.stop()
    second = BackgroundRun(*parts(steps=40), folder=tmp_path)
    assert second.records == first.records
    second.start().wait(60)
    assert second.history["loss"] == train(*parts(steps=40), label=None)["loss"]


def test_starting_twice_makes_one_thread_and_a_run_that_is_over_stays_over():
    run = BackgroundRun(*parts())
    thread = run.start()._thread
    assert run.start()._thread is thread or run.done
    run.wait(60)
    assert not run.start().running


def test_waiting_too_short_says_so():
    run = BackgroundRun(*parts(steps=100_000)).start()
    with pytest.raises(TimeoutError, match="still going"):
        run.wait(0.01)
    run.stop()


def test_a_run_that_is_over_keeps_nothing_alive():
    run = BackgroundRun(*parts(steps=3))
    run.start().wait(60)
    gone = weakref.ref(run.trainer.model)
    del run
    gc.collect()
    assert gone() is None
