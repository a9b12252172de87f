"""From tokens in their order to blocks of one expert's tokens: who stands where.

`align` sorts the A = M * K assignments by expert and cuts every expert's block into tiles, so that a tile of a grouped
product has one expert. Sorting by a key of 256 values is counting: each chunk of assignments counts its experts; the
counts, summed up along the chunks, say where each chunk's tokens of each expert begin; then each chunk places its own.
No atomics: the order is that of a stable sort, the same every time.

How the production version differs: experts are on many GPUs, so the counts are exchanged first, and each expert's block
is padded to a whole number of tiles.
"""

from dataclasses import dataclass

import torch

from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["Alignment", "align", "align_reference"]

CHUNK, STEP = 1024, 32  # assignments of one program, and of one turn of its loop


@dataclass
class Alignment:
    """Where M * K assignments stand once sorted by expert (all int32).

    `order_A`: the assignment (token * K + slot) at each place. `where_MK`: the place of each assignment. `ends_E`:
    where each expert's block ends. `tile_expert`, `tile_start`: for every tile its expert and its first place; there
    are as many as could be needed, and the surplus ones have expert -1.
    """

    order_A: torch.Tensor
    where_MK: torch.Tensor
    ends_E: torch.Tensor
    tile_expert: torch.Tensor
    tile_start: torch.Tensor
    tile: int


@triton.jit
def count_kernel(chosen_ptr, counts_ptr, A, E, CHUNK: tl.constexpr, STEP: tl.constexpr, BLOCK_E: tl.constexpr):
    experts = tl.arange(0, BLOCK_E)
    counts = tl.zeros((BLOCK_E,), dtype=tl.int32)
    first = tl.program_id(0) * CHUNK
    for i in range(0, CHUNK, STEP):
        at = first + i + tl.arange(0, STEP)
        chosen = tl.load(chosen_ptr + at, mask=at < A, other=-1)
        counts += tl.sum((chosen[:, None] == experts[None, :]).to(tl.int32), axis=0)
    tl.store(counts_ptr + tl.program_id(0) * E + experts, counts, mask=experts < E)


@triton.jit
def starts_kernel(counts_ptr, starts_ptr, ends_ptr, chunks, E, BLOCK_E: tl.constexpr):
    """For every chunk and expert the place of its first token: after all smaller experts, after all earlier chunks."""
    experts = tl.arange(0, BLOCK_E)
    mask = experts < E
    total = tl.zeros((BLOCK_E,), dtype=tl.int32)
    for chunk in range(0, chunks):
        total += tl.load(counts_ptr + chunk * E + experts, mask=mask, other=0)
    ends = tl.cumsum(total, axis=0)
    tl.store(ends_ptr + experts, ends, mask=mask)
    start = ends - total
    for chunk in range(0, chunks):
        tl.store(starts_ptr + chunk * E + experts, start, mask=mask)
        start += tl.load(counts_ptr + chunk * E + experts, mask=mask, other=0)


@triton.jit
def place_kernel(
    chosen_ptr, starts_ptr, order_ptr, where_ptr, A, E, CHUNK: tl.constexpr, STEP: tl.constexpr, BLOCK_E: tl.constexpr
):
    experts = tl.arange(0, BLOCK_E)
    next_place = tl.load(starts_ptr + tl.program_id(0) * E + experts, mask=experts < E, other=0)
    first = tl.program_id(0) * CHUNK
    for i in range(0, CHUNK, STEP):
        at = first + i + tl.arange(0, STEP)
        chosen = tl.load(chosen_ptr + at, mask=at < A, other=-1)
        hit = (chosen[:, None] == experts[None, :]).to(tl.int32)
        rank = tl.cumsum(hit, axis=0) - hit + next_place[None, :]
        place = tl.sum(hit * rank, axis=1)
        tl.store(order_ptr + place, at, mask=at < A)
        tl.store(where_ptr + at, place, mask=at < A)
        next_place += tl.sum(hit, axis=0)


