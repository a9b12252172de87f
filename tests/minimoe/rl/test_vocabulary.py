"""The tokenizer of the bilingual tasks: words and characters are single tokens, and so are digits."""

from minimoe.rl.corpus import HABIT, SKILL, draw_corpus
from minimoe.rl.vocabulary import words_tokenizer
from minimoe.rl.words import NAMES, NUMBERS, THINGS
from minimoe.training.reasoning import encode_document


def pieces(text):
    tokenizer = words_tokenizer()
    return [tokenizer.decode([token]) for token in tokenizer.encode(text, special=True)]


def test_english_words_with_their_space_are_one_token_each():
    for word in [*THINGS["en"], *NUMBERS["en"]]:
        assert pieces(f" {word}") == [f" {word}"], word


def test_chinese_characters_are_one_token_each():
    text = "".join([*NAMES["zh"], *THINGS["zh"], *NUMBERS["zh"]])
    assert pieces(text) == list(text)


def test_digits_stay_single_tokens():
    assert pieces("407") == ["4", "0", "7"]


def test_every_document_comes_back_from_its_tokens_and_is_short():
    tokenizer = words_tokenizer()
    for text in draw_corpus(SKILL, 60, seed=7) + draw_corpus(HABIT, 60, seed=8):
        ids = encode_document(tokenizer, text)
        assert tokenizer.decode(ids[1:-1]) == text and len(ids) < 90, text


def test_the_vocabulary_is_small_and_the_same_every_time():
    assert words_tokenizer().vocab_size < 700 and words_tokenizer() is words_tokenizer()
