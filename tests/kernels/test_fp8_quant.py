"""FP8 quantisation by tiles and blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe import fp8_blocks
from minimoe_kernels import fp8_quant as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import fp8_quant as checks


def test_bits_scales_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(1, 200), st.sampled_from(checks.DTYPES))
def test_small_shapes(rows, columns, dtype):
    checks.check(ops, sizes=[(rows, columns)], dtypes=[dtype])


def test_blocks_are_the_library_s_bit_for_bit():
    weight = checks.outliers(150, 260, torch.bfloat16)
    ours, theirs = ops.quantise_blocks(weight), fp8_blocks.quantise(weight)
    assert torch.equal(ours[0].view(torch.uint8), theirs[0].view(torch.uint8)) and torch.equal(ours[1], theirs[1])


def test_a_scale_of_a_power_of_two_is_the_next_one_above():
    x = torch.zeros(4, 128)
    x[:, 0] = torch.tensor([448.0, 449.0, 3.5, 0.0])
    assert ops.quantise_tiles(x, power_of_two=True)[1].flatten().tolist() == [1.0, 2.0, 2.0**-7, 1.0]
    assert ops.up_to_power_of_two(torch.tensor([1.0, 1.5, 0.25, 0.26])).tolist() == [1.0, 2.0, 0.25, 0.5]


def test_the_largest_of_a_tile_becomes_448_and_the_error_stays_under_a_sixteenth():
    x = torch.randn(6, 256)
    fp8, scale = ops.quantise_tiles(x)
    assert (fp8.float().abs().unflatten(1, (-1, 128)).amax(-1) == 448).all()
    back = ops.dequantise(fp8, scale)
    large = x.abs() > 2.0**-6 * scale.repeat_interleave(128, 1)
    assert ((back - x).abs() <= x.abs() / 16 * (1 + 1e-6))[large].all()


def test_an_outlier_costs_its_own_tile_only():
    x = torch.randn(2, 256)
    loud = x.clone()
    loud[0, 3] = 1e6
    scales, loud_scales = ops.quantise_tiles(x)[1], ops.quantise_tiles(loud)[1]
    assert (scales != loud_scales).tolist() == [[True, False], [False, False]]


def test_nan_stays_nan_and_spares_the_scale():
    x = torch.ones(1, 128)
    x[0, 5] = float("nan")
    fp8, scale = ops.quantise_tiles(x)
    assert fp8.float().isnan().nonzero().tolist() == [[0, 5]] and torch.equal(scale, torch.tensor([[1 / 448]]))


def test_counted_bytes():
    with sim.session() as ran:
        ops.quantise_tiles(torch.zeros(20, 300).bfloat16())
    assert ran.total.loaded_bytes == 20 * 300 * 2 and ran.total.stored_bytes == 20 * 300 + 20 * 3 * 4


def test_scales_that_fit_nothing_are_refused_with_what_would():
    with pytest.raises(ValueError, match=r"\(3, 2\) for FP8 of .* \(200, 300\): want \(200, 3\) for tiles or \(2, 3\)"):
        ops.dequantise(torch.zeros(200, 300).to(torch.float8_e4m3fn), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="two axes"):
        ops.quantise_tiles(torch.zeros(128))
