"""Fill in the middle: teach a model that reads from left to right to write between two given texts.

Next-token prediction sees only what stands before. But whoever edits a program has text on both sides of the cursor.
The remedy touches nothing but the data: cut some of the documents at two places and move the middle to the end, behind
marks, so that both sides come before it. Predicting the next token of such a document *is* filling in the middle.

    pre mid suf   ->   <begin> pre <hole> suf <end> mid <eos>      (PSM: prefix, suffix, middle)

The cuts fall between characters, not between tokens. A cursor stands anywhere, also inside a word, and a model that
has only seen cuts at token borders is lost there: the text before "interna|" is tokenised otherwise than the same text
inside "international". So a document is turned back into text, cut, and its three parts are tokenised each on its own.
No character is lost; a word that is cut may cost a token more.

How the production version differs: DeepSeek-V3 does the same to a tenth of its documents (section 4.1) before they are
packed; where the cuts fall is not published. Code models add a second order (suffix first), in which both sides can be
read from a cache while the user types.
"""

import random
from collections.abc import Sequence

from minimoe.tokenizer import SPECIAL_TOKENS, Tokenizer

__all__ = ["fill_in_the_middle", "infill_prompt", "rearrange", "restore"]

HOLE, BEGIN, END = SPECIAL_TOKENS[3:6]


def rearrange(pre: Sequence[int], mid: Sequence[int], suf: Sequence[int], marks: Sequence[int]) -> list[int]:
    """A document's three parts in the order prefix, suffix, middle: begin pre hole suf end mid.

    Takes token ids, and the ids of the three `marks` (begin, hole, end). What begins and ends the document stays
    outside. Source: arXiv 2412.19437 section 4.1. Chapter 07.
    """
    begin, hole, end = marks
    return [begin, *pre, hole, *suf, end, *mid]


def fill_in_the_middle(
    documents: Sequence[Sequence[int]], tokenizer: Tokenizer, rate: float = 0.1, seed: int = 0
) -> list[list[int]]:
    """The documents, about the share `rate` of them rearranged for filling in the middle; order and count stay.

    Takes documents as `encode_documents` gives them, and gives documents ready to be packed. Each is chosen with
    probability `rate` and cut at two different places between its characters, all pairs of places being equally
    likely. A document of fewer than three characters has no such pair and stays as it is. The same seed gives the same
    result. Raises ValueError for a rate outside 0 to 1, and for a document that lacks its end mark or is rearranged
    already. Source: arXiv 2207.14255 (cuts between characters); arXiv 2412.19437 section 4.1 (rate 0.1). Chapter 07.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate} is outside 0 to 1")
    marks, draw, result = _marks(tokenizer), random.Random(seed), []
    for i, document in enumerate(documents):
        if not document or document[-1] != tokenizer.eos_id:
            ends = f"ends in token {document[-1]}" if document else "is empty"
            raise ValueError(f"document {i} {ends}, not in the end mark {tokenizer.eos_id}")
        if set(marks).intersection(document):
            raise ValueError(f"document {i} already holds one of the marks {marks}: it was rearranged before")
        chosen = draw.random() < rate
        result.append(_cut_and_rearrange(document, tokenizer, marks, draw) if chosen else list(document))
    return result


def restore(document: Sequence[int], tokenizer: Tokenizer) -> bytes:
    """The text of a document in its natural order, rearranged or not, without any mark."""
    begin, hole, end = _marks(tokenizer)
    ids = list(document)
    if begin in ids:
        b, h, e = ids.index(begin), ids.index(hole), ids.index(end)
        ids = ids[:b] + ids[b + 1 : h] + ids[e + 1 :] + ids[h + 1 : e]
    return tokenizer.decode_bytes(ids, skip_special=True)


def infill_prompt(tokenizer: Tokenizer, before: str, after: str) -> list[int]:
    """What a model is given to write between two texts: everything up to where the middle begins. Chapter 07."""
    return [tokenizer.bos_id, *rearrange(tokenizer.encode(before), [], tokenizer.encode(after), _marks(tokenizer))]


def _marks(tokenizer: Tokenizer) -> tuple[int, int, int]:
    return tokenizer.special_id(BEGIN), tokenizer.special_id(HOLE), tokenizer.special_id(END)


def _cut_and_rearrange(document, tokenizer: Tokenizer, marks, draw: random.Random) -> list[int]:
    first = [tokenizer.bos_id] if document[0] == tokenizer.bos_id else []
    raw = tokenizer.decode_bytes(document[len(first) : -1])
    text = raw.decode("utf-8", errors="surrogateescape")  # bytes that are no UTF-8 count as a character each
    if len(text) < 3:
        return list(document)
    i, j = sorted(draw.sample(range(1, len(text)), 2))
    parts = (part.encode("utf-8", errors="surrogateescape") for part in (text[:i], text[i:j], text[j:]))
    pre, mid, suf = (tokenizer.encode(part) for part in parts)
    return [*first, *rearrange(pre, mid, suf, marks), document[-1]]
