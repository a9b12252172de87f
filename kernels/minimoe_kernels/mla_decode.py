"""MLA decoding in its absorbed form: one query a sequence, every head against the cached latents, in pages.

    out[b, h] = softmax(scale * q[b, h] . entry[b, s]) @ entry[b, s][:C]      over the S[b] entries of sequence b

An entry is a latent of C = 512 numbers and a rotary key of R = 64; all heads share it. It is the key of all its 576
numbers and the value of its first 512, so one load serves both products: the tile that the scores were made of, turned,
is multiplied by the probabilities. With 16 heads a program does 30 FLOPs for each byte of cache and waits for memory;
with 128 heads it does 228 and has work to do.

One query a sequence is too few programs for a GPU, so a long sequence is *split*: each program takes a share of the
entries. Scores come a block at a time, so it keeps the largest so far, `peak`, and sums measured against it: `total` of
exp(score - peak), and `acc` of the same weights times the values. When a block raises the peak, both are multiplied by
`shrink` = exp(old peak - new peak). At the end it stores acc / total, its share's own attention, and one number a head,
`log_sum` = peak + ln(total), which is the logarithm of the sum of exp(score). `combine_kernel` weighs the shares by
exp(log_sum - largest log_sum) and divides by the sum of these weights. A share without entries has log_sum = -inf and
counts for nothing.

The cache is *paged*: entry s of sequence b stands in row s % PAGE of page table[b, s // PAGE]. Pages that a sequence
does not use may hold anything, NaN included, and their slots in the table any number: neither is ever read.

P counts pages of the whole cache, J the pages a sequence may have, X splits.

How the production version differs: FlashMLA has two warp groups, of which one multiplies while the other one does its
softmax, and plans the splits so that sequences of unequal length keep all multiprocessors busy.
"""

import torch

from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["mla_decode", "mla_decode_reference"]


