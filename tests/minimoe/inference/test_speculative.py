"""minimoe.inference.speculative: two tokens a step, and the same text, or the same distribution, as without it."""

from dataclasses import replace

import pytest
import torch
from model_draws import randomise

import minimoe
from minimoe.inference import speculative
from minimoe.inference.sampling import draw, probabilities
from minimoe.inference.speculative import rule, verify

CONFIG = replace(
    minimoe.NANO, vocab_size=7, hidden_size=24, num_hidden_layers=2, n_routed_experts=8, num_attention_heads=2,
    intermediate_size=20, moe_intermediate_size=6, q_lora_rank=10, kv_lora_rank=12, qk_nope_head_dim=6, v_head_dim=9,
    num_key_value_heads=None, n_shared_experts=1,
)  # fmt: skip
PROMPTS = [[5, 2, 2, 4, 0], [1], [0, 3, 3, 3, 1, 4, 6, 6, 5], [3, 1, 1]]


def make(seed, config=CONFIG, sharpness=3.0):
    model = minimoe.Transformer(config)
    randomise(model, seed)
    model.lm_head.weight.data *= sharpness
    return model.double()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("stop", [[], [0, 3]])
@pytest.mark.parametrize("mtp_hidden", ["post_norm", "pre_norm"])
def test_greedy_speculation_says_what_plain_greedy_says(seed, stop, mtp_hidden):
    model = make(seed, replace(CONFIG, mtp_hidden=mtp_hidden))
    plain = minimoe.generate(model, PROMPTS, max_new_tokens=30, stop_tokens=stop)
    fast = minimoe.generate(model, PROMPTS, max_new_tokens=30, stop_tokens=stop, speculative=True)
    assert fast.tokens == plain.tokens and fast.finish_reasons == plain.finish_reasons
    assert fast.steps <= plain.steps


def rounds_by_hand(model, prompt, tokens):
    """Drafted, accepted and trunk calls of a greedy run, from one forward over the finished text, without a cache."""
    text = prompt + tokens
    with torch.no_grad():
        drafts = model(torch.tensor([text]), mtp=True).mtp_logits[0][0].argmax(-1)
    drafted = accepted = 0
    known, steps = len(prompt) + 1, 1
    while known < len(text):
        hit = drafts[known - 2].item() == text[known]
        drafted, accepted, steps, known = drafted + 1, accepted + hit, steps + 1, known + 1 + hit
    return drafted, accepted, steps


def test_acceptance_and_steps_are_those_counted_by_hand_from_the_modules_predictions():
    drafted = accepted = 0
    for seed in range(4):
        model = make(seed)
        for prompt in PROMPTS:
            result = minimoe.generate(model, [prompt], max_new_tokens=40, stop_tokens=[], speculative=True)
            by_hand = rounds_by_hand(model, prompt, result.tokens[0])
            assert (result.drafted, result.accepted, result.steps) == by_hand
            assert result.acceptance == result.accepted / result.drafted
            drafted, accepted = drafted + result.drafted, accepted + result.accepted
    assert 0.1 * drafted < accepted < 0.9 * drafted, "both outcomes must have been seen often"


def test_a_model_of_several_mtp_modules_drafts_with_the_first():
    model = make(2, replace(CONFIG, num_nextn_predict_layers=2))
    plain = minimoe.generate(model, PROMPTS, max_new_tokens=15, stop_tokens=[])
    fast = minimoe.generate(model, PROMPTS, max_new_tokens=15, stop_tokens=[], speculative=True)
    assert fast.tokens == plain.tokens and fast.drafted > 0


# --- the distribution ---------------------------------------------------------------------------------------------

ROWS = 6000


def chi_square(counts, probs) -> float:
    """How many standard deviations the statistic lies above its mean (Wilson and Hilferty's cube root).

    Cells that expect fewer than five are pooled; a cell of probability 0 that was hit is infinitely far.
    """
    if (counts[probs == 0] > 0).any():
        return float("inf")
    expected = probs * counts.sum()
    large = expected >= 5
    seen = torch.cat([counts[large], counts[~large].sum()[None]])
    awaited = torch.cat([expected[large], expected[~large].sum()[None]])
    seen, awaited = seen[awaited > 0], awaited[awaited > 0]
    freedom = len(seen) - 1
    statistic = ((seen - awaited).square() / awaited).sum().item()
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5


def exact(model, prompt, options) -> torch.Tensor:
    """Probability of every continuation by three tokens, from uncached forwards."""
    V = model.config.vocab_size

    def step(prefixes):
        ids = torch.tensor([prompt + list(p) for p in prefixes])
        with torch.no_grad():
            return probabilities(model(ids, mtp=False).logits[:, -1], **options)

    first = step([()])[0]
    second = step([(a,) for a in range(V)])
    third = step([(a, b) for a in range(V) for b in range(V)]).view(V, V, V)
    return (first[:, None, None] * second[:, :, None] * third).flatten()


def sampled(model, prompt, options, seed, speculate=True):
    """Counts of every continuation by three tokens among `ROWS` samples, and the result."""
    V = model.config.vocab_size
    result = minimoe.generate(
        model, [prompt] * ROWS, max_new_tokens=3, stop_tokens=[], seed=seed, speculative=speculate, **options
    )
    codes = torch.tensor(result.tokens) @ torch.tensor([V * V, V, 1])
    return codes.bincount(minlength=V**3).double(), result


