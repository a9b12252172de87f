"""The static twin shows the same numbers: curves, band, step, every token with its sign."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import is_math_text

from minimoe_widgets.rollout_log import Stage, load_stages
from minimoe_widgets.rollout_twin import COLUMNS, MARKED, draw_twin
from minimoe_widgets.rollout_view import piece_label

RECORDING = runpy.run_path(str(Path(__file__).with_name("rollout_recording.py")))


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    (stage,) = load_stages(RECORDING["write"](tmp_path_factory.mktemp("run") / "zero"))
    return stage


def drawn(stage, step=8, **options):
    group = stage.group(stage.problems[0], step)
    twin = draw_twin(stage, group, "title", "what is seen", **options)
    return twin, group, twin.subfigs[0].axes, twin.subfigs[1].axes[0]


def test_the_curves_stand_before_their_band_with_the_step_marked(stage):
    twin, _, axes, _ = drawn(stage)
    assert [ax.get_title("left") for ax in axes][:2] == ["share of answers that are right", "tokens an answer"]
    held_out, training, mark = axes[0].lines
    assert held_out.get_ydata().tolist() == stage.column("evaluation.accuracy")[1]
    assert training.get_ydata().tolist() == stage.column("accuracy")[1]
    assert set(mark.get_xdata()) == {8} and all(len(ax.collections) == 1 for ax in axes)
    assert "lowest to highest of 5 seeds" in [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert (twin.get_suptitle(), twin.alt) == ("title", "what is seen") and twin.png().startswith(b"\x89PNG")


def test_every_token_is_there_and_those_that_changed_have_a_bar(stage):
    _, group, _, rows = drawn(stage)
    shown = [text.get_text() for text in rows.texts]
    pieces = [piece_label(piece) for answer in group["answers"] for piece in answer["pieces"]]
    assert [text for text in shown if text in pieces] == pieces
    ratios = np.concatenate([np.subtract(answer["logprobs"], answer["reference"]) for answer in group["answers"]])
    assert len(rows.lines) == (abs(ratios) >= MARKED).sum() > 0
    raised = [line for line in rows.lines if line.get_color() == "#0072B2"]
    assert len(raised) == (ratios >= MARKED).sum()


def test_before_training_no_token_has_a_bar(stage):
    assert len(drawn(stage, step=0)[3].lines) == 0


def test_only_the_wrong_ones(stage):
    headings = [text.get_text() for text in drawn(stage, only_wrong=True)[3].texts if "reward" in text.get_text()]
    assert len(headings) == 3 and all("wrong" in text for text in headings)


def test_a_long_answer_is_wrapped_and_no_token_is_read_as_a_formula(stage):
    group = RECORDING["make_group"]("1 + 1", 4, "one", answers=2)
    for answer in group["answers"]:
        answer.update(pieces=["$x$"] * 60, logprobs=[-0.1] * 60, reference=[-0.1] * 60)
    twin = draw_twin(stage, group, "title of $1$", "alt")
    chips = [text for text in twin.subfigs[1].axes[0].texts if "x" in text.get_text()]
    assert len(chips) == 120 and len({chip.get_position()[1] for chip in chips}) == 4
    assert max(chip.get_position()[0] for chip in chips) < COLUMNS
    assert not any(is_math_text(text.get_text()) for text in twin.subfigs[1].axes[0].texts)
    assert twin.png().startswith(b"\x89PNG")


def test_a_stage_without_answers_shows_its_curve():
    stage = Stage("cold start", [{"step": 1, "next_token": 2.0}, {"step": 2, "next_token": 1.0}])
    twin = draw_twin(stage, None, "title", "alt")
    (ax,) = twin.subfigs[0].axes
    assert ax.lines[0].get_ydata().tolist() == [2.0, 1.0] and twin.png().startswith(b"\x89PNG")
