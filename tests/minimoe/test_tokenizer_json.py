"""tokenizer.json: identical ids in the `tokenizers` library, both ways, and clear refusals."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from minimoe.tokenizer import SPECIAL_TOKENS, Tokenizer
from minimoe.tokenizer_json import byte_characters, translate

TEXT = (
    "the cat sat on the mat. the cat's hat (noun): a hat that a cat has. 1234 cats, 56 hats;\n\n  two  spaces\t"
    "größe ça va 日本語 и так далее ½ Ⅷ 🙂 " * 8
)
# DeepSeek-V3's pattern, as its published tokenizer.json spells it.
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
# Characters assigned long ago: Python's and the library's Unicode tables may differ on the newest ones.
OLD_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cn", "Co"), max_codepoint=0x2FFF))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Tokenizer.train(TEXT, 340)


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    return tokenizers.Tokenizer.from_file(str(ours.save(tmp_path_factory.mktemp("ours"))))


def train_theirs(pre_tokenizer):
    """A byte-level tokenizer trained by the library itself."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


GPT2_STYLE = train_theirs(pre_tokenizers.ByteLevel(add_prefix_space=False))
DEEPSEEK_STYLE = train_theirs(
    pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in DEEPSEEK]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
)


def load_from_text(text, folder):
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    pairs = {}
    for name, tokenizer in {"gpt2": GPT2_STYLE, "deepseek": DEEPSEEK_STYLE}.items():
        pairs[name] = (tokenizer, load_from_text(tokenizer.to_str(), folder))
    return pairs


@given(st.text())
def test_the_library_gives_the_same_ids_for_our_file(ours, theirs, text):
    theirs.encode_special_tokens = True  # as in ours: names of special tokens in user text are text
    assert theirs.encode(text).ids == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "the cat", " hat", "<", "｜", "  "])).map("".join))
def test_the_library_finds_the_same_special_tokens(ours, theirs, text):
    theirs.encode_special_tokens = False
    assert theirs.encode(text).ids == ours.encode(text, special=True)


@pytest.mark.parametrize("style", ["gpt2", "deepseek"])
@given(text=OLD_TEXT)
def test_we_give_the_same_ids_for_a_file_of_the_library(loaded, style, text):
    theirs, ours = loaded[style]
    assert ours.encode(text, special=True) == theirs.encode(text).ids
    assert ours.decode(theirs.encode(text).ids) == text


def test_what_we_load_we_save_unchanged(loaded, tmp_path):
    for theirs, ours in loaded.values():
        again = tokenizers.Tokenizer.from_file(str(ours.save(tmp_path)))
        assert again.get_vocab() == theirs.get_vocab()
        assert again.encode(TEXT).ids == theirs.encode(TEXT).ids


def test_saving_and_loading_gives_the_same_tokenizer(ours, tmp_path):
    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (again.merges, again.special_tokens, again.vocab_size) == (ours.merges, ours.special_tokens, ours.vocab_size)
    assert again.encode(TEXT, bos=True) == ours.encode(TEXT, bos=True)


def test_transformers_reads_the_folder_with_its_document_marks(ours, tmp_path):
    from transformers import PreTrainedTokenizerFast

    ours.save(tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (ours.bos_id, ours.eos_id)
    assert tokenizer("the cat")["input_ids"] == ours.encode("the cat")


def test_an_added_token_that_is_not_special_is_always_recognised(tmp_path):
    content = json.loads(GPT2_STYLE.to_str())
    content["added_tokens"][0]["special"] = False
    ours = load_from_text(json.dumps(content), tmp_path)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    theirs.encode_special_tokens = True
    text = f"the{SPECIAL_TOKENS[0]}cat{SPECIAL_TOKENS[1]}"
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.encode(text)[1] == 0


def test_merges_written_as_one_string_are_read_too(ours, tmp_path):
    content = json.loads(ours.save(tmp_path).read_text(encoding="utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    assert load_from_text(json.dumps(content), tmp_path).merges == ours.merges


def test_ignore_merges_looks_a_whole_piece_up_first(tmp_path):
    content = json.loads(GPT2_STYLE.to_str())
    content["model"]["merges"] = content["model"]["merges"][:1]
    content["model"]["ignore_merges"] = True
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    assert load_from_text(json.dumps(content), tmp_path).encode(TEXT) == theirs.encode(TEXT).ids


def test_the_byte_table_is_that_of_the_library():
    assert sorted(byte_characters().values()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert byte_characters()[32] == "Ġ"


def test_a_property_becomes_explicit_ranges_inside_and_outside_a_class():
    assert translate(r"\p{Zl}") == "[\\U00002028-\\U00002028]"
    assert translate(r"[a\p{Zl}]") == "[a\\U00002028-\\U00002028]"


def broken(change):
    """Our file's text after `change(content)`."""

    def text(ours, folder):
        content = json.loads(ours.save(folder).read_text(encoding="utf-8"))
        change(content)
        return json.dumps(content)

    return text


def put(*path):
    """A change that sets `path[:-2]...[path[-2]] = path[-1]`."""

    def change(content):
        for key in path[:-2]:
            content = content[key]
        content[path[-2]] = path[-1]

    return broken(change)


BROKEN = {
    "cut short": (lambda ours, folder: ours.save(folder).read_text(encoding="utf-8")[:5000], "is not valid JSON"),
    "a list": (lambda ours, folder: "[]", "not shaped like a tokenizer.json"),
    "no model": (broken(lambda c: c.pop("model")), "KeyError 'model'"),
    "another model": (put("model", "type", "Unigram"), "'Unigram' is not 'BPE'"),
    "byte fallback": (put("model", "byte_fallback", True), "byte_fallback=True"),
    "dropout": (put("model", "dropout", 0.1), "dropout=0.1"),
    "truncation": (put("truncation", {"max_length": 8}), "truncation="),
    "a normalizer": (put("normalizer", {"type": "NFKC"}), "normalizer 'NFKC'"),
    "a pre-tokenizer we lack": (put("pre_tokenizer", {"type": "Metaspace"}), "Metaspace"),
    "a prefix space": (put("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True}), "add_prefix_space"),
    "an id twice": (put("model", "vocab", "Ġ", 11), "share id 11"),
    "a negative id": (put("model", "vocab", "Ġ", -4), "has id -4"),
    "an id that is no number": (put("model", "vocab", "Ġ", "7"), "has id '7'"),
    "a missing byte": (broken(lambda c: c["model"]["vocab"].pop("\u0100")), "of the 256 bytes have no token"),
    "not byte-level": (put("model", "vocab", "▁the", 999), "'▁the'"),
    "an unknown merge": (put("model", "merges", 3, ["qq", "zz"]), "merge 3 is"),
    "a merge of three": (put("model", "merges", 0, ["a", "b", "c"]), "merge 0 is"),
    "a merge into nothing": (put("model", "merges", 0, ["z", "z"]), "merge 0 of ids"),
    "a stripping added token": (put("added_tokens", 0, "lstrip", True), "lstrip=true"),
    "two ids for one token": (put("added_tokens", 0, "id", 5000), "in the vocabulary but 5000"),
    "an unknown property": (put("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex", r"\p{Qq}"), "Qq"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_file_is_refused_and_named(ours, tmp_path, name):
    make, message = BROKEN[name]
    text = make(ours, tmp_path)
    with pytest.raises(ValueError, match="tokenizer.json") as caught:
        load_from_text(text, tmp_path)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer.json at"):
        Tokenizer.load(tmp_path)
