"""Orders of a grid: what agrees, what does not, and what is counted."""

import pytest
import torch

from minimoe_kernels import sim
from minimoe_kernels.kernel import tl, triton


@triton.jit
def running_sum(x_ptr, total_ptr):
    """Wrong on a GPU, right one after the other: every program adds to one number without an atomic."""
    total = tl.load(total_ptr)
    tl.store(total_ptr, total * 0.5 + tl.load(x_ptr + tl.program_id(0)))


@triton.jit
def atomic_sum(x_ptr, total_ptr):
    tl.atomic_add(total_ptr, tl.load(x_ptr + tl.program_id(0)))


@triton.jit
def place(out_ptr, WIDTH: tl.constexpr, HEIGHT: tl.constexpr):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    assert WIDTH == tl.num_programs(0)
    tl.store(out_ptr + (z * HEIGHT + y) * WIDTH + x, 100 * x + 10 * y + z)


def test_a_racy_sum_is_caught_though_each_order_alone_looks_right():
    x, total = torch.randn(8, generator=torch.Generator().manual_seed(0)), torch.zeros(1)
    running_sum[(8,)](x, total)
    with sim.session(sim.ORDERS), pytest.raises(sim.OrderDependent) as caught:
        running_sum[(8,)](x, torch.zeros(1))
    for part in ("running_sum: element 0 of total_ptr", "run forward", "run reversed", "1 of 1"):
        assert part in str(caught.value)


def test_atomic_sums_of_floats_need_a_tolerance_and_of_integers_none():
    x = torch.randn(64, generator=torch.Generator().manual_seed(0)) * 1e3
    with sim.session(sim.ORDERS), pytest.raises(sim.OrderDependent):
        atomic_sum[(64,)](x, torch.zeros(1))
    total = torch.zeros(1)
    with sim.session(sim.ORDERS, tolerance=1e-5):
        atomic_sum[(64,)](x, total)
    assert torch.allclose(total, x.sum())
    whole = torch.zeros(1, dtype=torch.int32)
    with sim.session(sim.ORDERS):
        atomic_sum[(64,)](torch.arange(64, dtype=torch.int32), whole)
    assert whole.item() == 63 * 32


def test_memory_after_all_orders_is_that_of_the_first():
    total = torch.zeros(1)
    with sim.session(("reversed", "forward"), tolerance=10.0):
        running_sum[(2,)](torch.tensor([1.0, 4.0]), total)
    assert total.item() == 4 * 0.5 + 1


def test_a_grid_has_three_axes_and_may_be_empty_or_computed():
    out = torch.full((2, 3, 4), -1, dtype=torch.int32)
    with sim.session(sim.ORDERS) as ran:
        place[lambda meta: (meta["WIDTH"], meta["HEIGHT"], 2)](out, WIDTH=4, HEIGHT=3)
    assert out[1, 2, 3].item() == 321 and (out >= 0).all()
    assert ran.launches[0].grid == (4, 3, 2) and len(ran.launches[0].programs) == 24
    place[(0,)](out, WIDTH=4, HEIGHT=3)
    with pytest.raises(ValueError, match="none negative"):
        place[(-1,)](out, WIDTH=4, HEIGHT=3)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="sideways"), sim.session(("sideways",)):
        pass


def test_uninitialised_memory_is_uninitialised_in_every_order():
    @triton.jit
    def relay(scratch_ptr):
        pid = tl.program_id(0)
        if pid == 0:
            tl.store(scratch_ptr, 1.0)
        else:
            tl.store(scratch_ptr + pid, tl.load(scratch_ptr))

    relay[(3,)](sim.empty(3))
    with sim.session(sim.ORDERS), pytest.raises(sim.Uninitialised, match=r"program \(2, 0, 0\) of relay"):
        relay[(3,)](sim.empty(3))


def test_flops_of_products_and_of_the_rest_are_counted_apart():
    @triton.jit
    def product(x_ptr, out_ptr, N: tl.constexpr):
        at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
        x = tl.load(x_ptr + at)
        tl.store(out_ptr + at, tl.dot(x, x) * 2.0)

    with sim.session() as ran:
        product[(1,)](torch.ones(16, 16), torch.ones(16, 16), N=16)
    assert ran.total == sim.Counts(1024, 1024, 2 * 16**3, 256)
    assert ran.total.intensity == (2 * 16**3 + 256) / 2048
