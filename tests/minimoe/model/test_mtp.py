"""Multi-token prediction: transformers' MtpLayer as the oracle of the forward pass, and the losses by hand."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from model_draws import randomise
from official_models import AllInFloat64, fuse_experts, official
from transformers.modeling_layers import MtpModel

import minimoe
from minimoe.model.mtp import mtp_losses

CONFIG = minimoe.ModelConfig(
    vocab_size=23, hidden_size=20, num_hidden_layers=2, first_k_dense_replace=1, intermediate_size=17,
    num_attention_heads=2, q_lora_rank=7, kv_lora_rank=6, qk_nope_head_dim=5, qk_rope_head_dim=4, v_head_dim=3,
    moe_intermediate_size=9, n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3,
    num_nextn_predict_layers=2, aux_loss_alpha=0.0, mtp_loss_weight=0.3,
)  # fmt: skip


def random_model(config=CONFIG, seed=0):
    model = minimoe.Transformer(config).double()
    randomise(model, seed)
    return model


def random_ids(rows=2, length=9, seed=0):
    return torch.randint(23, (rows, length), generator=torch.Generator().manual_seed(seed))


def official_mtp(model, theirs):
    """transformers' MTP modules with our weights: its block is a decoder layer, its post_norm our shared_head.norm."""
    depth, first = model.config.num_nextn_predict_layers, model.config.num_hidden_layers
    with AllInFloat64():
        mtp = MtpModel(theirs, depth).double()
    state = {}
    as_trunk = replace(model.config, num_hidden_layers=first + depth, num_nextn_predict_layers=0)
    for name, tensor in fuse_experts(model.state_dict(), as_trunk).items():
        for k in range(depth):
            if (rest := name.removeprefix(f"model.layers.{first + k}.")) != name:
                own = ("enorm", "hnorm", "eh_proj")
                rest = rest.replace("shared_head.norm", "post_norm")
                inner = rest if rest.startswith((*own, "post_norm")) else f"mtp_block.{rest}"
                state[f"layers.{k}.{inner}"] = tensor
    missing, unexpected = mtp.load_state_dict(state, strict=False)
    assert not unexpected and {name.split(".")[0] for name in missing} <= {"embed_tokens", "shared_head", "rotary_emb"}
    return mtp.eval()


@torch.no_grad()
def official_mtp_logits(model, ids_BT):
    """Depth by depth: the state of the depth before, and the embedding one token further."""
    theirs = official(model)
    with AllInFloat64():
        mtp = official_mtp(model, theirs)
        state = theirs.model(ids_BT, use_cache=False).last_hidden_state
        logits = []
        for k in range(model.config.num_nextn_predict_layers):
            positions = torch.arange(k + 1, ids_BT.shape[1])[None]
            state = mtp.forward_layer(k, state[:, :-1], positions, None, input_ids=ids_BT[:, k + 1 :])
            logits.append(mtp._project_to_logits(state))
    return logits


@pytest.mark.parametrize("seed", range(3))
def test_two_depths_equal_transformers(seed):
    model, ids_BT = random_model(seed=seed), random_ids(seed=seed)
    mine, theirs = model(ids_BT).mtp_logits, official_mtp_logits(model, ids_BT)
    assert [tuple(x.shape) for x in mine] == [(2, 8, 23), (2, 7, 23)]
    for one, other in zip(mine, theirs, strict=True):
        assert (one - other).abs().max() <= 1e-12 * other.abs().max()


def test_the_embedding_comes_first_in_the_joined_vector():
    """The paper's formula has the state first; the checkpoints do not."""
    model, ids_BT = random_model(), random_ids()
    expected = official_mtp_logits(model, ids_BT)[0]
    for module in model.mtp_modules:
        module.eh_proj.weight.data = module.eh_proj.weight.data.roll(20, dims=1)
    assert (model(ids_BT).mtp_logits[0] - expected).abs().max() > 0.1 * expected.abs().max()


def test_the_state_is_read_after_the_final_norm_unless_the_config_says_before():
    model, ids_BT = random_model(), random_ids()
    before = minimoe.Transformer(replace(CONFIG, mtp_hidden="pre_norm")).double()
    before.load_state_dict(model.state_dict())
    post, pre = model(ids_BT), before(ids_BT)
    assert torch.equal(post.logits, pre.logits)
    torch.testing.assert_close(model.model.norm(pre.hidden_BTD), post.hidden_BTD)
    assert not torch.allclose(post.mtp_logits[0], pre.mtp_logits[0])


