"""Tokens are sorted by their spelling."""

import pytest

from minimoe.inference.token_kinds import KINDS, token_kinds
from minimoe.tokenizer import Tokenizer

TEXT = "the cat's wheel (noun): of the wheel, 12 and 12 the well-known wheels.\n" * 30


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXT, 296)


def test_every_id_has_one_kind(tokenizer):
    kinds = token_kinds(tokenizer)
    assert len(kinds) == tokenizer.vocab_size == 296
    assert 0 <= kinds.min() and kinds.max() < len(KINDS)
    marks = set(tokenizer.special_tokens.values())
    assert {i for i in range(296) if KINDS[kinds[i]] == "mark"} == marks


@pytest.mark.parametrize(
    "text, kind",
    [
        (" the", "function word"), (" wheel", "word start"), ("noun", "word part"), ("'s", "word part"),
        ("-known", "word part"), ("T", "word part"), ("12", "digit"), ("7", "digit"), ("):", "punctuation"),
        (" (", "punctuation"), (".\n", "punctuation"), ("\n", "other"), (" ", "other"),
    ],
)  # fmt: skip
def test_a_token_is_sorted_by_its_spelling(tokenizer, text, kind):
    ids = tokenizer.encode(text)
    assert len(ids) == 1, "the text is one token of this vocabulary"
    assert KINDS[token_kinds(tokenizer)[ids[0]]] == kind


def test_a_byte_that_is_no_text_alone_is_other(tokenizer):
    first, second = tokenizer.encode("é")
    assert KINDS[token_kinds(tokenizer)[first]] == KINDS[token_kinds(tokenizer)[second]] == "other"
