"""From what a reader typed to token ids, and from token ids to labels short enough to stand under a column.

Both explorers take free text, so both need the same care: nothing typed, more typed than the model can read, half a
character in a token.

How the production version differs: a serving engine refuses a prompt that is too long; here it is cut and the reader
told, because the picture of the beginning is still worth having.
"""

import html

__all__ = ["encode", "label", "labels", "said"]


def encode(tokenizer, text: str, context: int) -> tuple[list[int], str]:
    """Token ids of `text`, at most `context` of them, and a notice ("" unless something was cut).

    Raises `ValueError` for an empty text.
    """
    if not text or not text.strip():
        raise ValueError("the text is empty: type at least one word")
    ids = list(tokenizer.encode(text))
    if len(ids) > context:
        return ids[:context], f"The text has {len(ids)} tokens; the model's context is {context}, so the rest is cut."
    return ids, ""


def label(tokenizer, token: int) -> str:
    """One token as readable text: spaces as ␣, line ends as ⏎, a part of a character as its bytes in hex."""
    text = tokenizer.decode([token])
    if "\ufffd" in text and hasattr(tokenizer, "token_bytes"):
        return tokenizer.token_bytes(token).hex(" ")
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or f"#{token}"


def labels(tokenizer, ids: list[int]) -> list[str]:
    """`label` of every id."""
    return [label(tokenizer, token) for token in ids]


def said(text: str, bold: bool = False) -> str:
    """`text` as HTML that wraps, is announced by screen readers when it changes, and cannot carry markup."""
    weight = "font-weight:600;" if bold else ""
    return f'<div role="status" style="{weight}line-height:1.4;white-space:normal">{html.escape(text)}</div>'
