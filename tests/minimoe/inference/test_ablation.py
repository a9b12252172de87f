"""A planted expert is missed by its own class alone, a dead one by nobody; errors count documents."""

from dataclasses import replace

import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.inference.ablation import ablation_costs, mean_by_label, random_sets
from minimoe.inference.routing_record import record_routing

V = 8  # tokens 0-3 are class 0 and belong to expert 0; tokens 4-7 are class 1 and belong to expert 1
PLANTED = replace(
    NANO, vocab_size=V, hidden_size=V, num_hidden_layers=1, first_k_dense_replace=0, n_routed_experts=4, n_group=1,
    topk_group=1, num_experts_per_tok=1, n_shared_experts=0, moe_intermediate_size=V, num_nextn_predict_layers=0,
    routed_scaling_factor=1.0,
)  # fmt: skip
CLASS = torch.arange(V) // 4
DOCUMENTS = [[0, 1, 2, 3, 0, 1, 2], [4, 5, 6, 7, 4, 5], [1, 2, 3, 0], [6, 7, 4, 5, 6]]


@pytest.fixture(scope="module")
def planted():
    """One layer, attention silent: a token goes to its class's expert, which points at the next token of the class.

    Experts 2 and 3 put out nothing; 3 is never chosen, 2 stands in for whoever is removed.
    """
    model = Transformer(PLANTED, seed=0).requires_grad_(False)
    layer, eye = model.model.layers[0], torch.eye(V)
    layer.self_attn.o_proj.weight.zero_()
    model.model.embed_tokens.weight.copy_(eye)
    model.lm_head.weight.copy_(4 * eye)
    layer.mlp.gate.weight.copy_(torch.stack([CLASS == 0, CLASS == 1, torch.ones(V) * 0.5, -torch.ones(V)]).float())
    follower = (torch.arange(V) + 1) % 4 + 4 * CLASS
    for number, expert in enumerate(layer.mlp.experts):
        expert.gate_proj.weight.fill_(1.0)
        expert.up_proj.weight.copy_(eye)
        expert.down_proj.weight.copy_(eye[follower].T if number < 2 else torch.zeros(V, V))
    return model


def test_the_plant_predicts_its_documents(planted):
    record = record_routing(planted, DOCUMENTS)
    assert record.chosen[0].unique().tolist() == [0, 1]
    assert record.loss < 0.3


@pytest.mark.parametrize("how", ["rechoose", "zero"])
def test_a_removed_expert_is_missed_by_its_class_alone(planted, how):
    whole = record_routing(planted, DOCUMENTS)
    costs = ablation_costs(planted, DOCUMENTS, 0, [[0], [1]], how, whole)
    label = CLASS[whole.ids_M]
    for expert, row in enumerate(costs):
        known = ~row.isnan()
        assert row[known & (label == expert)].min() > 1.0
        assert row[known & (label != expert)].abs().max() == 0
    means = mean_by_label(costs[0], label, whole.document_M, 2)
    assert means.mean_J[0] > 1 and means.mean_J[1] == 0


@pytest.mark.parametrize("how", ["rechoose", "zero"])
def test_a_dead_expert_costs_nothing(planted, how):
    costs = ablation_costs(planted, DOCUMENTS, 0, [[2], [3], [2, 3]], how)
    assert costs.nan_to_num(0).abs().max() == 0


def test_both_experts_together_cost_what_they_cost_alone_where_classes_do_not_mix(planted):
    one, other, both = ablation_costs(planted, DOCUMENTS, 0, [[0], [1], [0, 1]], "zero")
    torch.testing.assert_close(both, one + other, equal_nan=True)


def test_costs_have_a_row_for_each_set_and_a_column_for_each_token(planted):
    costs = ablation_costs(planted, DOCUMENTS, 0, [[0], [2], [3]])
    assert costs.shape == (3, 22) and costs.isnan().sum() == 3 * len(DOCUMENTS)


def test_means_leave_out_the_ends_and_tokens_without_a_label():
    value = torch.tensor([1.0, 3.0, float("nan"), 5.0, 7.0, float("nan")])
    label = torch.tensor([0, 0, 0, 0, -1, 1])
    means = mean_by_label(value, label, torch.tensor([0, 0, 0, 1, 1, 1]), 2)
    assert means.mean_J[0] == 3 and means.mean_J[1].isnan()
    # document 0: sum 4 of 2 tokens, residue 4 - 3*2 = -2; document 1: 5 of 1, residue 2; (4 + 4) / 9 * 2 / 1
    assert means.error_J[0].item() == pytest.approx((8 / 9 * 2) ** 0.5)


def test_one_document_has_a_mean_and_no_error():
    means = mean_by_label(torch.tensor([1.0, 2.0]), torch.tensor([0, 0]), torch.tensor([4, 4]), 1)
    assert means.mean_J[0] == 1.5 and means.error_J[0].isnan()


def test_the_error_is_the_spread_of_means_over_samples_of_documents():
    generator = torch.Generator().manual_seed(0)
    means, errors = [], []
    for _ in range(200):
        habit = torch.randn(15, generator=generator)
        lengths = torch.randint(4, 20, (15,), generator=generator)
        document = torch.arange(15).repeat_interleave(lengths)
        value = habit[document] + torch.randn(len(document), generator=generator)
        told = mean_by_label(value, torch.zeros_like(document), document, 1)
        means.append(told.mean_J[0])
        errors.append(told.error_J[0])
    assert torch.stack(errors).mean().item() == pytest.approx(torch.stack(means).std().item(), rel=0.15)


def test_random_sets_are_different_sets_of_the_size_asked_for():
    sets = random_sets(16, 2, draws=30, seed=0, other_than=[5, 3])
    assert len({tuple(s) for s in sets}) == 30 and [3, 5] not in sets
    assert all(len(set(s)) == 2 and s == sorted(s) and 0 <= s[0] < s[1] < 16 for s in sets)
    assert random_sets(16, 2, 30, seed=0, other_than=[3, 5]) == sets != random_sets(16, 2, 30, seed=1)
    assert len(random_sets(4, 1, draws=100, other_than=[2])) == 3


def test_large_layers_are_sampled_without_listing_all_sets():
    sets = random_sets(256, 8, draws=50, other_than=range(8))
    assert len({tuple(s) for s in sets}) == 50 and list(range(8)) not in sets
    assert all(len(set(s)) == 8 and max(s) < 256 for s in sets)


@pytest.mark.parametrize("size", [0, 17])
def test_a_set_must_fit(size):
    with pytest.raises(ValueError, match=f"size={size} is not between 1 and the 16 experts"):
        random_sets(16, size, 3)


def test_lengths_that_differ_are_refused_with_all_three():
    with pytest.raises(ValueError, match="3 values, 2 labels, 3 document numbers"):
        mean_by_label(torch.zeros(3), torch.zeros(2), torch.zeros(3), 1)
