"""Texts from several domains, a few documents each, for asking what experts make of them.

Dictionary entries, two novels by one author, one by another, speeches, sums, and the reader's own Python library. The
two novels of one author are a control: whatever tells them apart is not the kind of text.

How the production version differs: domains are labels of a crawl (the Pile has 22), and overlap.
"""

import json
from pathlib import Path

from minimoe.training import load_corpus
from minimoe.training.reasoning import Chain, draw_problems
from minimoe.training.stdlib_text import read_standard_library

__all__ = ["domain_texts", "prose_by_source"]


def domain_texts(data: Path, documents: int) -> dict[str, list[str]]:
    """Domain -> `documents` texts of it that no shipped language model was trained on, from the folder `data`."""
    chain = Chain(operations=6)
    sums = [chain.think(p).partition("<think>")[2].partition("</think>")[0] for p in draw_problems(chain, documents, 0)]
    code = read_standard_library(limit_bytes=40_000 + 1200 * documents, max_characters=600)
    texts = {"dictionary": load_corpus(data / "wordnet").validation, **prose_by_source(data / "prose")}
    texts |= {"code": code.train, "sums": sums}
    return {name: spread(group, documents) for name, group in texts.items()}


def prose_by_source(folder: Path) -> dict[str, list[str]]:
    """Source -> its held-out documents: corpus.json says at which line each source begins."""
    record = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    held_out = zip(sorted(record["validation"]), load_corpus(folder).validation, strict=True)
    starts = sorted((source["first_line"], name) for name, source in record["sources"].items())
    texts: dict[str, list[str]] = {name: [] for _, name in starts}
    for line, text in held_out:
        texts[next(name for first, name in reversed(starts) if first <= line)].append(text)
    return texts


def spread(group: list[str], count: int) -> list[str]:
    """`count` documents at equal distances. Raises ValueError if there are fewer."""
    if len(group) < count:
        raise ValueError(f"{count} documents wanted, {len(group)} there")
    return [group[i * len(group) // count] for i in range(count)]
