r"""From text to token ids and back: byte-level byte-pair encoding.

A model sees numbers below `vocab_size`, a reader writes Unicode. Byte-level BPE joins the two without an "unknown"
token: text becomes UTF-8 bytes, every byte is already a token, and frequent neighbours are merged into longer tokens,
most frequent pair first. Any text, in any script, broken or not, therefore round-trips; what frequency buys is length.

Three steps, one function each. `PATTERN` cuts text into pieces (a word with its leading space, up to three digits, a
run of punctuation), so that no merge crosses a word; `learn_merges` finds the merges; `Tokenizer.encode` replays them
inside each piece, earliest merge first.

Ids: the special tokens come first (0 begins a document and 1 ends it, as in DeepSeek's vocabulary), then the 256 bytes
in order, then the merges in the order in which they were learned. The id of a merge is its rank.

How the production version differs: DeepSeek's tokenizer has 128,000 tokens, is trained on a multilingual corpus and
run from Rust; its pattern tells letters, marks, punctuation and Chinese characters apart by Unicode property.
`PATTERN` has its structure, but names only ASCII characters and treats all others as letters, so that every regex
engine cuts alike.
"""

import heapq
import re
from collections import Counter, defaultdict
from pathlib import Path

__all__ = ["PATTERN", "SPECIAL_TOKENS", "Tokenizer", "learn_merges"]

# Only ASCII is named, so that every regex engine cuts alike: what is not ASCII counts as a letter.
_LETTER, _MARK = r"[^\x00-@\[-`{-\x7f]", r"[\x00-\x08\x0e-\x1f!-/:-@\[-`{-\x7f]"
PATTERN = "|".join(
    [
        r"[0-9]{1,3}",
        r"[!-/:-@\[-`{-~][A-Za-z]+",  # an apostrophe or a bracket stays with the letters after it: 't, (noun
        rf" ?{_LETTER}+",
        rf" ?{_MARK}+[\r\n]*",
        r"[\t-\r ]*[\r\n]+",
        r"[\t-\r ]+(?![^\t-\r ])",  # of several spaces the last one goes with the next word
        r"[\t-\r ]+",
    ]
)

# DeepSeek-V3's and R1's own spelling (full-width bars), so that user text does not collide with them by chance.
SPECIAL_TOKENS = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁begin｜>",
    "<｜fim▁end｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
)
CACHE_PIECES = 100_000


def cut(text: str, patterns: list[re.Pattern]) -> list[str]:
    """Cut `text` into pieces by each pattern in turn; what a pattern does not match is a piece of its own."""
    pieces = [text] if text else []
    for pattern in patterns:
        finer = []
        for piece in pieces:
            end = 0
            for match in pattern.finditer(piece):
                finer += [piece[end : match.start()], match.group()]
                end = match.end()
            finer.append(piece[end:])
        pieces = [piece for piece in finer if piece]
    return pieces


def learn_merges(piece_counts: dict[bytes, int], n_merges: int) -> list[tuple[int, int]]:
    """The `n_merges` pairs that byte-pair encoding merges, in order; ids 0-255 are bytes, 256+i is merge i.

    Repeat: merge the most frequent adjacent pair (ties: the smaller ids). Pieces are counted once however often they
    occur, and after a merge only the pieces that contain the pair are counted again: that is what makes it fast.
    Raises ValueError if the text runs out of pairs first. Source: Sennrich et al. 2016, arXiv 1508.07909, algorithm 1.
    """
    words = [list(piece) for piece in piece_counts]
    counts = list(piece_counts.values())
    pair_counts, words_with = Counter(), defaultdict(set)
    for w, word in enumerate(words):
        for pair in zip(word, word[1:], strict=False):
            pair_counts[pair] += counts[w]
            words_with[pair].add(w)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges = []
    while len(merges) < n_merges:
        if not heap:
            raise ValueError(f"the text has pairs for {len(merges)} merges of {n_merges} asked for: use a longer text")
        count, pair = heapq.heappop(heap)
        if -count != pair_counts[pair]:
            continue  # an old entry: this pair's count has changed since and was pushed again
        changed = _merge_everywhere(pair, 256 + len(merges), words, counts, pair_counts, words_with)
        merges.append(pair)
        for other in changed:
            if pair_counts[other] > 0:
                heapq.heappush(heap, (-pair_counts[other], other))
    return merges


