"""From tokens in their order to blocks of one expert's tokens, and back with the weighted sum.

`align` sorts the A = M * K assignments by expert and cuts every expert's block into tiles, so that a tile of a grouped
product has one expert. Sorting by a key of 256 values is counting: each chunk of assignments counts its experts; the
counts, summed up along the chunks, say where each chunk's tokens of each expert begin; then each chunk places its own.
No atomics: the order is that of a stable sort, the same every time.

`permute` gathers rows into that order, `unpermute` gathers each token's K rows back and adds them with its gates. Both
move M * K rows of D numbers, and that is their cost; the index arithmetic hides behind it.

How the production version differs: with experts on many GPUs the gather becomes an all-to-all exchange (DeepEP), and
each expert's block is padded to a whole number of tiles.
"""

from dataclasses import dataclass

import torch

from minimoe.model.moe import sum_of_rows
from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = [
    "Alignment", "align", "align_reference", "permute", "permute_reference", "unpermute", "unpermute_reference",
]  # fmt: skip

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


@triton.jit
def gather_kernel(
    x_ptr, order_ptr, gates_ptr, out_ptr, D, K: tl.constexpr, BLOCK: tl.constexpr, WEIGHTED: tl.constexpr
):
    """out[a] = x[order[a] // K], times the gate of assignment order[a] if WEIGHTED."""
    place = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    assignment = tl.load(order_ptr + place).to(tl.int64)
    x = tl.load(x_ptr + (assignment // K) * D + columns, mask=columns < D, other=0.0)
    if WEIGHTED:
        gate = tl.load(gates_ptr + assignment)
        x = (x.to(gate.dtype) * gate).to(x.dtype)
    tl.store(out_ptr + place * D + columns, x, mask=columns < D)


@triton.jit
def sum_kernel(
    y_ptr, where_ptr, gates_ptr, out_ptr, D,
    K: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """out[m] = sum over k of gates[m, k] * y[where[m, k]]."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), dtype=ACC)
    for k in range(0, K):
        place = tl.load(where_ptr + token * K + k).to(tl.int64)
        y = tl.load(y_ptr + place * D + columns, mask=columns < D, other=0.0).to(ACC)
        if WEIGHTED:
            y = y * tl.load(gates_ptr + token * K + k).to(ACC)
        acc += y
    tl.store(out_ptr + token * D + columns, acc, mask=columns < D)


@triton.jit
def gate_gradient_kernel(
    d_out_ptr, y_ptr, where_ptr, d_gates_ptr, D, K: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr
):
    """d_gates[m, k] = d_out[m] . y[where[m, k]]."""
    token, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = tl.load(where_ptr + token * K + k).to(tl.int64)
    acc = tl.zeros((BLOCK,), dtype=ACC)
    for i in range(0, D, BLOCK):
        columns = i + tl.arange(0, BLOCK)
        d_out = tl.load(d_out_ptr + token * D + columns, mask=columns < D, other=0.0).to(ACC)
        acc += d_out * tl.load(y_ptr + place * D + columns, mask=columns < D, other=0.0).to(ACC)
    tl.store(d_gates_ptr + token * K + k, tl.sum(acc, axis=0))


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


def _columns(D):
    block = min(1024, next_power_of_2(D))
    return block, cdiv(D, block)


def _acc(dtype):
    return tl.float64 if dtype == torch.float64 else tl.float32


def _gathered(x_MD, order_A, gates_MK, K):
    block, across = _columns(x_MD.shape[1])
    out_AD = empty(len(order_A), x_MD.shape[1], dtype=x_MD.dtype, device=x_MD.device)
    gather_kernel[(len(order_A), across)](
        x_MD.contiguous(), order_A, gates_MK, out_AD, x_MD.shape[1], K=K, BLOCK=block, WEIGHTED=gates_MK is not None
    )
    return out_AD


def _summed(y_AD, where_MK, gates_MK):
    (M, K), D = where_MK.shape, y_AD.shape[1]
    block, across = _columns(D)
    out_MD = empty(M, D, dtype=y_AD.dtype, device=y_AD.device)
    sum_kernel[(M, across)](
        y_AD.contiguous(), where_MK, gates_MK, out_MD, D,
        K=K, BLOCK=block, ACC=_acc(y_AD.dtype), WEIGHTED=gates_MK is not None,
    )  # fmt: skip
    return out_MD


class _Permute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_MD, order_A, where_MK):
        ctx.save_for_backward(where_MK)
        return _gathered(x_MD, order_A, None, where_MK.shape[1])

    @staticmethod
    def backward(ctx, d_out_AD):
        return _summed(d_out_AD, ctx.saved_tensors[0], None), None, None


class _Unpermute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y_AD, gates_MK, order_A, where_MK):
        ctx.save_for_backward(y_AD, gates_MK, order_A, where_MK)
        return _summed(y_AD, where_MK, gates_MK)

    @staticmethod
    def backward(ctx, d_out_MD):
        y_AD, gates_MK, order_A, where_MK = ctx.saved_tensors
        (M, K), D = where_MK.shape, y_AD.shape[1]
        d_out_MD = d_out_MD.contiguous()
        d_y_AD = _gathered(d_out_MD, order_A, gates_MK, K)
        d_gates_MK = empty(M, K, dtype=gates_MK.dtype, device=gates_MK.device)
        gate_gradient_kernel[(M, K)](
            d_out_MD, y_AD, where_MK, d_gates_MK, D, K=K, BLOCK=_columns(D)[0], ACC=_acc(y_AD.dtype)
        )
        return d_y_AD, d_gates_MK, None, None


def permute(x_MD: torch.Tensor, alignment: Alignment) -> torch.Tensor:
    """Every token's row once for each of its experts, sorted by expert: out[a] = x[order[a] // K]; differentiable."""
    if alignment.where_MK.shape[0] != len(x_MD):
        raise ValueError(f"an alignment of {alignment.where_MK.shape[0]} tokens for {len(x_MD)} rows")
    return _Permute.apply(x_MD, alignment.order_A, alignment.where_MK)


def unpermute(y_AD: torch.Tensor, gates_MK: torch.Tensor, alignment: Alignment) -> torch.Tensor:
    """Each token's sum over its experts, out[m] = sum_k gates[m, k] * y[where[m, k]]; differentiable in both.

    The sum runs in float32 in the order of k, and is rounded once to y's type.
    """
    if y_AD.shape[0] != gates_MK.numel() or gates_MK.shape != alignment.where_MK.shape:
        at = tuple(alignment.where_MK.shape)
        raise ValueError(f"{y_AD.shape[0]} rows and gates {tuple(gates_MK.shape)} for assignments {at}")
    return _Unpermute.apply(y_AD.contiguous(), gates_MK.contiguous(), alignment.order_A, alignment.where_MK)


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


def permute_reference(x_MD, alignment):
    """`permute` by indexing."""
    return x_MD[alignment.order_A.long() // alignment.where_MK.shape[1]]


def unpermute_reference(y_AD, gates_MK, alignment):
    """`unpermute` as the library has it."""
    return sum_of_rows(y_AD, alignment.where_MK.long(), gates_MK.to(y_AD.dtype))
