"""MLA over a whole prompt: flash attention with keys of 192 numbers and values of 128, causal, both ways.

In prefill every head has keys and values of its own, rebuilt from the latents. A key is 128 numbers without position
and 64 rotated ones. 192 is no power of two, so the two parts stay apart, as they come from two projections anyway: a
score is the sum of two products. The rotated part is one for all heads; it is read by its own pointer and never copied
64 or 128 times.

The scores of a tile of queries against a tile of keys are used at once and forgotten: a running maximum m, a running
sum, and an output that is shrunk by exp(old m - new m) whenever m grows. The T x S matrix is nowhere in memory. Tiles
above the diagonal are not visited. The backward pass makes the probabilities again from the scores and the logarithm
of each row's sum, which is all that the forward pass keeps beside its output: one kernel goes along the keys and sums
the gradient of a tile of queries, another along the queries for a tile of keys and values.

    dP = d_out v^T;  dS = P * (dP - delta) * scale,  delta = sum over w of d_out * out - d_log_sum
    d_q = dS k;  d_k = dS^T q;  d_v = P^T d_out

The queries are the last T of S tokens, so a prompt may come in chunks.

How the production version differs: FlashAttention-3 works on two tiles in turns, one in the tensor core and one in the
exponential, and on Hopper that is most of its lead. FlashMLA's dense prefill is for Blackwell only (@9241ae3).
"""

import torch

from minimoe_kernels.grouped_gemm import settings
from minimoe_kernels.kernel import cdiv, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["mla_prefill", "mla_prefill_reference"]


