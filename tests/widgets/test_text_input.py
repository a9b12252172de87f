"""From typed text to token ids and readable labels."""

import pytest

from minimoe_widgets.text_input import encode, label, labels, said


def test_a_text_becomes_its_tokens_without_a_notice(tokenizer, text):
    assert encode(tokenizer, text, 100) == (tokenizer.encode(text), "")


@pytest.mark.parametrize("nothing", ["", "   ", "\n"])
def test_an_empty_text_is_refused_with_what_to_do(tokenizer, nothing):
    with pytest.raises(ValueError, match="type at least one word"):
        encode(tokenizer, nothing, 100)


def test_a_long_text_is_cut_and_the_notice_names_both_lengths(tokenizer, text):
    ids, notice = encode(tokenizer, text, 3)
    assert ids == tokenizer.encode(text)[:3]
    assert str(len(tokenizer.encode(text))) in notice and "3" in notice


def test_labels_show_what_cannot_be_seen(tokenizer):
    assert "".join(labels(tokenizer, tokenizer.encode("the cat\n\tsat"))) == "the␣cat⏎⇥sat"


def test_half_a_character_is_shown_as_its_bytes(tokenizer):
    ids = tokenizer.encode("ü")
    assert [label(tokenizer, token) for token in ids] == ["c3", "bc"]


def test_what_is_said_carries_no_markup_and_is_announced():
    assert "&lt;b&gt;cat" in said("<b>cat") and 'role="status"' in said("cat")
    assert "font-weight" in said("cat", bold=True) and "font-weight" not in said("cat")
