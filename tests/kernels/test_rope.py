"""Rotary positions."""

import pytest
import torch

import minimoe
from minimoe.model.rope import apply_rope, rope_turns
from minimoe_kernels import rope as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import rope as checks


def test_values_gradients_memory_and_order(every_order):
    checks.check(ops)


def test_gradients_in_float64():
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    turns = torch.randn(7, 4, dtype=torch.float64)
    position = torch.tensor([6, 0, 6])
    assert torch.autograd.gradcheck(lambda t: ops.rope(t, turns, position), (x,))


def test_the_library_s_table_goes_in_as_it_is():
    turns = rope_turns(minimoe.NANO, torch.arange(9), torch.float32)
    R = 2 * turns.shape[-1]
    x = torch.randn(9, 2, R)
    real = torch.view_as_real(turns).flatten(-2)
    out = ops.rope(x, real, torch.arange(9))
    assert torch.allclose(out, apply_rope(x, turns[:, None]), atol=1e-6)  # float32, sizes near 1


def test_a_rotation_keeps_the_length_of_every_pair():
    x, angle = torch.randn(5, 3, 8), torch.randn(5, 4)
    turns = torch.stack([angle.cos(), angle.sin()], dim=-1).flatten(-2)
    out = ops.rope(x, turns, torch.arange(5))
    lengths = [t.unflatten(-1, (-1, 2)).norm(dim=-1) for t in (x, out)]
    assert torch.allclose(*lengths, atol=1e-6)


def test_the_table_s_row_is_read_once_for_all_heads():
    with sim.session() as ran:
        ops.rope(torch.zeros(4, 16, 8).bfloat16(), torch.zeros(9, 8), torch.zeros(4, dtype=torch.int32))
    assert ran.total.loaded_bytes == 4 * (16 * 8 * 2 + 8 * 4 + 4) and ran.total.stored_bytes == 4 * 16 * 8 * 2


def test_a_position_beyond_the_table_is_caught():
    with pytest.raises(sim.OutOfBounds, match="turns_ptr"):
        ops.rope(torch.zeros(1, 1, 4), torch.zeros(3, 4), torch.tensor([3]))


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="6 numbers and the table 6"):
        ops.rope(torch.zeros(1, 1, 6), torch.zeros(3, 6), torch.tensor([0]))
    with pytest.raises(ValueError, match="2 positions for 1 tokens"):
        ops.rope(torch.zeros(1, 1, 4), torch.zeros(3, 4), torch.tensor([0, 1]))