def test_depth_k_sees_token_i_plus_k_and_nothing_later():
    model, ids_BT = random_model(), random_ids(rows=1)
    changed = ids_BT.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 23
    before, after = model(ids_BT).mtp_logits, model(changed).mtp_logits
    for k in (1, 2):
        # not to the bit: another token may change which rows share a matrix product
        same = ((before[k - 1] - after[k - 1]).abs().amax(-1)[0] < 1e-12).tolist()
        assert same == [i + k < 5 for i in range(9 - k)]


def test_embedding_and_head_are_the_trunks():
    model, ids_BT = random_model(), random_ids()
    out = model(ids_BT, labels=ids_BT)
    shared = (model.model.embed_tokens.weight, model.lm_head.weight)
    gradients = torch.autograd.grad(out.losses["mtp"], shared)
    assert all(g.any() for g in gradients)
    names = {name for name, _ in model.named_parameters() if name.startswith("model.layers.2.")}
    assert not any("embed_tokens" in name or "head.weight" in name for name in names)
    assert {"model.layers.2.enorm.weight", "model.layers.2.shared_head.norm.weight"} <= names


def certain_of(tokens_BT, vocab=7):
    return 50.0 * F.one_hot(tokens_BT, vocab).double()


def test_each_depth_is_held_against_its_own_token():
    """Position i of depth k predicts token i + k + 1: a model that knows it pays nothing, one that copies pays."""
    ids = torch.tensor([[0, 1, 2, 3, 4, 5]])
    knows = [certain_of(ids[:, 2:]), certain_of(ids[:, 3:])]
    knows = [F.pad(logits, (0, 0, 0, 1)) for logits in knows]  # depth k gives T - k positions, the last has no target
    assert mtp_losses(knows, ids).max() < 1e-12
    copies = [certain_of(ids[:, 1:]), certain_of(ids[:, 2:])]  # depth k repeats the token whose embedding it was given
    assert mtp_losses(copies, ids).min() > 49


def test_the_losses_of_two_depths_by_hand():
    logits = torch.zeros(1, 3, 2, dtype=torch.float64)
    logits[0, 0, 1] = torch.log(torch.tensor(3.0, dtype=torch.float64))  # probabilities 1/4 and 3/4
    # four tokens; depth 1: positions 0, 1 against tokens 2, 3; depth 2: position 0 against token 3
    losses = mtp_losses([logits, logits[:, :2]], torch.tensor([[0, 0, 1, 0]]))
    expected = torch.tensor([(torch.tensor(4 / 3).log() + torch.tensor(2.0).log()) / 2, torch.tensor(4.0).log()])
    torch.testing.assert_close(losses.float(), expected)


def test_labels_of_minus_100_do_not_count_at_any_depth():
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 7, 5, generator=generator), torch.randn(2, 6, 5, generator=generator)]
    labels = torch.randint(5, (2, 8), generator=generator)
    labels[0, 3:] = -100
    for k, loss in enumerate(mtp_losses(logits, labels), start=1):
        pairs = [(b, i) for b in range(2) for i in range(8 - k - 1) if labels[b, i + k + 1] != -100]
        expected = torch.stack([-logits[k - 1][b, i].log_softmax(-1)[labels[b, i + k + 1]] for b, i in pairs]).mean()
        torch.testing.assert_close(loss, expected)


def test_the_total_weighs_the_mean_over_depths():
    model, ids_BT = random_model(), random_ids()
    out = model(ids_BT, labels=ids_BT)
    assert set(out.losses) == {"next_token", "mtp"}
    torch.testing.assert_close(out.losses["mtp"], mtp_losses(out.mtp_logits, ids_BT).mean())
    torch.testing.assert_close(out.loss, out.losses["next_token"] + 0.3 * out.losses["mtp"])


@pytest.mark.parametrize("length, depths", [(1, 0), (2, 1), (3, 2)])
def test_short_sequences_give_what_they_can(length, depths):
    model, ids_BT = random_model(), random_ids(length=length)
    out = model(ids_BT)
    assert [tuple(x.shape) for x in out.mtp_logits] == [(2, length - k, 23) for k in range(1, depths + 1)]


def test_a_depth_without_a_token_to_predict_costs_nothing():
    """Two tokens: the trunk has one target and depth 1 has none; the loss is the trunk's, not NaN."""
    model, ids_BT = random_model(), random_ids(length=2)
    out = model(ids_BT, labels=ids_BT)
    assert out.losses["mtp"] == 0 and torch.equal(out.loss, out.losses["next_token"])
    out.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
