"""What the page is sent: the recorded numbers, subtracted, and nothing else."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from minimoe_widgets.rollout_log import Band, Stage
from minimoe_widgets.rollout_view import RolloutView, is_wrong, pack_curves, pack_group, panels, piece_label

RECORDING = runpy.run_path(str(Path(__file__).with_name("rollout_recording.py")))


def answer(pieces, policy, reference, accuracy=1.0, advantage=0.5, ended=True):
    chances = {"logprobs": [math.log(p) for p in policy], "reference": [math.log(p) for p in reference]}
    parts = {} if accuracy is None else {"accuracy": accuracy}
    return {"pieces": pieces, **chances, "text": "", "ended": ended, "parts": parts, "reward": 1.5,
            "advantage": advantage}  # fmt: skip


def group():
    right = answer(["a", " "], [0.5, 0.1], [0.25, 0.2])
    wrong = answer(["\n"], [0.9], [0.9], accuracy=0.0, advantage=-2.5, ended=False)
    return {"step": 3, "problem": "p", "answers": [right, wrong]}


def test_a_row_carries_chances_their_log_ratio_and_what_was_paid():
    frame = pack_group(group(), "title", "alt")
    first, second = frame["rows"]
    assert first["policy"] == [0.5, 0.1] and first["reference"] == [0.25, 0.2]
    np.testing.assert_allclose(first["ratio"], [math.log(2), -math.log(2)], atol=5e-5)  # four digits
    assert first["pieces"] == ["a", "␣"] and second["pieces"] == ["⏎"]
    assert [row["verdict"] for row in frame["rows"]] == ["right", "wrong"]
    assert [row["ended"] for row in frame["rows"]] == [True, False]
    assert first["parts"] == [["accuracy", 1.0]] and (first["reward"], first["advantage"]) == (1.5, 0.5)
    assert (frame["step"], frame["of"], frame["most"]) == (3, 2, 2.5)


def test_only_the_wrong_ones_keep_their_numbers():
    frame = pack_group(group(), "title", "alt", only_wrong=True)
    assert [row["number"] for row in frame["rows"]] == [2] and frame["of"] == 2


def test_an_answer_that_nothing_verifies_is_neither_right_nor_wrong():
    assert is_wrong(answer(["a"], [0.5], [0.5], accuracy=None)) is None
    assert is_wrong(answer(["a"], [0.5], [0.5], accuracy=0.0)) is True


@pytest.mark.parametrize(
    "piece, label",
    [("<｜end▁of▁sentence｜>", "⟨end⟩"), ("<think>", "<think>"), ("", "∅"), ("a b", "a␣b"), ("\x07\t", "\\x07⇥")],
)
def test_every_token_can_be_read(piece, label):
    assert piece_label(piece) == label


def test_curves_carry_the_records_and_the_band():
    records = [{"step": 1, "accuracy": 0.25, "kl": 0.5}, {"step": 2, "accuracy": 0.75, "kl": 4.0}]
    records[1]["evaluation"] = {"accuracy": 1.0}
    band = Band({"accuracy": {"step": [1, 5], "lowest": [0, None], "highest": [1, 1]}}, seeds=3)
    frame = pack_curves(Stage("one", records, band=band), "alt")
    right, length, kl, clipped = frame["panels"]
    assert [name for name, *_ in right["series"]] == ["held out", "training"]
    np.testing.assert_array_equal(np.frombuffer(right["series"][1][2], "<f4"), np.float32([0.25, 0.75]))
    np.testing.assert_array_equal(np.frombuffer(right["series"][0][1], "<f4"), [2])
    np.testing.assert_array_equal(np.frombuffer(right["band"][2], "<f4"), [0, np.nan])
    assert right["band"][0] == "training", "the band of the column that has one"
    assert (right["bottom"], right["top"]) == (0, 1) and kl["top"] == pytest.approx(4.2)
    assert length["series"] == clipped["series"] == [] and kl["band"] is None
    assert (frame["first"], frame["last"]) == (1, 5), "a band that goes on shows where the run is heading"
    assert frame["band"] == "grey: lowest to highest of 3 seeds"


def test_a_stage_shows_what_it_recorded():
    def titles(*records):
        return [panel.title for panel in panels(Stage("one", records))]

    usual = titles({"step": 1, "kl": 0.1})
    assert len(usual) == 4
    assert titles({"step": 1, "next_token": 2.0}) == ["loss (nats a token)"]
    assert titles({"step": 1, "kl": 0.1, "evaluation": {"language_en": 0.5}}) == [
        *usual, "share of words in the question's language",
    ]  # fmt: skip
    assert titles() == usual


def test_the_page_is_one_module_that_asks_nothing_of_another_machine():
    text = str(RolloutView()._esm)
    assert text.count("export default") == 1 and "http" not in text and "import " not in text
    assert text.index("function sizeCanvas") < text.index("function drawCurves") < text.index("function render")
