"""MLA over a whole prompt: flash attention with keys of 192 numbers and values of 128, causal, forward.

In prefill every head has keys and values of its own, rebuilt from the latents. A key is 128 numbers without position
and 64 rotated ones. 192 is no power of two, so the two parts stay apart, as they come from two projections anyway: a
score is the sum of two products. The rotated part is one for all heads; it is read by its own pointer and never copied
64 or 128 times.

The scores of a tile of queries against a tile of keys are used at once and forgotten: a running maximum m, a running
sum, and an output that is shrunk by exp(old m - new m) whenever m grows. The T x S matrix is nowhere in memory. Tiles
above the diagonal are not visited, and only those on it are masked element by element.

The queries are the last T of S tokens, so a prompt may come in chunks.

How the production version differs: FlashAttention-3 works on two tiles in turns, one in the tensor core and one in the
exponential, and on Hopper that is most of its lead. Nobody ships a dense 192/128 kernel for Hopper in the open.
"""

import torch

from minimoe_kernels.kernel import cdiv, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["mla_prefill", "mla_prefill_reference"]


@triton.jit
def prefill_kernel(
    q_nope_ptr, q_rot_ptr, k_nope_ptr, k_rot_ptr, v_ptr, out_ptr, log_sum_ptr, scale, H, T, S,
    N: tl.constexpr, R: tl.constexpr, W: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    head, sequence = tl.program_id(1), tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    n, r, w = tl.arange(0, N), tl.arange(0, R), tl.arange(0, W)
    real = t[:, None] < T
    query = (sequence * T + t) * H + head
    q_nope = tl.load(q_nope_ptr + query[:, None] * N + n[None, :], mask=real, other=0.0)
    q_rot = tl.load(q_rot_ptr + query[:, None] * R + r[None, :], mask=real, other=0.0)
    peak = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_T,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_T, W), dtype=tl.float32)
    seen = S - T  # what stood in the cache before the first query
    end = tl.minimum(seen + (tl.program_id(0) + 1) * BLOCK_T, S)  # past the last key that any query here may see
    for start in range(0, end, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        inside = s < S
        key = (sequence * S + s) * H + head
        k_nope = tl.load(k_nope_ptr + key[None, :] * N + n[:, None], mask=inside[None, :], other=0.0)
        k_rot = tl.load(k_rot_ptr + (sequence * S + s)[None, :] * R + r[:, None], mask=inside[None, :], other=0.0)
        v = tl.load(v_ptr + key[:, None] * W + w[None, :], mask=inside[:, None], other=0.0)
        scores = tl.dot(q_nope, k_nope, input_precision=PRECISION)
        scores = tl.dot(q_rot, k_rot, scores, input_precision=PRECISION) * scale
        scores = tl.where(s[None, :] <= seen + t[:, None], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, axis=1))
        shrink = tl.exp(peak - new_peak)
        weights = tl.exp(scores - new_peak[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
        peak = new_peak
    tl.store(out_ptr + query[:, None] * W + w[None, :], acc / total[:, None], mask=real)
    tl.store(log_sum_ptr + query, peak + tl.log(total), mask=t < T)


def mla_prefill(q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW, scale: float):
    """Causal attention of the last T of S tokens, (out_BTHW, log_sum_BTH): query t sees keys 0 ... S - T + t.

    score = (q_nope . k_nope + q_rot . k_rot) * scale; out = softmax(score) @ v. `log_sum` is the logarithm of each
    softmax's denominator, which a backward pass or a second chunk of keys needs. N, R and W are powers of two and at
    least 16. Sums in float32; out has the type of v.

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
    out_BTHW = empty(B, T, H, W, dtype=v_BSHW.dtype, device=v_BSHW.device)
    log_sum_BTH = empty(B, T, H, device=v_BSHW.device)
    block_t, block_s = (128, 64) if N >= 64 else (32, 16)
    tensors = (x.contiguous() for x in (q_nope_BTHN, q_rot_BTHR, k_nope_BSHN, k_rot_BSR, v_BSHW))
    prefill_kernel[(cdiv(T, block_t), H, B)](
        *tensors, out_BTHW, log_sum_BTH, scale, H, T, S, N=N, R=R, W=W, BLOCK_T=block_t, BLOCK_S=block_s,
        PRECISION="ieee" if v_BSHW.dtype == torch.float32 else "tf32", num_warps=8, num_stages=2,
    )  # fmt: skip
    return out_BTHW, log_sum_BTH


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
