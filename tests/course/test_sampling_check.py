"""The counting that chapter 05 trusts: it passes a right sampler and fails a wrong one."""

from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.inference import speculative
from minimoe.inference.sampling import draw
from minimoe_course.sampling_check import count_continuations, exact_continuations, misfit

CONFIG = replace(minimoe.NANO, vocab_size=4, hidden_size=24, num_hidden_layers=2, initializer_range=0.3)
ROWS = 3000


@pytest.fixture(scope="module")
def model():
    return minimoe.Transformer(CONFIG, seed=1).requires_grad_(False)


def test_probabilities_of_all_continuations_add_up_to_one_and_to_those_of_the_first_token(model):
    exact = exact_continuations(model, [1, 2], 2)
    first = model(torch.tensor([[1, 2]]), mtp=False).logits[0, -1].double().softmax(-1)
    torch.testing.assert_close(exact.view(4, 4).sum(1), first, rtol=1e-9, atol=1e-12)
    assert exact.sum() == pytest.approx(1)


@pytest.mark.no_axis_check
@pytest.mark.parametrize("speculate", [False, True])
def test_both_samplers_of_the_library_fit(model, speculate):
    exact = exact_continuations(model, [1, 2], 3)
    counts = count_continuations(model, [1, 2], 3, ROWS, seed=0, speculative=speculate)
    variation, chi = misfit(counts, exact)
    assert counts.sum() == ROWS and variation < 0.08 and 0.5 < chi < 1.7


@pytest.mark.no_axis_check
def test_a_rule_that_draws_the_replacement_from_p_does_not_fit(model, monkeypatch):
    def resample_from_p(p_MV, q_MV, draft_M, accept_M, sample_M):
        chance_M, _ = speculative.rule(p_MV, q_MV, draft_M)
        kept_M = accept_M < chance_M
        return torch.where(kept_M, draft_M, draw(p_MV, sample_M)), kept_M

    monkeypatch.setattr(speculative, "verify", resample_from_p)
    counts = count_continuations(model, [1, 2], 3, ROWS, seed=0, speculative=True)
    assert misfit(counts, exact_continuations(model, [1, 2], 3))[1] > 3


def test_misfit_by_hand():
    variation, chi = misfit(torch.tensor([60, 40]), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert variation == pytest.approx(0.1) and chi == pytest.approx(4.0)
