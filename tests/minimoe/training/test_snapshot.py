"""A run killed at any moment goes on as if nothing had happened; what cannot be saved says so and loses nothing."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.training import Batches, Settings, Trainer, train
from minimoe.training.snapshot import STATE_NAME, RunFolder, compare_runs, read_state, write_state

SCRIPT = Path(__file__).with_name("killed_run.py")
KILLS = 20
linux = pytest.mark.skipif(sys.platform == "win32", reason="os.fork and SIGKILL; un-skip when Windows has them")


def killed_run():
    spec = importlib.util.spec_from_file_location("killed_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_run(folder=None, steps=6, seed=0, **settings):
    config = killed_run().CONFIG
    documents = [[(7 * i + j) % 400 for j in range(30)] for i in range(40)]
    settings = Settings(**({"steps": steps, "save_every": 2} | settings))
    model = minimoe.Transformer(config, seed=seed)
    return model, Batches(documents, 2, 16, seed=seed), settings


@linux
def test_a_process_killed_at_twenty_moments_ends_bit_identical_to_one_that_never_was(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run"), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    *found, losses = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [entry["step"] for entry in found]
    assert len(found) == KILLS
    assert steps == sorted(steps) and steps[-1] > 0  # every kill left a usable state, never an older one
    assert sum(entry["while_saving"] for entry in found) >= 3
    assert losses == killed_run().learn(None)


def test_a_run_that_stops_and_goes_on_equals_one_that_does_not(tmp_path):
    model, batches, settings = tiny_run(steps=9, batch_from=1, batch_ramp=0.6, mtp_weight=((0.0, 0.3), (0.5, 0.1)))
    whole = train(model, batches, settings, label=None)
    first, batches, _ = tiny_run()
    train(first, batches, settings, label=None, folder=tmp_path, on_step=lambda record: record["step"] < 5)
    second, batches, _ = tiny_run()
    rest = train(second, batches, settings, label=None, folder=tmp_path)
    assert rest["loss"] == whole["loss"] and rest["sequences"] == whole["sequences"]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), second.parameters(), strict=True))


def test_a_finished_run_is_not_made_again(tmp_path):
    model, batches, settings = tiny_run()
    train(model, batches, settings, label=None, folder=tmp_path)
    again, batches, _ = tiny_run()
    history = train(again, batches, settings, label=None, folder=tmp_path, on_step=lambda record: pytest.fail("a step"))
    assert len(history) == 6
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 0.5}, r"settings.lr was 0.01 there and is 0.5 here"),
        ({"steps": 7}, r"settings.steps was 6 there and is 7 here"),
        ({"seed": 1}, r"data.fingerprint was"),
    ],
)
def test_a_folder_with_another_run_is_refused_and_kept(change, words, tmp_path):
    model, batches, settings = tiny_run()
    train(model, batches, settings, label=None, folder=tmp_path)
    before = (tmp_path / STATE_NAME).read_bytes()
    with pytest.raises(ValueError, match=words):
        train(*tiny_run(**change), label=None, folder=tmp_path)
    assert (tmp_path / STATE_NAME).read_bytes() == before


def test_another_config_is_named():
    with pytest.raises(ValueError, match="holds another run: config.hidden_size was 8 there and is 16 here; .* delete"):
        compare_runs({"config": {"hidden_size": 8}}, {"config": {"hidden_size": 16}}, "folder")


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 half of one"])
def test_a_file_that_is_no_state_is_an_error_that_names_it(content, tmp_path):
    (tmp_path / STATE_NAME).write_bytes(content)
    with pytest.raises(ValueError, match=f"{STATE_NAME} is not the state of a run"):
        read_state(tmp_path)


def test_a_pickle_that_is_no_state_is_an_error_too(tmp_path):
    torch.save([1, 2], tmp_path / STATE_NAME)
    with pytest.raises(ValueError, match="holds no description"):
        read_state(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot keep a run in .*file"):
        train(*tiny_run(), label=None, folder=tmp_path / "file" / "run")


FULL_DISK = """
import resource, sys
import torch
from minimoe.training.snapshot import write_state
write_state(sys.argv[1], {"run": {}, "weights": torch.zeros(1000)})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # from here on no file may grow beyond this
try:
    write_state(sys.argv[1], {"run": {}, "weights": torch.ones(100_000)})
except OSError as error:
    print(error)
"""


@linux
def test_a_disk_that_is_full_is_an_error_and_the_state_before_it_survives(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert f"could not save the run to {tmp_path}" in done.stdout and "the state before it is still at" in done.stdout
    assert read_state(tmp_path)["weights"].equal(torch.zeros(1000))
    assert [p.name for p in tmp_path.iterdir()] == [STATE_NAME]


def test_a_state_keeps_every_bit(tmp_path):
    weights = torch.randn(50, generator=torch.Generator().manual_seed(0))
    write_state(tmp_path, {"run": {"a": 1}, "weights": weights, "nested": [{"x": 0.1}]})
    state = read_state(tmp_path)
    assert state["weights"].equal(weights) and state["nested"] == [{"x": 0.1}]
    assert read_state(tmp_path / "elsewhere") is None


def test_a_log_that_was_cut_is_not_passed_off_as_whole(tmp_path):
    train(*tiny_run(), label=None, folder=tmp_path)
    log = tmp_path / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(ValueError, match="has 3 steps, the state beside it 6"):
        Trainer(*tiny_run(), folder=tmp_path)


def test_batches_that_cannot_keep_their_place_cannot_be_saved(tmp_path):
    model, batches, settings = tiny_run()
    with pytest.raises(ValueError, match="needs a Batches"):
        Trainer(model, iter(batches), settings, folder=tmp_path)
    assert dataclasses.asdict(settings)["save_every"] == 2 and not any(tmp_path.iterdir())


# --- the folder of a run ----------------------------------------------------------------------------------------------

IDENTITY = {"config": {"layers": 2}, "settings": {"lr": 0.1}, "data": {"seed": 0}}


def test_a_folder_gives_back_the_state_that_it_was_given_and_the_logs_lines_up_to_it(tmp_path):
    kept = RunFolder(tmp_path / "run", IDENTITY)
    assert kept.stored() is None and kept.records("log.jsonl", 0) == []
    log = kept.open_log("log.jsonl", [])
    for step in (1, 2, 3):
        log.add({"step": step})
    kept.save(2, {"weights": torch.ones(3)})
    kept.close()
    assert log.file.closed and kept.saved_at == 2
    again = RunFolder(tmp_path / "run", IDENTITY)
    state = again.stored()
    assert state["steps"] == 2 and torch.equal(state["weights"], torch.ones(3))
    assert again.records("log.jsonl", 2) == [{"step": 1}, {"step": 2}]
    with pytest.raises(ValueError, match="log.jsonl has 3 steps, the state beside it 4: the log was cut"):
        again.records("log.jsonl", 4)


def test_a_folder_of_another_run_is_refused_and_kept(tmp_path):
    kept = RunFolder(tmp_path, IDENTITY)
    kept.open_log("log.jsonl", [])
    kept.save(1, {})
    kept.close()
    with pytest.raises(ValueError, match="settings.lr was 0.1 there and is 0.2 here"):
        RunFolder(tmp_path, IDENTITY | {"settings": {"lr": 0.2}}).stored()
    assert RunFolder(tmp_path, IDENTITY).stored()["steps"] == 1
