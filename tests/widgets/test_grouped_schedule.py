"""The clock of a grouped product: tiles are those of the kernels, nothing is lost, no way is shorter than it can be."""

import pytest
import torch

from minimoe_kernels.align import align_reference
from minimoe_kernels.kernel import cdiv
from minimoe_widgets.grouped_schedule import WAYS, Tile, launches, schedule, tiles_of

LOADS = [(5, 0, 3, 9), (0, 0, 7), (64, 64), (1,) * 9]


@pytest.mark.parametrize("load_E", LOADS)
@pytest.mark.parametrize("tile", [1, 4, 64])
def test_tiles_are_those_of_the_alignment(load_E, tile):
    chosen_A = torch.arange(len(load_E)).repeat_interleave(torch.tensor(load_E))
    found = align_reference(chosen_A[:, None], len(load_E), tile)
    real = found.tile_expert >= 0
    pairs = zip(found.tile_expert[real].tolist(), found.tile_start[real].tolist(), strict=True)
    tiles = tiles_of(load_E, tile)
    assert [(t.expert, t.start) for t in tiles] == list(pairs)
    assert sum(t.rows for t in tiles) == sum(load_E)
    ends = found.ends_E.tolist()
    assert all(0 < t.rows <= tile and t.start + t.rows <= ends[t.expert] for t in tiles)


def test_five_rows_by_hand():
    assert tiles_of((5, 0, 3), 4) == [Tile(0, 0, 4), Tile(0, 4, 1), Tile(2, 5, 3)]
    # three tiles by two blocks on two multiprocessors
    assert schedule((5, 0, 3), 4, 2, 2, "one launch").length == 3
    assert schedule((5, 0, 3), 4, 2, 2, "loop over experts").length == 3
    assert schedule((5, 0, 3), 4, 2, 4, "one launch").length == 2
    assert schedule((5, 0, 3), 4, 2, 4, "weight gradient").length == 2
    assert launches((5, 0, 3), 4, 2, "weight gradient") == [[(0, 2), (0, 2), (2, 1), (2, 1)]]
    assert [len(programs) for programs in launches((5, 0, 3), 4, 2, "loop over experts")] == [4, 2]


@pytest.mark.parametrize("load_E", LOADS)
@pytest.mark.parametrize("deep", [1, 3])
def test_the_work_of_all_ways_is_one_and_no_multiprocessor_runs_two_programs(load_E, deep):
    plans = {way: schedule(load_E, 4, 5, 6, way, deep) for way in WAYS}
    assert {plan.work for plan in plans.values()} == {len(tiles_of(load_E, 4)) * 5 * deep}
    for plan in plans.values():
        assert plan.length >= cdiv(plan.work, 6) and plan.busy <= 1
        for processor in range(6):
            runs = sorted((r.start, r.start + r.length) for r in plan.runs if r.processor == processor)
            assert all(end <= start for (_, end), (start, _) in zip(runs, runs[1:], strict=False))
    assert plans["one launch"].length <= plans["loop over experts"].length


def test_one_launch_is_waves_of_tiles_and_a_loop_is_waves_of_each_expert():
    load_E = (300, 0, 20, 130)
    tiles = [cdiv(load, 64) for load in load_E]
    assert schedule(load_E, 64, 3, 8, "one launch", deep=2).length == 2 * cdiv(3 * sum(tiles), 8)
    assert schedule(load_E, 64, 3, 8, "loop over experts", deep=2).length == 2 * sum(cdiv(3 * n, 8) for n in tiles)
    assert schedule(load_E, 64, 1, 8, "weight gradient").length == max(tiles)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="loop over experts, one launch, weight gradient"):
        schedule((1,), 4, 1, 1, "graph")
