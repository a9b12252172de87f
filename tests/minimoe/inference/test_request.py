"""minimoe.inference.request: every senseless generation call ends in a sentence, before anything is computed."""

from dataclasses import replace

import pytest
import torch

import minimoe

CONFIG = replace(minimoe.NANO, vocab_size=41, num_hidden_layers=2, max_position_embeddings=20)
GOOD = [[3, 4, 5], [6]]

BAD_CALLS = {
    "text instead of ids": ("hello", {}, TypeError, "prompts is a str.*encode it with a tokenizer"),
    "a tensor": (torch.tensor([[1, 2]]), {}, TypeError, r"prompts is a Tensor.*\.tolist\(\)"),
    "no prompt": ([], {}, ValueError, "prompts is an empty list"),
    "an empty prompt": ([[1], []], {}, ValueError, r"prompts\[1\] is empty"),
    "a prompt that is text": ([[1], "two"], {}, TypeError, r"prompts\[1\] is a str"),
    "a float among the ids": ([[1, 2.0]], {}, TypeError, r"prompts\[0\] holds 2.0 \(float\)"),
    "a bool among the ids": ([[True, 2]], {}, TypeError, r"prompts\[0\] holds True \(bool\)"),
    "an id past the vocabulary": ([[1], [41]], {}, ValueError, r"token id 41; vocab_size=41 allows 0 to 40"),
    "a negative id": ([[-1]], {}, ValueError, "token id -1; vocab_size=41"),
    "no new tokens": (GOOD, {"max_new_tokens": 0}, ValueError, "max_new_tokens=0 .* at least 1"),
    "half a token": (GOOD, {"max_new_tokens": 2.5}, ValueError, "max_new_tokens=2.5"),
    "more than the positions": (GOOD, {"max_new_tokens": 18}, ValueError, "3 tokens and .*=18 make 21.*=20"),
    "a negative temperature": (GOOD, {"temperature": -0.5}, ValueError, "temperature=-0.5 .* at least 0"),
    "temperature nan": (GOOD, {"temperature": float("nan")}, ValueError, "temperature=nan"),
    "temperature as text": (GOOD, {"temperature": "hot"}, ValueError, "temperature='hot'"),
    "top_k of none": (GOOD, {"top_k": 0}, ValueError, "top_k=0 .* from 1 to vocab_size=41"),
    "top_k above the vocabulary": (GOOD, {"top_k": 42}, ValueError, "top_k=42 .* vocab_size=41"),
    "top_p of zero": (GOOD, {"top_p": 0}, ValueError, "top_p=0 .* above 0 and at most 1"),
    "top_p as a percentage": (GOOD, {"top_p": 90}, ValueError, "top_p=90 "),
    "a negative seed": (GOOD, {"seed": -1}, ValueError, "seed=-1"),
    "too few seeds": (GOOD, {"seed": [1]}, ValueError, "seed has 1 entries for 2 prompts"),
    "a stop token past the vocabulary": (GOOD, {"stop_tokens": [41]}, ValueError, "stop_tokens holds 41.*0 to 40"),
    "a stop token as text": (GOOD, {"stop_tokens": "<eos>"}, TypeError, "stop_tokens='<eos>'"),
    "speculative as a number": (GOOD, {"speculative": 2}, TypeError, "speculative=2"),
    "a stream that cannot be called": (GOOD, {"stream": []}, TypeError, r"stream=\[\] cannot be called"),
}


@pytest.fixture(scope="module")
def model():
    return minimoe.Transformer(CONFIG, seed=0)


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_call_says_what_was_wrong_and_what_would_be_right(model, case, monkeypatch):
    prompts, options, kind, sentence = BAD_CALLS[case]
    monkeypatch.setattr(type(model.model.layers[0]), "forward", None)  # nothing may be computed before the check
    with pytest.raises(kind, match=sentence):
        minimoe.generate(model, prompts, **({"max_new_tokens": 2} | options))


def test_speculation_without_an_mtp_module_says_so():
    model = minimoe.Transformer(replace(CONFIG, num_nextn_predict_layers=0), seed=0)
    with pytest.raises(ValueError, match="speculative=True .*num_nextn_predict_layers=0"):
        minimoe.generate(model, GOOD, max_new_tokens=2, speculative=True)


def test_something_that_is_no_model_says_so():
    with pytest.raises(TypeError, match="model is a str"):
        minimoe.generate("NANO", GOOD)


def test_a_bad_call_of_the_iterator_fails_at_the_call_not_at_the_first_token(model):
    from minimoe.inference.generate import iterate

    with pytest.raises(ValueError, match="max_new_tokens=0"):
        iterate(model, GOOD, max_new_tokens=0)


def test_the_longest_call_that_fits_runs(model):
    said = minimoe.generate(model, GOOD, max_new_tokens=17, stop_tokens=[], speculative=True)
    assert [len(tokens) for tokens in said.tokens] == [17, 17]
