"""The corpus is what its README and its record say, and its build script does what it says."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "data" / "wordnet"
DICTIONARY = Path("/usr/share/wordnet")


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("wordnet_build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record():
    return json.loads((FOLDER / "corpus.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lines():
    return (FOLDER / "wordnet.txt").read_text(encoding="utf-8").splitlines()


def synset(gloss, words=("dog",), part="noun", pointers=()):
    return {"part": part, "words": list(words), "pointers": list(pointers), "gloss": gloss}


def test_the_record_describes_the_file(record, lines):
    content = (FOLDER / "wordnet.txt").read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert (record["bytes"], record["documents"]) == (len(content), len(lines))


def test_the_readme_states_the_records_numbers(record):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert record["sha256"] in readme
    for number in [record["bytes"], record["documents"], len(record["validation"]), *record["left_out"].values()]:
        assert f"{number:,}" in readme, number


def test_the_example_in_the_readme_is_a_line_of_the_corpus(lines):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [line.strip() for line in readme.splitlines() if line.startswith("    wheel")][0] in lines


def test_the_licence_goes_with_the_text():
    licence = (FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in licence
    assert "without fee or\nroyalty" in licence


def test_every_line_is_one_readable_entry(lines):
    entry = re.compile(r"[^(]+ \((noun|verb|adjective|adverb)\): .+\.( \"[^\"]+\")*")
    assert [line for line in lines if not entry.fullmatch(line) or len(line) > 400 or not line.isascii()] == []
    assert len(set(lines)) == len(lines)


def test_all_meanings_of_a_word_are_on_one_side_of_the_split(build, record, lines):
    held_out = set(record["validation"])
    assert held_out == {i for i, line in enumerate(lines) if build.in_validation(line)}
    sides = {}
    for i, line in enumerate(lines):
        sides.setdefault(re.split(r"[,(]", line)[0].strip().lower(), set()).add(i in held_out)
    assert all(len(side) == 1 for side in sides.values())


def test_a_gloss_taken_apart_by_hand(build):
    gloss = 'a tame animal; one that `barks\' ; "the dog  barked"; "a good dog"'
    assert build.take_apart(gloss) == (["a tame animal", "one that 'barks'"], ["the dog barked", "a good dog"])


@pytest.mark.parametrize("gloss", ['odd " quote', '"only"', "(half; a bracket)", "caf\u00e9", '"a"- A. Author; -- x'])
def test_a_gloss_not_in_the_usual_form_gives_no_parts(build, gloss):
    assert build.take_apart(gloss) is None


def test_an_entry_keeps_the_parts_that_use_common_words(build):
    common = set("a tame animal the dog was good it".split())
    dog = synset("", ("dog", "hound", "cur", "fourth"))
    clauses, examples = ["a tame animal", "barks", "the good animal"], ["it barked", "good dog", "a dog", "the dog"]
    assert build.write_document(dog, clauses, examples, common) == (
        'dog, hound, cur (noun): a tame animal; the good animal. "good dog" "a dog"'
    )


def test_without_a_common_first_clause_there_is_no_entry(build):
    assert build.write_document(synset(""), ["barks", "a dog"], [], {"a", "dog"}) is None


def test_definitions_and_examples_use_no_more_words_than_stated(build, lines):
    bodies = [line.split("): ", 1)[1] for line in lines]
    assert len({word for body in bodies for word in build.words_of(body)}) <= build.COMMON_WORDS


def test_marked_synsets_are_rude(build):
    assert build.is_rude(synset("(slang) a policeman"))
    assert build.is_rude(synset("a person", pointers=[(";u", "06718862")]))
    assert not build.is_rude(synset("an offensive in war", pointers=[("@", "06718862")]))


def test_a_dictionary_line_is_read_field_by_field(build, tmp_path):
    for name in build.PARTS:
        (tmp_path / f"data.{name}").write_text("  1 licence\n", encoding="utf-8")
    line = '00001740 00 s 02 big(p) 0 hot_dog 0 002 & 00907661 a 0000 ;u 06718862 n 0000 | large; "a big dog"  \n'
    with (tmp_path / "data.adj").open("a", encoding="utf-8") as file:
        file.write(line)
    assert list(build.read_synsets(tmp_path)) == [
        synset('large; "a big dog"', ["big", "hot dog"], "adjective", [("&", "00907661"), (";u", "06718862")])
    ]


@pytest.mark.skipif(not DICTIONARY.exists(), reason="un-skip with `apt-get install wordnet-base`: rebuilds the corpus")
def test_the_command_makes_the_same_file_again(build, record):
    documents, left_out = build.build(DICTIONARY)
    content = ("\n".join(documents) + "\n").encode()
    assert hashlib.sha256(content).hexdigest() == record["sha256"]
    assert dict(left_out) == record["left_out"]