@triton.jit
def split_kernel(
    q_ptr, cache_ptr, table_ptr, lengths_ptr, partial_ptr, log_sum_ptr, scale, H, table_row,
    C: tl.constexpr, R: tl.constexpr, PAGE: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_S: tl.constexpr,
    SPLITS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    sequence, share = tl.program_id(0).to(tl.int64), tl.program_id(2)
    heads = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    latent, rotary, places = tl.arange(0, C), tl.arange(0, R), tl.arange(0, BLOCK_S)
    real = heads[:, None] < H
    q_at = q_ptr + (sequence * H + heads[:, None]) * (C + R)
    q_latent = tl.load(q_at + latent[None, :], mask=real, other=0.0)
    q_rotary = tl.load(q_at + C + rotary[None, :], mask=real, other=0.0)

    length = tl.load(lengths_ptr + sequence)
    each = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK_S) * BLOCK_S  # entries of one share
    first = share * each
    end = tl.minimum(first + each, length)
    peak = tl.full((BLOCK_H,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_H,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_H, C), dtype=tl.float32)
    for start in range(first, end, BLOCK_S):
        s = start + places
        inside = s < end
        page = tl.load(table_ptr + sequence * table_row + s // PAGE, mask=inside, other=0).to(tl.int64)
        entry_at = cache_ptr + (page * PAGE + s % PAGE) * (C + R)
        values = tl.load(entry_at[:, None] + latent[None, :], mask=inside[:, None], other=0.0)
        keys = tl.load(entry_at[None, :] + C + rotary[:, None], mask=inside[None, :], other=0.0)
        scores = tl.dot(q_latent, tl.trans(values), input_precision=PRECISION)
        scores = tl.dot(q_rotary, keys, scores, input_precision=PRECISION) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, axis=1))
        shrink = tl.exp(peak - new_peak)
        weights = tl.exp(scores - new_peak[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        acc = tl.dot(weights.to(values.dtype), values, acc * shrink[:, None], input_precision=PRECISION)
        peak = new_peak
    share_at = (sequence * H + heads) * SPLITS + share
    finished = acc / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(partial_ptr + share_at[:, None] * C + latent[None, :], finished, mask=real)
    log_sum = tl.where(total > 0, peak + tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))
    tl.store(log_sum_ptr + share_at, log_sum, mask=heads < H)


@triton.jit
def combine_kernel(partial_ptr, log_sum_ptr, out_ptr, C: tl.constexpr, SPLITS: tl.constexpr, BLOCK_X: tl.constexpr):
    """out = sum over shares of partial * exp(log_sum) / sum of exp(log_sum); zeros if every share is empty."""
    row = tl.program_id(0).to(tl.int64)
    share, latent = tl.arange(0, BLOCK_X), tl.arange(0, C)
    log_sum = tl.load(log_sum_ptr + row * SPLITS + share, mask=share < SPLITS, other=float("-inf"))
    peak = tl.max(log_sum, axis=0)
    weights = tl.exp(log_sum - tl.where(peak > float("-inf"), peak, 0.0))
    partial_at = partial_ptr + (row * SPLITS + share[:, None]) * C + latent[None, :]
    partial = tl.load(partial_at, mask=share[:, None] < SPLITS, other=0.0)
    total = tl.sum(weights, axis=0)
    out = tl.sum(partial * weights[:, None], axis=0) / tl.where(total > 0, total, 1.0)
    tl.store(out_ptr + row * C + latent, out)


def plan(sequences: int, heads: int, longest: int, latent: int, programs: int = 132) -> tuple[int, int, int]:
    """(heads of a program, entries of a step, splits): 64 heads where there are as many, a program a multiprocessor.

    Steps of 64 entries beside 64 heads would ask a B200 for 352,816 bytes of shared memory, of which it has 232,448.
    """
    block_h = min(64, max(16, next_power_of_2(heads)))
    block_s = 16 if latent < 256 else 32 if block_h == 64 else 64
    wanted = cdiv(programs, max(1, sequences * cdiv(heads, block_h)))
    return block_h, block_s, max(1, min(wanted, cdiv(longest, block_s), 64))


def mla_decode(q_BHX, cache_PSX, table_BJ, lengths_B, latent: int, scale: float, splits: int | None = None):
    """Attention of one absorbed query a sequence to its cached entries: what W_UV is then applied to, (B, H, C).

    `q_BHX`: W_UK^T q_C, then the rotated q_R; X = C + R. `cache_PSX`: pages of entries, latent first. `table_BJ`: the
    pages of each sequence in order. `lengths_B`: its entries so far; 0 gives zeros. `latent`: C, a power of two, as R
    must be. `splits` overrides the plan. Sums and the softmax in float32; the result has q's type.

    Raises `ValueError` for sizes that disagree. Page numbers are not checked on a GPU.
    Source: arXiv 2405.04434 section 2.1; the split, Dao et al., "Flash-Decoding" (2023).
    """
    (B, H, X), (page, width) = q_BHX.shape, cache_PSX.shape[1:]
    R = X - latent
    if width != X or R < 1 or latent & (latent - 1) or R & (R - 1):
        sizes = f"queries of {X} and entries of {width} numbers with a latent of {latent}"
        raise ValueError(f"{sizes}: want C + R in both, each a power of two")
    if table_BJ.shape[0] != B or lengths_B.shape != (B,):
        raise ValueError(f"{B} queries, {table_BJ.shape[0]} rows of pages, lengths {tuple(lengths_B.shape)}")
    block_h, block_s, planned = plan(B, H, table_BJ.shape[1] * page, latent)
    splits = planned if splits is None else splits
    partial = empty(B * H, splits, latent, device=q_BHX.device)
    log_sum = empty(B * H, splits, device=q_BHX.device)
    out_BHC = empty(B, H, latent, dtype=q_BHX.dtype, device=q_BHX.device)
    split_kernel[(B, cdiv(H, block_h), splits)](
        q_BHX.contiguous(), cache_PSX.contiguous(), table_BJ.contiguous(), lengths_B, partial, log_sum, scale, H,
        table_BJ.shape[1], C=latent, R=R, PAGE=page, BLOCK_H=block_h, BLOCK_S=block_s, SPLITS=splits,
        PRECISION="ieee" if q_BHX.dtype == torch.float32 else "tf32", num_warps=8, num_stages=2,
    )  # fmt: skip
    combine_kernel[(B * H,)](
        partial, log_sum, out_BHC, C=latent, SPLITS=splits, BLOCK_X=max(2, next_power_of_2(splits))
    )
    return out_BHC


def mla_decode_reference(q_BHX, cache_PSX, table_BJ, lengths_B, latent, scale, splits=None):
    """`mla_decode`, sequence by sequence, on entries gathered from their pages."""
    out = []
    for q_HX, pages, length in zip(q_BHX, table_BJ.long(), lengths_B.tolist(), strict=True):
        entries = cache_PSX[pages[: cdiv(length, cache_PSX.shape[1])]].flatten(0, 1)[:length]
        wide = torch.promote_types(q_HX.dtype, torch.float32)
        weights = (q_HX.to(wide) @ entries.to(wide).t() * scale).softmax(-1)
        out.append((weights @ entries[:, :latent].to(wide)).to(q_HX.dtype))
    return torch.stack(out)