@triton.jit
def tiles_kernel(
    ends_ptr, tile_expert_ptr, tile_start_ptr, E, tiles, TILE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK: tl.constexpr
):
    """The tiles of expert `program_id`; one more program marks the surplus."""
    expert = tl.program_id(0)
    experts = tl.arange(0, BLOCK_E)
    ends = tl.load(ends_ptr + experts, mask=experts < E, other=0)
    starts = tl.load(ends_ptr + experts - 1, mask=(experts > 0) & (experts < E), other=0)
    needed = tl.where(experts < E, (ends - starts + TILE - 1) // TILE, 0)
    first = tl.sum(tl.where(experts < expert, needed, 0), axis=0)
    mine = tl.sum(tl.where(experts == expert, needed, 0), axis=0)
    start = tl.sum(tl.where(experts == expert, starts, 0), axis=0)
    name = expert
    if expert == E:
        mine = tiles - first
        name = -1
    for i in range(0, mine, BLOCK):
        t = i + tl.arange(0, BLOCK)
        tl.store(tile_expert_ptr + first + t, tl.zeros((BLOCK,), dtype=tl.int32) + name, mask=t < mine)
        tl.store(tile_start_ptr + first + t, start + t * TILE, mask=t < mine)


def align(chosen_MK: torch.Tensor, n_experts: int, tile: int = 128) -> Alignment:
    """Sort assignments by expert, stably, and cut the blocks into tiles of `tile` rows (see `Alignment`).

    Takes expert ids in [0, n_experts); empty experts have empty blocks and no tile.
    """
    M, K = chosen_MK.shape
    A, E, device = M * K, n_experts, chosen_MK.device
    chunks, block = max(1, cdiv(A, CHUNK)), max(2, next_power_of_2(E))
    made = {"dtype": torch.int32, "device": device}
    order_A, where_MK, ends_E = empty(A, **made), empty(M, K, **made), empty(E, **made)
    counts, starts = empty(chunks, E, **made), empty(chunks, E, **made)
    tiles = A // tile + min(A, E)
    tile_expert, tile_start = empty(tiles, **made), empty(tiles, **made)
    sizes = {"CHUNK": CHUNK, "STEP": STEP, "BLOCK_E": block}
    chosen_A = chosen_MK.contiguous()
    count_kernel[(chunks,)](chosen_A, counts, A, E, **sizes)
    starts_kernel[(1,)](counts, starts, ends_E, chunks, E, BLOCK_E=block)
    place_kernel[(chunks,)](chosen_A, starts, order_A, where_MK, A, E, **sizes)
    tiles_kernel[(E + 1,)](ends_E, tile_expert, tile_start, E, tiles, TILE=tile, BLOCK_E=block, BLOCK=64)
    return Alignment(order_A, where_MK, ends_E, tile_expert, tile_start, tile)


def align_reference(chosen_MK, n_experts, tile=128):
    """`align` with a stable sort."""
    flat = chosen_MK.flatten().long()
    order_A = flat.argsort(stable=True)
    where_MK = torch.empty_like(order_A).scatter_(0, order_A, torch.arange(len(flat), device=flat.device))
    counts = flat.bincount(minlength=n_experts)
    ends_E = counts.cumsum(0)
    expert, start = [], []
    for e, (count, end) in enumerate(zip(counts.tolist(), ends_E.tolist(), strict=True)):
        for first in range(end - count, end, tile):
            expert.append(e)
            start.append(first)
    tiles = len(flat) // tile + min(len(flat), n_experts)
    # the surplus tiles: expert -1, and starts that go on from 0
    start += [tile * i for i in range(tiles - len(expert))]
    expert += [-1] * (tiles - len(expert))
    lists = (torch.tensor(x, dtype=torch.int32, device=flat.device) for x in (expert, start))
    return Alignment(order_A.int(), where_MK.view(chosen_MK.shape).int(), ends_E.int(), *lists, tile)
