"""What the canvas is sent: a byte a cell, four a step, and nothing that grows with the run."""

import numpy as np

from minimoe_widgets.balance_canvas import BalanceCanvas, colour_bytes, pack_frame
from minimoe_widgets.balance_stream import COLUMNS, Stream


def stream(steps, experts=4):
    same = {"load": {"1": list(range(experts)), "2": [1] * experts}, "maxvio_by_layer": {"1": 1.0, "2": 0.0}}
    return Stream({"step": n, "next_token": 1 / n} | same for n in range(1, steps + 1))


def pack(window, whole=False):
    return pack_frame(window, "title", "alt", {1: "Layer 1", 2: "MTP layer 2"}, most=4.0, whole=whole)


def test_an_idle_expert_is_0_and_a_full_one_255():
    assert colour_bytes(np.array([0, 1e-6, 2, 4, 9]), top=4.0).tolist() == [0, 1, 128, 255, 255]


def test_a_frame_carries_the_numbers_of_the_window():
    window = stream(3).window(1)
    frame = pack(window)
    shade = np.frombuffer(frame["shade"], np.uint8).reshape(3, 4)
    assert shade[0].tolist() == [0, 42, 85, 128]  # 0, 1, 2, 3 tokens where the mean is 1.5: x 255 / 4
    assert frame["layers"] == ["MTP layer 2", "Layer 1"]  # the chosen one last, so that it is drawn on top
    np.testing.assert_array_equal(np.frombuffer(frame["maxvio"][1], "<f4"), np.float32([1, 1, 1]))
    np.testing.assert_array_equal(np.frombuffer(frame["loss"], "<f4"), np.float32([1, 1 / 2, 1 / 3]))
    assert (frame["first"], frame["columns"], frame["stride"], frame["room"]) == (1, 3, 1, COLUMNS)
    assert (frame["top"], frame["worst"]) == (4.0, 3.0)


def test_the_whole_run_fills_the_width():
    assert pack(stream(3).window(1, whole=True), whole=True)["room"] == 3


def test_a_frame_stays_small_however_long_the_run():
    window = stream(3 * COLUMNS, experts=64).window(1)
    frame = pack(window)
    size_bytes = len(frame["shade"]) + len(frame["loss"]) + sum(map(len, frame["maxvio"]))
    assert size_bytes == COLUMNS * (64 + 4 + 2 * 4)


def test_the_canvas_asks_nothing_of_another_machine():
    canvas = BalanceCanvas()
    assert "http" not in str(canvas._esm) and len(canvas.palette) == 768
