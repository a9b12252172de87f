"""Byte-level BPE: what it promises (round trips, merge order) and what it refuses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe.tokenizer import SPECIAL_TOKENS, Tokenizer, learn_merges

TEXT = (
    "the cat sat on the mat. the cat's hat (noun): a hat that a cat has. 1234 cats, 56 hats;\n\n  two  spaces\t"
    "größe ça va 日本語 и так далее 🙂 " * 8
)
TOKENIZER = Tokenizer.train(TEXT, 340)


@given(st.text())
def test_any_text_round_trips(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.binary())
def test_any_bytes_round_trip(raw):
    assert TOKENIZER.decode_bytes(TOKENIZER.encode(raw)) == raw


@given(st.text())
def test_text_and_its_utf8_bytes_give_the_same_ids(text):
    assert TOKENIZER.encode(text) == TOKENIZER.encode(text.encode("utf-8"))


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "the cat", " hat", "<", "｜"])).map("".join))
def test_the_name_of_a_special_token_in_user_text_is_text(text):
    ids = TOKENIZER.encode(text)
    assert not set(ids) & set(TOKENIZER.special_tokens.values())
    assert TOKENIZER.decode(ids) == text


def test_special_tokens_become_their_ids_only_when_asked():
    begin, end = SPECIAL_TOKENS[:2]
    ids = TOKENIZER.encode(f"{begin}the cat{end}", special=True)
    assert (ids[0], ids[-1]) == (TOKENIZER.bos_id, TOKENIZER.eos_id) == (0, 1)
    assert ids[1:-1] == TOKENIZER.encode("the cat")
    assert ids == TOKENIZER.encode("the cat", bos=True, eos=True)


def test_decode_can_leave_special_tokens_out():
    ids = TOKENIZER.encode("the cat", bos=True, eos=True)
    assert TOKENIZER.decode(ids, skip_special=True) == "the cat"
    assert TOKENIZER.decode(ids) == SPECIAL_TOKENS[0] + "the cat" + SPECIAL_TOKENS[1]


def test_a_character_cut_in_half_decodes_to_the_replacement_character():
    tokenizer = Tokenizer.train("", 256, special_tokens=[])
    assert tokenizer.decode(tokenizer.encode("ü")[:1]) == "\ufffd"


def test_ids_are_special_tokens_then_bytes_then_merges():
    first = len(SPECIAL_TOKENS)
    assert TOKENIZER.vocab_size == 340
    assert [TOKENIZER.special_tokens[name] for name in SPECIAL_TOKENS] == list(range(first))
    assert [TOKENIZER.token_bytes(first + b) for b in range(256)] == [bytes([b]) for b in range(256)]
    left, right = TOKENIZER.merges[0]
    assert TOKENIZER.token_bytes(first + 256) == TOKENIZER.token_bytes(left) + TOKENIZER.token_bytes(right)


def test_merges_of_a_five_word_text_by_hand():
    # ab:5, bc:3 at first; after ab is 256, the pair (256, c) has 3
    assert learn_merges({b"ab": 2, b"abc": 3}, 2) == [(97, 98), (256, 99)]


def test_ties_go_to_the_smaller_ids():
    assert learn_merges({b"zy": 2, b"ab": 2}, 2) == [(97, 98), (122, 121)]


def test_overlapping_pairs_merge_from_the_left():
    tokenizer = Tokenizer.train("aaaaa", 257, special_tokens=[])
    assert tokenizer.encode("aaaaa") == [256, 256, 97]


def brute_force_merges(piece_counts, n_merges):
    """Count every pair from scratch before every merge."""
    words = [(list(piece), n) for piece, n in piece_counts.items()]
    merges = []
    for new_id in range(256, 256 + n_merges):
        counts = {}
        for word, n in words:
            for pair in zip(word, word[1:], strict=False):
                counts[pair] = counts.get(pair, 0) + n
        pair = min(counts, key=lambda p: (-counts[p], p))
        merges.append(pair)
        for word, _ in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == pair:
                    word[i : i + 2] = [new_id]
                i += 1
    return merges


@settings(max_examples=50)
@given(
    st.dictionaries(st.text("abc", min_size=2, max_size=9).map(str.encode), st.integers(1, 5), min_size=1, max_size=8)
)
def test_incremental_counting_equals_counting_from_scratch(piece_counts):
    try:
        merges = learn_merges(piece_counts, 4)
    except ValueError:
        return  # the words ran out of pairs: tested below
    assert merges == brute_force_merges(piece_counts, 4)


def test_no_merge_crosses_a_word():
    tokenizer = Tokenizer.train("of the " * 50 + "of the", 266 + 5)  # all pairs there are
    assert all(b"f t" not in tokenizer.token_bytes(i) for i in tokenizer.ordinary_ids)


def test_frequent_words_become_one_token():
    assert len(TOKENIZER.encode(" the")) == 1
    assert len(TOKENIZER.encode(" xylophone")) > 3


def test_a_text_too_short_for_the_vocabulary_names_both_numbers():
    with pytest.raises(ValueError, match="pairs for 1 merges of 34 asked for"):
        Tokenizer.train("ab", 300)


def test_a_vocabulary_too_small_for_the_bytes_names_both_numbers():
    with pytest.raises(ValueError, match="vocab_size=100 is below 266"):
        Tokenizer.train("ab", 100)


def test_special_tokens_must_differ():
    with pytest.raises(ValueError, match="must be different"):
        Tokenizer.train("ab", 300, special_tokens=["<a>", "<a>"])


@pytest.mark.parametrize("token", [340, -1, 10**9])
def test_an_unknown_id_is_an_error_that_names_it(token):
    with pytest.raises(ValueError, match=f"token id {token} is not in the vocabulary of 340"):
        TOKENIZER.decode([token])


def test_half_a_surrogate_pair_is_an_error_that_names_its_place():
    with pytest.raises(ValueError, match="character 1 of the text"):
        TOKENIZER.encode("a\ud800b")


def test_text_must_be_text():
    with pytest.raises(ValueError, match="text is a list"):
        TOKENIZER.encode(["the cat"])


def test_asking_for_a_missing_special_token_names_it():
    with pytest.raises(ValueError, match="no_such"):
        TOKENIZER.special_id("no_such")
