"""Make `wordnet.txt` and `corpus.json` from WordNet 3.0's dictionary files.

    python data/wordnet/build.py /usr/share/wordnet data/wordnet

The source is Debian's package `wordnet-base` (`apt-get install wordnet-base`). One synset (a set of synonyms with one
meaning) becomes one line, one document:

    wheel (noun): forces that provide energy and direction. "the wheels of government began to turn"

The text is kept within reach of a very small model, as in TinyStories (arXiv 2305.07759): entries are those whose first
word occurs in the texts that WordNet's authors tagged by hand, and of each definition and its examples only the parts
that use no word beyond the most frequent few thousand. Left out as well are proper names, slurs and vulgar words with
every line that mentions one, and sexual terms (a classroom will read what the model writes).
The format of the input is described in Debian's manual page wndb(5WN).
"""

import argparse
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
COMMON_WORDS = 5000  # how many different words definitions and examples may use
MAX_WORDS = 3  # synonyms named
MAX_EXAMPLES = 2
MAX_CHARACTERS = 400
VALIDATION_ONE_IN = 20
# Usage domains that are left out, by offset in data.noun: disparagement, ethnic slur, obscenity, slang.
RUDE_DOMAINS = {"06717170", "06718862", "07124340", "07157273"}
RUDE_NOTE = re.compile(
    r"\([^)]*\b(slurs?|offensive|obscen\w+|disparaging|derogatory|vulgar|taboo|slang)\b[^)]*\)"
    r"|ethnic slur|offensive term"
)
UNSUITABLE = re.compile(
    r"\b(sex\w*|genital\w*|intercourse|prostitut\w*|coitus|orgasm\w*|erotic\w*|rap(e|es|ed|ist)|incest\w*|copulat\w*"
    r"|whores?|homosexual\w*|negro\w*|cripples?|cretin|imbecile|jew-baiter|knocker)\b"
)


