"""The arrays behind a routing picture agree with the model's own decisions, and taking them changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.inference.routing_trace import changed_choices, trace_routing

SHAPE = {"num_hidden_layers": 3, "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3}
CONFIG = replace(NANO, vocab_size=97, n_routed_experts=12, **SHAPE)
IDS = [5, 17, 96, 0, 5, 42, 61]
SOFTMAX = {"scoring_func": "softmax", "norm_topk_prob": False}


@pytest.fixture
def model():
    model = Transformer(CONFIG, seed=0)
    generator = torch.Generator().manual_seed(1)
    for router in model.routers().values():
        router.e_score_correction_bias.normal_(std=0.3, generator=generator)
    return model


def biases(model):
    return {
        n: r.e_score_correction_bias.clone()
        for n, r in model.routers().items()
        if r.e_score_correction_bias is not None
    }


def test_the_trace_is_what_the_forward_call_reports(model):
    with torch.no_grad():
        routing = model(torch.tensor([IDS]), mtp=True).routing
    traces = trace_routing(model, IDS)
    assert list(traces) == [1, 2, 3] == sorted(routing)
    for layer, trace in traces.items():
        decided = routing[layer]
        np.testing.assert_array_equal(trace.scores_ME, decided.scores_ME.detach())
        for row, chosen in enumerate(decided.chosen_MK.tolist()):
            assert set(np.flatnonzero(trace.chosen_ME[row])) == set(chosen)
            np.testing.assert_array_equal(trace.gates_ME[row, chosen], decided.gates_MK[row].detach())
        np.testing.assert_array_equal(trace.load_E, decided.load_E)


def test_choices_lie_in_kept_groups_and_are_the_best_of_them_with_the_bias(model):
    for trace in trace_routing(model, IDS).values():
        assert (trace.kept_MG.sum(1) == CONFIG.topk_group).all()
        allowed = np.repeat(trace.kept_MG, CONFIG.n_routed_experts // CONFIG.n_group, axis=1)
        best = np.sort(np.where(allowed, trace.selection_ME, -np.inf), axis=1)[:, -CONFIG.num_experts_per_tok :]
        np.testing.assert_array_equal(np.sort(np.where(trace.chosen_ME, trace.selection_ME, -np.inf))[:, -3:], best)


def test_loads_count_every_choice_and_max_violation_follows_from_them(model):
    trace = trace_routing(model, IDS)[1]
    assert trace.load_E.sum() == len(IDS) * CONFIG.num_experts_per_tok == trace.chosen_ME.sum()
    mean = trace.load_E.mean()
    assert trace.max_violation == pytest.approx((trace.load_E.max() - mean) / mean)


def test_an_mtp_layer_routes_one_token_fewer(model):
    traces = trace_routing(model, IDS)
    assert len(traces[2].scores_ME) == len(IDS)
    assert len(traces[3].scores_ME) == len(IDS) - 1


def test_without_the_bias_the_choice_is_made_by_the_scores(model):
    with_bias, without = trace_routing(model, IDS)[1], trace_routing(model, IDS, use_bias=False)[1]
    np.testing.assert_array_equal(without.selection_ME, without.scores_ME)
    np.testing.assert_array_equal(without.scores_ME, with_bias.scores_ME)  # the first MoE layer sees the same states
    assert changed_choices(with_bias, without) > 0


def test_without_the_bias_later_layers_see_other_states(model):
    with_bias, without = trace_routing(model, IDS)[2], trace_routing(model, IDS, use_bias=False)[2]
    assert not np.array_equal(with_bias.scores_ME, without.scores_ME)


def test_without_the_bias_equals_a_model_whose_biases_are_zero(model):
    without = trace_routing(model, IDS, use_bias=False)
    for router in model.routers().values():
        router.e_score_correction_bias.zero_()
    for layer, trace in trace_routing(model, IDS).items():
        np.testing.assert_array_equal(trace.gates_ME, without[layer].gates_ME)


@pytest.mark.parametrize("ids", [IDS, [5, 97]], ids=["a good text", "an id outside the vocabulary"])
def test_the_model_is_left_as_it_was(model, ids):
    before, buffers = biases(model), [r.e_score_correction_bias for r in model.routers().values()]
    model.train()
    try:
        trace_routing(model, ids, use_bias=False)
    except ValueError as error:
        assert "97" in str(error)
    assert all(torch.equal(before[n], bias) for n, bias in biases(model).items())
    assert all(a is r.e_score_correction_bias for a, r in zip(buffers, model.routers().values(), strict=True))
    assert model.training and all(p.grad is None for p in model.parameters())


def test_a_softmax_router_has_one_group_and_no_bias_to_take_away():
    config = replace(CONFIG, topk_method="greedy", num_nextn_predict_layers=0, **SOFTMAX)
    model = Transformer(config, seed=0)
    on, off = trace_routing(model, IDS), trace_routing(model, IDS, use_bias=False)
    assert on[1].kept_MG.shape == (len(IDS), 1)
    assert all(changed_choices(on[n], off[n]) == 0 for n in on)


def test_a_dense_model_has_nothing_to_trace():
    dense = replace(CONFIG, n_routed_experts=None, num_nextn_predict_layers=0)
    assert trace_routing(Transformer(dense, seed=0), IDS) == {}


def test_one_token_is_traced_without_its_mtp_module(model):
    assert list(trace_routing(model, [5])) == [1, 2]


def test_traces_of_other_shapes_are_not_compared(model):
    traces = trace_routing(model, IDS)
    with pytest.raises(ValueError, match=r"\(7, 12\) and \(6, 12\)"):
        changed_choices(traces[2], traces[3])
