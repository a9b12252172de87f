"""The running softmax of chapter 16: a share of the entries, read block by block, and what is kept between the blocks.

`@launched` above a kernel makes it a function of scores and values, as `grouped_kernels.launched` does in chapter 15.
`shared` is the library's decoding kernel as the same function; `slipped` is the solution with a few characters changed.

How the production version differs: the scores come from queries and cached entries within the same loop, for all heads
of a program at once.
"""

import torch

from minimoe_course.first_kernels import Launched
from minimoe_course.mla_decoding import pages_of
from minimoe_kernels import sim
from minimoe_kernels.kernel import Kernel, cdiv, load, next_power_of_2
from minimoe_kernels.mla_decode import split_kernel

__all__ = ["launched", "shared", "slipped"]

BLOCK = 2  # entries of a step in the exercise: so few that three entries need two steps
LEAST = 16  # numbers that a tensor core sums over at least: what the library's kernel needs of every width

RUNNING_SOLUTION = """from minimoe_course.running_softmax import launched
from minimoe_kernels.kernel import tl, triton


@launched
@triton.jit
def running(scores_ptr, values_ptr, out_ptr, log_sum_ptr, S, C: tl.constexpr, BLOCK: tl.constexpr):
    head, latent = tl.program_id(0), tl.arange(0, C)
    peak, total, acc = float("-inf"), 0.0, tl.zeros((C,), dtype=tl.float32)
    for start in range(0, S, BLOCK):
        s = start + tl.arange(0, BLOCK)
        scores = tl.load(scores_ptr + head * S + s, mask=s < S, other=float("-inf"))
        values = tl.load(values_ptr + s[:, None] * C + latent[None, :], mask=s[:, None] < S, other=0.0)
        new_peak = tl.maximum(peak, tl.max(scores, axis=0))
        shrink = tl.exp(peak - new_peak)
        weights = tl.exp(scores - new_peak)
        total = total * shrink + tl.sum(weights, axis=0)
        acc = acc * shrink + tl.sum(weights[:, None] * values, axis=0)
        peak = new_peak
    tl.store(out_ptr + head * C + latent, acc / total)
    tl.store(log_sum_ptr + head, peak + tl.log(total))
"""


def slipped(*changes: tuple[str, str]) -> Launched:
    """The solution of the running softmax with a few characters changed: (what stands there, what it becomes), ..."""
    text = RUNNING_SOLUTION
    for old, new in changes:
        if old not in text:
            raise ValueError(f"running: {old!r} does not stand in the solution")
        text = text.replace(old, new)
    return load(text, "running_slip").running


def launch_running(kernel, scores_HS, values_SC):
    """One program for each head; the results begin unwritten."""
    (H, S), C = scores_HS.shape, values_SC.shape[1]
    out_HC, log_sum_H = sim.empty(H, C), sim.empty(H)
    kernel[(H,)](scores_HS.contiguous(), values_SC.contiguous(), out_HC, log_sum_H, S, C=C, BLOCK=BLOCK)
    return out_HC, log_sum_H


def launched(kernel: Kernel) -> Launched:
    """`@launched` above `@triton.jit`: the kernel called `running` as a function of (scores_HS, values_SC).

    It gives (out_HC, log_sum_H). Raises `TypeError` for anything else.
    """
    if not isinstance(kernel, Kernel) or kernel.name != "running":
        raise TypeError(f"@launched stands above @triton.jit and knows running, not {getattr(kernel, 'name', kernel)}")
    return Launched(kernel, launch_running)


def shared(scores_HS, values_SC, kernel: Kernel = split_kernel) -> tuple[torch.Tensor, torch.Tensor]:
    """The library's split kernel on one share, 16 entries a step: its attention (H, C) and its log-sums (H,).

    The cache is built so that the scores come out as given: the rotary key of entry s is a 1 at place s, and a query
    holds its head's scores there, and zeros against the latents. Pages of 4 entries stand in falling order.
    """
    (H, S), C, page = scores_HS.shape, values_SC.shape[1], 4
    latent, rotary = (max(LEAST, next_power_of_2(n)) for n in (C, S))
    pages = cdiv(S, page)
    cache = torch.full((pages * page, latent + rotary), float("nan"))
    cache[:S] = torch.cat([values_SC, torch.zeros(S, latent - C), torch.eye(S, rotary)], dim=1)
    q_HX = torch.cat([torch.zeros(H, latent), scores_HS, torch.zeros(H, rotary - S)], dim=1)
    out_HC, log_sum_H = sim.empty(H, latent), sim.empty(H)
    kernel[(1, cdiv(H, LEAST), 1)](
        q_HX, cache.view(pages, page, -1).flip(0), pages_of(S, page, pages), torch.tensor([S]), out_HC, log_sum_H,
        1.0, H, pages, C=latent, R=rotary, PAGE=page, BLOCK_H=LEAST, BLOCK_S=LEAST, SPLITS=1, PRECISION="ieee",
    )  # fmt: skip
    return out_HC[:, :C], log_sum_H
