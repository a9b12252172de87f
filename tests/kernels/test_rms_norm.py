"""RMSNorm with fused residual."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe_kernels import rms_norm as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import rms_norm as checks


def test_values_gradients_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=12)
@given(st.integers(0, 6), st.integers(1, 70), st.sampled_from(checks.DTYPES))
def test_small_shapes(M, D, dtype):
    checks.check(ops, sizes=[(M, D)], dtypes=[dtype])


@pytest.mark.parametrize("residual", [False, True])
def test_gradients_in_float64(residual):
    generator = torch.Generator().manual_seed(0)
    x, other = (torch.randn(3, 11, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.randn(11, generator=generator, dtype=torch.float64, requires_grad=True)
    if residual:
        assert torch.autograd.gradcheck(lambda *t: ops.add_rms_norm(*t, 1e-6), (x, other, weight))
    else:
        assert torch.autograd.gradcheck(lambda *t: ops.rms_norm(*t, 1e-6), (x, weight))


def test_the_residual_is_added_in_the_same_pass():
    """2 reads and 2 writes of M x D, the gain once a row, one scale a row: nothing more."""
    M, D = 6, 40
    x, residual, weight = torch.randn(M, D).bfloat16(), torch.randn(M, D).bfloat16(), torch.ones(D).bfloat16()
    with sim.session() as ran:
        ops.add_rms_norm(x, residual, weight, 1e-6)
    assert ran.total.loaded_bytes == 2 * (2 * M * D + M * D) and ran.total.stored_bytes == 2 * 2 * M * D + 4 * M


def test_a_row_of_zeros_stays_zeros_and_has_a_finite_gradient():
    x = torch.zeros(2, 8, requires_grad=True)
    out = ops.rms_norm(x, torch.ones(8), 1e-6)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert (out == 0).all() and grad.isfinite().all()


def test_shapes_that_disagree_are_refused_with_both():
    with pytest.raises(ValueError, match=r"\(2, 8\) and the gain \(7,\)"):
        ops.rms_norm(torch.zeros(2, 8), torch.ones(7), 1e-6)
    with pytest.raises(ValueError, match=r"residual is \(2, 8\) torch.bfloat16, x is \(2, 8\) torch.float32"):
        ops.add_rms_norm(torch.zeros(2, 8), torch.zeros(2, 8).bfloat16(), torch.ones(8), 1e-6)
