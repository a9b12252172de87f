"""FP8 bit patterns: each byte's parts against torch's own reading of it, and the choice between two neighbours."""

import struct

import pytest
import torch

from minimoe_widgets.fp8_bits import FORMATS, Pattern, bfloat16

E4M3, E5M2 = FORMATS["e4m3"], FORMATS["e5m2"]


def stored(quotient, format=E4M3, scale=1.0):
    """The pattern of a number that was divided by its scale and cast by torch."""
    number = torch.tensor(quotient).clamp(-format.largest, format.largest).to(format.dtype)
    exact = float(torch.tensor(quotient) * torch.tensor(scale))
    return Pattern(format, exact, scale, float(torch.tensor(quotient)), int(number.view(torch.uint8)))


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_every_byte_is_taken_apart_as_torch_reads_it(format):
    values = torch.arange(256, dtype=torch.uint8).view(format.dtype).float()
    for byte, value in enumerate(values.tolist()):
        pattern = Pattern(format, 1.0, 1.0, 1.0, byte)
        assert int("".join(pattern.fields), 2) == byte
        if abs(value) < float("inf"):  # neither NaN nor infinity
            assert pattern.value == value
            assert struct.pack("d", pattern.value) == struct.pack("d", value)  # also the sign of zero


def test_the_formats_are_those_of_the_specification():
    """Source: arXiv 2209.05433 table 1."""
    assert (E4M3.largest, E4M3.smallest_normal, E4M3.bias, E4M3.mantissa_bits) == (448, 2**-6, 7, 3)
    assert (E5M2.largest, E5M2.smallest_normal, E5M2.bias, E5M2.mantissa_bits) == (57344, 2**-14, 15, 2)
    assert len(E4M3.magnitudes) == 127 and len(E5M2.magnitudes) == 124
    assert E4M3.magnitudes[:2] == (0, 2**-9) and E5M2.magnitudes[:2] == (0, 2**-16)


def test_five_numbers_by_hand():
    one = stored(1.0)
    assert one.fields == ("0", "0111", "000") and one.kind == "normal" and one.neighbours == (1.0,)
    largest = stored(448.0)
    assert largest.fields == ("0", "1111", "110") and largest.kind == "normal" and largest.neighbours == (448.0,)
    tiny = stored(-(2.0**-9))
    assert tiny.fields == ("1", "0000", "001") and tiny.kind == "subnormal"
    assert (tiny.power, tiny.significand) == (-6, 0.125)
    between = stored(-19.2)
    assert between.neighbours == (-18, -20) and between.value == -20 and between.kind == "normal"
    assert (between.power, between.significand) == (4, 1.25)


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_the_stored_number_is_the_nearer_neighbour_and_of_two_the_even_one(format):
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(400, generator=g) * torch.exp2(torch.randint(-12, 6, (400,), generator=g).float())
    ties = [(a + b) / 2 for a, b in zip(format.magnitudes, format.magnitudes[1:], strict=False)]
    for quotient in [*drawn.tolist(), *ties, *(-tie for tie in ties)]:
        pattern = stored(quotient, format)
        near, far = (*pattern.neighbours, *pattern.neighbours)[:2]
        assert abs(near) <= abs(quotient) <= abs(far)
        distance = {abs(x - quotient): x for x in (far, near)}
        if len(distance) == 2 or near == far:
            assert pattern.value == distance[min(distance)]
        else:
            assert pattern.value in (near, far) and pattern.byte % 2 == 0


def test_what_lies_beyond_is_clamped_and_rounding_of_the_quotient_is_not_called_so():
    assert stored(1000.0).kind == "clamped at 448" and stored(-1000.0).value == -448
    assert stored(1000.0).neighbours == (448.0,) and stored(1e6, E5M2).kind == "clamped at 57,344"
    above = float(torch.nextafter(torch.tensor(448.0), torch.tensor(1000.0)))
    assert stored(above).kind == "normal"


def test_zero_and_what_became_zero_are_told_apart():
    assert stored(0.0).kind == "zero" and stored(0.0).error == 0
    flushed = stored(2.0**-11)
    assert flushed.kind == "flushed to zero" and flushed.error == 1 and flushed.neighbours == (0, 2**-9)


def test_the_scale_brings_the_number_back():
    pattern = stored(19.2, scale=0.37)
    assert pattern.back == pytest.approx(20 * 0.37, rel=1e-7)
    assert pattern.error == pytest.approx(abs(20 - 19.2) / 19.2, rel=1e-5)


def test_bfloat16_is_the_upper_half_of_float32():
    for exact in (1.0, -0.6654, 3e-5, 1.5):
        (sign, exponent, mantissa), value = bfloat16(exact)
        bits = int(sign + exponent + mantissa, 2)
        assert struct.unpack(">f", struct.pack(">I", bits << 16))[0] == value
        assert abs(value - exact) <= 2.0**-8 * abs(exact)
    assert bfloat16(1.0)[0] == ("0", "01111111", "0000000")
