"""The log-probability of one chosen token at every position, without the logits: forward and backward.

    log_prob[m] = z[m, token[m]] - log sum_v exp z[m, v],   z = x @ weight^T / temperature

It is what GRPO needs of a model, and minus its mean is the cross-entropy of pretraining. The logits of 8192 positions
over 129,280 tokens are 4 GB in float32, of which one number a row and one sum are wanted. So the vocabulary is cut into
pieces: a program takes a tile of rows and a piece, multiplies, and keeps for each row of its piece the maximum, the sum
of exponentials and, if the chosen token is in it, its logit. A second kernel adds the pieces up. The logits exist a
tile at a time, in registers.

The backward pass makes them again, chunk by chunk of rows: the slope of the loss along a logit is
d[m] * (1 if v = token[m] else 0 - p[m, v]), which a kernel writes for one chunk in the inputs' type; two ordinary
matrix products then give the gradients of x and of the weight. What it needs is one chunk of logits, not all, and the
weight's gradient in float32, because it is a sum over chunks.

X counts pieces of the vocabulary, V tokens.

How the production version differs: the vocabulary is also cut over GPUs, and the maxima and sums of the pieces are
exchanged instead of added up in a kernel.
"""

import torch

from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["log_probs", "log_probs_reference", "token_loss", "token_loss_reference"]

CHUNK = 1024  # rows whose slopes are in memory at a time


