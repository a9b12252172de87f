"""Permute and unpermute."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe_kernels import permute as ops
from minimoe_kernels import sim
from minimoe_kernels.align import align
from minimoe_kernels.checks import permute as checks
from minimoe_kernels.checks.align import assignments


def test_rows_sums_gradients_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=12)
@given(st.integers(1, 6), st.integers(1, 7), st.sampled_from([1, 2, 8]), st.data())
def test_small_shapes(M, E, tile, data):
    K = data.draw(st.integers(1, E))
    checks.check(ops, sizes=[(M, K, E, 5, tile)], dtypes=[torch.float32])


def test_there_and_back_with_gates_that_sum_to_one_is_the_identity():
    x = torch.randn(9, 6)
    found = align(assignments(9, 2, 4, "random"), 4, 4)
    assert torch.equal(ops.unpermute(ops.permute(x, found), torch.full((9, 2), 0.5), found), x)


def test_gradients_in_float64():
    found = align(assignments(4, 2, 3, "random"), 3, 2)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: ops.permute(t, found), (x,))
    assert torch.autograd.gradcheck(lambda *t: ops.unpermute(*t, found), (y, gates))


def test_counted_bytes_of_moving_rows():
    M, K, D = 6, 2, 64
    found = align(assignments(M, K, 3, "random"), 3, 4)
    x, gates = torch.randn(M, D).bfloat16(), torch.rand(M, K)
    with sim.session() as ran:
        rows = ops.permute(x, found)
        ops.unpermute(rows, gates, found)
    there, back = (launch.total for launch in ran.launches)
    assert there.bytes == M * K * (2 * 2 * D + 4)
    assert back.bytes == M * K * (2 * D + 4 + 4) + M * 2 * D


def test_sizes_that_disagree_are_refused():
    found = align(assignments(4, 2, 3, "random"), 3, 2)
    with pytest.raises(ValueError, match="4 tokens for 5 rows"):
        ops.permute(torch.zeros(5, 3), found)
    with pytest.raises(ValueError, match="7 rows"):
        ops.unpermute(torch.zeros(7, 3), torch.zeros(4, 2), found)


def test_no_tokens_at_all():
    found = align(torch.zeros(0, 2, dtype=torch.int32), 4)
    assert ops.permute(torch.zeros(0, 3), found).shape == (0, 3)
