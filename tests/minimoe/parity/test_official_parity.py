"""Our model equals transformers' DeepSeek-V3 and V2 classes: logits, loss, every gradient, decoding.

Two comparisons. In float64, with every float32 of the official code promoted, nothing but the order of additions may
differ: 1e-10 of the largest value, hundreds of times what is measured. In float32 both sides round, and how much
depends on the configuration; so the measure is the official model itself: our distance to it may be a few times its own
distance to the exact result.
"""

from dataclasses import replace

import pytest
import torch
from comparison import PARTS, distance, measure, official_results, results, tokens_and_labels
from model_draws import CLEAR_MARGIN, clear_pair, randomise, sample
from official_models import AllInFloat64, official, official_gradients, router_margin

import minimoe

EXACT = 1e-10
# Two results that both lie within `noise` of the truth lie within 2 * noise of each other; three times that, because
# the noise is known from one sample only. Where that is right by luck, 1e-6 is taken: 8 units in the last place.
NOISE_FACTOR, NOISE_FLOOR = 6, 1e-6

DRAWS = sample()


@pytest.mark.parametrize("case", DRAWS.values(), ids=DRAWS.keys())
def test_logits_loss_gradients_and_decoding_equal_the_official_model(case):
    apart = measure(case)
    assert max(apart["float64"].values()) <= EXACT, apart["float64"]
    for part in PARTS:
        allowed = NOISE_FACTOR * max(apart["noise"][part], NOISE_FLOOR)
        assert apart["float32"][part] <= allowed, f"{part}, {allowed} allowed: {apart}"


def test_the_draws_cover_what_they_are_meant_to_cover():
    v3 = [case.config for name, case in DRAWS.items() if name.startswith("v3")]
    v2 = [case.config for name, case in DRAWS.items() if name.startswith("v2")]
    for configs in (v3, v2):
        routed = [c for c in configs if c.is_moe]
        for wanted in (
            [c for c in configs if c.q_lora_rank is None],
            [c for c in configs if c.q_lora_rank is not None],
            [c for c in configs if c.rope_scaling and c.rope_scaling.get("mscale_all_dim")],
            [c for c in configs if c.rope_scaling is None],
            [c for c in configs if c.first_k_dense_replace >= 2],
            [c for c in routed if c.n_shared_experts == 0],
            [c for c in routed if c.n_shared_experts == 1],
            [c for c in routed if c.n_shared_experts == 2],
            [c for c in routed if c.topk_group < c.n_group],
            [c for c in routed if 1 < c.num_experts_per_tok < c.n_routed_experts],
            [c for c in configs if c.rms_norm_eps == 1e-3],
            [c for c in configs if c.v_head_dim > c.qk_head_dim],
            [c for c in configs if c.v_head_dim < c.qk_head_dim],
            [c for c in configs if c.tie_word_embeddings],
        ):
            assert len(wanted) >= 2
    assert {c.norm_topk_prob for c in v3} == {True, False}
    assert {c.topk_method for c in v2 if c.is_moe and c.n_group > c.topk_group} == {"greedy", "group_limited_greedy"}


SMALL = minimoe.ModelConfig(
    vocab_size=23, hidden_size=20, num_hidden_layers=2, first_k_dense_replace=1, intermediate_size=17,
    num_attention_heads=2, q_lora_rank=7, kv_lora_rank=6, qk_nope_head_dim=5, qk_rope_head_dim=4, v_head_dim=3,
    moe_intermediate_size=9, n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3,
    num_nextn_predict_layers=0, aux_loss_alpha=0.0,
)  # fmt: skip


def worst_distance(model, ids_BT, labels_BT) -> float:
    return max(distance(results(model, ids_BT, labels_BT), official_results(model, ids_BT, labels_BT)).values())


