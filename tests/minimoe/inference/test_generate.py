"""minimoe.inference.generate: the right tokens, row by row, whatever the batch."""

from dataclasses import replace

import pytest
import torch
from model_draws import randomise

import minimoe
from minimoe.inference.generate import iterate
from minimoe.inference.sampling import row_seeds

CONFIG = replace(minimoe.NANO, vocab_size=53, num_hidden_layers=2)
BASELINE = replace(
    CONFIG, kv_lora_rank=None, q_lora_rank=None, num_key_value_heads=2, head_dim=16, num_nextn_predict_layers=1
)
PROMPTS = [[5, 9, 2, 40, 7], [11], [8, 8, 3, 30, 21, 4, 17, 6, 50], [33, 12, 1], [2, 3, 5, 7, 11, 13, 17]]
SAMPLED = {"temperature": 0.9, "top_k": 30, "top_p": 0.95}


def make(config=CONFIG, seed=1, dtype=torch.float64):
    model = minimoe.Transformer(config)
    randomise(model, seed)
    return model.to(dtype)


@pytest.fixture(scope="module")
def model():
    return make()


def without_a_cache(model, prompt, new, stop=()):
    """Greedy continuation by running the whole text again for every token: the definition."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + new:
            ids.append(model(torch.tensor([ids]), mtp=False).logits[0, -1].argmax().item())
            if ids[-1] in stop:
                break
    return ids[len(prompt) :]


@pytest.mark.parametrize("config", [CONFIG, BASELINE], ids=["latent", "grouped-query"])
def test_greedy_rows_of_different_lengths_continue_as_each_would_without_a_cache(config):
    model = make(config)
    expected = [without_a_cache(model, prompt, 20) for prompt in PROMPTS]
    result = minimoe.generate(model, PROMPTS, max_new_tokens=20, stop_tokens=[])
    assert result.tokens == expected
    assert result.finish_reasons == ["length"] * 5
    assert result.steps == 20 and result.acceptance is None


def test_a_stop_token_ends_its_row_alone_and_is_the_last_token_of_it(model):
    free = minimoe.generate(model, PROMPTS, max_new_tokens=30, stop_tokens=[]).tokens
    stop = [free[0][3], free[3][11]]
    result = minimoe.generate(model, PROMPTS, max_new_tokens=30, stop_tokens=stop)
    for row, tokens in enumerate(free):
        ends = [i for i, token in enumerate(tokens) if token in stop]
        assert result.tokens[row] == (tokens[: ends[0] + 1] if ends else tokens)
        assert result.finish_reasons[row] == ("stop" if ends else "length")
    assert len({len(tokens) for tokens in result.tokens}) >= 3, "rows must leave at different times to show anything"


def test_the_configs_end_of_sequence_stops_unless_told_otherwise(model):
    first = minimoe.generate(model, [PROMPTS[0]], max_new_tokens=1, stop_tokens=[]).tokens[0][0]
    ending = make(replace(CONFIG, eos_token_id=first))
    assert minimoe.generate(ending, [PROMPTS[0]], max_new_tokens=9).tokens == [[first]]
    assert len(minimoe.generate(ending, [PROMPTS[0]], max_new_tokens=9, stop_tokens=[]).tokens[0]) == 9
    several = make(replace(CONFIG, eos_token_id=[0, first]))
    assert minimoe.generate(several, [PROMPTS[0]], max_new_tokens=9).tokens == [[first]]


@pytest.mark.parametrize("speculative", [False, True])
def test_a_sampled_row_says_the_same_alone_and_in_a_batch_that_others_leave(model, speculative):
    options = SAMPLED | {"max_new_tokens": 25, "stop_tokens": [1, 2, 3, 4], "speculative": speculative}
    together = minimoe.generate(model, PROMPTS, seed=7, **options)
    assert len({len(tokens) for tokens in together.tokens}) >= 3, "rows must leave at different times"
    for prompt, seed, tokens in zip(PROMPTS, row_seeds(7, 5), together.tokens, strict=True):
        assert minimoe.generate(model, [prompt], seed=[seed], **options).tokens == [tokens]


def test_the_seed_decides_what_is_sampled(model):
    def said(seed):
        return minimoe.generate(model, PROMPTS, max_new_tokens=12, seed=seed, stop_tokens=[], **SAMPLED).tokens

    assert said(3) == said(3) != said(4)
    assert said(None) != said(None)


def test_logprobs_are_the_models_own_before_temperature(model):
    result = minimoe.generate(model, PROMPTS, max_new_tokens=8, seed=1, stop_tokens=[], **SAMPLED)
    for prompt, tokens, logprobs in zip(PROMPTS, result.tokens, result.logprobs, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens]), mtp=False).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[range(8), tokens]
        torch.testing.assert_close(torch.tensor(logprobs, dtype=torch.float64), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("speculative", [False, True])
def test_the_stream_brings_every_token_in_order_and_the_iterator_the_same(model, speculative):
    seen = [[] for _ in PROMPTS]
    options = {"max_new_tokens": 9, "stop_tokens": [3], "speculative": speculative}
    result = minimoe.generate(model, PROMPTS, stream=lambda row, token: seen[row].append(token), **options)
    assert seen == result.tokens
    iterated = [[] for _ in PROMPTS]
    for row, token in iterate(model, PROMPTS, **options):
        iterated[row].append(token)
        assert not torch.is_inference_mode_enabled(), "the caller's code must not run in inference mode"
    assert iterated == result.tokens


def test_an_iterator_that_is_left_computes_no_further(model, monkeypatch):
    calls = []
    forward = type(model.model.layers[0]).forward
    monkeypatch.setattr(type(model.model.layers[0]), "forward", lambda *a: calls.append(1) or forward(*a))
    tokens = iterate(model, [PROMPTS[2]], max_new_tokens=10, stop_tokens=[])
    assert not calls
    next(tokens)
    assert len(calls) == 2, "one prefill through two layers"


@pytest.mark.parametrize("speculative", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_trace_tells_every_pass_what_it_gave_and_what_became_of_the_drafts(model, speculative, temperature):
    passes = []
    options = {"max_new_tokens": 25, "stop_tokens": [1, 2, 3, 4], "temperature": temperature, "seed": 7}
    result = minimoe.generate(model, PROMPTS, speculative=speculative, trace=passes.append, **options)
    assert [p.number for p in passes] == list(range(1, result.steps + 1))
    seen = [[] for _ in PROMPTS]
    for p in passes:
        assert len(p.rows) == len(p.tokens) == len(p.drafts) == len(p.kept) == len(p.chances)
        for row, tokens, draft, kept, chance in zip(p.rows, p.tokens, p.drafts, p.kept, p.chances, strict=True):
            seen[row] += tokens
            assert draft is not None or (not kept and chance is None and len(tokens) == 1)
            assert draft is None or (tokens[0] == draft if kept else tokens[0] != draft and len(tokens) == 1)
    assert seen == result.tokens
    assert len({len(tokens) for tokens in seen}) >= 2, "rows must leave at different times"
    assert result.drafted == sum(draft is not None for p in passes for draft in p.drafts)
    assert result.accepted == sum(kept for p in passes for kept in p.kept)
    assert speculative == (result.drafted > 0) and all(draft is None for draft in passes[0].drafts)


def test_the_chance_of_a_draft_is_the_ratio_of_the_two_distributions(model):
    passes, prompt = [], PROMPTS[2]
    options = {"max_new_tokens": 12, "temperature": 1.3, "seed": 5, "stop_tokens": []}
    minimoe.generate(model, prompt, speculative=True, trace=passes.append, **options)
    known = len(prompt)
    text = prompt + [token for p in passes for token in p.tokens[0]]
    with torch.no_grad():
        out = model(torch.tensor([text]), mtp=True)
    p, q = ((logits[0] / 1.3).softmax(-1) for logits in (out.logits, out.mtp_logits[0]))
    for step in passes:
        if step.drafts[0] is not None:
            (draft,), (chance,) = step.drafts, step.chances
            assert chance == pytest.approx(min(1.0, float(p[known - 1, draft] / q[known - 2, draft])), rel=1e-9)
        known += len(step.tokens[0])


def test_a_trace_that_cannot_be_called_is_refused(model):
    with pytest.raises(TypeError, match="trace=3 cannot be called"):
        minimoe.generate(model, PROMPTS, trace=3)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 0}, {"speculative": True}])
def test_one_prompt_may_come_without_its_outer_list_and_one_token_is_enough(model, options):
    result = minimoe.generate(model, PROMPTS[0], max_new_tokens=1, stop_tokens=[], **options)
    assert [len(tokens) for tokens in result.tokens] == [1]
    assert result.steps == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("speculative", [False, True])
def test_narrow_weights_generate(dtype, speculative):
    model = make(dtype=dtype)
    result = minimoe.generate(model, PROMPTS, max_new_tokens=6, stop_tokens=[], speculative=speculative)
    assert all(len(tokens) == 6 and set(tokens) <= set(range(53)) for tokens in result.tokens)
    assert all(value <= 0 for logprobs in result.logprobs for value in logprobs)


def test_generating_leaves_model_and_prompts_as_they_were(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prompts = [list(prompt) for prompt in PROMPTS]
    for speculative in (False, True):
        minimoe.generate(model, prompts, max_new_tokens=5, speculative=speculative)
    assert prompts == PROMPTS
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    model(torch.tensor([PROMPTS[0]]), labels=torch.tensor([PROMPTS[0]])).loss.backward()
    model.zero_grad()
