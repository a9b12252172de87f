r"""`tokenizer.json`: the file in which a tokenizer travels beside the weights.

The `tokenizers` library of Hugging Face describes a tokenizer as a pipeline: pre-tokenizers cut the text, the model
merges, a decoder turns tokens back into bytes. `write` states ours in those words, `read` understands the subset that
byte-level BPE needs: GPT-2's and DeepSeek's own files load and give the same ids. What it does not understand it
refuses, by name, since a pipeline step that is skipped without a word gives wrong ids and a model that merely seems
bad.

Two spellings need a translation. JSON has no bytes, so each byte is written as one printable character (GPT-2's table:
space is "Ġ"). And patterns say `\p{L}` for "any letter", which Python's `re` lacks: it becomes the explicit ranges of
Python's own Unicode tables.

How the production version differs: there the file is the definition, with normalizers, templates and truncation. The
Unicode version of Python and of the library may differ in a few newly assigned characters; files written here name no
Unicode property, so that both sides cut every text alike.
"""

import functools
import json
import re
import sys
import unicodedata
from pathlib import Path

from .tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer

__all__ = ["byte_characters", "read", "write"]

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
UNICODE_SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Python's \s adds \x1c-\x1f


@functools.cache
def byte_characters() -> dict[int, str]:
    """GPT-2's table: a printable character for each byte; itself where that is printable, else one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {b: chr(b) for b in printable}
    for b in range(256):
        if b not in table:
            table[b] = chr(0x100 + len(table) - len(printable))
    return table


def write(tokenizer: Tokenizer, folder) -> Path:
    """Write `tokenizer.json` and `tokenizer_config.json` into `folder`; returns the path of the first."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = byte_characters()
    written = {i: "".join(table[b] for b in tokenizer.token_bytes(i)) for i in tokenizer.ordinary_ids}
    vocab = dict(tokenizer.special_tokens) | {text: i for i, text in written.items()}
    splits = [
        {"type": "Split", "pattern": {"Regex": source}, "behavior": "Isolated", "invert": False}
        for source in tokenizer.pattern_sources
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name} | flags | {"special": name not in tokenizer.always_special}
            for name, i in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, _byte_level(use_regex=False)]},
        "post_processor": None,
        "decoder": _byte_level(use_regex=False),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": tokenizer.ignore_merges,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [[written[left], written[right]] for left, right in tokenizer.merges],
        },
    }
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    named = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL_TOKENS, strict=False))
    named = {role: name for role, name in named.items() if name in tokenizer.special_tokens}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | named
    content = json.dumps(settings, ensure_ascii=False, indent=1) + "\n"
    (folder / "tokenizer_config.json").write_text(content, encoding="utf-8")
    return path