def test_a_plain_double_of_the_official_model_still_rounds_in_float32_and_ours_does_not():
    ids_BT, labels_BT = tokens_and_labels(SMALL, 0, 2, 9)
    _, exact = clear_pair(SMALL, 0, ids_BT)
    half_way = official(exact)
    logits = exact(ids_BT).logits
    with torch.no_grad():
        plain = half_way(ids_BT, use_cache=False).logits
        with AllInFloat64() as promotion:
            promoted = half_way(ids_BT, use_cache=False).logits
    scale = promoted.abs().max()
    assert (plain - logits).abs().max() > 1e-9 * scale, "the promotion has nothing to do"
    assert (promoted - logits).abs().max() < 1e-13 * scale
    # the four places: norms and softmax of each layer, rotary angles, router
    assert {"to", "float", "type", "softmax"} <= promotion.promoted.keys()


def test_a_wrong_epsilon_of_one_norm_is_seen_in_float64():
    ids_BT, labels_BT = tokens_and_labels(SMALL, 0, 2, 9)
    _, exact = clear_pair(SMALL, 0, ids_BT)
    truth = official_results(exact, ids_BT, labels_BT)
    exact.model.layers[0].self_attn.kv_a_layernorm.eps = 1.001e-6
    apart = distance(results(exact, ids_BT, labels_BT), truth)
    assert min(apart["logits"], apart["gradients"], apart["decoding"]) > EXACT, apart


def test_the_other_attention_and_expert_code_of_the_official_model_agrees_too():
    config = replace(SMALL, moe_intermediate_size=8)  # grouped_mm wants rows of whole 16 bytes
    ids_BT, labels_BT = tokens_and_labels(config, 1, 2, 9)
    ours, _ = clear_pair(config, 1, ids_BT)
    mine = results(ours, ids_BT, labels_BT)
    for experts in ("grouped_mm", "batched_mm"):
        theirs = official_results(ours, ids_BT, labels_BT, attention="sdpa", experts=experts)
        # float32: about ten times the rounding of sums of 20 terms through two layers, and back
        assert max(distance(mine, theirs).values()) < 1e-5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shift", [-1.01, -3.0])
def test_with_all_biased_scores_negative_no_expert_outside_the_kept_groups_is_chosen(seed, shift):
    """Excluded groups are -inf: at 0 they would beat every allowed expert."""
    ids_BT, labels_BT = tokens_and_labels(SMALL, seed, 2, 9)
    ours, exact = clear_pair(SMALL, seed, ids_BT, shift - 1.0)  # a random part of about +-0.3 is added
    routing = ours(ids_BT).routing[1]
    biased = routing.scores_ME + routing.bias_E
    assert biased.max() < 0
    groups = routing.chosen_MK // (SMALL.n_routed_experts // SMALL.n_group)
    assert all(len(set(row)) <= SMALL.topk_group for row in groups.tolist())
    assert worst_distance(exact, ids_BT, labels_BT) <= EXACT


def test_a_group_that_no_token_may_use_gets_no_token_and_zero_gradients():
    ids_BT, labels_BT = tokens_and_labels(SMALL, 2, 2, 9)
    _, exact = clear_pair(SMALL, 2, ids_BT)
    exact.model.layers[1].mlp.gate.e_score_correction_bias[3:6] = -100.0
    assert router_margin(official(exact), ids_BT) > CLEAR_MARGIN
    mine, theirs = results(exact, ids_BT, labels_BT), official_results(exact, ids_BT, labels_BT)
    assert max(distance(mine, theirs).values()) <= EXACT
    assert exact(ids_BT).routing[1].load_E[3:6].tolist() == [0, 0, 0]
    for expert in (3, 4, 5):
        for part in ("gate", "up", "down"):
            name = f"model.layers.1.mlp.experts.{expert}.{part}_proj.weight"
            assert not mine["gradients"][name].any() and not theirs["gradients"][name].any()


@pytest.mark.parametrize("config", [
    replace(SMALL, num_experts_per_tok=12, topk_group=4),
    replace(SMALL, num_experts_per_tok=6),
    replace(SMALL, n_routed_experts=2, n_group=1, topk_group=1, num_experts_per_tok=2),
    replace(SMALL, n_routed_experts=1, n_group=1, topk_group=1, num_experts_per_tok=1, scoring_func="softmax",
            topk_method="greedy", norm_topk_prob=False, qk_nope_head_dim=6),
], ids=["K = E", "K = all allowed", "two of two", "a single expert"])  # fmt: skip
def test_choosing_every_expert_equals_the_official_model(config):
    ids_BT, labels_BT = tokens_and_labels(config, 3, 2, 9)
    _, exact = clear_pair(config, 3, ids_BT)
    assert worst_distance(exact, ids_BT, labels_BT) <= EXACT


