"""The corpus is checked, packing loses nothing and pads nothing, batches repeat with the seed."""

import hashlib
import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minimoe.tokenizer import Tokenizer
from minimoe.training.data import Batches, encode_documents, load_corpus, pack

WORDNET = Path(__file__).parents[3] / "data" / "wordnet"
DOCUMENTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), min_size=1, max_size=12)


def write_corpus(folder, text="one\ntwo\nthree\n", **changes):
    (folder / "text.txt").write_text(text, encoding="utf-8")
    record = {"file": "text.txt", "sha256": hashlib.sha256(text.encode()).hexdigest(), "validation": [1]}
    (folder / "corpus.json").write_text(json.dumps(record | changes), encoding="utf-8")
    return folder


def test_a_corpus_is_split_as_its_record_says(tmp_path):
    corpus = load_corpus(write_corpus(tmp_path))
    assert (corpus.train, corpus.validation) == (["one", "three"], ["two"])


def test_the_shipped_corpus_loads():
    corpus = load_corpus(WORDNET)
    assert len(corpus.train) + len(corpus.validation) == 17110
    assert not set(corpus.train) & set(corpus.validation)


def test_a_changed_text_is_refused_with_both_sums(tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "text.txt").write_text("one\ntwo\nthreE\n", encoding="utf-8")
    expected, found = (hashlib.sha256(f"one\ntwo\nthre{e}\n".encode()).hexdigest() for e in "eE")
    with pytest.raises(ValueError, match=f"{found}, corpus.json says {expected}"):
        load_corpus(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="corpus.json is missing"):
        load_corpus(tmp_path)
    write_corpus(tmp_path, file="other.txt")
    with pytest.raises(FileNotFoundError, match="other.txt is missing"):
        load_corpus(tmp_path)


def test_a_record_that_is_no_record_is_refused(tmp_path):
    (tmp_path / "corpus.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="'file'"):
        load_corpus(tmp_path)


def test_holding_out_a_line_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="line 3 of 3 lines"):
        load_corpus(write_corpus(tmp_path, validation=[3]))


def test_documents_are_encoded_between_their_marks():
    tokenizer = Tokenizer.train("abab", 267)
    ids = encode_documents(tokenizer, ["ab", "b"])
    assert [(row[0], row[-1]) for row in ids] == [(tokenizer.bos_id, tokenizer.eos_id)] * 2
    assert tokenizer.decode(ids[0][1:-1]) == "ab"


def test_packing_eight_tokens_by_hand():
    rows = pack([[1, 2, 3], [4], [5, 6, 7, 8]], row_tokens=3)
    assert rows.tolist() == [[1, 2, 3], [3, 4, 5], [5, 6, 7]]


@given(DOCUMENTS, st.integers(2, 9))
def test_every_target_appears_once_and_in_order(documents, row_tokens):
    stream = [token for document in documents for token in document]
    if len(stream) < row_tokens:
        return  # an error, tested below
    rows = pack(documents, row_tokens)
    targets = rows[:, 1:].flatten().tolist()
    assert targets == stream[1 : 1 + len(targets)]
    assert len(stream) - 1 - len(targets) < row_tokens - 1


def test_too_few_tokens_for_a_row_is_an_error_with_both_numbers():
    with pytest.raises(ValueError, match="3 tokens, less than one row of row_tokens=4"):
        pack([[1, 2, 3]], 4)
    with pytest.raises(ValueError, match="row_tokens=1"):
        pack([[1, 2, 3]], 1)


def test_the_seed_fixes_the_batches():
    documents = [[i, i, i + 1] for i in range(40)]

    def first(seed):
        return torch.stack(list(itertools.islice(Batches(documents, 4, 5, seed), 20)))

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_an_epoch_shows_every_document_and_the_next_one_another_order():
    documents = [[10 * i + j for j in range(5)] for i in range(16)]  # 80 tokens: 19 whole rows of 5 that overlap by one
    rows = torch.cat(list(itertools.islice(Batches(documents, 1, 5, seed=3), 38)))
    first, second = set(rows[:19].flatten().tolist()), set(rows[19:].flatten().tolist())
    assert len(first) >= 77 and len(second) >= 77
    assert not torch.equal(rows[:19], rows[19:])


def test_an_epoch_shorter_than_a_batch_is_an_error_with_both_numbers():
    with pytest.raises(ValueError, match="2 rows of 3 tokens, less than a batch of 5"):
        Batches([[1, 2, 3, 4, 5]], 5, 3, seed=0).take()