def _byte_level(use_regex: bool) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def read(path) -> Tokenizer:
    """The tokenizer in a `tokenizer.json` (or in a folder that has one).

    Raises FileNotFoundError, or ValueError that names what is damaged or not supported.
    """
    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no tokenizer.json at {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    try:
        return _build(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not shaped like a tokenizer.json: {type(error).__name__} {error}") from None


def _build(content: dict) -> Tokenizer:
    model = content["model"]
    _check(content, model)
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    token_bytes = _vocabulary(model["vocab"], added)
    written = {text: i for text, i in model["vocab"].items()}
    merges = []
    for rank, entry in enumerate(model["merges"]):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if len(pair) != 2 or not all(half in written for half in pair):
            raise ValueError(f"merge {rank} is {entry!r}, not two tokens of the vocabulary")
        merges.append((written[pair[0]], written[pair[1]]))
    tokenizer = Tokenizer(token_bytes, merges, added)
    tokenizer.ignore_merges = bool(model.get("ignore_merges"))
    tokenizer.pattern_sources = _patterns(content["pre_tokenizer"])
    tokenizer.patterns = [re.compile(translate(source)) for source in tokenizer.pattern_sources]
    tokenizer.always_special = {t["content"] for t in content.get("added_tokens") or [] if not t.get("special")}
    return tokenizer


def _check(content: dict, model: dict) -> None:
    if model.get("type") != "BPE":
        raise ValueError(f"model type {model.get('type')!r} is not 'BPE'")
    for name in ("byte_fallback", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ValueError(f"model {name}={model[name]!r} is not supported: byte-level BPE has none")
    if content.get("truncation"):
        raise ValueError(f"truncation={content['truncation']!r} is not supported: it would cut the text")
    normalizer = content.get("normalizer")
    if normalizer and not (normalizer.get("type") == "Sequence" and not normalizer["normalizers"]):
        raise ValueError(f"normalizer {normalizer.get('type')!r} is not supported: it would change the text")
    for token in content.get("added_tokens") or []:
        for flag in ("single_word", "lstrip", "rstrip"):
            if token.get(flag):
                raise ValueError(f"added token {token['content']!r} has {flag}=true, which is not supported")


def _vocabulary(vocab: dict, added: dict) -> dict[int, bytes]:
    bytes_of = {character: b for b, character in byte_characters().items()}
    token_bytes, owner = {}, {}
    for text, i in [*vocab.items(), *added.items()]:
        if not isinstance(i, int) or isinstance(i, bool) or i < 0:
            raise ValueError(f"token {text!r} has id {i!r}, not a whole number from 0")
        if owner.setdefault(i, text) != text:
            raise ValueError(f"tokens {owner[i]!r} and {text!r} share id {i}")
        if vocab.get(text, i) != added.get(text, i):
            raise ValueError(f"token {text!r} has id {vocab[text]} in the vocabulary but {added[text]} as added token")
        if text not in added:
            strange = [c for c in text if c not in bytes_of]
            if strange or not text:
                raise ValueError(f"token {text!r} (id {i}) holds {strange}, no byte-level spelling: not byte-level BPE")
            token_bytes[i] = bytes(bytes_of[c] for c in text)
    return token_bytes


def _patterns(step: dict) -> list[str]:
    """The splitting patterns of a pre-tokenizer, in the order in which they apply."""
    kind = step["type"]
    if kind == "Sequence":
        return [source for inner in step["pretokenizers"] for source in _patterns(inner)]
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        pattern = step["pattern"]
        return [pattern["Regex"] if "Regex" in pattern else re.escape(pattern["String"])]
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return [GPT2_PATTERN] if step.get("use_regex", True) else []
    raise ValueError(f"pre-tokenizer {json.dumps(step)} is not supported")


def translate(source: str) -> str:
    r"""A pattern of the `tokenizers` library for Python's `re`: `\p{..}` and `\s` become explicit character ranges."""
    if source == PATTERN:
        return source
    out, in_class, i = [], False, 0
    while i < len(source):
        taken = source[i : i + 2] if source[i] == "\\" else source[i]
        if taken == "\\p":
            name = re.match(r"\\p\{(\w+)\}", source[i:])
            if name is None:
                raise ValueError(f"pattern {source!r}: {source[i : i + 6]!r} is not a property like \\p{{L}}")
            taken = name.group()
            out.append(_ranges(name.group(1)) if in_class else f"[{_ranges(name.group(1))}]")
        elif taken in ("\\s", "\\S") and not (in_class and taken == "\\S"):
            out.append(UNICODE_SPACES if in_class else f"[{'^' if taken == chr(92) + 'S' else ''}{UNICODE_SPACES}]")
        elif taken == "\\P":
            raise ValueError(f"pattern {source!r}: \\P is not supported")
        else:
            in_class = (in_class and taken != "]") or (not in_class and taken == "[")
            out.append(taken)
        i += len(taken)
    return "".join(out)


@functools.cache
def _ranges(category: str) -> str:
    """All characters of a Unicode category ("L", "Nd", ...) as the inside of a character class."""
    spans, start = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code)).startswith(category)
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            spans.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    if not spans:
        raise ValueError(f"\\p{{{category}}} is not a Unicode category")
    return "".join(spans)
