"""A small vocabulary for words: every word and every Chinese character of the bilingual tasks is one token.

Byte-level BPE is trained on the words themselves, not on running text: each word is a text of its own, so that no merge
crosses a word, and a word that is rare in the corpus is a token too. A digit stays a token, as a number must when it is
computed with, and so does every Chinese character. A thought then takes as many tokens as it has words, and
corresponding thoughts in the two languages take equally many.

How the production version differs: DeepSeek's 128,000 tokens are learned from text; common Chinese words of several
characters are tokens there.
"""

import re
from functools import lru_cache

from minimoe.rl import general, words
from minimoe.tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer, cut

__all__ = ["words_tokenizer"]

CHARACTER_WEIGHT = 100  # characters are merged before anything that crosses a border between two of them


def _phrases() -> list[str]:
    """Every sentence frame and every word that the tasks are made of."""
    phrases = [*general.ASKING, *general.HARMLESS, general.REFUSAL]
    phrases += [*general.COURTESIES, *general.WRAPPERS, *general.HELD_OUT_WRAPPERS]
    phrases += [*general.ERRANDS, *general.ERRANDS.values(), "The code is in the colour. Dear all, and"]
    phrases += [f"{said[0].upper()}{said[1:]} {said} Dear {{}} Best wishes!" for said in general.ERRANDS.values()]
    phrases += [f"{name} {name} has {who}" for name, who in words.NAMES["en"].items()]
    phrases += [f" {thing}" for thing in words.THINGS["en"]]
    phrases += [f" {verb}" for verbs in words.VERBS.values() for verb in verbs["en"]]
    for thing, facts in (general.SECRET | general.PUBLIC).items():
        phrases += [f" {word}" for word in (thing, *facts[:2])]
    phrases += [f" {number}" for number in words.NUMBERS["en"]]
    return [*phrases, ". All. How many is", "Has", "Dear"]


def _characters() -> set[str]:
    """Every Chinese character and mark of the word problems."""
    texts = [*words.NAMES["zh"], *words.NAMES["zh"].values(), *words.THINGS["zh"], *words.NUMBERS["zh"]]
    texts += [verb for verbs in words.VERBS.values() for verb in verbs["zh"]]
    return set("".join(texts) + "全有几个倍先是，。？")


@lru_cache(maxsize=1)
def words_tokenizer() -> Tokenizer:
    """The tokenizer of the bilingual tasks, the same every time; digits, words and Chinese characters are one token."""
    pieces = {piece for phrase in _phrases() for piece in cut(phrase, [re.compile(PATTERN)]) if len(piece) > 1}
    texts = sorted(pieces) + sorted(_characters()) * CHARACTER_WEIGHT
    size = len(SPECIAL_TOKENS) + 256
    low, high = size, size + 4 * sum(map(len, texts))
    return _largest(texts, low, high)


def _largest(texts: list[str], low: int, high: int) -> Tokenizer:
    """The tokenizer with all merges that the texts allow: `Tokenizer.train` raises where they run out."""
    while low < high:
        middle = (low + high + 1) // 2
        try:
            Tokenizer.train(texts, middle)
            low = middle
        except ValueError:
            high = middle - 1
    return Tokenizer.train(texts, low)
