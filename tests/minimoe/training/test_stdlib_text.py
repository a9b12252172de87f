"""The standard library as a corpus: what is cut out, in which order, what is left out, and the counts."""

import ast
import hashlib
import platform

import pytest

from minimoe.training.stdlib_text import definitions, read_standard_library, source_files

FUNCTION = '''def area(width, height):
    """How much a rectangle of this width and this height covers."""
    return width * height
'''


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))


def named(i):
    return FUNCTION.replace("area", f"area_{i}")


@pytest.fixture
def library(tmp_path):
    for i in range(60):
        write(tmp_path, f"module_{i}.py", named(i))
    return tmp_path


@pytest.fixture(scope="module")
def real():
    return read_standard_library(limit_bytes=200_000)


def test_this_pythons_library_gives_documents_that_are_programs(real):
    assert real.python == platform.python_version()
    assert real.documents == len(real.train) + len(real.validation) > 100
    assert 150_000 < real.bytes <= 200_000
    for text in (*real.train, *real.validation):
        (node,) = ast.parse(text).body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        assert 80 <= len(text) <= 3000


def test_the_same_library_gives_the_same_corpus(real):
    assert read_standard_library(limit_bytes=200_000) == real


def test_the_sha256_and_the_counts_are_of_what_was_read(library):
    corpus = read_standard_library(folder=library)
    order = [named(name.removeprefix("module_").removesuffix(".py")).rstrip() for name in source_files(library)]
    assert set(order) == {*corpus.train, *corpus.validation} and corpus.files == corpus.documents == 60
    assert corpus.bytes == sum(len(text.encode()) for text in order)
    assert corpus.sha256 == hashlib.sha256("".join(text + "\0" for text in order).encode()).hexdigest()


def test_a_limit_takes_a_sample_and_keeps_to_its_bytes(library):
    whole, part = read_standard_library(folder=library), read_standard_library(limit_bytes=3000, folder=library)
    assert 2700 < part.bytes <= 3000 and part.documents < whole.documents
    assert part.train == whole.train[: len(part.train)]
    first = source_files(library)[:10]
    assert first != sorted(first), "and the sample is not the beginning of the alphabet"


def test_all_definitions_of_a_file_fall_on_one_side(tmp_path):
    for i in range(80):
        write(tmp_path, f"m{i}.py", "\n\n".join(named(f"{i}_{j}") for j in range(4)))
    corpus = read_standard_library(folder=tmp_path)
    files = [{text.split("_")[1] for text in side} for side in (corpus.train, corpus.validation)]
    assert files[0] & files[1] == set() and len(files[0]) + len(files[1]) == 80
    assert 1 <= len(files[1]) <= 12  # 80 at 1 in 20: mean 4


def test_decorators_comments_and_indentation_stay_with_a_definition():
    source = "import os\n\n@cache\n@other(1)\ndef f(x):\n    # why\n    return x\n\nX = 1\n\nclass A:\n    y = 2\n"
    found = list(definitions(source, 1000))
    assert found == ["@cache\n@other(1)\ndef f(x):\n    # why\n    return x", "class A:\n    y = 2"]


def test_a_class_that_is_too_long_gives_its_methods_at_the_left_margin():
    source = "class A:\n  def f(self):\n    return 1\n  x = 1\n  @property\n  async def g(self):\n    pass"
    assert list(definitions(source, 20)) == ["def f(self):\n  return 1", "@property\nasync def g(self):\n  pass"]


def test_a_form_feed_does_not_shift_the_lines():
    """Old library files separate sections by one; for `str.splitlines` it ends a line, for the parser it does not."""
    assert list(definitions("x = 1\n\x0c\ndef f():\n    return 1\n", 100)) == ["def f():\n    return 1"]
    assert list(definitions("y = '\x85'\ndef f():\n    return 2\n", 100)) == ["def f():\n    return 2"]


def test_tests_and_installed_packages_are_skipped(library):
    for folder in ("test", "json/tests", "site-packages/x", "ensurepip/_bundled"):
        write(library, f"{folder}/a.py", named(folder.replace("/", "_").replace("-", "_")))
    write(library, "json/decoder.py", named("decoder"))
    assert len(source_files(library)) == 61


def test_what_cannot_be_read_is_counted(tmp_path):
    write(tmp_path, "good.py", named("good"))
    write(tmp_path, "latin.py", b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    write(tmp_path, "old.py", "print 'hello'\n")
    write(tmp_path, "short.py", "def f():\n    pass\n")
    write(tmp_path, "copy.py", named("good"))
    write(tmp_path, "long.py", FUNCTION.replace("return", "return" + " 1 +" * 1000))
    corpus = read_standard_library(folder=tmp_path)
    assert corpus.documents == 1
    assert corpus.left_out == {
        "file is not UTF-8": 1,
        "file is not this Python's syntax": 1,
        "repetition": 1,
        "too long": 1,
        "too short": 1,
    }


def test_windows_line_ends_make_no_difference(tmp_path):
    write(tmp_path / "a", "m.py", FUNCTION)
    write(tmp_path / "b", "m.py", FUNCTION.replace("\n", "\r\n"))
    assert read_standard_library(folder=tmp_path / "a") == read_standard_library(folder=tmp_path / "b")


def test_a_folder_without_source_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no Python source files in {tmp_path}"):
        read_standard_library(folder=tmp_path)


@pytest.mark.parametrize("limits", [{"limit_bytes": 0}, {"min_characters": 9, "max_characters": 8}])
def test_limits_that_allow_nothing_are_named(limits):
    with pytest.raises(ValueError, match="=".join(map(str, next(iter(limits.items()))))):
        read_standard_library(**limits)
