"""The reader's own Python standard library as a corpus: programs to learn from that need not be shipped.

Whoever runs this course has some ten megabytes of good source text on disk already. A document is one function or one
class, cut out of its file with its decorators and moved to the left margin; a class that is too long gives its methods
instead. Definitions are about as long as the rows of a small model, and they have what filling in the middle is for: a
beginning and an end that say what belongs between them.

What is read differs from one Python to the next. So the corpus states its version, its counts and the sha256 of its
text: two runs are comparable if those agree. Files are taken in an order that only their names decide (by sha256), and
so is the split: a limit in bytes takes a sample of the whole library and not its beginning, and all definitions of one
file fall on one side.

How the production version differs: code comes from public repositories, filtered by licence, by quality and for near
duplicates, and the files of one repository stand in the order in which they import each other.
"""

import ast
import hashlib
import platform
import sysconfig
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minimoe.training.data import Corpus

__all__ = ["SourceCorpus", "read_standard_library"]

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "_bundled"}
VALIDATION_ONE_IN = 20


@dataclass(frozen=True)
class SourceCorpus(Corpus):
    """A `Corpus` made of source text. `python`: the version it belongs to; `files`, `documents`, `bytes`: what was
    read; `left_out`: how many definitions or files were not, for which reason."""

    python: str
    files: int
    documents: int
    bytes: int
    left_out: dict[str, int]


def read_standard_library(
    limit_bytes: int = 2_000_000, min_characters: int = 80, max_characters: int = 3000, folder=None
) -> SourceCorpus:
    """Functions and classes of the Python that runs this, up to `limit_bytes` of UTF-8 in all.

    `folder`: another folder of Python files to read instead. Definitions shorter or longer than the two lengths are
    left out, and so are tests, files that are not UTF-8 or not this Python's syntax, and repetitions. The sha256 is of
    all documents in their order, a zero byte after each.
    Raises FileNotFoundError for a folder without source files, ValueError for limits that allow nothing. Chapter 07.
    """
    if limit_bytes < 1 or not 0 <= min_characters <= max_characters:
        raise ValueError(
            f"limit_bytes={limit_bytes}, min_characters={min_characters}, max_characters={max_characters}: "
            "nothing fits between these limits"
        )
    folder = Path(sysconfig.get_path("stdlib") if folder is None else folder)
    seen, parts, files, left_out, size = set(), ([], []), set(), Counter(), 0
    digest = hashlib.sha256()
    for name, held_out, text in _candidates(folder, max_characters, left_out):
        encoded = text.encode("utf-8")
        reason = _refusal(text, seen, min_characters, max_characters)
        if reason is not None:
            left_out[reason] += 1
            continue
        if size + len(encoded) > limit_bytes:
            break
        seen.add(text)
        files.add(name)
        parts[held_out].append(text)
        digest.update(encoded + b"\0")
        size += len(encoded)
    counts = {"files": len(files), "documents": len(seen), "bytes": size, "left_out": dict(sorted(left_out.items()))}
    return SourceCorpus(*parts, digest.hexdigest(), python=platform.python_version(), **counts)


def source_files(folder: Path) -> list[str]:
    """The Python files below `folder`, tests left out, as paths with forward slashes, in the order of their sha256."""
    names = []
    for path in folder.rglob("*.py"):
        relative = path.relative_to(folder)
        if not SKIPPED_FOLDERS.intersection(relative.parts[:-1]):
            names.append(relative.as_posix())
    if not names:
        raise FileNotFoundError(f"no Python source files in {folder}: this Python may keep its library in an archive")
    return sorted(names, key=_order)


def definitions(source: str, max_characters: int) -> Iterator[str]:
    """The source text of every top-level function and class, methods in place of a class that is too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes such as "\d" warn when they are parsed
        tree = ast.parse(source)
    lines = source.split("\n")  # as the parser counts: `splitlines` also ends a line at a form feed
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield _text_of(node, lines)
        elif isinstance(node, ast.ClassDef):
            text = _text_of(node, lines)
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            if len(text) <= max_characters or not methods:
                yield text
            else:
                yield from (_text_of(method, lines) for method in methods)


def _text_of(node, lines: list[str]) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])).rstrip()


def _candidates(folder: Path, max_characters: int, left_out: Counter) -> Iterator[tuple[str, bool, str]]:
    for name in source_files(folder):
        held_out = int(_order(name)[-8:], 16) % VALIDATION_ONE_IN == 0
        try:
            source = (folder / name).read_bytes().decode("utf-8").replace("\r\n", "\n")
            texts = list(definitions(source, max_characters))
        except UnicodeDecodeError:
            left_out["file is not UTF-8"] += 1
        except (SyntaxError, ValueError):
            left_out["file is not this Python's syntax"] += 1
        else:
            yield from ((name, held_out, text) for text in texts)


def _refusal(text: str, seen: set[str], min_characters: int, max_characters: int) -> str | None:
    if len(text) < min_characters:
        return "too short"
    if len(text) > max_characters:
        return "too long"
    return "repetition" if text in seen else None


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
