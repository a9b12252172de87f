"""Fill in the middle: the order of the parts, nothing lost, the rate, the seed, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimoe.tokenizer import SPECIAL_TOKENS, Tokenizer
from minimoe.training.data import encode_documents, pack
from minimoe.training.fim import fill_in_the_middle, infill_prompt, rearrange, restore

WORDS = "a small animal that lives in trees and feeds on the leaves of small trees"
TOKENIZER = Tokenizer.train([WORDS] * 3, 300)
HOLE, BEGIN, END = (TOKENIZER.special_id(name) for name in SPECIAL_TOKENS[3:6])


def documents(texts):
    return encode_documents(TOKENIZER, texts)


def test_the_parts_of_a_document_by_hand():
    assert rearrange([10, 11], [12], [13, 14], (1, 2, 3)) == [1, 10, 11, 2, 13, 14, 3, 12]


def test_a_rearranged_document_has_every_mark_once_and_in_order():
    (document,) = fill_in_the_middle(documents([WORDS]), TOKENIZER, rate=1.0)
    marks = [TOKENIZER.bos_id, BEGIN, HOLE, END, TOKENIZER.eos_id]
    assert [token for token in document if token in marks] == marks
    assert document[:2] == [TOKENIZER.bos_id, BEGIN] and document[-1] == TOKENIZER.eos_id


def test_the_middle_stands_last_and_no_part_is_empty():
    for seed in range(30):
        (document,) = fill_in_the_middle(documents([WORDS]), TOKENIZER, rate=1.0, seed=seed)
        hole, end = document.index(HOLE), document.index(END)
        parts = [document[2:hole], document[end + 1 : -1], document[hole + 1 : end]]
        pre, mid, suf = (TOKENIZER.decode(part) for part in parts)
        assert pre + mid + suf == WORDS
        assert pre and mid and suf


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.integers(0, 99))
def test_no_character_of_any_text_is_lost(texts, seed):
    rearranged = fill_in_the_middle(documents(texts), TOKENIZER, rate=1.0, seed=seed)
    assert [restore(document, TOKENIZER).decode("utf-8") for document in rearranged] == texts


def test_bytes_that_are_not_text_are_kept_too():
    raw = b"ab\xff\xfe\xc3cd"
    (document,) = fill_in_the_middle([TOKENIZER.encode(raw, bos=True, eos=True)], TOKENIZER, rate=1.0)
    assert BEGIN in document and restore(document, TOKENIZER) == raw


def test_cuts_fall_inside_tokens_too():
    longest = max((TOKENIZER.token_bytes(token) for token in TOKENIZER.ordinary_ids), key=len)
    (whole,) = documents([longest.decode()])
    assert len(longest) >= 3 and len(whole) == 3  # one token between the marks of the document
    (document,) = fill_in_the_middle([whole], TOKENIZER, rate=1.0)
    assert len(document) >= 2 + 3 + 3 and restore(document, TOKENIZER) == longest  # and yet three parts


@pytest.mark.parametrize("text", ["", "a", "ab", "\U0001f333é"])
def test_a_document_of_fewer_than_three_characters_stays(text):
    assert fill_in_the_middle(documents([text]), TOKENIZER, rate=1.0) == documents([text])


def test_a_document_without_a_begin_mark_is_rearranged_as_well():
    ids = TOKENIZER.encode(WORDS, eos=True)
    (document,) = fill_in_the_middle([ids], TOKENIZER, rate=1.0)
    assert document[0] == BEGIN and restore(document, TOKENIZER).decode() == WORDS


def test_a_tenth_is_chosen_and_the_others_stay_in_their_places():
    before = documents([f"{WORDS} {i}" for i in range(2000)])
    after = fill_in_the_middle(before, TOKENIZER, rate=0.1)
    chosen = [BEGIN in document for document in after]
    # 2,000 draws at 0.1: mean 200, standard deviation 13.4
    assert 146 < sum(chosen) < 254
    assert all(a == b for a, b, yes in zip(after, before, chosen, strict=True) if not yes)


def test_rate_0_changes_nothing_and_gives_a_copy():
    before = documents([WORDS])
    after = fill_in_the_middle(before, TOKENIZER, rate=0.0)
    after[0].append(7)
    assert before == documents([WORDS])


def test_the_seed_fixes_the_result():
    texts = [f"{WORDS} {i}" for i in range(50)]
    first, again, other = (fill_in_the_middle(documents(texts), TOKENIZER, 0.5, seed) for seed in (3, 3, 4))
    assert first == again and first != other


def test_the_input_is_not_changed():
    before = documents([WORDS])
    fill_in_the_middle(before, TOKENIZER, rate=1.0)
    assert before == documents([WORDS])


def test_rearranged_documents_can_be_packed():
    rows_BT = pack(fill_in_the_middle(documents([WORDS] * 20), TOKENIZER, rate=0.5), row_tokens=9)
    assert (rows_BT == BEGIN).any()


def test_a_prompt_ends_where_the_middle_begins():
    ids = infill_prompt(TOKENIZER, "a small", " trees")
    assert ids[:2] == [TOKENIZER.bos_id, BEGIN] and ids[-1] == END
    assert restore([*ids, *TOKENIZER.encode(" animal in")], TOKENIZER) == b"a small animal in trees"


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan")])
def test_a_rate_outside_0_to_1_is_named(rate):
    with pytest.raises(ValueError, match=f"rate={rate}"):
        fill_in_the_middle([], TOKENIZER, rate=rate)


def test_a_document_without_an_end_mark_is_refused_with_both_ids():
    with pytest.raises(ValueError, match=f"document 1 ends in token 65, not in the end mark {TOKENIZER.eos_id}"):
        fill_in_the_middle([*documents([WORDS]), [65]], TOKENIZER)
    with pytest.raises(ValueError, match="document 0 is empty"):
        fill_in_the_middle([[]], TOKENIZER)


def test_a_document_is_not_rearranged_twice():
    once = fill_in_the_middle(documents([WORDS]), TOKENIZER, rate=1.0)
    with pytest.raises(ValueError, match="document 0 already holds one of the marks"):
        fill_in_the_middle(once, TOKENIZER, rate=1.0)


def test_a_vocabulary_without_the_marks_is_refused():
    plain = Tokenizer.train(WORDS, 260, special_tokens=SPECIAL_TOKENS[:2])
    with pytest.raises(ValueError, match="fim"):
        fill_in_the_middle([], plain)
