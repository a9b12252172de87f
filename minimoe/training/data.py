"""From a folder of text to batches of token ids.

A corpus here is a text file with one document a line, and a `corpus.json` beside it that states the file's sha256 and
which lines are held out. The sum is checked on every load: a run is only a measurement if its data are known.

Documents are packed: each is written as begin mark, tokens, end mark, all of them are laid end to end in random order,
and the stream is cut into rows of equal length. No position is padding, so none has to be masked out of the loss or
out of the router's load. A row may begin in the middle of a document and hold several; attention is not cut at the
borders, as in DeepSeek-V3 (section 4.1).

How the production version differs: trillions of tokens are tokenised ahead of time into shards, mixed by source with
chosen weights, and every rank reads its own part.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from minimoe.tokenizer import Tokenizer

__all__ = ["Batches", "Corpus", "encode_documents", "load_corpus", "pack"]


@dataclass(frozen=True)
class Corpus:
    """Documents to train on, documents held out, and the sha256 of the file that they came from."""

    train: list[str]
    validation: list[str]
    sha256: str


def load_corpus(folder) -> Corpus:
    """The corpus in `folder`, which must hold `corpus.json` and the text file that it describes.

    Raises FileNotFoundError, or ValueError naming both sums if the text is not the one described.
    Chapter 00.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        content = (folder / record["file"]).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no corpus at {folder}: {error.filename} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'corpus.json'} does not describe a corpus: {type(error).__name__} {error}"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != record.get("sha256"):
        raise ValueError(f"{folder / record['file']} has sha256 {found}, corpus.json says {record.get('sha256')}")
    documents, held_out = content.decode("utf-8").splitlines(), set(record.get("validation", []))
    if held_out and max(held_out) >= len(documents):
        raise ValueError(f"corpus.json holds out line {max(held_out)} of {len(documents)} lines")
    train = [document for i, document in enumerate(documents) if i not in held_out]
    return Corpus(train, [documents[i] for i in sorted(held_out)], found)


def encode_documents(tokenizer: Tokenizer, documents: list[str]) -> list[list[int]]:
    """The token ids of every document, between the marks that begin and end it."""
    return [tokenizer.encode(document, bos=True, eos=True) for document in documents]


def pack(documents: list[list[int]], row_tokens: int) -> torch.Tensor:
    """All documents end to end, cut into rows of `row_tokens` ids (int64); the incomplete last row is left out.

    A row begins with the last token of the row before it, so that every token but the first is predicted once.
    Raises ValueError if there is not one full row.
    """
    if row_tokens < 2:
        raise ValueError(f"row_tokens={row_tokens}: a row needs at least 2 tokens, one to read and one to predict")
    stream = torch.tensor([token for document in documents for token in document], dtype=torch.int64)
    if len(stream) < row_tokens:
        raise ValueError(f"the documents have {len(stream)} tokens, less than one row of row_tokens={row_tokens}")
    return stream.unfold(0, row_tokens, row_tokens - 1).contiguous()


class Batches:
    """Batches of packed rows, for ever: the documents are shuffled anew in every epoch, and the place can be kept.

    The same seed gives the same rows, whatever the sizes of the batches. `documents`: lists of token ids. `take` gives
    the next rows; iterating gives batches of `sequences`. `place()` and `go_to(place)` leave and find again a position;
    `fingerprint` (sha256) tells whether two objects would give the same rows. Raises ValueError if one epoch is shorter
    than one batch. Chapter 07.
    """

    def __init__(self, documents: list[list[int]], sequences: int, row_tokens: int, seed: int = 0):
        if sequences < 1:
            raise ValueError(f"sequences={sequences}: a batch has at least 1")
        self.documents, self.sequences, self.row_tokens, self.seed = list(documents), sequences, row_tokens, seed
        self._open(epoch=0)
        if len(self.rows) < sequences:
            raise ValueError(
                f"one epoch has {len(self.rows)} rows of {row_tokens} tokens, less than a batch of {sequences}"
            )

    def _open(self, epoch: int) -> None:
        """Shuffle `epoch` + 1 times from the documents' own order: where an epoch stands depends on nothing else."""
        order, shuffled = random.Random(self.seed), list(self.documents)
        for _ in range(epoch + 1):
            order.shuffle(shuffled)
        self.epoch, self.next_row, self.rows = epoch, 0, pack(shuffled, self.row_tokens)

    def take(self, sequences: int | None = None) -> torch.Tensor:
        """The next rows (int64), `self.sequences` of them unless another number is given."""
        wanted = self.sequences if sequences is None else sequences
        parts = []
        while wanted > 0:
            part = self.rows[self.next_row : self.next_row + wanted]
            parts.append(part)
            wanted -= len(part)
            self.next_row += len(part)
            if wanted > 0:
                self._open(self.epoch + 1)
        return torch.cat(parts)

    def __iter__(self) -> Iterator[torch.Tensor]:
        while True:
            yield self.take()

    def place(self) -> dict[str, int]:
        """Where the next row comes from: epoch and row."""
        return {"epoch": self.epoch, "row": self.next_row}

    def go_to(self, place: dict[str, int]) -> None:
        """Go on at a place that `place()` gave."""
        self._open(place["epoch"])
        self.next_row = place["row"]

    @property
    def fingerprint(self) -> str:
        """sha256 of the documents, the row length and the seed."""
        digest = hashlib.sha256(f"{self.row_tokens} {self.seed}".encode())
        for document in self.documents:
            digest.update(torch.tensor([len(document), *document], dtype=torch.int32).numpy().tobytes())
        return digest.hexdigest()
