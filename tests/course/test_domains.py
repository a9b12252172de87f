"""Every domain gives its own texts, none of them from what the shipped models read."""

import pytest

from minimoe.training import load_corpus
from minimoe_course import data_path
from minimoe_course.domains import domain_texts, prose_by_source, spread


@pytest.fixture(scope="module")
def texts():
    return domain_texts(data_path("nano").parent, 12)


def test_each_domain_gives_as_many_documents_as_asked_for(texts):
    assert len(texts) == 7
    assert all(len(set(group)) == 12 for group in texts.values())


def test_prose_is_sorted_into_its_sources():
    sources = prose_by_source(data_path("prose"))
    assert sum(map(len, sources.values())) == len(load_corpus(data_path("prose")).validation)
    assert any("Elizabeth" in text for text in sources["pride-and-prejudice"])
    assert any("whale" in text for text in sources["moby-dick"])
    assert not any("Elizabeth" in text or "whale" in text for text in sources["state-of-the-union"])


def test_dictionary_entries_are_held_out_ones_and_sums_are_true(texts):
    assert set(texts["dictionary"]) <= set(load_corpus(data_path("wordnet")).validation)
    for text in texts["sums"]:
        value = int(text[0])
        for part in text.split("=")[:-1]:
            operation, operand = part[-2], int(part[-1])
            value = {"+": value + operand, "-": value - operand, "*": value * operand}[operation] % 10
        assert text.endswith(str(value))


def test_documents_are_taken_from_all_over_the_group():
    assert spread(list("abcdefghij"), 3) == ["a", "d", "g"]
    with pytest.raises(ValueError, match="11 documents wanted, 10 there"):
        spread(list("abcdefghij"), 11)
