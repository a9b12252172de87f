"""Records as columns and as lines of a file that may still be growing."""

import json

import pytest

from minimoe.training.history import History, Log

RECORDS = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1 / 3, "validation": 2.0, "load": {"1": [3, 5]}}]


def test_a_column_holds_what_was_recorded_and_an_unknown_one_is_named():
    history = History(RECORDS)
    assert history["loss"] == [2.5, 1 / 3] and history["validation"] == [2.0] and len(history) == 2
    with pytest.raises(KeyError, match="'los' was not recorded; there are step, loss"):
        history["los"]


def test_a_saved_history_has_six_digits_and_no_single_loads(tmp_path):
    History(RECORDS).save(tmp_path / "history.jsonl")
    again = History.load(tmp_path / "history.jsonl")
    assert again["loss"] == [2.5, 0.333333] and "load" not in again.records[1]


def test_a_log_is_readable_after_every_line_and_keeps_every_digit(tmp_path):
    log = Log(tmp_path / "log.jsonl", RECORDS[:1])
    assert History.load(log.path).records == RECORDS[:1]
    log.add(RECORDS[1])
    assert History.load(log.path).records == RECORDS
    log.sync()
    log.close()


def test_half_a_line_is_not_read_and_opening_again_drops_it(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(RECORDS[0]) + "\n" + '{"step": 2, "lo')
    assert History.load(path).records == RECORDS[:1]
    log = Log(path, History.load(path).records)
    log.add(RECORDS[1])
    log.close()
    assert History.load(path).records == RECORDS


def test_a_full_disk_names_the_step_and_the_file(tmp_path):
    log = Log(tmp_path / "log.jsonl", [])
    log.close()
    log.file = open("/dev/full", "ab", buffering=0)
    with pytest.raises(OSError, match=r"could not write step 2 to .*log.jsonl"):
        log.add(RECORDS[1])
    log.close()
