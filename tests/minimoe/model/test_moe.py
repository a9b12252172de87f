"""The experts: the grouped form against the loop that defines it, and what an MoE layer is made of."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minimoe
from minimoe.model.layers import MLP
from minimoe.model.moe import MoE, grouped, loop, sum_of_rows

CONFIG = replace(minimoe.NANO, hidden_size=10, moe_intermediate_size=7, n_routed_experts=6, n_group=3, topk_group=2,
                 num_experts_per_tok=2)  # fmt: skip


def problem(M, E, K, D=5, F=3, seed=0, dtype=torch.float64, experts_in_use=None):
    """Experts, rows, choices (distinct within a row) and gates."""
    generator = torch.Generator().manual_seed(seed)
    experts = torch.nn.ModuleList(MLP(D, F) for _ in range(E)).to(dtype)
    for weight in experts.parameters():
        weight.data = torch.randn(weight.shape, generator=generator).to(dtype)
    x = torch.randn(M, D, generator=generator).to(dtype).requires_grad_()
    usable = experts_in_use or E
    chosen = torch.stack([torch.randperm(usable, generator=generator)[:K] for _ in range(M)])
    gates = torch.rand(M, K, generator=generator).to(dtype).requires_grad_()
    return experts, x, chosen, gates


def outputs_and_gradients(dispatch, experts, x, chosen, gates):
    leaves = [x, gates, *experts.parameters()]
    out = dispatch(experts, x, chosen, gates)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out.dtype)
    gradients = torch.autograd.grad(out, leaves, cotangent, allow_unused=True)
    return out, [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True)]


@given(st.integers(1, 12), st.integers(1, 6), st.data())
def test_grouped_equals_loop_in_values_and_gradients(M, E, data):
    used = data.draw(st.integers(1, E))  # the others get no token
    K, seed = data.draw(st.integers(1, used)), data.draw(st.integers(0, 999))
    given_ = problem(M, E, K, seed=seed, experts_in_use=used)
    out, gradients = outputs_and_gradients(grouped, *given_)
    expected, expected_gradients = outputs_and_gradients(loop, *given_)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_the_loop_is_the_sum_that_it_says():
    experts, x, chosen, gates = problem(4, 5, 3)
    out = loop(experts, x, chosen, gates)
    for m in range(4):
        expected = sum(gates[m, k] * experts[chosen[m, k]](x[m]) for k in range(3))
        torch.testing.assert_close(out[m], expected)


def test_grouped_passes_gradcheck():
    experts, x, chosen, gates = problem(5, 4, 2, D=3, F=2)
    weights = tuple(experts.parameters())

    def run(x, gates, *_weights):
        return grouped(experts, x, chosen, gates)

    assert torch.autograd.gradcheck(run, (x, gates, *weights))


@pytest.mark.parametrize("dispatch", [grouped, loop])
def test_an_expert_without_tokens_gets_a_gradient_of_zeros(dispatch):
    experts, x, chosen, gates = problem(6, 5, 2, experts_in_use=3)
    dispatch(experts, x, chosen, gates).sum().backward()
    for expert in (3, 4):
        for weight in experts[expert].parameters():
            assert weight.grad is not None and not weight.grad.any()
    assert all(weight.grad.any() for weight in experts[0].parameters())


def test_the_same_graph_can_be_walked_twice():
    given_ = problem(6, 4, 2)
    out = grouped(*given_)
    first = torch.autograd.grad(out.sum(), given_[1], retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(out.sum(), given_[1])[0])


def test_inputs_are_left_as_they_were():
    experts, x, chosen, gates = problem(6, 4, 2)
    before = [t.detach().clone() for t in (x, chosen, gates, *experts.parameters())]
    grouped(experts, x, chosen, gates).sum().backward()
    for then, now in zip(before, (x, chosen, gates, *experts.parameters()), strict=True):
        assert torch.equal(then, now)


@pytest.mark.parametrize("dtype, digits", [(torch.float32, 2**-19), (torch.bfloat16, 2**-5)])
def test_narrow_dtypes_stay_close_to_float64(dtype, digits):
    """Three matrix products, a product and a sum, each rounded once: some units in the last place of the largest."""
    narrow = problem(20, 6, 3, D=16, F=12, dtype=dtype)
    wide = problem(20, 6, 3, D=16, F=12, dtype=dtype)
    experts, x, chosen, gates = wide
    exact = outputs_and_gradients(loop, experts.double(), x.detach().double().requires_grad_(), chosen,
                                  gates.detach().double().requires_grad_())  # fmt: skip
    mine = outputs_and_gradients(grouped, *narrow)
    for one, other in zip([mine[0], *mine[1]], [exact[0], *exact[1]], strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).abs().max() <= digits * other.abs().max()


def test_renaming_the_experts_changes_nothing():
    experts, x, chosen, gates = problem(7, 5, 3)
    order = torch.tensor([3, 0, 4, 1, 2])  # expert i moves to place order.argsort()[i]
    renamed = torch.nn.ModuleList(experts[i] for i in order)
    out = grouped(renamed, x, order.argsort()[chosen], gates)
    torch.testing.assert_close(out, grouped(experts, x, chosen, gates), rtol=1e-12, atol=1e-12)


def test_sum_of_rows_by_hand():
    rows = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    where = torch.tensor([[0, 2], [1, 1]])
    assert sum_of_rows(rows, where).tolist() == [[4.0, 40.0], [4.0, 40.0]]
    assert sum_of_rows(rows, where, torch.tensor([[1.0, 2.0], [0.0, 0.5]])).tolist() == [[7.0, 70.0], [1.0, 10.0]]


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_the_layer_adds_routed_and_shared_experts(shared):
    moe = MoE(replace(CONFIG, n_shared_experts=shared)).double()
    for weight in moe.parameters():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(weight.numel()))
    x_BTD = torch.randn(2, 4, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out, routing = moe(x_BTD)
    x_MD = x_BTD.flatten(0, 1)
    expected = loop(moe.experts, x_MD, routing.chosen_MK, routing.gates_MK)
    if shared:
        assert moe.shared_experts.gate_proj.weight.shape == (7 * shared, 10)
        expected = expected + moe.shared_experts(x_MD)
    else:
        assert not hasattr(moe, "shared_experts")
    torch.testing.assert_close(out, expected.view_as(x_BTD), rtol=1e-12, atol=1e-12)


def test_another_dispatch_can_be_handed_over():
    moe, calls = MoE(CONFIG), []
    for weight in moe.parameters():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(weight.numel()))
    x_BTD = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(1))
    before = moe(x_BTD)[0]

    def counting(*arguments):
        calls.append(1)
        return loop(*arguments)

    moe.dispatch = counting
    torch.testing.assert_close(moe(x_BTD)[0], before)
    assert calls == [1]


def test_parameters_have_the_official_names():
    names = {name for name, _ in MoE(CONFIG).named_parameters()}
    parts = ("gate_proj", "up_proj", "down_proj")
    assert names == {"gate.weight", *(f"shared_experts.{p}.weight" for p in parts)} | {
        f"experts.{e}.{p}.weight" for e in range(6) for p in parts
    }
