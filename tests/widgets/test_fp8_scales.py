"""One matrix in FP8 with three choices of scales: every count and error against loops over the elements."""

import math

import numpy as np
import pytest
import torch

from minimoe.training.fp8_product import BLOCKS, TILES, quantise
from minimoe_widgets.fp8_bits import FORMATS
from minimoe_widgets.fp8_scales import CHOICES, KINDS, activations, checked, scale_all, with_outlier

ROWS, COLUMNS = 5, 261
SMALLEST = {"e4m3": 2.0**-6, "e5m2": 2.0**-14}
BLOCK = {"One scale for the tensor": (ROWS, COLUMNS), "Blocks of 128 x 128": BLOCKS, "Tiles of 1 x 128": TILES}


def matrix():
    """Numbers of many magnitudes, three zeros, one very large."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, COLUMNS, generator=g) * torch.exp2(torch.randint(-14, 2, (ROWS, COLUMNS), generator=g))
    x[0, :3], x[2, 140] = 0, 300
    return x


def slow(x, source, block, format, kind):
    """(numbers in FP8, scales) element by element: the scale from the largest of its tile in `source`."""
    numbers, scales = torch.zeros(x.shape), torch.zeros(x.shape)
    for r, c in np.ndindex(x.shape):
        i, j = r // block[0] * block[0], c // block[1] * block[1]
        amax = source[i : i + block[0], j : j + block[1]].abs().max()
        scale = amax / 448
        if kind == "powers of two":
            scale = torch.tensor(2.0 ** math.ceil(math.log2(float(scale))))
        scales[r, c] = scale * 448 / FORMATS[format].largest
        number = (x[r, c] / scales[r, c]).clamp(-FORMATS[format].largest, FORMATS[format].largest)
        numbers[r, c] = number.to(FORMATS[format].dtype).float()
    return numbers, scales


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", FORMATS)
def test_numbers_scales_shares_and_errors_are_those_of_loops(format, kind):
    before = matrix()
    x = with_outlier(before, (2, 140), 64)
    for choice in scale_all(before, x, FORMATS[format], kind):
        source = before if kind == "float32, stale" else x
        numbers, scales = slow(x, source, BLOCK[choice.name], format, kind)
        assert torch.equal(choice.numbers.fp8_XZ.float(), numbers)
        zero = subnormal = clamped = 0
        squares = []
        for r, c in np.ndindex(x.shape):
            exact, stored = float(x[r, c]), abs(float(numbers[r, c]))
            pattern = choice.pattern(r, c)
            assert (pattern.exact, abs(pattern.value), pattern.scale) == (exact, stored, float(scales[r, c]))
            if exact == 0:
                assert math.isnan(choice.error_XZ[r, c]) and pattern.kind == "zero"
                continue
            back = float(numbers[r, c] * scales[r, c])
            error = abs(back - exact) / abs(exact)
            assert float(choice.error_XZ[r, c]) == pytest.approx(error, rel=1e-12)
            assert pattern.error == pytest.approx(error, rel=1e-12) and pattern.back == back
            squares.append(error**2)
            zero += stored == 0
            subnormal += 0 < stored < SMALLEST[format]
            clamped += pattern.kind.startswith("clamped")
            assert bool(choice.flushed_XZ[r, c]) == (stored == 0) == (pattern.kind == "flushed to zero")
            assert (pattern.kind == "subnormal") == (0 < stored < SMALLEST[format])
        count = len(squares)
        assert count == x.numel() - 3
        assert (choice.zero_share, choice.subnormal_share) == (zero / count, subnormal / count)
        assert choice.clamped == clamped == (kind == "float32, stale")
        assert choice.rms_error == pytest.approx(math.sqrt(sum(squares) / count), rel=1e-9)


@pytest.mark.parametrize("power", [False, True])
def test_e4m3_online_is_the_library_s_bit_for_bit(power):
    x = matrix()
    for choice in scale_all(x, x, FORMATS["e4m3"], "powers of two" if power else "float32"):
        library = quantise(x, BLOCK[choice.name], power)
        assert torch.equal(choice.numbers.fp8_XZ.view(torch.uint8), library.fp8_XZ.view(torch.uint8))
        assert torch.equal(choice.numbers.scale_IJ, library.scale_IJ) and choice.numbers.block == library.block


def test_an_outlier_spoils_what_shares_its_scale_and_nothing_else():
    before = activations()
    at = divmod(int(before.abs().argmax()), before.shape[1])
    x = with_outlier(before, at, 2**16)
    tensor, blocks, tiles = scale_all(before, x, FORMATS["e4m3"], "float32")
    _, calm_blocks, calm_tiles = scale_all(before, before, FORMATS["e4m3"], "float32")
    block = slice(at[1] // 128 * 128, at[1] // 128 * 128 + 128)
    for after, calm, rows in ((blocks, calm_blocks, slice(None)), (tiles, calm_tiles, slice(at[0], at[0] + 1))):
        touched = torch.zeros(x.shape, dtype=torch.bool)
        touched[rows, block] = True
        assert torch.equal(after.error_XZ[~touched], calm.error_XZ[~touched])
        assert after.flushed_XZ[touched].float().mean() > 0.9
    assert tensor.zero_share > 0.9 > blocks.zero_share > 0.3 > tiles.zero_share > 0.02


def test_e5m2_has_the_range_and_e4m3_the_precision():
    before = activations()
    far = with_outlier(before, divmod(int(before.abs().argmax()), 384), 2**12)
    precise, ranged = (scale_all(before, before, FORMATS[name], "float32")[2].rms_error for name in FORMATS)
    assert precise < ranged
    precise, ranged = (scale_all(before, far, FORMATS[name], "float32")[0].rms_error for name in FORMATS)
    assert ranged < precise


def test_zeros_and_numbers_too_small_for_a_scale_divide_by_nothing():
    nothing = torch.zeros(3, 130)
    for name in FORMATS:
        for choice in scale_all(nothing, nothing, FORMATS[name], "float32"):
            assert not choice.numbers.fp8_XZ.float().any()
            assert (choice.rms_error, choice.zero_share, choice.subnormal_share, choice.clamped) == (0, 0, 0, 0)
    tiny = torch.full((3, 130), 1e-43)  # float32 itself is subnormal there; e5m2's scale is 0
    for name in FORMATS:
        for choice in scale_all(tiny, tiny, FORMATS[name], "float32"):
            assert choice.numbers.dequantise().isfinite().all() and choice.error_XZ.isfinite().all()


def test_the_matrix_is_a_copy_and_the_outlier_is_one_element():
    x = matrix()
    ours = checked(x.numpy())
    assert torch.equal(ours, x)
    ours[0, 0] = 7
    assert x[0, 0] == 0
    changed = with_outlier(x, (1, 2), 4)
    assert changed[1, 2] == 4 * x[1, 2] and int((changed != x).sum()) == 1


def test_the_draw_is_the_same_every_time_and_three_channels_stand_out():
    x = activations()
    assert torch.equal(x, activations()) and x.shape == (16, 384) and x.dtype == torch.float32
    mean_Z = x.abs().mean(0)
    assert mean_Z[[37, 166, 300]].min() > 3 * mean_Z.median()


def test_what_is_refused():
    wrong = {
        "a list is no matrix": [[1.0, 2.0]],
        "dtype torch.float64": torch.ones(2, 3, dtype=torch.float64),
        "dtype torch.int64": torch.ones(2, 3, dtype=torch.int64),
        r"shape \(3,\)": torch.ones(3),
        r"shape \(2, 3, 4\)": torch.ones(2, 3, 4),
        r"shape \(0, 3\)": torch.ones(0, 3),
        r"shape \(257, 3\).*1 to 256 rows": torch.ones(257, 3),
        r"shape \(2, 1025\).*1 to 1,024 columns": torch.ones(2, 1025),
        "1 of 6 numbers are NaN or infinite": torch.tensor([[1.0, 2, float("nan")], [4, 5, 6]]),
        r"largest magnitude 1e\+35": torch.full((2, 3), 1e35),
    }
    for message, x in wrong.items():
        with pytest.raises(ValueError, match=message):
            checked(x)
    assert list(CHOICES) == list(BLOCK)
