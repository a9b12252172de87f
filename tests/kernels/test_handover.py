"""A model that computes with kernels is the same model."""

import copy
from dataclasses import replace

import pytest
import torch

import minimoe
import minimoe_kernels
from minimoe.model.moe import grouped
from minimoe_kernels import sim
from minimoe_kernels.handover import routed_experts

CONFIG = replace(
    minimoe.NANO, vocab_size=40, hidden_size=32, num_hidden_layers=2, first_k_dense_replace=1, intermediate_size=48,
    moe_intermediate_size=16, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, n_group=1, topk_group=1,
    num_attention_heads=2, num_key_value_heads=None, kv_lora_rank=16, q_lora_rank=None, qk_nope_head_dim=16,
    qk_rope_head_dim=16, v_head_dim=16,
)  # fmt: skip


@pytest.fixture
def model():
    return minimoe.Transformer(CONFIG, seed=0)


def outcome(model, ids_BT):
    """Logits and every gradient."""
    model.zero_grad()
    out = model(ids_BT, labels=ids_BT)
    out.loss.backward()
    return [out.logits_BTV, *(p.grad.clone() for p in model.parameters())]


def test_logits_and_gradients_stay_the_same(model):
    ids_BT = torch.randint(0, 40, (2, 7), generator=torch.Generator().manual_seed(0))
    before = outcome(model, ids_BT)
    minimoe_kernels.use(model)
    with sim.session() as ran:
        after = outcome(model, ids_BT)
    used = {launch.kernel for launch in ran.launches}
    assert used >= {"rms_norm_forward", "rms_norm_backward", "swiglu_forward", "swiglu_backward", "rows_kernel"}
    assert used >= {"weight_gradient_kernel", "place_kernel", "gather_kernel", "sum_kernel", "gate_gradient_kernel"}
    assert used >= {"prefill_kernel", "query_gradient_kernel", "key_gradient_kernel"}
    for a, b in zip(before, after, strict=True):
        # float32: a few hundred roundings of 6e-8, relative to the largest of the tensor
        assert (a - b).abs().max() <= 3e-5 * a.abs().max().clamp(min=1e-6)


def test_taken_back_it_is_bit_for_bit_what_it_was(model):
    ids_BT = torch.arange(6)[None]
    before, names = outcome(model, ids_BT), list(model.state_dict())
    minimoe_kernels.release(minimoe_kernels.use(model))
    assert list(model.state_dict()) == names
    assert all(torch.equal(a, b) for a, b in zip(before, outcome(model, ids_BT), strict=True))


def test_no_step_copies_an_expert_s_weights(model, monkeypatch):
    minimoe_kernels.use(model)
    monkeypatch.setattr(torch, "stack", lambda *_: pytest.fail("a copy of all experts"))
    with torch.no_grad():
        model(torch.arange(5)[None])


def test_an_optimizer_step_reaches_the_weights_that_the_kernels_read(model):
    twin = copy.deepcopy(model)
    minimoe_kernels.use(model)
    ids_BT = torch.arange(8)[None]
    for m in (model, twin):
        optimizer = torch.optim.SGD(m.parameters(), lr=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            m(ids_BT, labels=ids_BT).loss.backward()
            optimizer.step()
    a, b = (m(ids_BT).logits_BTV for m in (model, twin))
    assert torch.allclose(a, b, atol=1e-4)  # two steps of float32


def test_heads_of_sizes_without_tiles_keep_pytorch_s_attention():
    small, ids_BT = minimoe.Transformer(replace(CONFIG, qk_rope_head_dim=8), seed=0), torch.arange(6)[None]
    before = small(ids_BT).logits_BTV
    with sim.session() as ran:
        after = minimoe_kernels.use(small)(ids_BT).logits_BTV
    assert "prefill_kernel" not in {launch.kernel for launch in ran.launches}
    assert torch.allclose(before, after, atol=1e-5)  # float32, logits below 1


def test_attention_under_a_mask_stays_pytorch_s(model):
    attention = minimoe_kernels.use(model).model.layers[0].self_attn
    q_nope, q_rot, entries = torch.randn(1, 3, 2, 16), torch.randn(1, 3, 2, 16), torch.randn(1, 5, 32)
    mask = torch.rand(1, 3, 5) < 0.7
    mask[..., 0] = True
    with sim.session() as ran:
        out = attention.expand(q_nope, q_rot, entries, mask)
    assert ran.launches == [] and torch.equal(out, type(attention).expand(attention, q_nope, q_rot, entries, mask))


def test_scattered_weights_are_copied_and_right():
    torch.manual_seed(0)
    experts = torch.nn.ModuleList(minimoe.model.layers.MLP(16, 8) for _ in range(3))
    x, chosen, gates = torch.randn(5, 16), torch.tensor([[0, 2], [2, 0], [2, 1], [0, 2], [2, 0]]), torch.rand(5, 2)
    assert torch.allclose(routed_experts(experts, x, chosen, gates), grouped(experts, x, chosen, gates), atol=1e-5)


def test_a_used_model_saves_and_loads(model, tmp_path):
    minimoe_kernels.use(model)
    minimoe.save(model, tmp_path)
    loaded = minimoe.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
