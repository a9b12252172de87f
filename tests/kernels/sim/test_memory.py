"""Every access is checked: what is refused, and what the message names."""

import math

import pytest
import torch

from minimoe_kernels import sim
from minimoe_kernels.kernel import tl, triton


@triton.jit
def copy(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)


@triton.jit
def copy_by_strides(x_ptr, out_ptr, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    x = tl.load(x_ptr + rows[:, None] * stride + columns[None, :])
    tl.store(out_ptr + rows[:, None] * COLUMNS + columns[None, :], x)


@triton.jit
def copy_without_other(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n))


@triton.jit
def all_to_one(x_ptr, out_ptr, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets * 0, tl.load(x_ptr + offsets))


@triton.jit
def count(ids_ptr, counts_ptr, found_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    ids = tl.load(ids_ptr + offsets, mask=offsets < n, other=0)
    tl.store(found_ptr + offsets, tl.atomic_add(counts_ptr + ids, 1, mask=offsets < n), mask=offsets < n)


def test_a_read_past_the_end_names_program_pointer_element_and_mask():
    x, out = torch.arange(10.0), torch.empty(16)
    with pytest.raises(sim.OutOfBounds) as caught:
        copy[(2,)](x, out, 12, BLOCK=8)
    said = str(caught.value)
    for part in ("program (1, 0, 0) of copy", "loads element 10 of x_ptr", "4 of 8 lanes", "shape (10,)", "0 to 9"):
        assert part in said, said


def test_a_write_past_the_end_is_refused_and_nothing_is_written_there():
    whole = torch.full((16,), 7.0)
    with pytest.raises(sim.OutOfBounds, match="stores element 12 of out_ptr"):
        copy[(2,)](torch.arange(16.0), whole[:12], 16, BLOCK=8)
    assert (whole[12:] == 7).all()


def test_a_negative_offset_is_refused():
    @triton.jit
    def before(x_ptr, out_ptr):
        tl.store(out_ptr, tl.load(x_ptr - 1))

    with pytest.raises(sim.OutOfBounds, match="element -1 of x_ptr without a mask"):
        before[(1,)](torch.zeros(8)[4:], torch.zeros(1))


def test_the_gap_between_rows_of_a_view_belongs_to_somebody_else():
    whole, out = torch.arange(32.0).view(4, 8), torch.empty(4, 4)
    copy_by_strides[(1,)](whole[:, :4], out, 8, ROWS=4, COLUMNS=4)
    assert torch.equal(out, whole[:, :4])
    with pytest.raises(sim.OutOfBounds, match="between its rows"):
        copy_by_strides[(1,)](whole[:, :4], torch.empty(4, 8), 8, ROWS=4, COLUMNS=8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float64, torch.int32, torch.bool])
def test_views_with_an_offset_are_read_where_they_lie(dtype):
    x, out = torch.arange(24).to(dtype)[5:], torch.zeros(19, dtype=dtype)
    copy[(3,)](x, out, 19, BLOCK=8)
    assert torch.equal(out.view(torch.uint8), x.contiguous().view(torch.uint8))


def test_an_empty_tensor_can_be_passed_and_not_read():
    copy[(1,)](torch.empty(0), torch.empty(0), 0, BLOCK=8)
    with pytest.raises(sim.OutOfBounds):
        copy[(1,)](torch.empty(0), torch.empty(8), 1, BLOCK=8)


