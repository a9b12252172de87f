"""Exercises of chapter 16, MLA decode: ask for the heads, combine shares, read past the length, run a softmax."""

import math
import re

import torch

from minimoe_course.exercise import Exercise, Wrong
from minimoe_course.first_kernels import Launched
from minimoe_course.mla_decoding import combined, pages_of
from minimoe_course.running_softmax import RUNNING_SOLUTION, shared, slipped
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
    yield {"parts_XHC": torch.randn(2, 1, 2, generator=g), "log_sums_XH": torch.tensor([[-200.0], [-201.0]])}
    yield {"parts_XHC": torch.randn(2, 2, 4, generator=g), "log_sums_XH": torch.tensor([[0.0, 200.0], [1.0, 201.0]])}
    yield {"parts_XHC": torch.randn(2, 3, 4, generator=g), "log_sums_XH": torch.randn(2, 3, generator=g)}
    empty = torch.tensor([[0.5, LOW], [LOW, LOW], [1.0, LOW]])
    parts_XHC = torch.randn(3, 2, 4, generator=g)
    yield {"parts_XHC": parts_XHC, "log_sums_XH": empty}  # an empty share may hold any numbers
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


def _measured(peak_of):
    """A combine that measures log-sums against `peak_of(log_sums)`; a head whose weights are all 0 gets zeros."""

    def answer(parts_XHC, log_sums_XH):
        return _raw_exp(parts_XHC, log_sums_XH - peak_of(log_sums_XH))

    return answer


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
        Wrong("peak, not divided", _weighted(lambda logs: (logs - logs.max()).exp()), "you subtract the peak and forget to divide by the sum of the weights."),
        Wrong("overflow, NaN hidden", lambda parts, logs: _raw_exp(parts, logs).nan_to_num(), "log-sums of 200 give zeros: exp(200) is infinite in float32, infinite through infinite is NaN, and you turn NaN into 0. Subtract the largest log-sum of the head first."),
        Wrong("peak of at least 0", _measured(lambda logs: logs.amax(0).clamp(min=0)), "log-sums of -200 give zeros: what you subtract is never below 0, so every weight underflows. Subtract the head's largest log-sum, whatever its sign."),
        Wrong("empty at -1e30", lambda parts, logs: (logs.nan_to_num(neginf=-1e30).softmax(0)[:, :, None] * parts).sum(0), "a head whose shares are all empty gets their mean: a large negative number in the place of -inf gives each the same weight. It must give zeros."),
        Wrong("one peak for all heads", _measured(torch.max), "you subtract one peak from all heads: a head whose log-sums are 200 lower underflows to zeros. Take the peak of each head."),
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


