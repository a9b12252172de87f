"""Groups used together: counted, and held against what popularity alone explains."""

import pytest
import torch

from minimoe.inference.group_use import expected_pairs, groups_used, pair_shares


def test_groups_are_blocks_of_neighbouring_experts():
    used = groups_used(torch.tensor([[0, 1, 7], [4, 5, 6], [2, 3, 0]]), experts=8, groups=4)
    assert used.tolist() == [[True, False, False, True], [False, False, True, True], [True, True, False, False]]


def test_pairs_are_counted_among_tokens_that_use_two_groups():
    used = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1]]).bool()
    assert pair_shares(used)[[0, 0, 1], [1, 2, 2]].tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    assert pair_shares(used[3:]).sum() == 0


def pairs_of(weights, tokens=20_000):
    """Tokens that draw two different groups by weight, the second without regard to the first."""
    generator = torch.Generator().manual_seed(0)
    pair = torch.outer(weights, weights).triu(1).flatten()
    drawn = torch.multinomial(pair, tokens, replacement=True, generator=generator)
    used = torch.zeros(tokens, len(weights), dtype=torch.bool)
    G = len(weights)
    return used.scatter_(1, torch.stack([drawn // G, drawn % G], 1), True)


def test_popular_groups_meet_often_and_that_is_expected():
    observed = pair_shares(pairs_of(torch.tensor([4.0, 1.0, 2.0, 1.0, 0.5])))
    expected = expected_pairs(observed)
    assert expected.sum() == pytest.approx(1, abs=1e-6)
    assert (observed - expected).abs().max() < 0.01  # 20,000 tokens: a share's standard deviation is below 0.0035
    popular = expected[0, 2] / expected[1, 3]
    assert popular == pytest.approx(8, rel=0.15)


def test_a_planted_partnership_stands_out():
    used = pairs_of(torch.ones(4))
    used[:6000] = torch.tensor([True, False, False, True])
    observed = pair_shares(used)
    expected = expected_pairs(observed)
    assert observed[0, 3] - expected[0, 3] > 0.05
    assert torch.allclose((observed + observed.T).sum(1), (expected + expected.T).sum(1), atol=1e-6)


def test_three_groups_leave_nothing_to_explain():
    observed = pair_shares(pairs_of(torch.tensor([1.0, 2.0, 3.0])))
    assert torch.allclose(expected_pairs(observed), observed, atol=1e-6)


def test_groups_must_divide_the_experts():
    with pytest.raises(ValueError, match="10 experts do not divide into 4 groups"):
        groups_used(torch.zeros(3, 2, dtype=torch.int64), 10, 4)