def test_storing_a_lane_that_loaded_nothing_names_the_missing_other():
    with pytest.raises(sim.Uninitialised, match="stores to out_ptr 4 of 8 numbers .* no `other`"):
        copy_without_other[(1,)](torch.ones(4), torch.zeros(8), 4, BLOCK=8)
    with pytest.raises(sim.Uninitialised, match="x_ptr: this tl.store has no mask and writes what the load's mask"):
        copy_without_other[(1,)](torch.ones(4), torch.zeros(8), 4, BLOCK=8)
    out = torch.zeros(8, dtype=torch.int32)
    copy_without_other[(1,)](torch.ones(4, dtype=torch.int32), out, 4, BLOCK=8)
    assert (out[4:] < -(10**8)).all()  # of integers the value alone tells


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_a_lane_that_loaded_nothing_is_passed_on_and_never_passed_over(dtype):
    @triton.jit
    def largest(x_ptr, out_ptr, n, HOW: tl.constexpr):
        offsets = tl.arange(0, 8)
        x = tl.load(x_ptr + offsets, mask=offsets < n)
        if x.dtype != tl.float64:
            x = x.to(tl.float32)
        if HOW == "whole":
            tl.store(out_ptr, tl.max(x, axis=0))
        elif HOW == "sum":
            tl.store(out_ptr, tl.sum(3.0 * x - 1.0, axis=0))
        elif HOW == "unary":
            tl.store(out_ptr + offsets, tl.exp(-x))
        elif HOW == "pair":
            tl.store(out_ptr + offsets, tl.maximum(x, 0.0))
        elif HOW == "pair, stored where loaded":
            tl.store(out_ptr + offsets, tl.maximum(x, 0.0), mask=offsets < n)
        else:
            tl.store(out_ptr, tl.max(tl.where(offsets < n, x, -1.0), axis=0))

    x = torch.arange(5.0).to(dtype)
    said = {"whole": "takes tl.max of 3 of 8", "sum": "stores to out_ptr"}
    said |= dict.fromkeys(("unary", "pair"), "stores to out_ptr 3")
    for how, verb in said.items():
        with pytest.raises(sim.Uninitialised, match=verb):
            largest[(1,)](x, torch.zeros(8), 5, HOW=how)
    out = torch.zeros(8)
    largest[(1,)](x, out, 5, HOW="pair, stored where loaded")
    assert out[:5].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    largest[(1,)](x, out, 5, HOW="where")
    assert out[0] == 4.0


@triton.jit
def summed(x_ptr, y_ptr, out_ptr, n, HOW: tl.constexpr):
    offsets = tl.arange(0, 8)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    y = tl.load(y_ptr + offsets, mask=offsets < n)
    if HOW == "alone":
        tl.store(out_ptr, tl.sum(y, axis=0))
    elif HOW == "wide":
        tl.store(out_ptr + offsets, (-y).to(tl.float64), mask=offsets < 7)
    else:
        tl.store(out_ptr + offsets, x * tl.sum(y, axis=0), mask=offsets < n)