def read_synsets(folder: Path):
    """Yield a dict for each synset of `data.noun`, `data.verb`, `data.adj`, `data.adv`, in that order."""
    for name, part in PARTS.items():
        for line in (folder / f"data.{name}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):
                continue  # the licence at the head of each file
            data, gloss = line.split("|", 1)
            fields = data.split()
            n_words = int(fields[3], 16)
            words = [re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in fields[4 : 4 + 2 * n_words : 2]]
            start = 5 + 2 * n_words
            pointers = list(zip(fields[start::4], fields[start + 1 :: 4], strict=False))[: int(fields[start - 1])]
            yield {"part": part, "words": words, "pointers": pointers, "gloss": gloss.strip()}


def read_tag_counts(folder: Path) -> Counter:
    """How often each word was tagged, all its meanings together."""
    counts = Counter()
    for line in (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines():
        sense_key, _, count = line.split()
        counts[sense_key.split("%")[0].replace("_", " ")] += int(count)
    return counts


def is_rude(synset: dict) -> bool:
    """True if WordNet itself marks the synset as slang, a slur or vulgar."""
    marked = any(kind == ";u" and target in RUDE_DOMAINS for kind, target in synset["pointers"])
    return marked or bool(RUDE_NOTE.search(synset["gloss"]))


def is_unsuitable(document: str, rude_words: set[str]) -> bool:
    """True if a line uses a word that some rude synset has, or a sexual term."""
    return bool(UNSUITABLE.search(document) or rude_words & set(re.findall(r"[a-z]+", document)))


def take_apart(gloss: str) -> tuple[list[str], list[str]] | None:
    """The clauses of a definition and its examples, or None for a gloss that is not in the usual form."""
    gloss = re.sub(r"\s+", " ", gloss.replace("`", "'"))
    if gloss.count('"') % 2 or not gloss.isascii():
        return None
    outside = re.sub(r'"[^"]*"', "", gloss)
    if re.search(r";\s*[-:]|--", outside):
        return None  # a quotation with its author's name outside the quotation marks
    definition = re.split(r'[;:,.]?\s*"', gloss, maxsplit=1)[0].strip(" ;:,.")
    clauses = [clause.strip() for clause in definition.split(";")]
    if not definition or any(clause.count("(") != clause.count(")") for clause in clauses):
        return None
    return clauses, [example.strip() for example in re.findall(r'"([^"]*)"', gloss) if example.strip()]


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"[a-z]+", text.lower())


def write_document(synset: dict, clauses: list[str], examples: list[str], common: set[str]) -> str | None:
    """The line for one synset, with the parts that use common words only; None if the first clause is not one."""
    clauses = [clauses[0], *(clause for clause in clauses[1:] if common.issuperset(words_of(clause)))]
    if not common.issuperset(words_of(clauses[0])):
        return None
    examples = [example for example in examples if common.issuperset(words_of(example))][:MAX_EXAMPLES]
    entry = f"{', '.join(synset['words'][:MAX_WORDS])} ({synset['part']}): {'; '.join(clauses)}."
    return " ".join([entry, *(f'"{example}"' for example in examples)])


def build(folder: Path) -> tuple[list[str], Counter]:
    """All documents in WordNet's order, and how many synsets were left out for which reason."""
    tagged, synsets = read_tag_counts(folder), list(read_synsets(folder))
    rude_words = {w.lower() for s in synsets if is_rude(s) for w in s["words"]}
    rude_words = {w for w in rude_words if " " not in w and tagged[w] < 3}
    candidates, left_out = [], Counter()
    for synset in synsets:
        parts = take_apart(synset["gloss"])
        if any(kind == "@i" for kind, _ in synset["pointers"]):
            left_out["proper name"] += 1
        elif not tagged[synset["words"][0].lower()]:
            left_out["rare first word"] += 1
        elif parts is None:
            left_out["gloss not in the usual form"] += 1
        elif is_rude(synset) or is_unsuitable(" ".join([*synset["words"], synset["gloss"]]).lower(), rude_words):
            left_out["slur, vulgar or sexual"] += 1
        else:
            candidates.append((synset, *parts))
    counts = Counter(
        word for _, clauses, examples in candidates for part in clauses + examples for word in words_of(part)
    )
    common = set(sorted(counts, key=lambda word: (-counts[word], word))[:COMMON_WORDS])
    documents = {}
    for candidate in candidates:
        document = write_document(*candidate, common)
        if document is None:
            left_out["definition needs a rare word"] += 1
        elif len(document) > MAX_CHARACTERS or document in documents:
            left_out["too long, or a repetition"] += 1
        else:
            documents[document] = True
    return list(documents), left_out


def in_validation(document: str) -> bool:
    """Whether a document is held out: decided by its first word, so that all meanings of a word fall on one side."""
    first = re.split(r"[,(]", document, maxsplit=1)[0].strip().lower()
    return int(hashlib.sha256(first.encode()).hexdigest()[:8], 16) % VALIDATION_ONE_IN == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dictionary", type=Path, help="folder with data.noun, cntlist.rev, ...")
    parser.add_argument("folder", type=Path, help="where to write wordnet.txt and corpus.json")
    arguments = parser.parse_args()
    documents, left_out = build(arguments.dictionary)
    held_out = [i for i, document in enumerate(documents) if in_validation(document)]
    content = ("\n".join(documents) + "\n").encode()
    (arguments.folder / "wordnet.txt").write_bytes(content)
    record = {
        "file": "wordnet.txt",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "documents": len(documents),
        "source": "WordNet 3.0, Debian package wordnet-base 1:3.0-37",
        "licence": "LICENSE",
        "left_out": dict(sorted(left_out.items())),
        "validation": held_out,
    }
    text = json.dumps(record, indent=1)
    text = re.sub(r"(?<=\d),\n\s+(?=\d)", ", ", text)  # the list of line numbers on one line
    (arguments.folder / "corpus.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(documents)} documents ({len(held_out)} held out), {len(content)} bytes, left out: {dict(left_out)}")


if __name__ == "__main__":
    main()
