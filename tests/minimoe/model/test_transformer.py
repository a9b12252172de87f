"""The whole model: what a forward call gives, what it refuses, and that nothing depends on what it should not."""

from dataclasses import replace

import pytest
import torch
from comparison import decode
from model_draws import randomise

import minimoe
from minimoe.inference.cache import Cache
from minimoe.model.loss import next_token_loss
from minimoe.model.router import sequence_balance_loss

CONFIG = minimoe.ModelConfig(
    vocab_size=23, hidden_size=20, num_hidden_layers=3, first_k_dense_replace=1, intermediate_size=17,
    num_attention_heads=2, q_lora_rank=7, kv_lora_rank=6, qk_nope_head_dim=5, qk_rope_head_dim=4, v_head_dim=3,
    moe_intermediate_size=9, n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3,
    num_nextn_predict_layers=1, aux_loss_alpha=0.01,
)  # fmt: skip


def random_model(config=CONFIG, seed=0, dtype=torch.float64):
    model = minimoe.Transformer(config)
    randomise(model, seed)
    return model.to(dtype)


def random_ids(rows=2, length=9, seed=0):
    return torch.randint(23, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_a_forward_call_gives_logits_predictions_further_ahead_and_routing():
    model, ids_BT = random_model(), random_ids()
    out = model(ids_BT)
    assert out.logits.shape == (2, 9, 23) and out.hidden_BTD.shape == (2, 9, 20)
    assert [tuple(x.shape) for x in out.mtp_logits] == [(2, 8, 23)]
    assert list(out.routing) == [1, 2, 3], "two MoE layers, and the MTP module under the number after the last"
    assert [r.scores_ME.shape[0] for r in out.routing.values()] == [18, 18, 16]
    assert out.loss is None and out.losses == {}
    torch.testing.assert_close(out.logits, model.lm_head(out.hidden_BTD))


def test_the_loss_is_the_sum_of_its_weighted_parts():
    model, ids_BT = random_model(), random_ids()
    out = model(ids_BT, labels=ids_BT)
    next_token = next_token_loss(out.logits, ids_BT)
    mtp = next_token_loss(out.mtp_logits[0], ids_BT, ahead=2)
    balance = sum(sequence_balance_loss(r.scores_ME, 2, 3) for r in out.routing.values())
    for name, expected in {"next_token": next_token, "mtp": mtp, "balance": balance}.items():
        torch.testing.assert_close(out.losses[name], expected, msg=name)
    torch.testing.assert_close(out.loss, next_token + 0.3 * mtp + 0.01 * balance)


def test_without_mtp_modules_or_balance_weight_the_loss_is_the_next_tokens():
    model = random_model(replace(CONFIG, num_nextn_predict_layers=0, aux_loss_alpha=0.0))
    out = model(random_ids(), labels=random_ids())
    assert set(out.losses) == {"next_token"} and torch.equal(out.loss, out.losses["next_token"])


def test_labels_may_differ_from_the_ids_and_leave_positions_out():
    model, ids_BT = random_model(), random_ids()
    labels = ids_BT.clone()
    labels[0], labels[1, :5] = -100, -100
    out = model(ids_BT, labels=labels)
    expected = -torch.stack([out.logits[1, t].log_softmax(-1)[ids_BT[1, t + 1]] for t in range(4, 8)]).mean()
    torch.testing.assert_close(out.losses["next_token"], expected)


def test_every_parameter_gets_a_gradient():
    model, ids_BT = random_model(), random_ids()
    model(ids_BT, labels=ids_BT).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_mtp_modules_run_when_they_are_of_use_or_asked_for():
    model, ids_BT = random_model(), random_ids()
    cache = Cache(CONFIG, 2, 9, dtype=torch.float64)
    assert model(ids_BT, mtp=False).mtp_logits == []
    assert model(ids_BT, cache=cache).mtp_logits == []
    assert len(model(ids_BT, labels=ids_BT).mtp_logits) == len(model(ids_BT, mtp=True).mtp_logits) == 1


def test_the_seed_fixes_the_weights():
    one, two, other = (minimoe.Transformer(CONFIG, seed=s).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_weights_start_normal_with_the_configs_deviation_and_gains_at_one():
    model = minimoe.Transformer(replace(CONFIG, initializer_range=0.006), seed=0)
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert (weight == 1).all()
        elif weight.numel() > 300:
            # the deviation of n draws is known to 1/sqrt(2n): five of these
            assert abs(weight.std().item() / 0.006 - 1) < 5 / (2 * weight.numel()) ** 0.5, name


@pytest.mark.parametrize("method", ["noaux_tc", "greedy"])
def test_tied_embeddings_are_one_tensor_with_both_gradients(method):
    rest = {} if method == "noaux_tc" else {"scoring_func": "softmax", "norm_topk_prob": False}
    config = replace(CONFIG, tie_word_embeddings=True, topk_method=method, **rest)
    model = minimoe.Transformer(config, seed=0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(model.named_parameters())
    untied = minimoe.Transformer(replace(config, tie_word_embeddings=False))
    untied.load_state_dict(model.state_dict())
    ids_BT = random_ids()
    for m in (model, untied):
        m(ids_BT, labels=ids_BT).loss.backward()
    both = untied.lm_head.weight.grad + untied.model.embed_tokens.weight.grad
    # float32: the same two sums, added in another order
    torch.testing.assert_close(model.lm_head.weight.grad, both, rtol=1e-5, atol=1e-7)


def test_a_dense_model_routes_nothing():
    model = random_model(replace(CONFIG, n_routed_experts=None))
    out = model(random_ids(), labels=random_ids())
    assert out.routing == {} and "balance" not in out.losses and model.routers() == {}


def test_rows_do_not_see_each_other():
    model, ids_BT = random_model(), random_ids(rows=3)
    together = model(ids_BT).logits
    for row in range(3):
        torch.testing.assert_close(model(ids_BT[row : row + 1]).logits[0], together[row], rtol=1e-11, atol=1e-12)


def test_what_stands_in_a_padded_place_changes_nothing():
    model, ids_BT = random_model(), random_ids()
    lengths, results = torch.tensor([9, 4]), []
    for filler in (0, 22):
        padded = ids_BT.clone()
        padded[1, 4:] = filler
        cache = Cache(CONFIG, 2, 12, dtype=torch.float64)
        with torch.no_grad():
            first = model(padded, cache=cache, lengths_B=lengths).logits
            second = model(ids_BT[:, :1], cache=cache).logits
        results.append((first[1, :4], second))
        assert cache.lengths_B.tolist() == [10, 5]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_bfloat16_trains_and_stays_close():
    """Every tensor is rounded to 8 bits, some ten times on the way: the loss moves by a few 2^-8, not more.

    The largest of 30 seeds was 2^-5.9. The router decides from rounded states, so single choices may differ.
    """
    exact, model, ids_BT = random_model(), minimoe.Transformer(CONFIG).bfloat16(), random_ids()
    model.load_state_dict(exact.state_dict())
    exact.load_state_dict(model.state_dict())
    out, expected = model(ids_BT, labels=ids_BT), exact(ids_BT, labels=ids_BT)
    assert out.logits.dtype == torch.bfloat16 and out.loss.dtype == torch.float32
    assert abs(out.loss.item() / expected.loss.item() - 1) < 2**-5
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert decode(model, ids_BT).isfinite().all()


def test_float32_stays_close_to_float64():
    exact, model, ids_BT = random_model(), random_model(dtype=torch.float32), random_ids()
    logits, expected = model(ids_BT).logits, exact(ids_BT).logits
    # sums of up to 20 terms through three layers; a router's choice would have to be within 1e-6 of another to flip
    assert (logits.double() - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.no_axis_check  # 60,000 modules are made: watching each of their constructors takes longer than making them
def test_v3_on_the_meta_device_has_671_026_419_200_parameters_and_its_mtp_module_11_610_068_224():
    with torch.device("meta"):
        model = minimoe.Transformer(minimoe.V3)
    trunk = mtp = 0
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert tensor.is_meta
        if name.startswith("model.layers.61."):
            mtp += tensor.numel()
        else:
            trunk += tensor.numel()
    assert (trunk, mtp) == (671_026_419_200, 11_610_068_224)


@pytest.mark.parametrize("ids, message", [
    (torch.tensor([[0, 23]]), "token id 23 .*vocab_size=23"),
    (torch.tensor([[-1, 2]]), "token id -1 .*vocab_size=23"),
    (torch.tensor([1, 2]), r"\(2,\)"),
    (torch.zeros(0, 3, dtype=torch.int64), r"\(0, 3\)"),
    (torch.zeros(2, 0, dtype=torch.int64), r"\(2, 0\)"),
    (torch.zeros(2, 3), "float32"),
])  # fmt: skip
def test_bad_ids_are_refused_with_what_was_given(ids, message):
    with pytest.raises(ValueError, match=message):
        random_model()(ids)


def test_labels_of_another_shape_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 8\).*\(2, 9\)"):
        random_model()(random_ids(), labels=random_ids(length=8))


def test_an_unknown_path_is_refused_by_name():
    with pytest.raises(ValueError, match="'naive'"):
        random_model()(random_ids(), path="naive")


def test_a_full_cache_is_refused_before_anything_is_written():
    model, cache = random_model(), Cache(CONFIG, 2, 10, dtype=torch.float64)
    with torch.no_grad():
        model(random_ids(length=8), cache=cache)
        before = [entries.clone() for entries in cache.entries]
        with pytest.raises(ValueError, match="3 .*8 .*capacity=10"):
            model(random_ids(length=3), cache=cache)
    assert cache.lengths_B.tolist() == [8, 8]
    assert all(torch.equal(a, b) for a, b in zip(before, cache.entries, strict=True))


@pytest.mark.parametrize("batch, capacity", [(0, 5), (2, 0), (-1, 3)])
def test_a_cache_without_room_is_refused_with_both_numbers(batch, capacity):
    with pytest.raises(ValueError, match=f"batch={batch}, capacity={capacity}"):
        Cache(CONFIG, batch, capacity)


def test_the_sparse_attention_of_v3_2_is_counted_but_not_built():
    with pytest.raises(ValueError, match="index_n_heads=64"), torch.device("meta"):
        minimoe.Transformer(minimoe.PRESETS["V3_2"])
