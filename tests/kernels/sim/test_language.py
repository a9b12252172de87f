"""`tl` in the simulator: types of results, C's integer arithmetic, and what Triton refuses."""

import numpy as np
import pytest
import torch

from minimoe_kernels.kernel import load, tl, triton
from minimoe_kernels.sim.block import Block, block


def blk(values, dtype=tl.float32):
    return block(0).to(dtype).__class__(dtype.numpy(0) + np.asarray(values).astype(dtype.numpy), dtype)


@pytest.mark.parametrize(
    "a, b, kind",
    [
        (tl.bfloat16, tl.bfloat16, tl.bfloat16),
        (tl.bfloat16, tl.float16, tl.float16),
        (tl.bfloat16, tl.float32, tl.float32),
        (tl.float16, tl.int32, tl.float16),
        (tl.float32, tl.float64, tl.float64),
        (tl.int32, tl.int64, tl.int64),
        (tl.int8, tl.int32, tl.int32),
        (tl.int1, tl.int32, tl.int32),
    ],
)
def test_types_of_two_blocks(a, b, kind):
    assert (blk([1, 2], a) + blk([1, 2], b)).dtype is kind and (blk([1, 2], b) * blk([1, 2], a)).dtype is kind


def test_a_python_number_takes_the_block_s_type_unless_it_is_of_a_higher_kind():
    assert (blk([1], tl.bfloat16) * 2.0).dtype is tl.bfloat16
    assert (1 - blk([1], tl.float16)).dtype is tl.float16
    assert (blk([1], tl.int32) * 2.0).dtype is tl.float32
    assert (blk([1], tl.int64) + 1).dtype is tl.int64
    assert (blk([1], tl.bfloat16) / 3).dtype is tl.float32
    assert (blk([1], tl.int32) / 2).dtype is tl.float32


def test_every_operation_on_bfloat16_rounds_as_torch_does():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(512, generator=generator).bfloat16() for _ in range(2))
    a, b = (Block(t.float().numpy(), tl.bfloat16) for t in (x, y))
    for op in (lambda p, q: p + q, lambda p, q: p - q, lambda p, q: p * q):
        assert np.array_equal(op(a, b).data, op(x, y).float().numpy())


def test_integers_divide_as_in_c_and_wrap_around():
    x = blk([7, -7, 7, -7], tl.int32)
    y = blk([2, 2, -2, -2], tl.int32)
    assert (x // y).data.tolist() == [3, -3, -3, 3] and (x % y).data.tolist() == [1, -1, 1, -1]
    assert (blk([2**31 - 1], tl.int32) + 1).data.tolist() == [-(2**31)]
    assert tl.cdiv(blk([9], tl.int32), 4).data.tolist() == [3]
    with pytest.raises(ZeroDivisionError):
        x // blk([0, 1, 1, 1], tl.int32)


def test_casts_cut_towards_zero_saturate_fp8_and_keep_bits_when_asked():
    assert blk([1.9, -1.9]).to(tl.int32).data.tolist() == [1, -1]
    assert blk([500.0, 0.3]).to(tl.float8e4nv).data.tolist() == [448.0, 0.3125]
    assert blk([1.0, -2.0]).to(tl.int32, bitcast=True).data.tolist() == [0x3F800000, -0x40000000]
    assert blk([1.0], tl.bfloat16).to(tl.uint16, bitcast=True).data.tolist() == [0x3F80]
    assert blk([0.0, 2.0]).to(tl.int1).data.tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong, error, says",
    [
        (lambda: tl.arange(0, 48), ValueError, "48 is not a power of two"),
        (lambda: tl.arange(0, tl.program_id(0)), TypeError, "known when compiled"),
        (lambda: tl.zeros((4096, 4096), tl.float32), ValueError, "more than"),
        (lambda: tl.exp(blk([1.0], tl.bfloat16)), TypeError, "cast first"),
        (lambda: tl.dot(tl.zeros((16, 8), tl.float32), tl.zeros((8, 16), tl.float32)), ValueError, "at least 16"),
        (lambda: tl.dot(tl.zeros((16, 16), tl.float32), tl.zeros((32, 16), tl.float32)), ValueError, "tl.dot of"),
        (lambda: tl.dot(tl.zeros((16, 16), tl.float32), tl.zeros((16, 16), tl.bfloat16)), TypeError, "one type"),
        (lambda: tl.zeros((4,), tl.float32)[1], TypeError, "None and"),
        (lambda: bool(tl.zeros((4,), tl.float32) > 0), TypeError, "needs one number"),
        (lambda: tl.zeros((4,), tl.float32) & 1, TypeError, "bitwise"),
        (lambda: tl.zeros((4,), tl.float32) + np.zeros(4), TypeError, "numbers and blocks"),
        (lambda: tl.zeros((4,), tl.float32) ** 2, TypeError, "no power"),
        (lambda: tl.zeros((4,), tl.float32) + tl.zeros((8,), tl.float32), ValueError, "shapes \\[4\\] and \\[8\\]"),
        (lambda: tl.sum(tl.zeros((4,), tl.float32), axis=1), ValueError, "axis 1 of a block of shape \\[4\\]"),
        (lambda: tl.argmax(tl.zeros((4,), tl.float32), axis=1), ValueError, "tl.argmax along axis 1"),
        (lambda: tl.split(tl.zeros((4,), tl.float32)), ValueError, "size 2"),
        (lambda: tl.static_assert(False, "BLOCK too small"), AssertionError, "BLOCK too small"),
        (lambda: tl.device_assert(blk([0.0, 1.0]) > 0, "positive"), AssertionError, "positive"),
        (lambda: range(blk([1.5])[None, :].data.size) and tl.range(0, blk([1.5])).__next__(), TypeError, "integer"),
    ],
)
def test_what_triton_refuses_is_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()


