"""The FP8 product with two levels of accumulation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe_kernels import fp8_gemm as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import fp8_gemm as checks
from minimoe_kernels.fp8_quant import quantise_blocks, quantise_tiles


def test_values_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(1, 140), st.integers(1, 300))
def test_small_shapes(M, F, D):
    checks.check(ops, sizes=[(M, F, D)], dtypes=[torch.bfloat16])


def test_the_product_of_quantised_matrices_is_near_that_of_the_matrices():
    """FP8 keeps each number to 1/16, and errors of independent signs average out: a few percent are left."""
    x, weight = torch.randn(20, 256), torch.randn(40, 256)
    out = ops.fp8_gemm(*quantise_tiles(x), *quantise_blocks(weight), torch.float32)
    exact = x @ weight.t()
    assert 0.005 < (out - exact).norm() / exact.norm() < 0.05


def test_counted_flops_are_those_of_whole_tiles():
    with sim.session() as ran:
        checks.check(ops, sizes=[(32, 32, 128)], dtypes=[torch.bfloat16])
    assert [launch.total.dot_flops for launch in ran.launches] == [2 * 32 * 32 * 128] * 2  # blocks, tiles


def test_sizes_that_disagree_are_refused_with_both():
    x, weight = quantise_tiles(torch.randn(3, 128)), quantise_blocks(torch.randn(5, 256))
    with pytest.raises(ValueError, match="inner size 128, the weight 256"):
        ops.fp8_gemm(*x, *weight)
    weight = quantise_blocks(torch.randn(5, 128))
    with pytest.raises(ValueError, match=r"scales of shape \(3, 2\) for FP8 of shape \(3, 128\): want \(3, 1\)"):
        ops.fp8_gemm(x[0], torch.ones(3, 2), *weight)
    with pytest.raises(ValueError, match=r"x of shape \(3, 128\) in blocks"):
        ops.fp8_gemm(x[0], torch.ones(1, 1), *weight)
