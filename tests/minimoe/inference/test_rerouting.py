"""Removing experts and moving the group limit change what they name, and nothing stays behind."""

from dataclasses import replace

import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.inference.rerouting import group_limit, without_experts

CONFIG = replace(NANO, vocab_size=97, num_hidden_layers=3, num_experts_per_tok=3, initializer_range=0.1)
SOFTMAX = {"scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False, "num_nextn_predict_layers": 0}
IDS = torch.randint(97, (2, 40), generator=torch.Generator().manual_seed(2))


def build(config=CONFIG):
    model = Transformer(config, seed=0).requires_grad_(False)
    for router in model.routers().values():
        if router.e_score_correction_bias is not None:
            router.e_score_correction_bias.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def run(model):
    return model(IDS, mtp=False)


def test_a_removed_expert_is_chosen_by_nobody_and_every_token_still_has_k_experts(model):
    with without_experts(model, {1: [2, 7]}):
        routing = run(model).routing[1]
    assert not torch.isin(routing.chosen_MK, torch.tensor([2, 7])).any()
    assert routing.load_E[[2, 7]].tolist() == [0, 0] and routing.load_E.sum() == 80 * 3
    assert (routing.chosen_MK.sort(1).values.diff(dim=1) > 0).all()
    scale = model.config.routed_scaling_factor
    torch.testing.assert_close(routing.gates_MK.sum(1), torch.full((80,), scale))


def test_the_new_gates_are_made_of_the_unbiased_scores_of_the_new_chosen(model):
    with without_experts(model, {1: [2]}):
        routing = run(model).routing[1]
    scores = routing.scores_ME.gather(1, routing.chosen_MK)
    torch.testing.assert_close(routing.gates_MK, 2.5 * scores / scores.sum(1, keepdim=True))


def test_tokens_that_did_not_use_the_expert_choose_as_before_in_that_layer():
    model = build(replace(CONFIG, topk_group=4))  # with a group limit the removal may also cost its group the place
    before = run(model).routing[1]
    with without_experts(model, {1: [2]}):
        after = run(model).routing[1]
    used = (before.chosen_MK == 2).any(1)
    assert 0 < used.sum() < len(used)
    assert torch.equal(before.chosen_MK[~used], after.chosen_MK[~used])
    for old, new in zip(before.chosen_MK[used].tolist(), after.chosen_MK[used].tolist(), strict=True):
        assert len(set(old) - set(new)) == 1 and set(old) - set(new) == {2}


def test_zeroing_keeps_the_choice_and_the_other_gates(model):
    before = run(model).routing[1]
    with without_experts(model, {1: [2]}, how="zero"):
        after = run(model).routing[1]
    assert torch.equal(before.chosen_MK, after.chosen_MK)
    gone = before.chosen_MK == 2
    assert gone.any() and (after.gates_MK[gone] == 0).all()
    assert torch.equal(after.gates_MK[~gone], before.gates_MK[~gone])


def test_zeroing_equals_a_model_whose_expert_puts_out_nothing(model):
    with without_experts(model, {1: [2]}, how="zero"):
        logits = run(model).logits
    silent = build()
    silent.model.layers[1].mlp.experts[2].down_proj.weight.zero_()
    torch.testing.assert_close(logits, run(silent).logits, rtol=1e-5, atol=1e-6)


def test_rechoosing_equals_a_bias_of_minus_infinity(model):
    with without_experts(model, {1: [2], 2: [0, 5]}):
        logits = run(model).logits
    pushed = build()
    for layer, experts in ((1, [2]), (2, [0, 5])):
        pushed.routers()[layer].e_score_correction_bias[experts] = float("-inf")
    assert torch.equal(logits, run(pushed).logits)


def test_all_routed_experts_zeroed_leave_the_shared_expert(model):
    layer = model.model.layers[1].mlp
    x_BTD = torch.randn(1, 5, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with without_experts(model, {1: range(16)}, how="zero"):
        out, _ = layer(x_BTD)
    torch.testing.assert_close(out, layer.shared_experts(x_BTD))
    assert out.abs().max() > 0


def test_a_softmax_router_without_a_bias_can_lose_experts_too():
    model = build(replace(CONFIG, **SOFTMAX))
    with without_experts(model, {1: [2]}):
        routing = run(model).routing[1]
    assert not (routing.chosen_MK == 2).any()
    torch.testing.assert_close(routing.gates_MK, 2.5 * routing.scores_ME.gather(1, routing.chosen_MK))


def test_a_lifted_group_limit_is_a_model_without_one_and_the_old_limit_changes_nothing(model):
    whole = run(model).logits
    with group_limit(model, 4):
        lifted = run(model)
    free = build(replace(CONFIG, topk_group=4))
    assert torch.equal(lifted.logits, run(free).logits) and not torch.equal(lifted.logits, whole)
    groups = [len(set(row)) for row in (lifted.routing[1].chosen_MK // 4).tolist()]
    assert max(groups) == 3
    with group_limit(model, 2):
        assert torch.equal(run(model).logits, whole)
    with group_limit(model, 1):
        assert all(len(set(row)) == 1 for row in (run(model).routing[1].chosen_MK // 4).tolist())


@pytest.mark.parametrize("block", [lambda m: without_experts(m, {1: [2]}), lambda m: group_limit(m, 4)])
def test_nothing_stays_behind_even_after_an_error(model, block):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = run(model).logits
    with pytest.raises(KeyError), block(model):
        assert not torch.equal(run(model).logits, before)
        raise KeyError("inside")
    assert torch.equal(run(model).logits, before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(router._forward_hooks for router in model.routers().values())


@pytest.mark.parametrize(
    "removed, how, words",
    [
        ({1: [2]}, "mask", "how='mask' is not one of rechoose, zero"),
        ({0: [2]}, "zero", "layer 0 does not route; the layers that do are \\[1, 2, 3\\]"),
        ({1: [16]}, "zero", "expert 16 of layer 1 does not exist; there are 16"),
        ({1: [0, 1, 2, 4, 5, 6, 7]}, "rechoose", "2 groups may hold only 1; a token needs 3"),
    ],
)
def test_what_cannot_be_removed_is_refused_with_the_numbers(model, removed, how, words):
    with pytest.raises(ValueError, match=words), without_experts(model, removed, how):
        pass
    assert not any(router._forward_hooks for router in model.routers().values())


def test_limits_that_contradict_the_config_are_refused(model):
    with pytest.raises(ValueError, match="topk_group=5"), group_limit(model, 5):
        pass
    with pytest.raises(ValueError, match="no groups to limit to topk_group=2"), group_limit(
        build(replace(CONFIG, **SOFTMAX)), 2
    ):
        pass