def _ahead(end, pages, length):
    return min(end, pages) - length, pages if end > pages else -1


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
        Wrong("place for count", _pair(lambda n, end, pages: (min(end, pages), pages if end > pages else -1)), "your first number is the place behind the last silent entry. Asked is how many there are beyond the length: subtract it."),
        Wrong("count for place", _pair(lambda n, end, pages: (min(end, pages) - n, end - pages if end > pages else -1)), "your second number counts the wild entries; asked is the index s of the first of them."),
        Wrong("slot for place", lambda n, PAGE, BLOCK: (min(cdiv(n, BLOCK) * BLOCK, cdiv(n, PAGE) * PAGE) - n, cdiv(n, PAGE) if cdiv(n, BLOCK) * BLOCK > cdiv(n, PAGE) * PAGE else -1), "your second number is the slot of the page table. Asked is the index s of the entry: the slot times PAGE."),
        Wrong("rounded up always", lambda n, PAGE, BLOCK: _ahead((n // BLOCK + 1) * BLOCK, (n // PAGE + 1) * PAGE, n), "n // BLOCK + 1 is one block too many where BLOCK divides n, and so with pages. Take cdiv(n, BLOCK)."),
        Wrong("blocks rounded up always", lambda n, PAGE, BLOCK: _ahead((n // BLOCK + 1) * BLOCK, cdiv(n, PAGE) * PAGE, n), "n // BLOCK + 1 is one block too many where BLOCK divides n. Take cdiv(n, BLOCK)."),
        Wrong("one block", lambda n, PAGE, BLOCK: _ahead(BLOCK, cdiv(n, PAGE) * PAGE, n), "you let the kernel read one block. It reads as many as the length needs."),
        Wrong("counted from the length", _pair(lambda n, end, pages: (min(end, pages) - n, pages - n if end > pages else -1)), "your second number counts from the length. Asked is the index s, counted from the sequence's first entry."),
        Wrong("block from the page", lambda n, PAGE, BLOCK: (BLOCK - n % BLOCK, -1), "where BLOCK divides the length, its last block is full and nothing is read beyond."),
    ),
    may_use=(cdiv,),
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


# --- the running softmax ----------------------------------------------------------------------------------------------


def running(scores_HS, values_SC):
    """The library's kernel."""
    return shared(scores_HS, values_SC)


def _running_inputs(g: torch.Generator):
    by_hand = torch.tensor([[0.0, math.log(2), math.log(4)]])
    yield {"scores_HS": by_hand, "values_SC": torch.tensor([[10.0], [20.0], [30.0]])}
    yield {"scores_HS": torch.tensor([[200.0, 201.0, 60.0]]), "values_SC": torch.randn(3, 2, generator=g)}
    yield {"scores_HS": torch.tensor([[-200.0, -130.0, -129.0]]), "values_SC": torch.randn(3, 2, generator=g)}
    for H, S, C in ((2, 5, 4), (3, 19, 8)):
        yield {"scores_HS": 3 * torch.randn(H, S, generator=g), "values_SC": torch.randn(S, C, generator=g)}


RUNNING = Exercise(
    key="16.running",
    reference=running,
    source=mla_decode_module.split_kernel,
    inputs=_running_inputs,
    tolerance=1e-5, because="float32 rounds at 6e-8; nineteen exponentials and as many products with factors of at most 1",
    returns=("out_HC", "log_sum_H"),
    wrong=(
        Wrong("output not shrunk", slipped(("acc * shrink", "acc")), "when a block raises the peak you shrink the total and not the output: its old part counts too much."),
        Wrong("total not shrunk", slipped(("total * shrink", "total")), "when a block raises the peak you shrink the output and not the total: you divide by too much."),
        Wrong("nothing shrunk", slipped(("acc * shrink", "acc"), ("total * shrink", "total")), "what you summed was measured against the old peak. When the peak rises, multiply total and acc by exp(old - new)."),
        Wrong("shrink upside down", slipped(("peak - new_peak)\n", "0.0 - peak + new_peak)\n")), "all is NaN: you multiply by exp(new - old), and the first old peak is -inf. The old sums must become smaller: exp(old - new)."),
        Wrong("weights by the old peak", slipped(("scores - new_peak", "scores - peak")), "you measure a block's weights against the old peak, which is -inf at first: they are infinite. Take the new one."),
        Wrong("peak of the block", slipped(("tl.maximum(peak, tl.max(scores, axis=0))", "tl.max(scores, axis=0)")), "your peak falls when a block's scores are lower than those before: exp(old - new) overflows. It is the largest score so far."),
        Wrong("no peak", slipped(("tl.maximum(peak, tl.max(scores, axis=0))", "peak * 0.0"), ("peak, total, acc = float(\"-inf\")", "peak, total, acc = 0.0")), "scores of 200 give NaN: exp(200) is infinite in float32. Subtract the largest score so far."),
        Wrong("peak from zero", slipped(("peak, total, acc = float(\"-inf\")", "peak, total, acc = 0.0")), "your peak begins at 0. If all scores are far below, every weight is 0, and so is what you divide by; begin at -inf."),
        Wrong("peak not kept", slipped(("        peak = new_peak\n", "")), "only the last block counts: you never store the new peak, so each shrink is exp(-inf), which is 0."),
        Wrong("not divided", slipped(("acc / total", "acc")), "you store the sum of weight * value. A share stores its own attention: divided by its total."),
        Wrong("divided in every block", slipped(("acc / total)", "acc)"), ("        peak = new_peak\n", "        peak = new_peak\n        acc = acc / total\n")), "you divide by the total in every block, and what was divided is shrunk and divided again. Divide once, behind the loop."),
        Wrong("total begins anew", slipped(("total * shrink + ", "")), "your total is that of the last block alone; add the old one, shrunk."),
        Wrong("acc begins anew", slipped(("acc * shrink + ", "")), "your acc is that of the last block alone; add the old one, shrunk."),
        Wrong("one block", slipped(("range(0, S, BLOCK)", "range(0, BLOCK, BLOCK)")), "you read one block of each head. Walk on until S."),
        Wrong("the peak for the log-sum", slipped(("peak + tl.log(total)", "peak")), "your second result is the peak. The log-sum is the logarithm of all exp(score) together: peak + ln(total)."),
        Wrong("log without the peak", slipped(("peak + tl.log(total)", "tl.log(total)")), "your second result is ln(total), and total was measured against the peak: add the peak."),
        Wrong("sum without the logarithm", slipped(("peak + tl.log(total)", "total")), "your second result is the total, measured against the peak. Asked is its logarithm, plus the peak."),
        Wrong("missing entries count", slipped(("other=float(\"-inf\")", "other=0.0")), "where the last block is not full, the missing entries count as if their score were 0. It must be -inf, so that their weight is 0."),
        Wrong("one head for all", slipped(("head * S + s", "s")), "every head has the scores of head 0: a row of scores has S numbers, so head h begins at h * S."),
        Wrong("last block dropped", slipped(("range(0, S, BLOCK)", "range(0, S - BLOCK + 1, BLOCK)")), "the last block is left out where it is not full."),
    ),
    may_use=(Launched.__call__,),
    hints=(
        "Three things live from block to block: the largest score so far, and two sums measured against it. What must happen to the two sums at the moment at which the largest changes?",
        "```text\npeak = -inf, total = 0, acc = C zeros\nfor each block of BLOCK entries:\n    s = the entries' numbers, inside where s < S\n"
        "    scores = load (head, s) where inside, else -inf\n    values = load (s, 0 .. C-1), s as a column, where inside, else 0\n"
        "    new_peak = the larger of peak and the block's largest score\n    shrink = exp(peak - new_peak);  weights = exp(scores - new_peak)\n"
        "    total = total * shrink + sum of weights\n    acc = acc * shrink + sum over s of weight * value\n    peak = new_peak\n"
        "store acc / total to (head, 0 .. C-1), and peak + log(total) to head\n```",
    ),
    solution=RUNNING_SOLUTION,
    differs="It makes the scores itself, from queries and pages, for up to 64 heads at once, and gives zeros and -inf for a share without entries.",
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


def _heads(a_head, an_entry=lambda C, R: C + R, per_head=lambda C, R: 2 * C + R, times=1.0, less=0, whole=math.ceil):
    """By the formula, with FLOPs of a head and entry, numbers of an entry and of a head's query and result as given."""

    def answer(S, C, R, ridge):
        left = S * a_head(C, R) - ridge * times * per_head(C, R)
        if left <= 0:
            return -1
        return whole(ridge * times * S * an_entry(C, R) / left) - less

    return answer


def _both(C, R):
    return 2 * C + R


def _unmet(S, C, R, ridge):
    return cdiv(ridge * S * (C + R), (2 * C + R) * (S - ridge)) if S != ridge else -1


HEADS = Exercise(
    key="16.heads_needed",
    reference=heads_needed,
    source=mla_decode_module.plan,
    inputs=_heads_inputs,
    tolerance=0.0, because="whole numbers",
    wrong=(
        Wrong("queries and results free", _heads(_both, per_head=lambda C, R: 0), "you leave out that each head's query is read and its result written: C + R and C numbers a head."),
        Wrong("V3's widths", _heads(lambda C, R: 1088, lambda C, R: 576, lambda C, R: 1088), "you count with V3's C = 512 and R = 64, as `least` of the cell above does. Count with the C and R that are given."),
        Wrong("no rotary key in the score", _heads(lambda C, R: 2 * C), "you leave the rotary key out of the score: C + R multiplications a head and entry, and C more for the value."),
        Wrong("scores only", _heads(lambda C, R: C + R), "you count the product for the scores and not the one with the values, C more multiplications a head and entry."),
        Wrong("key and value loaded apart", _heads(_both, an_entry=lambda C, R: 2 * C + R), "you load the latent twice, as key and as value. One load serves both: an entry is C + R numbers."),
        Wrong("multiply-adds", _heads(_both, times=2.0), "you count a multiplication and an addition as one FLOP; they are two."),
        Wrong("float32", _heads(_both, times=4.0), "you let a number have 4 bytes and count one FLOP for a multiply-add."),
        Wrong("one byte", _heads(_both, times=0.5), "a bfloat16 has 2 bytes; you count one."),
        Wrong("one head short", _heads(_both, less=1), "one head fewer is still below the ridge: round up."),
        Wrong("rounded down", _heads(_both, whole=math.floor), "you round down: where H does not come out whole you are below the ridge by a part of a head. Round up."),
        Wrong("rounded", _heads(_both, whole=round), "you round to the nearest whole number; where that is below, the ridge is not reached. Round up."),
        Wrong("one too many", _heads(_both, whole=lambda heads: math.floor(heads) + 1), "you round down and add 1: where H comes out whole, as 9 does by hand, this is a head too many. Round up."),
        Wrong("result forgotten", _heads(_both, per_head=lambda C, R: C + R), "you leave out the result of each head, C numbers that are written."),
        Wrong("never is forgotten", _unmet, "if S is not larger than the ridge, no number of heads is enough: each one brings a query and a result that are as dear as its work. Return -1."),
    ),
    may_use=(cdiv,),
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
    differs="The answer key solves nothing: it tries one number of heads after the other. Here is how the kernel chooses: 64 heads a program, if there are as many.",
)  # fmt: skip

EXERCISES = (COMBINE, FORGOTTEN, RUNNING, HEADS)