@pytest.mark.parametrize(
    "how, words",
    [
        ("alone", "1 of 1 numbers made of lanes that loaded nothing from y_ptr: their mask was False and"),
        ("wide", "2 of 7 numbers .* y_ptr: this tl.store has a mask that lets through what the load's mask left"),
        ("sum", "5 of 5 numbers .* from y_ptr: their mask was False and tl.load had no `other`"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_two_loads_the_one_without_other_is_named_and_a_wide_store_only_where_it_is_the_cause(how, words, dtype):
    x, y, out = torch.ones(5, dtype=dtype), torch.ones(5, dtype=dtype), torch.zeros(8, dtype=dtype)
    with pytest.raises(sim.Uninitialised, match=words):
        summed[(1,)](x, y, out, 5, HOW=how)


def test_a_block_or_a_mask_through_one_pointer_is_refused():
    @triton.jit
    def to_one(x_ptr, out_ptr, MASKED: tl.constexpr):
        offsets = tl.arange(0, 4)
        tl.store(out_ptr, tl.load(x_ptr + offsets), mask=offsets < 3 if MASKED else None)

    for masked, what in ((False, "a block"), (True, "with a mask")):
        with pytest.raises(ValueError, match=rf"stores {what} of shape \[4\] through pointers of shape \[\]"):
            to_one[(1,)](torch.ones(4), torch.zeros(4), MASKED=masked)


def test_what_students_try_on_a_pointer_or_a_number_is_refused_with_the_way_out():
    @triton.jit
    def tries(x_ptr, n, HOW: tl.constexpr):
        offsets = tl.arange(0, 4)
        if HOW == "brackets":
            x_ptr[offsets]
        elif HOW == "shapes":
            x_ptr + offsets + tl.arange(0, 8)[None, :]
        elif HOW == "axis":
            n[:, None]
        elif HOW == "type":
            tl.load(x_ptr).to(torch.float32)
        elif HOW == "name":
            tl.mean(offsets)
        else:
            math.sqrt(tl.load(x_ptr))

    said = {
        "brackets": (TypeError, r"To read from memory: tl.load\(pointer \+ offsets\)"),
        "shapes": (ValueError, r"blocks of shapes \[4\] and \[1, 8\]"),
        "axis": (IndexError, r"stands 1 times, once for each axis, and it has 0"),
        "type": (TypeError, "Triton's own, such as tl.float32"),
        "name": (AttributeError, "tl.mean: Triton has no such function"),
        "math": (TypeError, "such as tl.sqrt"),
    }
    for how, (error, words) in said.items():
        with pytest.raises(error, match=words):
            tries[(1,)](torch.ones(8), 4, HOW=how)


def test_reading_what_nobody_wrote_is_an_error_until_it_is_written():
    scratch, out = sim.empty(8), torch.empty(8)
    assert scratch.isnan().all()
    copy[(1,)](torch.ones(4), scratch, 4, BLOCK=8)
    copy[(1,)](scratch, out, 4, BLOCK=8)
    with pytest.raises(sim.Uninitialised, match="loads element 4 of x_ptr, which nothing has written"):
        copy[(1,)](scratch, out, 8, BLOCK=8)
    with pytest.raises(sim.Uninitialised, match="element 0"):
        copy[(1,)](scratch[6:], out, 2, BLOCK=8)
    copy[(1,)](torch.ones(2), scratch[6:], 2, BLOCK=8)
    copy[(1,)](scratch[6:], out, 2, BLOCK=8)


def test_memory_that_is_used_again_starts_over():
    for _ in range(50):
        scratch = sim.empty(64)
        with pytest.raises(sim.Uninitialised):
            copy[(1,)](scratch, torch.empty(64), 1, BLOCK=8)
        del scratch
        fresh = torch.zeros(64)  # may well lie where the scratch lay
        copy[(1,)](fresh, torch.empty(64), 64, BLOCK=64)


def test_two_lanes_that_disagree_about_an_element_are_caught():
    with pytest.raises(sim.StoreConflict, match="different values to one element of out_ptr"):
        all_to_one[(1,)](torch.arange(4.0), torch.zeros(1), BLOCK=4)
    all_to_one[(1,)](torch.ones(4), torch.zeros(1), BLOCK=4)
    all_to_one[(1,)](torch.full((4,), float("nan")), torch.zeros(1), BLOCK=4)


def test_atomics_count_every_lane_and_give_what_each_found():
    ids, counts = torch.tensor([2, 0, 2, 2, 1], dtype=torch.int32), torch.zeros(3, dtype=torch.int32)
    found = sim.empty(5, dtype=torch.int32)
    count[(1,)](ids, counts, found, 5, BLOCK=8)
    assert counts.tolist() == [1, 1, 3] and found.tolist() == [0, 0, 1, 2, 0]


def test_bytes_are_counted_for_lanes_that_are_on():
    with sim.session() as ran:
        copy[(2,)](torch.zeros(13, dtype=torch.bfloat16), torch.zeros(13), 13, BLOCK=8)
    (launch,) = ran.launches
    assert [c.loaded_bytes for c in launch.programs.values()] == [16, 10]
    assert launch.tensors == {"x_ptr": (26, 0), "out_ptr": (0, 52)} and ran.total.bytes == 78


def test_a_tensor_of_a_type_that_triton_lacks_is_refused_by_name():
    with pytest.raises(TypeError, match="x_ptr: torch.complex64 is not one of"):
        copy[(1,)](torch.zeros(2, dtype=torch.complex64), torch.zeros(2), 2, BLOCK=8)


def test_moving_a_pointer_by_a_float_is_refused():
    @triton.jit
    def halfway(x_ptr, step):
        tl.load(x_ptr + step)

    with pytest.raises(TypeError, match="whole elements"):
        halfway[(1,)](torch.zeros(2), 0.5)
