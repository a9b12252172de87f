"""What the progress line shows, with a clock of our own."""

import io
import sys

from minimoe.training.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_time_left_follows_from_the_time_taken():
    clock = Clock()
    line = ProgressLine("training", io.StringIO(), clock)
    clock.now = 30
    line.update(0.25, "loss 3.1")
    assert line.line() == "training [######..................]  25%  1:30 left  loss 3.1"
    clock.now = 125
    line.update(1)
    assert line.line() == "training [########################] 100%  2:05 taken"


def test_a_terminal_line_is_rewritten_in_place_and_not_too_often():
    clock, stream = Clock(), Terminal()
    line = ProgressLine("x", stream, clock)
    for i in range(100):
        clock.now = i / 100
        line.update(i / 100)
    line.close()
    assert stream.getvalue().count("\r") == 5  # one each quarter of a second, and the last
    assert stream.getvalue().count("\n") == 1


def test_a_log_file_gets_a_line_for_each_quarter():
    stream = io.StringIO()
    line = ProgressLine("x", stream, Clock())
    for i in range(1001):
        line.update(i / 1000)
    line.close()
    assert stream.getvalue().count("\n") == 5
    assert "\r" not in stream.getvalue()


def test_a_fraction_beyond_the_end_is_the_end():
    line = ProgressLine("x", io.StringIO(), Clock())
    line.update(1.3)
    assert "100%" in line.line()


def test_a_notebook_is_rewritten_in_place_without_escape_codes(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    line = ProgressLine("x", clock=Clock())
    line.update(0.5)
    line.close()
    assert stream.getvalue().count("\r") == 2 and "\x1b" not in stream.getvalue()