@triton.jit
def prefill_kernel(
    q_nope_ptr, q_rot_ptr, k_nope_ptr, k_rot_ptr, v_ptr, out_ptr, log_sum_ptr, scale, H, T, S,
    N: tl.constexpr, R: tl.constexpr, W: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    head, sequence = tl.program_id(1), tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    n, r, w = tl.arange(0, N), tl.arange(0, R), tl.arange(0, W)
    real = t[:, None] < T
    query = (sequence * T + t) * H + head
    q_nope = tl.load(q_nope_ptr + query[:, None] * N + n[None, :], mask=real, other=0.0)
    q_rot = tl.load(q_rot_ptr + query[:, None] * R + r[None, :], mask=real, other=0.0)
    peak = tl.full((BLOCK_T,), float("-inf"), dtype=ACC)
    total = tl.zeros((BLOCK_T,), dtype=ACC)
    acc = tl.zeros((BLOCK_T, W), dtype=ACC)
    seen = S - T  # what stood in the cache before the first query
    end = tl.minimum(seen + (tl.program_id(0) + 1) * BLOCK_T, S)  # past the last key that any query here may see
    for start in range(0, end, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        inside = s < S
        key = (sequence * S + s) * H + head
        k_nope = tl.load(k_nope_ptr + key[None, :] * N + n[:, None], mask=inside[None, :], other=0.0)
        k_rot = tl.load(k_rot_ptr + (sequence * S + s)[None, :] * R + r[:, None], mask=inside[None, :], other=0.0)
        v = tl.load(v_ptr + key[:, None] * W + w[None, :], mask=inside[:, None], other=0.0)
        scores = tl.dot(q_nope, k_nope, input_precision=PRECISION, out_dtype=ACC)
        scores = tl.dot(q_rot, k_rot, scores, input_precision=PRECISION, out_dtype=ACC) * scale
        scores = tl.where(s[None, :] <= seen + t[:, None], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, axis=1))
        shrink = tl.exp(peak - new_peak)
        weights = tl.exp(scores - new_peak[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION, out_dtype=ACC)
        peak = new_peak
    tl.store(out_ptr + query[:, None] * W + w[None, :], acc / total[:, None], mask=real)
    tl.store(log_sum_ptr + query, peak + tl.log(total), mask=t < T)


@triton.jit
def slopes_of(
    q_nope, q_rot, k_nope, k_rot, v, d_out, log_sum, delta, visible, scale, ACC: tl.constexpr, PRECISION: tl.constexpr
):
    """A tile of probabilities, and of the loss's slopes along the scores; keys and values stand in rows."""
    scores = tl.dot(q_nope, tl.trans(k_nope), input_precision=PRECISION, out_dtype=ACC)
    scores = tl.dot(q_rot, tl.trans(k_rot), scores, input_precision=PRECISION, out_dtype=ACC) * scale
    weights = tl.where(visible, tl.exp(scores - log_sum[:, None]), 0.0)
    d_weights = tl.dot(d_out, tl.trans(v), input_precision=PRECISION, out_dtype=ACC)
    return weights, weights * (d_weights - delta[:, None]) * scale


@triton.jit
def query_gradient_kernel(
    q_nope_ptr, q_rot_ptr, k_nope_ptr, k_rot_ptr, v_ptr, d_out_ptr, log_sum_ptr, delta_ptr, d_nope_ptr, d_rot_ptr,
    scale, H, T, S, N: tl.constexpr, R: tl.constexpr, W: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    head, sequence = tl.program_id(1), tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    n, r, w = tl.arange(0, N), tl.arange(0, R), tl.arange(0, W)
    real = t[:, None] < T
    query = (sequence * T + t) * H + head
    q_nope = tl.load(q_nope_ptr + query[:, None] * N + n[None, :], mask=real, other=0.0)
    q_rot = tl.load(q_rot_ptr + query[:, None] * R + r[None, :], mask=real, other=0.0)
    d_out = tl.load(d_out_ptr + query[:, None] * W + w[None, :], mask=real, other=0.0)
    log_sum = tl.load(log_sum_ptr + query, mask=t < T, other=0.0)
    delta = tl.load(delta_ptr + query, mask=t < T, other=0.0)
    d_nope = tl.zeros((BLOCK_T, N), dtype=ACC)
    d_rot = tl.zeros((BLOCK_T, R), dtype=ACC)
    end = tl.minimum(S - T + (tl.program_id(0) + 1) * BLOCK_T, S)
    for start in range(0, end, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        inside = s[:, None] < S
        key = (sequence * S + s) * H + head
        k_nope = tl.load(k_nope_ptr + key[:, None] * N + n[None, :], mask=inside, other=0.0)
        k_rot = tl.load(k_rot_ptr + (sequence * S + s)[:, None] * R + r[None, :], mask=inside, other=0.0)
        v = tl.load(v_ptr + key[:, None] * W + w[None, :], mask=inside, other=0.0)
        visible = (s[None, :] <= S - T + t[:, None]) & real
        _, slopes = slopes_of(
            q_nope, q_rot, k_nope, k_rot, v, d_out, log_sum, delta, visible, scale, ACC, PRECISION
        )
        slopes = slopes.to(k_nope.dtype)
        d_nope = tl.dot(slopes, k_nope, d_nope, input_precision=PRECISION, out_dtype=ACC)
        d_rot = tl.dot(slopes, k_rot, d_rot, input_precision=PRECISION, out_dtype=ACC)
    tl.store(d_nope_ptr + query[:, None] * N + n[None, :], d_nope, mask=real)
    tl.store(d_rot_ptr + query[:, None] * R + r[None, :], d_rot, mask=real)


@triton.jit
def key_gradient_kernel(
    q_nope_ptr, q_rot_ptr, k_nope_ptr, k_rot_ptr, v_ptr, d_out_ptr, log_sum_ptr, delta_ptr, d_nope_ptr, d_rot_ptr,
    d_v_ptr, scale, H, T, S, N: tl.constexpr, R: tl.constexpr, W: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_S: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of one head: the rotated key's gradient too, which is then summed over the heads that share it."""
    head, sequence = tl.program_id(1), tl.program_id(2).to(tl.int64)
    s = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    n, r, w = tl.arange(0, N), tl.arange(0, R), tl.arange(0, W)
    inside = s[:, None] < S
    key = (sequence * S + s) * H + head
    k_nope = tl.load(k_nope_ptr + key[:, None] * N + n[None, :], mask=inside, other=0.0)
    k_rot = tl.load(k_rot_ptr + (sequence * S + s)[:, None] * R + r[None, :], mask=inside, other=0.0)
    v = tl.load(v_ptr + key[:, None] * W + w[None, :], mask=inside, other=0.0)
    d_nope = tl.zeros((BLOCK_S, N), dtype=ACC)
    d_rot = tl.zeros((BLOCK_S, R), dtype=ACC)
    d_v = tl.zeros((BLOCK_S, W), dtype=ACC)
    first = tl.maximum(tl.program_id(0) * BLOCK_S - (S - T), 0) // BLOCK_T * BLOCK_T  # the first query that sees any
    for start in range(first, T, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        real = t[:, None] < T
        query = (sequence * T + t) * H + head
        q_nope = tl.load(q_nope_ptr + query[:, None] * N + n[None, :], mask=real, other=0.0)
        q_rot = tl.load(q_rot_ptr + query[:, None] * R + r[None, :], mask=real, other=0.0)
        d_out = tl.load(d_out_ptr + query[:, None] * W + w[None, :], mask=real, other=0.0)
        log_sum = tl.load(log_sum_ptr + query, mask=t < T, other=0.0)
        delta = tl.load(delta_ptr + query, mask=t < T, other=0.0)
        visible = (s[None, :] <= S - T + t[:, None]) & real
        weights, slopes = slopes_of(
            q_nope, q_rot, k_nope, k_rot, v, d_out, log_sum, delta, visible, scale, ACC, PRECISION
        )
        slopes = tl.trans(slopes.to(q_nope.dtype))
        d_nope = tl.dot(slopes, q_nope, d_nope, input_precision=PRECISION, out_dtype=ACC)
        d_rot = tl.dot(slopes, q_rot, d_rot, input_precision=PRECISION, out_dtype=ACC)
        d_v = tl.dot(tl.trans(weights.to(d_out.dtype)), d_out, d_v, input_precision=PRECISION, out_dtype=ACC)
    tl.store(d_nope_ptr + key[:, None] * N + n[None, :], d_nope, mask=inside)
    tl.store(d_rot_ptr + key[:, None] * R + r[None, :], d_rot, mask=inside)
    tl.store(d_v_ptr + key[:, None] * W + w[None, :], d_v, mask=inside)


class _Prefill(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW, scale):
        tensors = [x.contiguous() for x in (q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW)]
        (B, T, H, N), R, (S, W) = q_nope_BTHN.shape, q_rot_BTHR.shape[-1], (v_BSHW.shape[1], v_BSHW.shape[3])
        wide = torch.promote_types(v_BSHW.dtype, torch.float32)
        out_BTHW = empty(B, T, H, W, dtype=v_BSHW.dtype, device=v_BSHW.device)
        log_sum_BTH = empty(B, T, H, dtype=wide, device=v_BSHW.device)
        block_t, block_s = (128, 64) if N >= 64 else (32, 16)
        prefill_kernel[(cdiv(T, block_t), H, B)](
            *tensors, out_BTHW, log_sum_BTH, scale, H, T, S, N=N, R=R, W=W, BLOCK_T=block_t, BLOCK_S=block_s,
            num_warps=8, num_stages=2, **settings(v_BSHW.dtype),
        )  # fmt: skip
        ctx.save_for_backward(*tensors, out_BTHW, log_sum_BTH)
        ctx.scale = scale
        return out_BTHW, log_sum_BTH

    @staticmethod
    def backward(ctx, d_out_BTHW, d_log_sum_BTH):
        *tensors, out_BTHW, log_sum_BTH = ctx.saved_tensors
        (B, T, H, N), R, (_, S, _, W) = tensors[0].shape, tensors[1].shape[-1], tensors[4].shape
        dtype, device, wide = out_BTHW.dtype, out_BTHW.device, log_sum_BTH.dtype
        delta_BTH = ((out_BTHW.to(wide) * d_out_BTHW.to(wide)).sum(-1) - d_log_sum_BTH).contiguous()
        given = (*tensors, d_out_BTHW.contiguous(), log_sum_BTH, delta_BTH)
        d_q_nope, d_q_rot = (empty(B, T, H, n, dtype=dtype, device=device) for n in (N, R))
        d_k_nope, d_v = (empty(B, S, H, n, dtype=dtype, device=device) for n in (N, W))
        d_k_rot_BSHR = empty(B, S, H, R, dtype=wide, device=device)
        same = {"N": N, "R": R, "W": W, "num_warps": 8, "num_stages": 1} | settings(dtype)
        # Hopper's product takes 64 rows; 64 keys at a time would leave the query kernel no registers
        block, other = (64, 32) if N >= 64 else (32, 16)
        query_gradient_kernel[(cdiv(T, block), H, B)](
            *given, d_q_nope, d_q_rot, ctx.scale, H, T, S, BLOCK_T=block, BLOCK_S=other, **same
        )
        key_gradient_kernel[(cdiv(S, block), H, B)](
            *given, d_k_nope, d_k_rot_BSHR, d_v, ctx.scale, H, T, S, BLOCK_T=block, BLOCK_S=block, **same
        )
        return d_q_nope, d_q_rot, d_k_nope, d_k_rot_BSHR.sum(2).to(dtype), d_v, None


def mla_prefill(q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW, scale: float):
    """Causal attention of the last T of S tokens, (out_BTHW, log_sum_BTH): query t sees keys 0 ... S - T + t.

    score = (q_nope . k_nope + q_rot . k_rot) * scale; out = softmax(score) @ v. `log_sum` is the logarithm of each
    softmax's denominator, by which parts over other keys can be joined. Both are differentiable. N, R and W are powers
    of two and at least 16. Sums in float32; out has the type of v.

    Raises `ValueError` for sizes that disagree or T > S.
    Source: arXiv 2412.19437 equations 1-11; Dao, arXiv 2307.08691.
    """
    (B, T, H, N), R, (S, W) = q_nope_BTHN.shape, q_rot_BTHR.shape[-1], (v_BSHW.shape[1], v_BSHW.shape[3])
    want = [(B, T, H, R), (B, S, H, N), (B, S, R), (B, S, H, W)]
    found = [tuple(x.shape) for x in (q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW)]
    if found != want or T > S:
        raise ValueError(f"T={T} queries of S={S} tokens; shapes {found}: want {want} and T <= S")
    if any(size < 16 or size & (size - 1) for size in (N, R, W)):
        raise ValueError(f"N={N}, R={R}, W={W}: each must be a power of two and at least 16")
    return _Prefill.apply(q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW, float(scale))


def mla_prefill_reference(q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW, scale):
    """`mla_prefill` with the T x S scores in memory."""
    wide = torch.promote_types(v_BSHW.dtype, torch.float32)
    T, S = q_nope_BTHN.shape[1], v_BSHW.shape[1]
    scores_BHTS = torch.einsum("bthn,bshn->bhts", q_nope_BTHN.to(wide), k_nope_BSHN.to(wide))
    scores_BHTS = scores_BHTS + torch.einsum("bthr,bsr->bhts", q_rot_BTHR.to(wide), k_rot_BSR.to(wide))
    hidden = torch.ones(T, S, dtype=torch.bool, device=v_BSHW.device).triu(S - T + 1)
    scores_BHTS = (scores_BHTS * scale).masked_fill(hidden, float("-inf"))
    out_BTHW = torch.einsum("bhts,bshw->bthw", scores_BHTS.softmax(-1), v_BSHW.to(wide))
    return out_BTHW.to(v_BSHW.dtype), scores_BHTS.logsumexp(-1).transpose(1, 2)
