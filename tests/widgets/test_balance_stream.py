"""The stream of a run: which steps are drawn, what their means are, where the marks stand."""

import json

import numpy as np
import pytest

from minimoe_widgets.balance_stream import COLUMNS, Stream


def step(n, load=(3, 1), mark=None):
    maxvio = max(load) / (sum(load) / len(load)) - 1
    record = {"step": n, "next_token": 10.0 - n, "maxvio_by_layer": {"1": maxvio, "2": 0.0}}
    record["load"] = {"1": list(load), "2": [2, 2]}
    return record | ({"mark": mark} if mark else {})


def test_a_short_run_is_drawn_step_by_step():
    window = Stream([step(1), step(2, load=(4, 0))]).window(1)
    assert window.steps.tolist() == [1, 2] and window.stride == 1 and window.last_step == 2
    assert window.load.tolist() == [[3, 1], [4, 0]] and window.of_mean.tolist() == [[1.5, 0.5], [2, 0]]
    assert window.maxvio[1].tolist() == [0.5, 1] and window.maxvio[2].tolist() == [0, 0]
    assert window.loss.tolist() == [9, 8]


def test_a_long_run_scrolls():
    window = Stream(step(n) for n in range(1, COLUMNS + 6)).window(1)
    assert window.steps[0] == 6 and window.last_step == COLUMNS + 5 and len(window.loss) == COLUMNS


def test_the_whole_of_a_long_run_is_the_mean_of_neighbouring_steps():
    stream = Stream(step(n, load=(4, 0) if n % 2 else (2, 2)) for n in range(1, 2 * COLUMNS + 2))
    window = stream.window(1, whole=True)
    assert window.stride == 3 and window.steps[:3].tolist() == [1, 4, 7]
    np.testing.assert_allclose(window.load[0], [10 / 3, 2 / 3])
    np.testing.assert_allclose(window.maxvio[1][0], 2 / 3)
    np.testing.assert_allclose(window.loss[0], 8)
    stream.extend([step(2 * COLUMNS + 2)])
    np.testing.assert_array_equal(stream.window(1, whole=True).load[:100], window.load[:100])  # columns stay in place


def test_marks_come_from_the_records_and_from_the_reader():
    stream = Stream([step(1, mark="none"), step(2)])
    stream.mark(3, "aux")
    stream.mark(3, "loss-free")
    window = stream.window(1)
    assert window.marks == ((1, "none"), (3, "loss-free"))
    assert window.mode_at(2) == "none" and window.mode_at(3) == "loss-free" and window.mode_at(0) == ""


def test_a_recording_is_read_back(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(step(n, mark="x" if n == 1 else None)) + "\n" for n in (1, 2)))
    stream = Stream.load(path)
    assert len(stream) == 2 and stream.layers == [1, 2] and stream.marks == {1: "x"}


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no steps"):
        Stream.load(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="step 7 has no expert load"):
        Stream([{"step": 7, "next_token": 1.0, "load": {}}])
    with pytest.raises(ValueError, match=r"layer=5 is not in the records; the layers there are \[1, 2\]"):
        Stream([step(1)]).window(5)
    with pytest.raises(ValueError, match=r"the layers there are \[\]"):
        Stream().window(1)
