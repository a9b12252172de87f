"""The race in words and as a picture: the message may be that speculation lost."""

import pytest
from matplotlib.cbook import is_math_text

from minimoe_widgets.speculation_figure import COLUMNS, alt_text, draw_twin, title
from minimoe_widgets.speculation_run import Run, Step


def runs(call_ms=1.0):
    plain = Run([Step([t], None, False, None, 1.0) for t in range(6)])
    steps = [Step([0], None, False, None, call_ms), Step([1, 2], 1, True, 1.0, call_ms)]
    steps += [Step([3], 9, False, 0.2, call_ms), Step([4, 5], 4, True, 0.7, call_ms)]
    return plain, Run(steps)


def label(token):
    return f"token{token}"


def test_the_title_counts_drafts_and_calls_and_says_who_won():
    assert title(*runs()) == "2 of 3 drafts kept: 4 calls of the trunk instead of 6, 1.50 times as fast"
    assert title(*runs(call_ms=3.0)).endswith("2.00 times the processor time")


def test_the_alt_text_says_whether_the_texts_agree():
    plain, speculative = runs()
    assert "the same text" in alt_text(plain, speculative, 0.0)
    other = Run([*speculative.steps[:-1], Step([4, 8], 4, True, 0.7, 1.0)])
    assert "different texts" in alt_text(plain, other, 0.8) and "temperature 0.8" in alt_text(plain, other, 0.8)


def test_the_twin_shows_every_token_and_every_rejected_draft():
    twin = draw_twin(runs(), label, "title", "alt")
    plain, speculative, race = twin.axes
    assert [text.get_text() for text in plain.texts] == ["plain", *map(label, range(6))]
    assert [text.get_text() for text in speculative.texts] == ["speculative", *map(label, [0, 1, 2, 9, 3, 4, 5])]
    assert len(speculative.lines) == 1, "one stroke, through the rejected draft"
    assert race.lines[0].get_xdata()[-1] == 6 and race.lines[2].get_xdata()[-1] == 4
    assert (twin.get_suptitle(), twin.alt) == ("title", "alt")


def test_a_long_text_is_wrapped():
    steps = [Step([t], None, False, None, 1.0) for t in range(40)]
    (lane, *_) = draw_twin((Run(steps), Run(steps)), label, "title", "alt").axes
    chips = lane.texts[1:]
    assert len({chip.get_position()[1] for chip in chips}) > 2
    assert max(chip.get_position()[0] + len(chip.get_text()) for chip in chips) <= COLUMNS


@pytest.mark.parametrize("text", ["$x$", "a_b", "%", "\\n"])
def test_no_token_is_read_as_a_formula(text):
    figure = draw_twin(runs(), lambda token: text, "title", "alt")
    assert figure.png().startswith(b"\x89PNG")
    shown = [chip.get_text() for axes in figure.axes for chip in axes.texts]
    assert sum(text in part.replace("\\$", "$") for part in shown) >= 10  # each token's own text, as it is
    assert not any(is_math_text(part) for part in shown)
