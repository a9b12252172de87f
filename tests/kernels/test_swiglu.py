"""SwiGLU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe_kernels import sim
from minimoe_kernels import swiglu as ops
from minimoe_kernels.checks import swiglu as checks


def test_values_gradients_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=12)
@given(st.integers(0, 5), st.integers(1, 70), st.sampled_from(checks.DTYPES))
def test_small_shapes(M, F, dtype):
    checks.check(ops, sizes=[(M, F)], dtypes=[dtype])


def test_gradients_in_float64():
    gate, up = (torch.randn(2, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(ops.swiglu, (gate, up))


def test_two_reads_and_a_write_forward_three_reads_and_two_writes_back():
    gate, up = (torch.randn(3, 50).bfloat16().requires_grad_() for _ in range(2))
    with sim.session() as ran:
        out = ops.swiglu(gate, up)
        out.backward(torch.ones_like(out))
    forward, backward = (launch.total for launch in ran.launches)
    size = 3 * 50 * 2
    assert (forward.loaded_bytes, forward.stored_bytes) == (2 * size, size)
    assert (backward.loaded_bytes, backward.stored_bytes) == (3 * size, 2 * size)


def test_very_negative_and_very_positive_gates_are_finite():
    gate = torch.tensor([[-200.0, -90.0, 0.0, 90.0, 200.0]], requires_grad=True)
    out = ops.swiglu(gate, torch.ones(1, 5))
    (grad,) = torch.autograd.grad(out.sum(), gate)
    assert out.tolist()[0][2:] == [0.0, 90.0, 200.0] and out.abs()[0, :2].max() < 1e-30 and grad.isfinite().all()


def test_inputs_that_disagree_are_refused_with_both():
    with pytest.raises(ValueError, match=r"gate is \(2, 3\) torch.float32, up is \(2, 4\)"):
        ops.swiglu(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="want"):
        ops.swiglu(torch.zeros(3), torch.zeros(3))