def _merge_everywhere(pair, new_id, words, counts, pair_counts, words_with) -> set:
    """Merge `pair` in every word that has it, keep the counts right, return the pairs whose count changed."""
    changed = set()
    for w in words_with.pop(pair):
        old, new = words[w], merge(words[w], pair, new_id)
        for other in zip(old, old[1:], strict=False):
            pair_counts[other] -= counts[w]
            changed.add(other)
        for other in zip(new, new[1:], strict=False):
            pair_counts[other] += counts[w]
            words_with[other].add(w)
            changed.add(other)
        words[w] = new
    del pair_counts[pair]
    changed.discard(pair)
    return changed


def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """`ids` with every occurrence of `pair`, from the left, replaced by `new_id`."""
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and ids[i] == pair[0] and ids[i + 1] == pair[1]:
            out.append(new_id)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


class Tokenizer:
    """Byte-level BPE: `encode` text to ids, `decode` ids to text, `train`, `save`, `load`.

    With all 256 bytes in the vocabulary nothing is unknown, so `decode(encode(text)) == text` for every text.
    Takes the bytes of each ordinary token by id, the merges by rank, and the special tokens by name.
    Source: GPT-2's byte-level BPE; DeepSeek-V3, arXiv 2412.19437, section 4.1. Chapter 01.
    """

    def __init__(self, token_bytes: dict[int, bytes], merges: list[tuple[int, int]], special_tokens: dict[str, int]):
        self.special_tokens = dict(special_tokens)
        self.merges = list(merges)
        self.patterns = [re.compile(PATTERN)]
        self.pattern_sources = [PATTERN]
        self.always_special: set[str] = set()  # recognised even with special=False (loaded files only)
        self.ignore_merges = False
        self._bytes = dict(token_bytes)
        self._ids = {value: i for i, value in token_bytes.items()}
        self._names = {i: name for name, i in special_tokens.items()}
        self._cache: dict[str, list[int]] = {}
        missing = [b for b in range(256) if bytes([b]) not in self._ids]
        if missing:
            raise ValueError(f"{len(missing)} of the 256 bytes have no token (first: {missing[0]}): not byte-level BPE")
        self._rank = {}
        for rank, (left, right) in enumerate(merges):
            merged = self._ids.get(self.token_bytes(left) + self.token_bytes(right))
            if merged is None:
                raise ValueError(f"merge {rank} of ids {left} and {right} gives bytes that are not in the vocabulary")
            self._rank[left, right] = (rank, merged)

    @classmethod
    def train(cls, text, vocab_size: int, special_tokens=SPECIAL_TOKENS) -> "Tokenizer":
        """Learn `vocab_size` tokens (special tokens and 256 bytes included) from `text`: a string or several."""
        special_tokens = list(special_tokens)
        first = len(special_tokens)
        if len(set(special_tokens)) != first or "" in special_tokens:
            raise ValueError(f"special_tokens={special_tokens} must be different from each other and not empty")
        if vocab_size < first + 256:
            raise ValueError(f"vocab_size={vocab_size} is below {first + 256} = {first} special tokens + 256 bytes")
        patterns = [re.compile(PATTERN)]
        pieces = Counter(piece for part in ([text] if isinstance(text, str) else text) for piece in cut(part, patterns))
        merges = learn_merges({_to_bytes(piece): n for piece, n in pieces.items()}, vocab_size - first - 256)
        token_bytes = {first + b: bytes([b]) for b in range(256)}
        for i, (left, right) in enumerate(merges):
            token_bytes[first + 256 + i] = token_bytes[first + left] + token_bytes[first + right]
        shifted = [(first + left, first + right) for left, right in merges]
        return cls(token_bytes, shifted, {name: i for i, name in enumerate(special_tokens)})

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return 1 + max(max(self._bytes), max(self._names, default=0))

    @property
    def ordinary_ids(self) -> list[int]:
        """The ids that stand for bytes, in order: every token that is not special."""
        return sorted(self._bytes)

    def special_id(self, name: str) -> int:
        """The id of a special token; ValueError if this vocabulary has none of that name."""
        if name not in self.special_tokens:
            raise ValueError(f"{name!r} is not a special token; there are {', '.join(self.special_tokens) or 'none'}")
        return self.special_tokens[name]

    @property
    def bos_id(self) -> int:
        """The id that begins a document."""
        return self.special_id(SPECIAL_TOKENS[0])

    @property
    def eos_id(self) -> int:
        """The id that ends a document."""
        return self.special_id(SPECIAL_TOKENS[1])

    def encode(self, text: str | bytes, bos: bool = False, eos: bool = False, special: bool = False) -> list[int]:
        """The token ids of `text`; `bos` and `eos` add the document marks.

        Takes a string, or bytes that need not be valid UTF-8. A special token's name inside `text` is ordinary text, so
        that a user cannot end a document by typing its mark; `special=True` turns such names into their ids.
        Raises ValueError for half a surrogate pair, which has no UTF-8 form.
        """
        if isinstance(text, bytes):
            text = text.decode("utf-8", errors="surrogateescape")
        elif not isinstance(text, str):
            raise ValueError(f"text is a {type(text).__name__}, not a string or bytes")
        else:
            _to_bytes(text, strict=True)
        names = self.special_tokens if special else self.always_special
        ids = [self.bos_id] if bos else []
        for i, part in enumerate(re.split(_any_of(names), text) if names else [text]):
            if i % 2:
                ids.append(self.special_tokens[part])
            else:
                for piece in cut(part, self.patterns):
                    ids += self._encode_piece(piece)
        return ids + [self.eos_id] if eos else ids

    def _encode_piece(self, piece: str) -> list[int]:
        ids = self._cache.get(piece)
        if ids is None:
            raw = _to_bytes(piece)
            if self.ignore_merges and raw in self._ids:
                ids = [self._ids[raw]]
            else:
                ids = self._merge([self._ids[raw[i : i + 1]] for i in range(len(raw))])
            if len(self._cache) >= CACHE_PIECES:
                self._cache.clear()
            self._cache[piece] = ids
        return ids

    def _merge(self, ids: list[int]) -> list[int]:
        while len(ids) > 1:
            known = [self._rank[pair] + (pair,) for pair in zip(ids, ids[1:], strict=False) if pair in self._rank]
            if not known:
                break
            _, merged, pair = min(known)
            ids = merge(ids, pair, merged)
        return ids

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one id stands for; a special token stands for its name."""
        if token in self._bytes:
            return self._bytes[token]
        if token in self._names:
            return self._names[token].encode("utf-8")
        raise ValueError(f"token id {token!r} is not in the vocabulary of {self.vocab_size} tokens")

    def decode_bytes(self, ids, skip_special: bool = False) -> bytes:
        """The bytes of `ids`, exactly."""
        return b"".join(self.token_bytes(int(i)) for i in ids if not (skip_special and int(i) in self._names))

    def decode(self, ids, skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are not UTF-8 (a character cut in half) become U+FFFD."""
        return self.decode_bytes(ids, skip_special).decode("utf-8", errors="replace")

    def save(self, folder) -> Path:
        """Write `tokenizer.json` (and `tokenizer_config.json`) into `folder`, readable by the `tokenizers` library."""
        from .tokenizer_json import write  # here, because that file needs this class

        return write(self, folder)

    @classmethod
    def load(cls, path) -> "Tokenizer":
        """Read a folder's `tokenizer.json`, ours or any byte-level BPE file of the `tokenizers` library."""
        from .tokenizer_json import read

        return read(path)


def _any_of(names) -> str:
    return "(" + "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) + ")"


def _to_bytes(text: str, strict: bool = False) -> bytes:
    try:
        return text.encode("utf-8", errors="strict" if strict else "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} of the text, {text[error.start]!r}, is half a surrogate pair: no UTF-8 form"
        ) from None