def test_dot_sums_in_float32_and_reads_float32_as_tf32_unless_told():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 64, generator=generator), torch.randn(64, 16, generator=generator)
    a, b, exact = Block(x.numpy(), tl.float32), Block(y.numpy(), tl.float32), (x.double() @ y.double()).numpy()
    assert np.abs(tl.dot(a, b, input_precision="ieee").data - exact).max() < 1e-5
    assert 1e-3 < np.abs(tl.dot(a, b).data - exact).max() < 5e-2
    acc = tl.full((32, 16), 1.0, tl.float32)
    assert np.abs(tl.dot(a, b, acc, input_precision="ieee").data - exact - 1).max() < 1e-5
    narrow = tl.dot(a.to(tl.float8e4nv), b.to(tl.float8e4nv))
    assert narrow.dtype is tl.float32
    whole = tl.dot(blk(np.full((16, 32), 100), tl.int8), blk(np.full((32, 16), 100), tl.int8))
    assert whole.dtype is tl.int32 and (whole.data == 320_000).all()


def test_reductions_along_an_axis_and_of_everything():
    x = blk([[3.0, 1.0, 3.0, float("nan")], [0.0, -1.0, -5.0, 2.0]])
    assert tl.max(x, axis=1).data.tolist() == [3.0, 2.0] and tl.min(x).item() == -5.0
    assert tl.sum(blk([[1, 2], [3, 4]], tl.int8), axis=0).dtype is tl.int32
    assert tl.sum(blk([[1.0, 2.0], [3.0, 4.0]]), axis=1, keep_dims=True).shape == [2, 1]
    best, at = tl.max(blk([[1.0, 7.0, 7.0, 0.0]]), axis=1, return_indices=True)
    assert best.data.tolist() == [7.0] and at.data.tolist() == [1]
    assert tl.cumsum(blk([1, 2, 3, 4], tl.int32), axis=0).data.tolist() == [1, 3, 6, 10]
    assert tl.cumsum(blk([1, 2, 3, 4], tl.int32), axis=0, reverse=True).data.tolist() == [10, 9, 7, 4]
    assert tl.histogram(blk([0, 2, 2, 1], tl.int32), 4).data.tolist() == [1, 1, 2, 0]
    assert tl.sort(blk([3.0, 1.0, 2.0, 0.0]), descending=True).data.tolist() == [3, 2, 1, 0]
    assert np.allclose(tl.softmax(blk([0.0, 0.0])).data, 0.5)


def test_pairs_are_taken_apart_and_put_together():
    x = tl.arange(0, 8).to(tl.float32)
    even, odd = tl.split(tl.reshape(x, (4, 2)))
    assert even.data.tolist() == [0, 2, 4, 6] and odd.data.tolist() == [1, 3, 5, 7]
    assert tl.reshape(tl.join(even, odd), (8,)).data.tolist() == list(range(8))
    assert tl.interleave(even, odd).data.tolist() == list(range(8))
    assert tl.trans(tl.reshape(x, (4, 2))).shape == [2, 4] and tl.reshape(x, 4, 2).T.shape == [2, 4]
    assert tl.gather(x, blk([7, 0, 1, 1], tl.int32), 0).data.tolist() == [7, 0, 1, 1]
    assert tl.flip(x).data.tolist() == list(range(7, -1, -1)) and tl.cat(x, x).shape == [16]


def test_loop_counters_are_int32_blocks_and_unrolled_ones_are_numbers():
    assert all(isinstance(i, Block) and i.dtype is tl.int32 for i in tl.range(0, 6, 2))
    assert list(tl.static_range(1, 4)) == [1, 2, 3]


@pytest.mark.parametrize(
    "start, step, says",
    [
        ("0", "total + 0.5", r"`total` from int32 into float32"),
        ("0.0", "total + tl.zeros((4,), tl.float32)", r"`total` from float32 into float32\[4\]"),
        ("tl.zeros((4,), tl.bfloat16)", "total + tl.zeros((4,), tl.float32)", r"bfloat16\[4\] into float32\[4\]"),
        ("0", "i", ""),
        ("0.0", "total + 0.5", ""),
        ("tl.zeros((4,), tl.float32)", "total + i", ""),
    ],
)
def test_a_loop_keeps_the_types_of_what_was_assigned_before_it(start, step, says):
    source = (
        "import triton\nimport triton.language as tl\n\n@triton.jit\ndef loop(n):\n"
        f"    total = {start}\n    for i in range(0, n):\n        new = i.to(tl.float32)\n        total = {step}\n"
    )
    kernel = load(source).loop
    if not says:
        kernel[(1,)](3)
        return
    with pytest.raises(TypeError, match=says):
        kernel[(1,)](1)  # found after the only round as well


def test_maximum_of_a_number_and_nan_is_the_number():
    assert tl.maximum(blk([float("nan"), 1.0]), 0.5).data.tolist() == [0.5, 1.0]
    assert tl.where(blk([1, 0], tl.int1), blk([1.0, 1.0]), 0.0).data.tolist() == [1, 0]
    assert tl.clamp(blk([-3.0, 0.5, 9.0, 1.0]), 0.0, 1.0).data.tolist() == [0, 0.5, 1, 1]


def test_a_kernel_sees_floats_as_float32_and_integers_as_int32_or_int64():
    seen = []

    @triton.jit
    def look(a, b, c, d: tl.constexpr):
        seen.extend([a.dtype, b.dtype, c.dtype, type(d)])

    look[(1,)](0.1, 5, 2**40, 7)
    assert seen == [tl.float32, tl.int32, tl.int64, int]
