"""The static twins draw the numbers they are given and carry title and alt text."""

import runpy
from pathlib import Path

from matplotlib.cbook import is_math_text

from minimoe_widgets.refusal_twin import guard_twin, tuning_twin

FAKES = runpy.run_path(str(Path(__file__).with_name("refusal_fakes.py")))
RUN = FAKES["run"]()


def test_curves_and_answers_are_the_records():
    twin = tuning_twin(RUN, 2, ("plain", 0), "title", "alt")
    plain, harmless, answers = (ax for sub in twin.subfigs for ax in sub.axes)
    assert [list(line.get_ydata()) for line in plain.lines[:2]] == [[1, 0.5, 0, 0], [0, 0, 0, 0.5]]
    assert [list(line.get_ydata()) for line in harmless.lines[:2]] == [[0] * 4, [1] * 4]
    assert list(plain.lines[2].get_xdata()) == [2, 2]
    bold = [text.get_text() for text in answers.texts if text.get_fontweight() == "bold"]
    assert bold == ["step 2", FAKES["WRONG"]]
    assert (twin.get_suptitle(), twin.alt) == ("title", "alt") and twin.png().startswith(b"\x89PNG")


def test_nothing_a_model_says_is_read_as_a_formula():
    run = FAKES["run"]()
    run.records[2]["plain"].responses[0] = "$x$ " * 40
    twin = tuning_twin(run, 2, ("plain", 0), "title", "alt")
    texts = [text.get_text() for text in twin.subfigs[1].axes[0].texts]
    assert twin.png() and any(text.endswith("…") for text in texts) and not any(map(is_math_text, texts))


def test_letters_that_the_type_lacks_are_boxes_and_the_picture_says_so(recwarn):
    run = FAKES["run"]()
    plain = tuning_twin(run, 2, ("plain", 0), "title", "alt")
    run.records[2]["plain"].responses[0] = "The code is 517四."
    twin = tuning_twin(run, 2, ("plain", 0), "title", "alt")
    texts = [text.get_text() for text in twin.subfigs[1].axes[0].texts]
    assert "The code is 517□." in texts and "□: a character" in texts[0]
    assert "□" not in "".join(text.get_text() for text in plain.subfigs[1].axes[0].texts)
    assert twin.png() and not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_the_guard_s_errors_are_crosses_and_the_rest_circles():
    scores, wrong = {"plain": [0.2, 0.7, 0.9], "harmless": [0.1]}, {"plain": [0], "harmless": []}
    twin = guard_twin(scores, wrong, 0.5, "A rule. " * 30, "title", "alt")
    (ax,) = twin.axes
    drawn = [sorted(x for x, _ in points.get_offsets()) for points in ax.collections]
    assert drawn == [[0.7, 0.9], [0.2], [0.1], []]
    assert list(ax.lines[0].get_xdata()) == [0.5, 0.5]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["plain\n1 of 3 wrong", "harmless\n0 of 1 wrong"]
    assert max(map(len, ax.get_xlabel().splitlines())) < 110
