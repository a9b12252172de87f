"""FP8 blocks: scales cover the edges, the multiplication is exact, the error is what three bits of mantissa allow."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minimoe.fp8_blocks import FP8_MAX, blocks, dequantise, quantise

SIDES = st.sampled_from([1, 3, 127, 128, 129, 200, 256, 300])


def by_hand(fp8, scale, block=(128, 128)):
    out = torch.empty(fp8.shape)
    for x in range(fp8.shape[0]):
        for y in range(fp8.shape[1]):
            out[x, y] = float(fp8[x, y]) * scale[x // block[0], y // block[1]]
    return out


def test_the_largest_fp8_number_is_the_one_torch_has():
    assert torch.finfo(torch.float8_e4m3fn).max == FP8_MAX


def test_576_rows_are_five_rows_of_blocks():
    assert blocks(576, 7168) == (5, 56)
    assert blocks(128, 128) == (1, 1)
    assert blocks(1, 129) == (1, 2)


@pytest.mark.parametrize("shape", [(5, 7), (130, 3), (3, 130), (129, 257)])
def test_every_weight_is_multiplied_by_the_scale_of_its_block(shape):
    torch.manual_seed(0)
    fp8 = torch.randn(shape).to(torch.float8_e4m3fn)
    scale = torch.rand(blocks(*shape)) + 0.5
    assert torch.equal(dequantise(fp8, scale), by_hand(fp8, scale))


def test_other_block_sizes_are_read_too():
    torch.manual_seed(0)
    fp8, scale = torch.randn(10, 9).to(torch.float8_e4m3fn), torch.rand(3, 5)
    assert torch.equal(dequantise(fp8, scale, (4, 2)), by_hand(fp8, scale, (4, 2)))


def test_scales_that_do_not_cover_the_weight_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\[1, 1\] do not cover a weight \[129, 128\].*\[2, 1\]"):
        dequantise(torch.zeros(129, 128).to(torch.float8_e4m3fn), torch.ones(1, 1))


@given(rows=SIDES, columns=SIDES, exponent=st.integers(-30, 30), seed=st.integers(0, 9))
def test_quantising_is_off_by_a_sixteenth_at_most(rows, columns, exponent, seed):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
    fp8, scale = quantise(weight)
    assert fp8.dtype == torch.float8_e4m3fn and scale.dtype == torch.float32
    assert tuple(scale.shape) == blocks(rows, columns)
    # Three bits of mantissa: half a step is 1/16 of the number; below 2^-6 steps are 2^-9 wide. 1e-6: float32 rounding.
    spread = dequantise(torch.ones(rows, columns).to(torch.float8_e4m3fn), scale)
    allowed = torch.maximum(weight.abs() / 16, spread * 2.0**-10) * (1 + 1e-6) + spread * 1e-6
    assert ((dequantise(fp8, scale) - weight).abs() <= allowed).all()


@given(rows=SIDES, columns=SIDES, seed=st.integers(0, 9))
def test_the_largest_weight_of_every_block_becomes_448(rows, columns, seed):
    fp8, _ = quantise(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))
    for x in range(0, rows, 128):
        for y in range(0, columns, 128):
            assert fp8[x : x + 128, y : y + 128].float().abs().max() == FP8_MAX


def test_what_has_been_quantised_once_keeps_its_numbers():
    torch.manual_seed(0)
    once, scale = quantise(torch.randn(200, 300))
    twice, again = quantise(dequantise(once, scale))
    assert torch.equal(once.float(), twice.float())
    # amax / 448 after amax = 448 * scale: two float32 roundings
    torch.testing.assert_close(again, scale, rtol=2.0**-22, atol=0)


def test_a_block_of_zeros_stays_zero():
    fp8, scale = quantise(torch.zeros(130, 2))
    assert torch.equal(dequantise(fp8, scale), torch.zeros(130, 2)) and torch.isfinite(scale).all()


def test_the_weight_is_not_changed():
    weight = torch.randn(130, 5)
    kept = weight.clone()
    quantise(weight)
    assert torch.equal(weight, kept)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_no_scale_can_carry_are_refused_and_counted(bad):
    weight = torch.zeros(3, 4)
    weight[1, 2] = bad
    with pytest.raises(ValueError, match="1 of 12 weights"):
        quantise(weight)