OPTIONS = {
    "temperature 1": {"temperature": 1.0, "top_k": None, "top_p": None},
    "temperature, top-k and top-p": {"temperature": 1.4, "top_k": 5, "top_p": 0.85},
    "sharpened": {"temperature": 0.6, "top_k": None, "top_p": 0.95},
}
FAR = 4.0  # standard deviations: one run in 30,000 of a right sampler lies further


@pytest.mark.no_axis_check  # thousands of rows of the same prompt; the names are checked by the tests above
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("speculate", [True, False], ids=["speculative", "plain"])
def test_what_is_sampled_is_distributed_as_the_model(options, speculate):
    model = make(5, sharpness=1.0)
    expected = exact(model, PROMPTS[0], options)
    counts, result = sampled(model, PROMPTS[0], options, seed=11, speculate=speculate)
    assert chi_square(counts, expected) < FAR
    if speculate:
        assert 0.1 < result.acceptance < 0.9, "neither always nor never: both branches must be exercised"


def always(p_MV, q_MV, draft_M, accept_M, sample_M):
    return draft_M, torch.ones_like(draft_M, dtype=torch.bool)


def resample_from_p(p_MV, q_MV, draft_M, accept_M, sample_M):
    _, kept_M = verify(p_MV, q_MV, draft_M, accept_M, sample_M)
    return torch.where(kept_M, draft_M, draw(p_MV, sample_M)), kept_M


def by_threshold(p_MV, q_MV, draft_M, accept_M, sample_M):
    kept_M = p_MV.gather(1, draft_M[:, None])[:, 0] > 0.2
    return torch.where(kept_M, draft_M, draw(p_MV, sample_M)), kept_M


def by_p_alone(p_MV, q_MV, draft_M, accept_M, sample_M):
    kept_M = accept_M < p_MV.gather(1, draft_M[:, None])[:, 0]
    rest_MV = (p_MV - q_MV).clamp_min(0)
    return torch.where(kept_M, draft_M, draw(rest_MV, sample_M)), kept_M


@pytest.mark.no_axis_check
@pytest.mark.parametrize("wrong", [always, resample_from_p, by_threshold, by_p_alone])
def test_the_chi_square_test_rejects_plausible_wrong_rules(wrong, monkeypatch):
    model = make(5, sharpness=1.0)
    options = OPTIONS["temperature 1"]
    monkeypatch.setattr(speculative, "verify", wrong)
    counts, _ = sampled(model, PROMPTS[0], options, seed=11)
    assert chi_square(counts, exact(model, PROMPTS[0], options)) > FAR


def test_the_rule_gives_back_p_exactly_whatever_q_is():
    """Sum over all drafts: q(d) chance(d), and for the rest of the probability the replacement's distribution."""
    generator = torch.Generator().manual_seed(3)
    for width in (2, 5, 11):
        p_MV, q_MV = torch.rand(2, 6, width, dtype=torch.float64, generator=generator)
        p_MV[0, 0] = 0  # a token that the trunk never says
        p_MV, q_MV = p_MV / p_MV.sum(-1, keepdim=True), q_MV / q_MV.sum(-1, keepdim=True)
        said_MV, rejected_M = torch.zeros_like(p_MV), torch.zeros(6, dtype=torch.float64)
        for draft in range(width):
            chance_M, rest_MV = rule(p_MV, q_MV, torch.full((6,), draft))
            said_MV[:, draft] += q_MV[:, draft] * chance_M
            rejected_M += q_MV[:, draft] * (1 - chance_M)
        torch.testing.assert_close(said_MV + rejected_M[:, None] * rest_MV, p_MV, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(1 - rejected_M, torch.minimum(p_MV, q_MV).sum(-1), rtol=1e-12, atol=1e-14)


def test_greedy_distributions_keep_a_draft_if_it_is_the_trunks_token():
    p_MV, q_MV = torch.eye(3, dtype=torch.float64)[[1, 1]], torch.eye(3, dtype=torch.float64)[[1, 2]]
    chance_M, rest_MV = rule(p_MV, q_MV, torch.tensor([1, 2]))
    assert chance_M.tolist() == [1, 0] and torch.equal(rest_MV, p_MV)


def test_verify_keeps_and_resamples_as_worked_out_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).expand(4, -1)
    q = torch.tensor([[0.1, 0.6, 0.3]], dtype=torch.float64).expand(4, -1)
    draft = torch.tensor([1, 1, 0, 2])
    accept = torch.tensor([0.49, 0.51, 0.999, 0.7], dtype=torch.float64)  # p/q: 0.5, 0.5, 5, 0.667
    tokens, kept = verify(p, q, draft, accept, torch.full((4,), 0.5, dtype=torch.float64))
    assert kept.tolist() == [True, False, True, False]
    assert tokens.tolist() == [1, 0, 0, 0], "only token 0 has more weight in p than in q"


def test_verify_always_keeps_a_draft_from_the_same_distribution():
    p = torch.rand(200, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = p / p.sum(-1, keepdim=True)
    u = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    draft = draw(p, u)
    tokens, kept = verify(p, p, draft, torch.full_like(u, 1 - 2**-53), u)
    assert kept.all() and torch.equal(tokens, draft)
