"""Exercises of chapter 16, MLA decode: combine two shares, read past the length, and ask for the heads."""

import re

import torch

from minimoe_course.exercise import Exercise, Wrong
from minimoe_course.mla_decoding import combined, pages_of
from minimoe_kernels import mla_decode as mla_decode_module
from minimoe_kernels import sim
from minimoe_kernels.kernel import cdiv, tl, triton
from minimoe_kernels.sim import memory

__all__ = ["EXERCISES", "forgotten", "heads_needed"]

LOW = float("-inf")

# --- combine ----------------------------------------------------------------------------------------------------------


def combine(parts_XHC, log_sums_XH):
    """The library's kernel."""
    return combined(parts_XHC, log_sums_XH)


def _combine_inputs(g: torch.Generator):
    yield {"parts_XHC": torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), "log_sums_XH": torch.tensor([[3.0], [1.0]]).log()}
    yield {"parts_XHC": torch.randn(2, 1, 2, generator=g), "log_sums_XH": torch.tensor([[200.0], [201.0]])}
    yield {"parts_XHC": torch.randn(2, 2, 4, generator=g), "log_sums_XH": torch.tensor([[0.0, 200.0], [1.0, 201.0]])}
    yield {"parts_XHC": torch.randn(2, 3, 4, generator=g), "log_sums_XH": torch.randn(2, 3, generator=g)}
    empty = torch.tensor([[0.5, LOW], [LOW, LOW], [1.0, LOW]])
    parts_XHC = torch.randn(3, 2, 4, generator=g)
    yield {"parts_XHC": torch.where(empty.isinf()[:, :, None], 0.0, parts_XHC), "log_sums_XH": empty}
    yield {"parts_XHC": torch.randn(5, 3, 8, generator=g), "log_sums_XH": 3 * torch.randn(5, 3, generator=g)}


def _weighted(weigh):
    """A combine whose weights are `weigh(log_sums)`; a head without entries gets zeros, as it must."""

    def answer(parts_XHC, log_sums_XH):
        weights_XH = weigh(log_sums_XH).nan_to_num(0.0)
        return (weights_XH[:, :, None] * parts_XHC).sum(0)

    return answer


def _raw_exp(parts_XHC, log_sums_XH):
    weights_XH = log_sums_XH.exp()
    total_H = weights_XH.sum(0)
    return (weights_XH[:, :, None] * parts_XHC).sum(0) / torch.where(total_H > 0, total_H, 1.0)[:, None]


def _shared_peak(parts_XHC, log_sums_XH):
    weights_XH = (log_sums_XH - log_sums_XH.max()).exp()
    return (weights_XH[:, :, None] * parts_XHC).sum(0)


def _one_peak(parts_XHC, log_sums_XH):
    weights_XH = (log_sums_XH - log_sums_XH.max()).exp()
    total_H = weights_XH.sum(0)
    return (weights_XH[:, :, None] * parts_XHC).sum(0) / torch.where(total_H > 0, total_H, 1.0)[:, None]


COMBINE = Exercise(
    key="16.combine",
    reference=combine,
    source=mla_decode_module.combine_kernel,
    inputs=_combine_inputs,
    tolerance=1e-5, because="float32 rounds at 6e-8; a few exponentials and a sum over at most five shares",
    wrong=(
        Wrong("mean", lambda parts, logs: parts.mean(0), "you average the shares. A share whose scores are higher, or that has more entries, weighs more: by exp of its log-sum."),
        Wrong("sum", lambda parts, logs: parts.sum(0), "you add the shares up. Each is an average already; the weights must sum to 1."),
        Wrong("not divided", _weighted(lambda logs: logs.exp()), "you weigh by exp(log-sum) and do not divide by the sum of these weights."),
        Wrong("log-sums as weights", _weighted(lambda logs: logs.nan_to_num(neginf=0.0) / logs.nan_to_num(neginf=0.0).sum(0)), "you weigh by the log-sums; take exp of them first."),
        Wrong("overflow", _raw_exp, "log-sums of 200 give NaN: exp(200) is infinite in float32. Subtract the largest log-sum of the head first; it cancels."),
        Wrong("softmax, empty head", lambda parts, logs: (logs.softmax(0)[:, :, None] * parts).sum(0), "a head whose shares are all empty becomes NaN: exp(-inf - (-inf)). It must give zeros."),
        Wrong("softmax over heads", _weighted(lambda logs: logs.softmax(1)), "your weights sum to 1 over the heads of a share; they must over the shares of a head."),
        Wrong("peak, not divided", _shared_peak, "you subtract the peak and forget to divide by the sum of the weights."),
        Wrong("one peak for all heads", _one_peak, "you subtract one peak from all heads: a head whose log-sums are 200 lower underflows to zeros. Take the peak of each head."),
        Wrong("empty counts", _weighted(lambda logs: logs.nan_to_num(neginf=0.0).softmax(0)), "an empty share counts as if its log-sum were 0. It is -inf, and its weight 0."),
        Wrong("best only", lambda parts, logs: parts.gather(0, logs.argmax(0)[None, :, None].expand(1, *parts.shape[1:]))[0], "you keep the heaviest share and drop the others."),
        Wrong("base 2", _weighted(lambda logs: (logs * 0.6931471805599453).softmax(0)), "your weights grow by powers of 2; log-sums are natural logarithms."),
    ),
    forbid=(torch.nn.functional.scaled_dot_product_attention,),
    hints=(
        "The share knows its own sum, as a logarithm. What would have been divided by, had all entries been in one share?",
        "```text\npeak = largest log-sum of each head (0 where all are -inf)\nweights = exp(log_sums - peak)\n"
        "total = sum of the weights over shares (1 where it is 0)\nout = sum over shares of weight * part, divided by total\n```",
    ),
    solution=(
        "def combine(parts_XHC, log_sums_XH):\n"
        "    peak_H = log_sums_XH.amax(0)\n"
        "    peak_H = torch.where(peak_H > float('-inf'), peak_H, 0.0)\n"
        "    weights_XH = (log_sums_XH - peak_H).exp()\n"
        "    total_H = weights_XH.sum(0)\n"
        "    total_H = torch.where(total_H > 0, total_H, 1.0)\n"
        "    return (weights_XH[:, :, None] * parts_XHC).sum(0) / total_H[:, None]\n"
    ),
    differs="It is a kernel: one program a head, all its shares in one block.",
)  # fmt: skip


