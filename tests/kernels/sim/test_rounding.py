"""The narrow formats against PyTorch's casts: every pattern, every midpoint between neighbours, what lies beside."""

import numpy as np
import pytest
import torch

from minimoe_kernels.sim import rounding
from minimoe_kernels.sim.dtypes import DTYPES

FP8 = {rounding.E4M3: torch.float8_e4m3fn, rounding.E5M2: torch.float8_e5m2}


def bits_of(x):
    return np.asarray(x, dtype=np.float32).view(np.uint32)


def around(values):
    """Every value, the midpoint to the next one, and one float32 to either side of both."""
    values = np.unique(values[np.isfinite(values)]).astype(np.float32)
    middle = ((values[1:].astype(np.float64) + values[:-1]) / 2).astype(np.float32)
    both = np.concatenate([values, middle])
    beside = [np.nextafter(both, np.float32(sign * np.inf)) for sign in (1, -1)]
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 1e-45, -1e-45], dtype=np.float32)
    return np.concatenate([both, *beside, special])


def assert_same_floats(ours, theirs):
    """Bit for bit, any NaN for any NaN."""
    ours, theirs = np.asarray(ours, dtype=np.float32), np.asarray(theirs, dtype=np.float32)
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    real = ~np.isnan(ours)
    assert np.array_equal(bits_of(ours)[real], bits_of(theirs)[real])


def test_all_65536_patterns_of_bfloat16_decode_and_encode_as_in_torch():
    codes = np.arange(65536, dtype=np.uint16)
    values = rounding.decode_bf16(codes)
    assert_same_floats(values, torch.from_numpy(codes.view(np.int16)).view(torch.bfloat16).float().numpy())
    assert np.array_equal(rounding.encode_bf16(values), codes)


def test_bfloat16_rounds_as_torch_beside_every_value_and_every_midpoint():
    x = around(rounding.decode_bf16(np.arange(65536, dtype=np.uint16)))
    assert len(x) > 390_000
    assert_same_floats(rounding.to_bf16(x), torch.from_numpy(x).bfloat16().float().numpy())


def test_float16_rounds_as_torch():
    x = around(np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32))
    assert_same_floats(rounding.to_fp16(x), torch.from_numpy(x).half().float().numpy())


@pytest.mark.parametrize("form, dtype", FP8.items(), ids=lambda value: str(getattr(value, "name", value)))
def test_all_256_patterns_of_fp8_decode_and_encode_as_in_torch(form, dtype):
    codes = np.arange(256, dtype=np.uint8)
    values = form.decode(codes)
    assert_same_floats(values, torch.from_numpy(codes).view(dtype).float().numpy())
    real = ~np.isnan(values)
    assert np.array_equal(form.encode(values)[real], codes[real])
    assert np.isnan(form.decode(form.encode(np.float32([np.nan, -np.nan])))).all()


@pytest.mark.parametrize("form, dtype", FP8.items(), ids=lambda value: str(getattr(value, "name", value)))
def test_fp8_rounds_as_torch_from_every_bfloat16_and_beside_every_midpoint(form, dtype):
    x = np.concatenate([around(form.table()), rounding.decode_bf16(np.arange(65536, dtype=np.uint16))])
    assert_same_floats(form.round(x, saturate=False), torch.from_numpy(x).to(dtype).float().numpy())
    codes = torch.from_numpy(x).to(dtype).view(torch.uint8).numpy()
    ours = form.encode(form.round(x, saturate=False))
    real = ~np.isnan(form.decode(codes))
    assert np.array_equal(ours[real], codes[real])


@pytest.mark.parametrize("form, dtype", FP8.items(), ids=lambda value: str(getattr(value, "name", value)))
def test_the_gpu_s_conversion_is_torch_s_of_the_clamped_number(form, dtype):
    x = around(form.table())
    clamped = torch.from_numpy(x).clamp(-form.largest, form.largest)  # NaN stays NaN
    assert_same_floats(form.round(x), clamped.to(dtype).float().numpy())
    assert form.round(np.float32([1e9, -np.inf])).tolist() == [form.largest, -form.largest]


def test_numbers_that_triton_s_interpreter_gets_wrong():
    """1.94, 127.998 and 600 become 1, 64 and 288 there."""
    assert rounding.E4M3.round(np.float32([1.94, 127.998, 600.0])).tolist() == [2.0, 128.0, 448.0]
    assert rounding.to_bf16(np.float32([1.00390625, 1.01171875])).tolist() == [1.0, 1.015625]  # ties go to even


def test_tf32_ignores_thirteen_bits():
    x = np.float32([1 + 2**-10, 1 + 2**-11, -(1 + 2**-10 + 2**-12)])
    assert rounding.to_tf32(x).tolist() == [1 + 2**-10, 1.0, -(1 + 2**-10)]


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8e4nv", "float8e5"])
def test_rounding_is_idempotent_on_scalars_and_arrays(name):
    kind = DTYPES[name]
    x = np.float32([0.3, -7.7, 1000.3])
    once = kind.round(x)
    assert np.array_equal(kind.round(once), once)
    assert [float(kind.round(v)) for v in x] == once.tolist()
    assert kind.decode(kind.encode(once)).tolist() == once.tolist()
