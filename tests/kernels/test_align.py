"""Assignments sorted by expert and cut into tiles."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe_kernels import align as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import align as checks


def test_order_tiles_memory_and_order_of_programs(every_order):
    checks.check(ops)


@settings(max_examples=15)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 8]), st.data())
def test_small_shapes(M, E, tile, data):
    checks.check(ops, sizes=[(M, data.draw(st.integers(1, E)), E, tile)])


def test_every_tile_has_one_expert_and_every_row_one_tile():
    chosen = checks.assignments(50, 3, 7, "random")
    found = ops.align(chosen, 7, tile=8)
    rows = []
    for expert, start in zip(found.tile_expert.tolist(), found.tile_start.tolist(), strict=True):
        if expert >= 0:
            end = min(start + 8, found.ends_E[expert].item())
            rows += range(start, end)
            assert {chosen.flatten()[a].item() for a in found.order_A[start:end].tolist()} == {expert}
    assert sorted(rows) == list(range(150))


def test_no_tokens_at_all():
    found = ops.align(torch.zeros(0, 2, dtype=torch.int32), 4)
    assert found.ends_E.tolist() == [0] * 4 and len(found.tile_expert) == 0


def test_the_ids_are_read_twice_and_the_order_written_once():
    with sim.session() as ran:
        ops.align(checks.assignments(50, 2, 4, "random"), 4)
    moved = {launch.kernel: launch.tensors for launch in ran.launches}
    assert moved["count_kernel"]["chosen_ptr"] == moved["place_kernel"]["chosen_ptr"] == (400, 0)
    assert moved["place_kernel"]["order_ptr"] == moved["place_kernel"]["where_ptr"] == (0, 400)