# --- the forgotten length ---------------------------------------------------------------------------------------------


@triton.jit
def _read_one(cache_ptr, table_ptr, out_ptr, PAGE: tl.constexpr):
    s = tl.program_id(0)
    page = tl.load(table_ptr + s // PAGE)
    tl.store(out_ptr + s, tl.load(cache_ptr + page * PAGE + s % PAGE))


def forgotten(length, PAGE, BLOCK):
    """Entries read in silence and the first wild one, by letting the simulator read entry after entry."""
    end = cdiv(length, BLOCK) * BLOCK
    table = pages_of(length, PAGE, cdiv(end, PAGE) + 1)
    cache, out = torch.zeros(cdiv(length, PAGE) * PAGE), sim.empty(end)
    try:
        _read_one[(end,)](cache, table, out, PAGE=PAGE)
    except sim.OutOfBounds as error:
        wild = int(re.search(r"program \((\d+), 0, 0\) of \w+ loads", str(error)).group(1))
        return wild - length, wild
    return end - length, -1


def _forgotten_inputs(g: torch.Generator):
    for sizes in ((6, 4, 4), (8, 4, 4), (5, 4, 8), (9, 8, 4), (16, 4, 32), (3, 16, 8), (13, 4, 4), (37, 8, 16)):
        yield dict(zip(("length", "PAGE", "BLOCK"), sizes, strict=True))


def _pair(answer):
    def predicted(length, PAGE, BLOCK):
        return answer(length, cdiv(length, BLOCK) * BLOCK, cdiv(length, PAGE) * PAGE)

    return predicted


FORGOTTEN = Exercise(
    key="16.forgotten",
    reference=forgotten,
    source=memory.Buffer.check,
    inputs=_forgotten_inputs,
    tolerance=0.0, because="whole numbers",
    wrong=(
        Wrong("always wild", _pair(lambda n, end, pages: (0, n) if end > n else (0, -1)), "you call the first entry beyond the length wild. If its page is half full it exists: it is read, and nobody complains."),
        Wrong("never wild", _pair(lambda n, end, pages: (end - n, -1)), "a block that passes the last page reads a slot of the table that names no page. That is wild."),
        Wrong("all beyond are silent", _pair(lambda n, end, pages: (end - n, pages if end > pages else -1)), "you count the wild entries among the silent ones; silent are those before the first wild one."),
        Wrong("whole pages", _pair(lambda n, end, pages: (pages - n, pages if end > pages else -1)), "you read to the end of the page. The reading ends with the block, which may end first."),
        Wrong("blocks as pages", _pair(lambda n, end, pages: (min(end, pages) - n, end if end > pages else -1)), "the first wild entry is the first of a page that is not there, not the end of the block."),
        Wrong("last entry wild", _pair(lambda n, end, pages: (min(end, pages) - n, end - 1 if end > pages else -1)), "you name the last entry of the block; the first wild one comes earlier."),
        Wrong("counted from one", _pair(lambda n, end, pages: (min(end, pages) - n, pages + 1 if end > pages else -1)), "entries are numbered from 0, so the pages hold entries up to one less than their total."),
        Wrong("equal is wild", _pair(lambda n, end, pages: (min(end, pages) - n, pages if end >= pages else -1)), "where block and page end together, nothing beyond the page is read."),
        Wrong("block from the page", lambda n, PAGE, BLOCK: (BLOCK - n % BLOCK, -1), "where BLOCK divides the length, its last block is full and nothing is read beyond."),
    ),
    hints=(
        "Three places on one line: the length, where the last block ends, where the last page ends. Which of the two ends comes first?",
        "```text\nend = length rounded up to whole blocks\npages = length rounded up to whole pages\n"
        "silent = the nearer of the two, minus length\nwild = pages if the block goes on beyond them, otherwise -1\n```",
    ),
    solution=(
        "def forgotten(length, PAGE, BLOCK):\n"
        "    end = -(-length // BLOCK) * BLOCK\n"
        "    pages = -(-length // PAGE) * PAGE\n"
        "    return min(end, pages) - length, pages if end > pages else -1\n"
    ),
    differs="The answer key predicts nothing: it reads entry after entry and waits for the simulator's complaint, which is made here.",
)  # fmt: skip


# --- how many heads ---------------------------------------------------------------------------------------------------


def heads_needed(S, C, R, ridge):
    """The least number of heads whose step is compute-bound, found by trying; -1 if none up to 100,000 is."""
    for H in range(1, 100_000):
        if 2 * S * H * (2 * C + R) >= ridge * 2 * (S * (C + R) + H * (2 * C + R)):
            return H
    return -1


def _heads_inputs(g: torch.Generator):
    for sizes in ((30, 4, 2, 10), (100, 4, 2, 20), (4096, 512, 64, 295), (4096, 512, 64, 266), (200, 512, 64, 295),
                  (50, 8, 4, 50), (1000, 96, 32, 120)):  # fmt: skip
        yield dict(zip(("S", "C", "R", "ridge"), sizes, strict=True))


def _heads(a_head, an_entry=lambda C, R: C + R, per_head=lambda C, R: 2 * C + R, times=1.0, less=0):
    """By the formula, with FLOPs of a head and entry, numbers of an entry and of a head's query and result as given."""

    def answer(S, C, R, ridge):
        left = S * a_head(C, R) - ridge * times * per_head(C, R)
        if left <= 0:
            return -1
        return int(-(-(ridge * times * S * an_entry(C, R)) // left)) - less

    return answer


def _both(C, R):
    return 2 * C + R


def _unmet(S, C, R, ridge):
    return cdiv(ridge * S * (C + R), (2 * C + R) * (S - ridge)) if S != ridge else -1


HEADS = Exercise(
    key="16.heads_needed",
    reference=heads_needed,
    source=mla_decode_module.split_kernel,
    inputs=_heads_inputs,
    tolerance=0.0, because="whole numbers",
    wrong=(
        Wrong("queries and results free", _heads(_both, per_head=lambda C, R: 0), "you leave out that each head's query is read and its result written: C + R and C numbers a head."),
        Wrong("scores only", _heads(lambda C, R: C + R), "you count the product for the scores and not the one with the values, C more multiplications a head and entry."),
        Wrong("key and value loaded apart", _heads(_both, an_entry=lambda C, R: 2 * C + R), "you load the latent twice, as key and as value. One load serves both: an entry is C + R numbers."),
        Wrong("multiply-adds", _heads(_both, times=2.0), "you count a multiplication and an addition as one FLOP; they are two."),
        Wrong("float32", _heads(_both, times=4.0), "you let a number have 4 bytes and count one FLOP for a multiply-add."),
        Wrong("one byte", _heads(_both, times=0.5), "a bfloat16 has 2 bytes; you count one."),
        Wrong("one head short", _heads(_both, less=1), "one head fewer is still below the ridge: round up."),
        Wrong("result forgotten", _heads(_both, per_head=lambda C, R: C + R), "you leave out the result of each head, C numbers that are written."),
        Wrong("never is forgotten", _unmet, "if S is not larger than the ridge, no number of heads is enough: each one brings a query and a result that are as dear as its work. Return -1."),
    ),
    hints=(
        "FLOPs grow with H. Bytes have one part that does not, the cache, and one that does. Divide and solve for H.",
        "```text\nFLOPs = 2 S H (2C + R)\nbytes = 2 (S (C + R) + H (2C + R))\nFLOPs / bytes >= ridge   <=>   H (2C + R) (S - ridge) >= ridge S (C + R)\nif S <= ridge: -1\n```",
    ),
    solution=(
        "def heads_needed(S, C, R, ridge):\n"
        "    if S <= ridge:\n"
        "        return -1\n"
        "    return -(-ridge * S * (C + R) // ((2 * C + R) * (S - ridge)))\n"
    ),
    differs="The answer key solves nothing: it tries one number of heads after the other. The kernel holds what is counted: two loads of an entry's parts, and three products.",
)  # fmt: skip

EXERCISES = (COMBINE, FORGOTTEN, HEADS)
