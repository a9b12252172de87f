"""The second corpus is what its README and its record say, and its build script does what it says."""

import hashlib
import importlib.util
import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest

from minimoe.training import load_corpus

FOLDER = Path(__file__).parents[2] / "data" / "prose"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("prose_build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record():
    return json.loads((FOLDER / "corpus.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lines():
    return (FOLDER / "prose.txt").read_text(encoding="utf-8").splitlines()


def test_the_record_describes_the_file(record, lines):
    content = (FOLDER / "prose.txt").read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert (record["bytes"], record["documents"]) == (len(content), len(lines))
    assert record["words"] == sum(len(line.split()) for line in lines)


def test_each_source_has_the_lines_bytes_and_words_that_are_stated(record, lines):
    first = 0
    for name, source in record["sources"].items():
        part = lines[source["first_line"] : source["first_line"] + source["documents"]]
        assert source["first_line"] == first, name
        assert source["bytes"] == sum(len(line.encode()) + 1 for line in part), name
        assert source["words"] == sum(len(line.split()) for line in part), name
        first += source["documents"]
    assert first == len(lines)


def test_sources_stand_where_the_record_says(record, lines):
    """A name that one source is full of and the others never use."""
    for name, word in {"moby-dick": "Ahab", "pride-and-prejudice": "Bingley", "persuasion": "Wentworth"}.items():
        start = record["sources"][name]["first_line"]
        inside = lines[start : start + record["sources"][name]["documents"]]
        assert sum(word in line for line in inside) > 100
        assert sum(word in line for line in lines) == sum(word in line for line in inside)


def test_the_readme_states_the_records_numbers(record):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    numbers = [record["bytes"], record["documents"], len(record["validation"]), *record["left_out"].values()]
    for source in record["sources"].values():
        numbers += [source["documents"], source["bytes"], source["words"]]
        assert str(source["title"].split("(")[-1].split(")")[0].split(",")[-1].strip()) in readme
    assert record["sha256"] in readme
    assert [number for number in numbers if f"{number:,}" not in readme] == []


def test_the_licence_names_every_work_and_every_package(record):
    licence = " ".join((FOLDER / "LICENSE").read_text(encoding="utf-8").split())
    for phrase in ("Moby-Dick", "Pride and Prejudice", "Persuasion", "State of the Union", "17 U.S.C. 105", "CC0 1.0"):
        assert phrase in licence
    for source in record["sources"].values():
        assert source["package"].split()[1].removeprefix("r-cran-") in licence


def test_every_line_is_a_readable_document(build, lines):
    assert len(set(lines)) == len(lines)
    assert [line for line in lines if not line.isascii() or line != build.clean(line)] == []
    assert [line for line in lines if build.refusal(line, set())] == []


def test_the_held_out_lines_are_those_that_the_rule_gives(build, record, lines):
    assert record["validation"] == [i for i, line in enumerate(lines) if build.in_validation(line)]
    assert 0.04 < len(record["validation"]) / len(lines) < 0.06
    for source in record["sources"].values():
        stop = source["first_line"] + source["documents"]
        assert any(source["first_line"] <= i < stop for i in record["validation"])


def test_the_corpus_loads_and_a_changed_byte_is_refused(record, tmp_path):
    corpus = load_corpus(FOLDER)
    assert corpus.sha256 == record["sha256"]
    assert len(corpus.train) + len(corpus.validation) == record["documents"]
    for name in ("prose.txt", "corpus.json"):
        shutil.copy(FOLDER / name, tmp_path)
    content = bytearray((tmp_path / "prose.txt").read_bytes())
    content[1000] ^= 1
    (tmp_path / "prose.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"sha256.*{record['sha256']}"):
        load_corpus(tmp_path)


def test_a_source_with_another_sum_is_refused_with_both(build, tmp_path):
    name = next(iter(build.SOURCES))
    (tmp_path / name).write_bytes(b"another package")
    with pytest.raises(ValueError, match=f"{hashlib.sha256(b'another package').hexdigest()}.*{build.SOURCES[name]}"):
        build.read_checked(tmp_path, name)


def test_a_long_text_is_cut_between_sentences_and_nothing_is_lost(build):
    text = 'He said "Stop." Then he went. Mr. Bennet, of 1813, did not. ' * 40
    parts = build.cut_long(text.strip(), limit=200)
    assert " ".join(parts) == text.strip()
    assert max(map(len, parts)) <= 200 and len(parts) > 10
    assert all(part[-1] in '."' for part in parts)


def test_quotes_dashes_and_spaces_become_plain(build):
    assert build.clean("“It’s\u00a0he—now”  he\nsaid… –") == '"It\'s he--now" he said... -'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CHAPTER 1. LOOMINGS AND MANY OTHER THINGS THAT FOLLOW", "heading"),
        ("Chapter 12, in which nothing happens to anybody at all", "heading"),
        ("Too short.", "shorter than 40 or longer than 1,200 characters"),
        ("A long sentence with an accent in caf\u00e9, which is not ASCII.", "letters beyond ASCII"),
        ("He was called a bastard by all the others on the ship.", "slur, vulgar or sexual"),
        ("This very sentence was seen before in the same text.", "repetition"),
    ],
)
def test_what_is_left_out_and_why(build, text, reason):
    assert build.refusal(text, {"This very sentence was seen before in the same text."}) == reason


def r_vector(strings, kind=16):
    header = b"X\n" + struct.pack(">III", 3, 0x040201, 0x030500) + struct.pack(">I", 5) + b"UTF-8"
    body = b"".join(struct.pack(">Ii", 0x40009, len(s.encode())) + s.encode() for s in strings)
    return header + struct.pack(">II", kind, len(strings)) + body


def test_r_character_vectors_are_read_one_after_the_other(build):
    stored = b""
    for strings in (["a", "", "caf\u00e9"], ["second"]):
        data = r_vector(strings)
        stored += struct.pack(">I", len(data)) + zlib.compress(data)
    assert build.read_r_texts(stored) == [["a", "", "caf\u00e9"], ["second"]]


def test_other_r_objects_are_refused(build):
    with pytest.raises(ValueError, match="type 14, not a character vector"):
        build.read_r_strings(r_vector(["a"], kind=14))
    with pytest.raises(ValueError, match="not R's binary format"):
        build.read_r_strings(b"A\n" + r_vector(["a"])[2:])


def test_printed_lines_become_paragraphs_without_marks_of_emphasis(build):
    lines = ["The first", "of _two_ lines.", "", "", "Another."]
    assert build.austen_paragraphs(lines) == ["The first of two lines.", "Another."]
