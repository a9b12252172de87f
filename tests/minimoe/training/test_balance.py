"""The bias moves against the load, by gamma, in every layer that routes, and touches nothing else."""

import dataclasses

import pytest
import torch

import minimoe
from minimoe.model.router import Routing
from minimoe.training.balance import update_bias, violations

CONFIG = dataclasses.replace(
    minimoe.NANO,
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    intermediate_size=24,
    moe_intermediate_size=8,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=2,
    topk_group=2,
)


def routing(load):
    load_E = torch.tensor(load)
    return Routing(torch.zeros(1, len(load)), torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2), None, load_E)


def test_five_experts_by_hand():
    model = minimoe.Transformer(dataclasses.replace(CONFIG, n_routed_experts=6), seed=0)
    update_bias(model, {1: routing([10, 0, 4, 4, 5, 1])}, gamma=0.5)  # the mean is 4
    assert model.routers()[1].e_score_correction_bias.tolist() == [-0.5, 0.5, 0, 0, -0.5, 0.5]


def test_the_mtp_module_is_balanced_too():
    model = minimoe.Transformer(CONFIG, seed=0)
    ids = torch.randint(0, 30, (3, 7), generator=torch.Generator().manual_seed(0))
    update_bias(model, model(ids, labels=ids).routing, gamma=0.01)
    assert sorted(model.routers()) == [1, 2]
    assert all(router.e_score_correction_bias.abs().max() == pytest.approx(0.01) for router in model.routers().values())


def test_a_router_without_a_bias_is_left_alone():
    config = dataclasses.replace(CONFIG, topk_method="greedy", scoring_func="softmax")
    model = minimoe.Transformer(config, seed=0)
    update_bias(model, {1: routing([10, 0, 4, 2])}, gamma=0.5)
    assert model.routers()[1].e_score_correction_bias is None


def test_repeating_it_balances_a_lopsided_router():
    model = minimoe.Transformer(CONFIG, seed=0)
    router = model.routers()[1]
    with torch.no_grad():
        router.weight.mul_(20)  # scores that differ by much more than gamma
    x_MD = torch.randn(400, 16, generator=torch.Generator().manual_seed(1)) + router.weight[0].detach()
    before = violations({1: router(x_MD)})[1]
    for _ in range(200):
        update_bias(model, {1: router(x_MD)}, gamma=0.01)
    after = violations({1: router(x_MD)})[1]
    assert before > 0.5 and after < 0.1


def test_it_changes_nothing_but_the_bias():
    model = minimoe.Transformer(CONFIG, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    update_bias(model, {1: routing([10, 0, 4, 2])}, gamma=0.5)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["model.layers.1.mlp.gate.e_score_correction_bias"]
    assert not any(parameter.requires_grad and parameter.grad is not None for parameter in model.parameters())


def test_violation_by_hand():
    assert violations({1: routing([6, 2, 2, 2]), 2: routing([3, 3, 3, 3])}) == {1: pytest.approx(1.0), 2: 0.0}
