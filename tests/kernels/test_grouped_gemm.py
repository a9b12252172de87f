"""The grouped product, its gradients, and a whole MoE layer made of these kernels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minimoe
from minimoe.model.moe import loop
from minimoe_kernels import grouped_gemm as ops
from minimoe_kernels import sim
from minimoe_kernels.align import align, align_reference
from minimoe_kernels.checks import grouped_gemm as checks
from minimoe_kernels.checks.align import assignments
from minimoe_kernels.permute import permute, unpermute
from minimoe_kernels.swiglu import swiglu


def test_values_gradients_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=8)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.data())
def test_small_shapes(M, E, F, D, data):
    K = data.draw(st.integers(1, E))
    checks.check(ops, sizes=[(M, K, E, F, D, 16)], dtypes=[torch.float32])


def test_gradients_in_float64():
    alignment = align_reference(assignments(3, 2, 3, "last is idle"), 3, 16)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *t: ops.grouped_gemm(*t, alignment), (x, weight))


def test_an_idle_expert_s_weights_get_a_gradient_of_zeros():
    alignment = align_reference(assignments(5, 1, 3, "last is idle"), 3, 16)
    weight = torch.randn(3, 16, 16, requires_grad=True)
    ops.grouped_gemm(torch.randn(5, 16), weight, alignment).sum().backward()
    assert (weight.grad[2] == 0).all() and (weight.grad[0] != 0).any()


def test_surplus_tiles_compute_nothing():
    alignment = align_reference(torch.zeros(20, 1, dtype=torch.int32), 8, 16)
    with sim.session() as ran:
        ops.grouped_gemm(torch.randn(20, 32), torch.randn(8, 16, 32), alignment)
    assert (alignment.tile_expert >= 0).sum() == 2 and ran.total.dot_flops == 2 * (2 * 16 * 16 * 32)


def test_the_routed_experts_of_a_layer_equal_the_library_s_loop():
    """Forward and every gradient: align, permute, three grouped products, SwiGLU, unpermute."""
    D, F, E, K, M = 24, 16, 6, 2, 11
    torch.manual_seed(0)
    experts = torch.nn.ModuleList(minimoe.model.layers.MLP(D, F) for _ in range(E))
    x, chosen, gates = torch.randn(M, D, requires_grad=True), assignments(M, K, E, "random"), torch.rand(M, K)
    stacked = {
        part: torch.stack([getattr(e, f"{part}_proj").weight for e in experts]) for part in ("gate", "up", "down")
    }
    alignment = align(chosen, E, 16)
    rows = permute(x, alignment)
    gate, up = (ops.grouped_gemm(rows, stacked[part], alignment) for part in ("gate", "up"))
    ours = unpermute(ops.grouped_gemm(swiglu(gate, up), stacked["down"], alignment), gates, alignment)
    theirs = loop(experts, x, chosen.long(), gates)
    assert torch.allclose(ours, theirs, atol=1e-5)  # float32, sums of 24 terms of size 1
    parameters = [x, *experts.parameters()]
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), parameters) for out in (ours, theirs)), strict=True):
        assert torch.allclose(a, b, atol=1e-4 * b.abs().max().item())


def test_what_disagrees_is_refused():
    alignment = align_reference(assignments(3, 1, 2, "random"), 2, 16)
    with pytest.raises(ValueError, match=r"rows \(4, 8\) and weights \(2, 5, 8\) for 3 assignments to 2 experts"):
        ops.grouped_gemm(torch.zeros(4, 8), torch.zeros(2, 5, 8), alignment)
    with pytest.raises(ValueError, match="they must agree"):
        ops.grouped_gemm(torch.zeros(3, 8), torch.zeros(2, 5, 8).bfloat16(), alignment)
