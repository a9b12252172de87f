"""Routing: five-number examples by hand, then what must hold for any scores."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_draws import v2_configs, v3_configs

import minimoe
from minimoe.model.router import Router, allowed_experts, choose, max_violation, sequence_balance_loss

V3 = replace(minimoe.NANO, n_routed_experts=6, n_group=3, topk_group=2, num_experts_per_tok=2)
V2 = replace(V3, scoring_func="softmax", topk_method="group_limited_greedy", norm_topk_prob=False)


def random_scores(config, rows=7, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, config.n_routed_experts, generator=generator).to(dtype)


def test_a_token_by_hand():
    # groups (0,1), (2,3), (4,5); biased: .9 .1 | .5 .4 | .6 .7 -> group sums 1.0, 0.9, 1.3: groups 0 and 2 stay
    scores = torch.tensor([[0.8, 0.1, 0.5, 0.6, 0.3, 0.9]], dtype=torch.float64)
    bias = torch.tensor([0.1, 0.0, 0.0, -0.2, 0.3, -0.2], dtype=torch.float64)
    chosen, gates = choose(scores, bias, V3)
    assert chosen.tolist() == [[0, 5]]
    # unbiased scores .8 and .9 over their sum, times 2.5
    torch.testing.assert_close(gates, torch.tensor([[0.8, 0.9]], dtype=torch.float64) / 1.7 * 2.5)


def test_v3_ranks_groups_by_their_two_best_and_v2_by_the_best():
    scores = torch.tensor([[0.9, 0.0, 0.5, 0.5, 0.6, 0.1]])
    one_group = {"topk_group": 1}
    assert allowed_experts(scores, replace(V3, **one_group))[0].tolist() == [False, False, True, True, False, False]
    assert allowed_experts(scores, replace(V2, **one_group))[0].tolist() == [True, True, False, False, False, False]


def test_greedy_routing_knows_no_groups():
    greedy = replace(V2, topk_method="greedy", topk_group=1)
    scores = torch.tensor([[0.9, 0.0, 0.5, 0.5, 0.8, 0.1]])
    assert choose(scores, None, greedy)[0].tolist() == [[0, 4]]


@given(st.one_of(v3_configs(), v2_configs()), st.integers(0, 999))
def test_choices_lie_in_the_kept_groups_are_distinct_and_ordered(config, seed):
    scores = random_scores(config, seed=seed)
    bias = torch.randn(config.n_routed_experts, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    biased = scores + bias
    chosen, _ = choose(scores, bias, config)
    groups = chosen // (config.n_routed_experts // config.n_group)
    values = biased.gather(1, chosen)
    assert (values.diff(dim=1) <= 0).all()
    for row, groups_of_row in zip(chosen.tolist(), groups.tolist(), strict=True):
        assert len(set(row)) == config.num_experts_per_tok
        if config.topk_method != "greedy":
            assert len(set(groups_of_row)) <= config.topk_group


@given(v3_configs(), st.integers(0, 999))
def test_permuting_the_experts_permutes_the_ids_and_nothing_else(config, seed):
    """Experts may be renamed inside their group, and groups may trade places."""
    generator = torch.Generator().manual_seed(seed)
    scores = random_scores(config, seed=seed)
    bias = torch.randn(config.n_routed_experts, dtype=torch.float64, generator=generator)
    size = config.n_routed_experts // config.n_group
    inside = torch.stack([torch.randperm(size, generator=generator) for _ in range(config.n_group)])
    order = (inside + size * torch.arange(config.n_group)[:, None])[torch.randperm(config.n_group, generator=generator)]
    order = order.flatten()  # new expert i is old expert order[i]
    chosen, gates = choose(scores, bias, config)
    renamed, same_gates = choose(scores[:, order], bias[order], config)
    assert torch.equal(order[renamed], chosen)
    torch.testing.assert_close(same_gates, gates)


def test_bias_moves_the_choice_but_not_the_gate():
    scores = torch.tensor([[0.9, 0.8, 0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    bias = torch.zeros(6, dtype=torch.float64)
    bias[2] = 5.0
    chosen, gates = choose(scores, bias, V3)
    assert chosen.tolist() == [[2, 0]]
    torch.testing.assert_close(gates, torch.tensor([[0.1, 0.9]], dtype=torch.float64) * 2.5)


@given(v3_configs(), st.integers(0, 999), st.floats(-3, 3))
def test_the_same_bias_for_all_changes_nothing(config, seed, shift):
    scores = random_scores(config, seed=seed)
    chosen, gates = choose(scores, torch.zeros(config.n_routed_experts, dtype=torch.float64), config)
    shifted, same_gates = choose(scores, torch.full((config.n_routed_experts,), shift, dtype=torch.float64), config)
    assert torch.equal(chosen, shifted) and torch.equal(gates, same_gates)


def test_no_gradient_reaches_the_bias_and_the_gates_gradient_does_not_know_it():
    scores = random_scores(V3).requires_grad_()
    bias = torch.tensor([0.3, 0, 0, -0.1, 0, 0.2], dtype=torch.float64, requires_grad=True)
    chosen, gates = choose(scores, bias, V3)
    weights = torch.arange(1.0, 3.0, dtype=torch.float64)
    (gates * weights).sum().backward()
    assert bias.grad is None
    alone = scores.detach().clone().requires_grad_()
    picked = alone.gather(1, chosen)
    (picked / picked.sum(1, keepdim=True) * 2.5 * weights).sum().backward()
    torch.testing.assert_close(scores.grad, alone.grad)


def test_a_zero_mask_would_pick_excluded_experts_where_minus_infinity_does_not():
    """With biases of -1 every allowed biased score is below 0, and 0 is what older code put in the excluded places."""
    config = replace(minimoe.NANO, n_routed_experts=32, n_group=8, topk_group=4, num_experts_per_tok=8)
    scores = random_scores(config, rows=500, dtype=torch.float32)
    for mean_bias, share_by_zero in ((0.0, 0.0), (-1.0, 1.0)):
        bias = torch.full((32,), mean_bias)
        allowed = allowed_experts(scores + bias, config)
        chosen, _ = choose(scores, bias, config)
        assert allowed.gather(1, chosen).all()
        by_zero = (scores + bias).masked_fill(~allowed, 0.0).topk(8, dim=-1).indices
        wrong_rows = (~allowed.gather(1, by_zero)).any(1).float().mean().item()
        assert wrong_rows == share_by_zero


@pytest.mark.parametrize("factor", [1.0, 2.5, 16.0])
def test_gates_sum_to_the_scaling_factor_when_normalised_and_scale_with_it_otherwise(factor):
    scores = random_scores(V3)
    gates = choose(scores, None, replace(V3, routed_scaling_factor=factor))[1]
    torch.testing.assert_close(gates.sum(1), torch.full((7,), factor, dtype=torch.float64))
    plain, chosen = replace(V3, norm_topk_prob=False, routed_scaling_factor=factor), None
    chosen, gates = choose(scores, None, plain)
    assert torch.equal(gates, scores.gather(1, chosen) * factor)


def test_all_scores_of_zero_give_gates_of_zero_not_nan():
    assert choose(torch.zeros(2, 6), None, V3)[1].tolist() == [[0.0, 0.0]] * 2


@pytest.mark.parametrize("config", [V3, V2])
def test_the_router_reports_scores_load_and_bias(config):
    router = Router(replace(config, hidden_size=11))
    torch.nn.init.normal_(router.weight, generator=torch.Generator().manual_seed(0))
    x_MD = torch.randn(9, 11, generator=torch.Generator().manual_seed(1))
    routing = router(x_MD)
    logits = x_MD @ router.weight.T
    expected = logits.sigmoid() if config is V3 else logits.softmax(-1)
    torch.testing.assert_close(routing.scores_ME, expected)
    assert routing.load_E.tolist() == [(routing.chosen_MK == e).sum().item() for e in range(6)]
    assert routing.load_E.sum() == 9 * config.num_experts_per_tok
    assert (routing.bias_E is None) == (config is V2)


def test_routing_in_bfloat16_is_computed_in_float32():
    router = Router(V3)
    torch.nn.init.normal_(router.weight, generator=torch.Generator().manual_seed(0))
    router.bfloat16()
    x_MD = torch.randn(5, V3.hidden_size, generator=torch.Generator().manual_seed(1)).bfloat16()
    routing = router(x_MD)
    assert routing.scores_ME.dtype == routing.gates_MK.dtype == torch.float32
    assert torch.equal(routing.scores_ME, (x_MD.float() @ router.weight.float().T).sigmoid())


def test_the_bias_stays_float32_and_keeps_its_digits_when_the_model_is_narrowed():
    router = Router(V3)
    router.e_score_correction_bias.copy_(torch.tensor([0.501, 1.001, -0.001, 0.1, 0.2, 0.3]))
    before = router.e_score_correction_bias.clone()
    for narrow in (router.bfloat16(), router.half(), router.to(torch.bfloat16)):
        assert narrow.e_score_correction_bias.dtype == torch.float32
        assert torch.equal(narrow.e_score_correction_bias, before)
    assert router.double().e_score_correction_bias.dtype == torch.float64


def test_max_violation_by_hand():
    assert max_violation(torch.tensor([4, 0, 0, 0])) == 3.0
    assert max_violation(torch.tensor([3, 3, 3])) == 0.0
    assert max_violation(torch.tensor([5, 1, 3])) == pytest.approx(2 / 3, rel=1e-15)
    assert max_violation(torch.zeros(4, dtype=torch.int64)) == 0.0


def test_the_balance_loss_by_hand():
    # one sequence of two tokens, three experts, K = 1: token 0 takes expert 0, token 1 takes expert 2
    scores = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]], dtype=torch.float64)
    # f = 3/(1*2) * (1, 0, 1); P = mean of the rows = (.4, .3, .3)
    assert sequence_balance_loss(scores, sequences=1, top_k=1).item() == pytest.approx(1.5 * (0.4 + 0.3), rel=1e-15)


def naive_balance_loss(scores_ME, sequences, top_k):
    """Equations 17-20, sum by sum."""
    losses = []
    for rows in scores_ME.chunk(sequences):
        T, E = rows.shape
        total = 0.0
        for i in range(E):
            among = sum(i in sorted(range(E), key=lambda e: -rows[t][e])[:top_k] for t in range(T))
            total += E / (top_k * T) * among * sum(rows[t][i] / rows[t].sum() for t in range(T)) / T
        losses.append(total)
    return sum(losses) / sequences


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.data())
def test_the_balance_loss_equals_its_formula(sequences, T, E, data):
    top_k, seed = data.draw(st.integers(1, E)), data.draw(st.integers(0, 999))
    scores = torch.rand(sequences * T, E, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = naive_balance_loss(scores, sequences, top_k)
    torch.testing.assert_close(sequence_balance_loss(scores, sequences, top_k), expected, rtol=1e-12, atol=0)


def test_perfect_balance_costs_one_and_collapse_costs_more():
    balanced = torch.eye(4, dtype=torch.float64) * 0.5 + 0.1
    assert sequence_balance_loss(balanced, 1, 1).item() == pytest.approx(1.0, rel=1e-15)
    collapsed = torch.tensor([[0.9, 0.1, 0.1, 0.1]] * 4, dtype=torch.float64)
    assert sequence_balance_loss(collapsed, 1, 1).item() == pytest.approx(4 * 0.9 / 1.2, rel=1e-14)


def test_two_sequences_that_collapse_in_opposite_ways_are_not_balanced_by_each_other():
    scores = torch.tensor([[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 3, dtype=torch.float64)
    assert sequence_balance_loss(scores, 2, 1).item() == pytest.approx(1.8, rel=1e-14)
    assert sequence_balance_loss(scores, 1, 1).item() == pytest.approx(1.0, rel=1e-14)


def test_the_balance_losses_gradient_flows_through_the_shares_alone():
    scores = random_scores(V3, rows=6).requires_grad_()
    sequence_balance_loss(scores, 2, 2).backward()
    alone = scores.detach().clone().requires_grad_()
    rows = alone.view(2, 3, 6)
    counts = torch.zeros_like(rows).scatter_(2, rows.topk(2).indices, 1.0).sum(1)
    ((counts * 6 / (2 * 3)).detach() * (rows / rows.sum(-1, keepdim=True)).mean(1)).sum(-1).mean().backward()
    torch.testing.assert_close(scores.grad, alone.grad)


def test_the_bias_takes_no_part_in_the_balance_loss():
    config = replace(V3, hidden_size=10, num_hidden_layers=2, num_nextn_predict_layers=0, vocab_size=19)
    ids = torch.randint(19, (2, 8), generator=torch.Generator().manual_seed(0))
    losses = []
    for bias in (0.0, 7.0):
        model = minimoe.Transformer(config, seed=0)
        model.model.layers[1].mlp.gate.e_score_correction_bias[3] = bias
        out = model(ids, labels=ids)
        losses.append(out.losses["balance"].item())
    assert losses[0] == losses[1]