@pytest.mark.parametrize("batch", [1, 3])
def test_one_token_equals_the_official_model(batch):
    """A sequence of one token has no next token, so the gradients are those of a weighted sum of the logits."""
    ids_BT, _ = tokens_and_labels(SMALL, 4, batch, 1)
    _, exact = clear_pair(SMALL, 4, ids_BT)
    theirs = official(exact)
    with AllInFloat64():
        expected = theirs(ids_BT, use_cache=False).logits
    logits = exact(ids_BT).logits
    weights = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    assert (logits - expected).abs().max() <= EXACT * expected.abs().max()
    for name in ("model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.gate.weight", "model.embed_tokens.weight"):
        mine, other = exact.get_parameter(name).grad, theirs.get_parameter(name).grad
        assert (mine - other).abs().max() <= EXACT * other.abs().max()


@pytest.mark.parametrize("generation", ["v3", "v2"])
@pytest.mark.parametrize("tie", ["all scores equal", "experts in equal pairs", "groups equal"])
def test_ties_are_broken_as_the_official_router_breaks_them(generation, tie):
    """Here rounding cannot help: the scores are equal to the bit, and both sides must take the same experts of them."""
    v2 = {"scoring_func": "softmax", "topk_method": "group_limited_greedy", "norm_topk_prob": False}
    config = replace(SMALL, **v2) if generation == "v2" else SMALL
    ours = minimoe.Transformer(config)
    randomise(ours, 5)
    router = ours.model.layers[1].mlp.gate
    with torch.no_grad():
        if tie == "all scores equal":
            router.weight.zero_()
        elif tie == "experts in equal pairs":
            router.weight[1::2] = router.weight[0::2]
        else:
            router.weight[3:] = router.weight[:3].repeat(3, 1)
        if router.e_score_correction_bias is not None:
            router.e_score_correction_bias.zero_()
    x_MD = torch.randn(31, config.hidden_size, generator=torch.Generator().manual_seed(6))
    _, gates, chosen = official(ours).model.layers[1].mlp.gate(x_MD)
    routing = router(x_MD)
    order, theirs_order = routing.chosen_MK.argsort(), chosen.argsort()
    assert torch.equal(routing.chosen_MK.gather(1, order), chosen.gather(1, theirs_order))
    torch.testing.assert_close(routing.gates_MK.gather(1, order), gates.gather(1, theirs_order), rtol=1e-6, atol=0)


@pytest.mark.parametrize("length", [63, 64, 65, 150])
def test_a_long_sequence_under_yarn_equals_the_official_model(length):
    """Positions beyond the original length, where stretched and kept frequencies have parted; attention in blocks."""
    yarn = {"type": "yarn", "factor": 8, "original_max_position_embeddings": 16, "beta_fast": 4, "beta_slow": 1,
            "mscale": 1.0, "mscale_all_dim": 1.0}  # fmt: skip
    config = replace(SMALL, qk_rope_head_dim=8, rope_scaling=yarn, max_position_embeddings=128)
    ids_BT, labels_BT = tokens_and_labels(config, 7, 2, length)
    _, exact = clear_pair(config, 7, ids_BT)
    theirs = official(exact)
    with AllInFloat64():
        out = theirs(ids_BT, labels=labels_BT, use_cache=False)
        out.loss.backward()
    mine = exact(ids_BT, labels=labels_BT)
    mine.loss.backward()
    assert (mine.logits - out.logits).abs().max() <= EXACT * out.logits.abs().max()
    assert (mine.loss - out.loss).abs() <= EXACT * out.loss
    gradients = official_gradients(theirs)
    largest = max(g.abs().max() for g in gradients.values())
    for name, parameter in exact.named_parameters():
        assert (parameter.grad - gradients[name]).abs().max() <= EXACT * largest, name
