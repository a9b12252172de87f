"""What kind of thing a token is: a word or its beginning, the rest of one, punctuation, a digit.

Whether experts specialise depends on the classes one asks about. These are read off the token's own spelling and need
no linguist: a byte-level tokenizer marks the beginning of a word by the space before it. Of these beginnings the few
dozen words that hold English together ("the", "of", "to") are a class of their own; linguists call them function words.
The list below is short on purpose, and is part of the definition of the class. A token is judged alone: " me" counts as
a function word even where it begins "measure".

How the production version differs: interpretability work labels tokens with a tagger or with a language model, and
then has to ask how often the labels are wrong.
"""

import re

import torch

__all__ = ["FUNCTION_WORDS", "KINDS", "token_kinds"]

KINDS = ("mark", "function word", "word start", "word part", "digit", "punctuation", "other")
FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with without into as or and but not no nor if than that this these those it "
    "its is are was were be been being am do does did has have had can could may might must shall should will would "
    "he him his she her they them their you your we our i me my who whom whose which what when where there so such "
    "one some any all each every more most other between about over under up out off".split()
)
SPELLINGS = (
    ("word start", r" [^\W\d_]+"),
    ("word part", r"[!-/:-@\[-`{-~]?[^\W\d_]+"),
    ("digit", r"\d+"),
    ("punctuation", r" ?[!-/:-@\[-`{-~]+\s*"),
)


def token_kinds(tokenizer) -> torch.Tensor:
    """For every id of the vocabulary the number of its kind in `KINDS` (int64, one number a token id).

    mark: a special token. function word, word start: a space and letters. word part: letters without a space before
    them, also after an apostrophe or a hyphen; the first word of a text counts here. digit, punctuation. other: blanks,
    line ends, and bytes that are no text alone.

    Takes a `minimoe.tokenizer.Tokenizer`; index the result with token ids. Chapter 08.
    """
    kinds = torch.full([tokenizer.vocab_size], KINDS.index("mark"))
    for i in tokenizer.ordinary_ids:
        kinds[i] = KINDS.index(_kind(tokenizer.decode([i])))
    return kinds


def _kind(text: str) -> str:
    if text.startswith(" ") and text[1:].lower() in FUNCTION_WORDS:
        return "function word"
    return next((name for name, pattern in SPELLINGS if re.fullmatch(pattern, text)), "other")