@triton.jit
def logits_of(
    x_ptr, weight_ptr, rows, tokens, M, V, D, temperature,
    BLOCK_D: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """A tile of logits, divided by the temperature."""
    acc = tl.zeros((BLOCK_M, BLOCK_V), dtype=ACC)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        x_at = x_ptr + rows[:, None].to(tl.int64) * D + d[None, :]
        x = tl.load(x_at, mask=(rows[:, None] < M) & (d[None, :] < D), other=0.0)
        w_at = weight_ptr + tokens[None, :].to(tl.int64) * D + d[:, None]
        weight = tl.load(w_at, mask=(tokens[None, :] < V) & (d[:, None] < D), other=0.0)
        acc = tl.dot(x, weight, acc, input_precision=PRECISION, out_dtype=ACC)
    return acc / temperature


@triton.jit
def pieces_kernel(
    x_ptr, weight_ptr, token_ptr, peak_ptr, total_ptr, chosen_ptr, M, V, D, temperature, BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of each row and piece of the vocabulary: the largest logit, the sum of exponentials, the chosen token's logit."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    tokens = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    logits = logits_of(
        x_ptr, weight_ptr, rows, tokens, M, V, D, temperature, BLOCK_D, ACC, PRECISION, BLOCK_M, BLOCK_V
    )
    logits = tl.where(tokens[None, :] < V, logits, float("-inf"))
    peak = tl.max(logits, axis=1)
    chosen = tl.load(token_ptr + rows, mask=rows < M, other=-1)
    hit = tl.where(tokens[None, :] == chosen[:, None], logits, 0.0)
    at = rows * tl.num_programs(1) + tl.program_id(1)
    tl.store(peak_ptr + at, peak, mask=rows < M)
    tl.store(total_ptr + at, tl.sum(tl.exp(logits - peak[:, None]), axis=1), mask=rows < M)
    tl.store(chosen_ptr + at, tl.sum(hit, axis=1), mask=rows < M)


@triton.jit
def gather_pieces_kernel(
    peak_ptr, total_ptr, chosen_ptr, log_prob_ptr, log_sum_ptr, X, BLOCK_X: tl.constexpr
):
    row = tl.program_id(0)
    piece = tl.arange(0, BLOCK_X)
    mask = piece < X
    peaks = tl.load(peak_ptr + row * X + piece, mask=mask, other=float("-inf"))
    totals = tl.load(total_ptr + row * X + piece, mask=mask, other=0.0)
    chosen = tl.sum(tl.load(chosen_ptr + row * X + piece, mask=mask, other=0.0), axis=0)
    peak = tl.max(peaks, axis=0)
    log_sum = peak + tl.log(tl.sum(totals * tl.exp(peaks - peak), axis=0))
    tl.store(log_sum_ptr + row, log_sum)
    tl.store(log_prob_ptr + row, chosen - log_sum)


@triton.jit
def slope_kernel(
    x_ptr, weight_ptr, token_ptr, log_sum_ptr, d_ptr, slope_ptr, M, V, D, temperature, BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """slope[m, v] = d[m] * ([v is the chosen token] - p[m, v]) / temperature."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    tokens = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    logits = logits_of(
        x_ptr, weight_ptr, rows, tokens, M, V, D, temperature, BLOCK_D, ACC, PRECISION, BLOCK_M, BLOCK_V
    )
    log_sum = tl.load(log_sum_ptr + rows, mask=rows < M, other=0.0)
    chosen = tl.load(token_ptr + rows, mask=rows < M, other=-1)
    d = tl.load(d_ptr + rows, mask=rows < M, other=0.0).to(ACC)
    hit = (tokens[None, :] == chosen[:, None]).to(ACC)
    slope = d[:, None] * (hit - tl.exp(logits - log_sum[:, None])) / temperature
    at = slope_ptr + rows[:, None].to(tl.int64) * V + tokens[None, :]
    tl.store(at, slope, mask=(rows[:, None] < M) & (tokens[None, :] < V))


def _settings(dtype, M, V, D):
    tile = {"BLOCK_M": min(128, max(16, next_power_of_2(M))), "BLOCK_V": min(128, max(16, next_power_of_2(V)))}
    tile |= {"BLOCK_D": min(64, max(16, next_power_of_2(D)))}
    if dtype == torch.float64:
        return tile | {"ACC": tl.float64, "PRECISION": "ieee"}
    return tile | {"ACC": tl.float32, "PRECISION": "ieee" if dtype == torch.float32 else "tf32", "num_warps": 8}


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_MD, weight_VD, token_M, temperature):
        (M, D), V, device = x_MD.shape, len(weight_VD), x_MD.device
        settings = _settings(x_MD.dtype, M, V, D)
        wide = {"dtype": torch.promote_types(x_MD.dtype, torch.float32), "device": device}
        pieces = cdiv(V, settings["BLOCK_V"])
        peak_MX, total_MX, chosen_MX = (empty(M, pieces, **wide) for _ in range(3))
        log_prob_M, log_sum_M = empty(M, **wide), empty(M, **wide)
        pieces_kernel[(cdiv(M, settings["BLOCK_M"]), pieces)](
            x_MD, weight_VD, token_M, peak_MX, total_MX, chosen_MX, M, V, D, temperature, **settings
        )
        gather_pieces_kernel[(M,)](
            peak_MX, total_MX, chosen_MX, log_prob_M, log_sum_M, pieces, BLOCK_X=max(2, next_power_of_2(pieces))
        )
        ctx.save_for_backward(x_MD, weight_VD, token_M, log_sum_M)
        ctx.temperature = temperature
        return log_prob_M

    @staticmethod
    def backward(ctx, d_log_prob_M):
        x_MD, weight_VD, token_M, log_sum_M = ctx.saved_tensors
        (M, D), V = x_MD.shape, weight_VD.shape[0]
        d_x_MD, d_weight_VD = torch.empty_like(x_MD), torch.zeros_like(weight_VD, dtype=log_sum_M.dtype)
        d_log_prob_M = d_log_prob_M.contiguous()
        for start in range(0, M, CHUNK):
            part = slice(start, min(M, start + CHUNK))
            rows = part.stop - start
            settings = _settings(x_MD.dtype, rows, V, D)
            slope = empty(rows, V, dtype=x_MD.dtype, device=x_MD.device)
            slope_kernel[(cdiv(rows, settings["BLOCK_M"]), cdiv(V, settings["BLOCK_V"]))](
                x_MD[part], weight_VD, token_M[part], log_sum_M[part], d_log_prob_M[part], slope, rows, V, D,
                ctx.temperature, **settings,
            )  # fmt: skip
            torch.mm(slope, weight_VD, out=d_x_MD[part])
            d_weight_VD += (slope.t() @ x_MD[part]).to(d_weight_VD.dtype)
        return d_x_MD, d_weight_VD.to(weight_VD.dtype), None, None


def log_probs(x_MD: torch.Tensor, weight_VD: torch.Tensor, token_M: torch.Tensor, temperature: float = 1.0):
    """log softmax(x @ weight^T / temperature)[m, token[m]] in float32, differentiable in x and weight.

    Takes final hidden states, the language-model head as `nn.Linear` holds it, and token ids in [0, V). Memory: a few
    numbers a row and piece of 128 tokens forward, one chunk of 1024 rows of logits backward.

    Raises `ValueError` for sizes or types that disagree, or a temperature that is not positive. Ids are not checked on
    a GPU: one outside the vocabulary counts as a logit of 0. Source: arXiv 2402.03300 equation 3.
    """
    (M, D), inner = x_MD.shape, weight_VD.shape[1]
    if inner != D or token_M.shape != (M,):
        shapes = f"x {tuple(x_MD.shape)}, weight {tuple(weight_VD.shape)}, tokens {tuple(token_M.shape)}"
        raise ValueError(f"{shapes}: want (M, D), (V, D), (M,)")
    if x_MD.dtype != weight_VD.dtype:
        raise ValueError(f"x is {x_MD.dtype}, the weight {weight_VD.dtype}: they must agree")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be greater than 0")
    return _LogProbs.apply(x_MD.contiguous(), weight_VD.contiguous(), token_M.contiguous(), float(temperature))


def token_loss(x_MD: torch.Tensor, weight_VD: torch.Tensor, token_M: torch.Tensor, ignore: int = -100):
    """The mean cross-entropy of the tokens that are not `ignore`, without the logits; differentiable.

    -mean over m of log softmax(x @ weight^T)[m, token[m]]. Without any token it is 0 and has gradients of 0.
    Takes and raises what `log_probs` does. Source: arXiv 2412.19437 section 2.2.
    """
    counted_M = token_M != ignore
    log_prob_M = log_probs(x_MD, weight_VD, torch.where(counted_M, token_M, 0))
    return -(log_prob_M * counted_M).sum() / counted_M.sum().clamp(min=1)


def log_probs_reference(x_MD, weight_VD, token_M, temperature=1.0):
    """`log_probs` with the logits in memory."""
    wide = torch.promote_types(x_MD.dtype, torch.float32)
    logits_MV = (x_MD.to(wide) @ weight_VD.to(wide).t()) / temperature
    return logits_MV.log_softmax(-1).gather(1, token_M.long()[:, None])[:, 0]


def token_loss_reference(x_MD, weight_VD, token_M, ignore=-100):
    """`token_loss` as PyTorch has it."""
    wide = torch.promote_types(x_MD.dtype, torch.float32)
    logits_MV = x_MD.to(wide) @ weight_VD.to(wide).t()
    summed = torch.nn.functional.cross_entropy(logits_MV, token_M.long(), ignore_index=ignore, reduction="sum")
    return summed / (token_M != ignore).sum().clamp(min=1)
