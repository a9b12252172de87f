"""Exercises of chapter 07, pretraining a small V3."""

import math

import torch

from minimoe.accounting import gpu_hours, mfu
from minimoe.training import Settings
from minimoe.training.data import pack
from minimoe.training.fim import rearrange
from minimoe.training.schedule import rate_factor
from minimoe_course.exercise import Exercise, Law, Wrong

__all__ = ["EXERCISES"]


def _pack_inputs(g: torch.Generator):
    yield {"documents": [[1, 2, 3], [4], [5, 6, 7, 8]], "row_tokens": 3}
    lengths = torch.randint(1, 9, (7,), generator=g).tolist()
    yield {"documents": [torch.randint(10, 99, (n,), generator=g).tolist() for n in lengths], "row_tokens": 6}
    yield {"documents": [[5, 6, 7], [8, 9]], "row_tokens": 5}


def _stream(documents):
    return [token for document in documents for token in document]


def _padded(documents, T):
    return torch.tensor([(document + [0] * T)[:T] for document in documents])


def _last_row_padded(documents, T):
    stream = _stream(documents)
    rows = [stream[i : i + T] for i in range(0, max(len(stream) - 1, 1), T - 1)]
    return torch.tensor([row + [0] * (T - len(row)) for row in rows])


def _no_overlap(documents, T):
    stream = _stream(documents)
    return torch.tensor([stream[i : i + T] for i in range(0, len(stream) - T + 1, T)])


def _slides_by_one(documents, T):
    stream = _stream(documents)
    return torch.tensor([stream[i : i + T] for i in range(len(stream) - T + 1)])


def _overlaps_by_two(documents, T):
    stream = _stream(documents)
    return torch.tensor([stream[i : i + T] for i in range(0, len(stream) - T + 1, max(T - 2, 1))])


def _last_document_dropped(documents, T):
    rows = pack(documents[:-1], T) if sum(map(len, documents[:-1])) >= T else torch.empty(0, T, dtype=torch.int64)
    return rows


def _last_row_dropped(documents, T):
    return pack(documents, T)[:-1]


def _range_stops_early(documents, T):
    stream = _stream(documents)
    rows = [stream[i : i + T] for i in range(0, len(stream) - T, T - 1)]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, T) if rows else torch.tensor([])


def _inside_documents(documents, T):
    rows = [document[i : i + T] for document in documents for i in range(0, len(document) - T + 1, T - 1)]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, T) if rows else torch.tensor([])


def _too_few_rows(documents, T):
    stream = _stream(documents)
    return torch.tensor([stream[r * (T - 1) : r * (T - 1) + T] for r in range(len(stream) // T)])


PACK = Exercise(
    key="07.pack",
    reference=pack,
    inputs=_pack_inputs,
    tolerance=0.0,
    because="whole numbers, moved about and not changed",
    wrong=(
        Wrong("a row a document", _padded, "you give every document a row of its own and fill it up with zeros, or cut it off. Lay all documents end to end first."),
        Wrong("last row padded", _last_row_padded, "your last row is filled up with zeros; the incomplete row is left out."),
        Wrong("no overlap", _no_overlap, "your rows share no token, so the first token of every row is never predicted. Begin a row with the last token of the row before."),
        Wrong("slides by one", _slides_by_one, "your rows move on by one token, so nearly every token is predicted many times over; move on by row_tokens - 1."),
        Wrong("overlaps by two", _overlaps_by_two, "your rows share two tokens, so one token in each row is predicted twice; share one."),
        Wrong("last document dropped", _last_document_dropped, "the tokens of the last document are missing."),
        Wrong("range stops early", _range_stops_early, "your last row is missing where it ends exactly with the last token: the end of a range is not part of it, so the range of starts must end one later."),
        Wrong("inside documents", _inside_documents, "you cut every document on its own and lose what does not fill a row; lay all documents end to end first."),
        Wrong("too few rows", _too_few_rows, "you count the rows as if each took row_tokens new tokens; each but the first takes row_tokens - 1, so more of them fit."),
        Wrong("last row dropped", _last_row_dropped, "your last full row is missing: a range that stops one early?"),
    ),
    hints=(
        "A row of T tokens asks T - 1 questions: token 2 from token 1, and so on. Where must the next row begin, so that its first question follows the last one of this row?",
        "```text\nstream = all documents, one after the other\nstarts = 0, T - 1, 2 (T - 1), ... while a whole row still fits\nreturn the tensor of the rows stream[start : start + T]\n```",
    ),
    solution=(
        "def pack(documents, row_tokens):\n"
        "    stream = [token for document in documents for token in document]\n"
        "    starts = range(0, len(stream) - row_tokens + 1, row_tokens - 1)\n"
        "    return torch.tensor([stream[start : start + row_tokens] for start in starts])\n"
    ),
    laws=(Law("your ids are right, but the tensor is not int64.", lambda f, c: f(*c.values()).dtype == torch.int64),),
    differs="It takes the rows as windows of one tensor (`unfold`), and says so if there is not one full row.",
)  # fmt: skip


def _fim_inputs(g: torch.Generator):
    yield {"document": [0, 10, 11, 12, 13, 14, 1], "i": 3, "j": 4, "marks": [7, 8, 9]}
    yield {"document": [2, *range(20, 31), 3], "i": 2, "j": 7, "marks": [41, 43, 42]}


def fill_in_the_middle(document, i, j, marks):
    """`fim.rearrange` on a document that carries its begin and end marks, cut before the places i and j."""
    return [document[0], *rearrange(document[1:i], document[i:j], document[j:-1], marks), document[-1]]


def _order(form):
    def rearranged(document, i, j, marks):
        begin, hole, end = ([mark] for mark in marks)
        bos, eos = document[:1], document[-1:]
        return form(bos, document[1:i], document[i:j], document[j:-1], eos, begin, hole, end)

    return rearranged


def _places_without_the_first(document, i, j, marks):
    return fill_in_the_middle(document, i + 1, j + 1, marks)


def _cut_behind_j(document, i, j, marks):
    return fill_in_the_middle(document, i, j + 1, marks)


def _marks_by_heart(document, i, j, marks):
    return fill_in_the_middle(document, i, j, [7, 8, 9])


FIM = Exercise(
    key="07.fill_in_the_middle",
    reference=fill_in_the_middle,
    inputs=_fim_inputs,
    tolerance=0.0,
    because="whole numbers, moved about and not changed",
    wrong=(
        Wrong("suffix first", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + suf + h + pre + e + mid + eos), "your order is suffix, prefix, middle; V3's is prefix, suffix, middle."),
        Wrong("middle before suffix", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + pre + h + mid + e + suf + eos), "your middle comes before the suffix, where it has been all along: the model would fill the hole without having read what follows."),
        Wrong("no end of document", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + pre + h + suf + e + mid), "the document's end mark is missing. It follows the middle: it is how the model says that the hole is filled."),
        Wrong("end stays with the suffix", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + pre + h + suf + eos + e + mid), "the document's end mark travelled along with the suffix. It belongs after the middle: it is how the model says that the hole is filled."),
        Wrong("middle lost", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + pre + h + suf + e + eos), "the middle is gone: it must follow the last mark, as that which is to be predicted."),
        Wrong("marks swapped", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + pre + e + suf + h + mid + eos), "your marks for the hole and for the end of the suffix are swapped."),
        Wrong("begin outside", _order(lambda bos, pre, mid, suf, eos, b, h, e: b + bos + pre + h + suf + e + mid + eos), "the mark stands before the token that begins the document; what begins a document stays first."),
        Wrong("end twice", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + pre + h + suf + eos + e + mid + eos), "the document's end mark stands there twice, behind the suffix and behind the middle. The suffix goes from j up to the last token, without it."),
        Wrong("begin twice", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + b + bos + pre + h + suf + e + mid + eos), "the token that begins the document stands there twice; the prefix begins behind it."),
        Wrong("all inside", _order(lambda bos, pre, mid, suf, eos, b, h, e: b + bos + pre + h + suf + eos + e + mid), "your prefix holds the document's first mark and your suffix its last; the first stays in front of everything, the last behind the middle."),
        Wrong("places counted without the first", _places_without_the_first, "you cut one place too late: i and j count from the document's first mark, which has the place 0."),
        Wrong("cut behind j", _cut_behind_j, "your middle is one token too long: the document is cut before the place j, so the token at j belongs to the suffix."),
        Wrong("marks by heart", _marks_by_heart, "your marks are those of the example; take the ones that are handed in."),
        Wrong("no marks", _order(lambda bos, pre, mid, suf, eos, b, h, e: bos + pre + suf + mid + eos), "the marks are missing; without them nobody can tell where a part begins."),
    ),
    hints=(
        "Nothing is deleted and three tokens are added. Which two tokens of the document are neither prefix, middle nor suffix?",
        "```text\npre = from behind the first token up to i\nmid = from i up to j\nsuf = from j up to the last token, without it\nfirst token, begin, pre, hole, suf, end, mid, last token\n```",
    ),
    solution=(
        "def fill_in_the_middle(document, i, j, marks):\n"
        "    begin, hole, end = marks\n"
        "    pre, mid, suf = document[1:i], document[i:j], document[j:-1]\n"
        "    return [document[0], begin, *pre, hole, *suf, end, *mid, document[-1]]\n"
    ),
    source=rearrange,
    canonical=list,
    differs="It takes the three parts, because the library cuts between characters and tokenises each part on its own.",
)  # fmt: skip

PEAK, TOTAL_T = 2.2e-4, 14.8
PLATEAU_T, DECAYED_T, TAIL_T = 10.0, 14.3, 14.3 + 0.333


def _rate_inputs(g: torch.Generator):
    for tokens in (5.0, 0.014, 12.15, 14.5, 14.7, 10.8, 13.5, 0.3, 14.29, 14.62, 14.64):
        yield {"tokens": tokens, "warmup": 0.028}
    yield {"tokens": 0.04, "warmup": 0.05}


def learning_rate(tokens, warmup):
    """`Settings.v3` at a number of tokens, in trillions."""
    v3 = Settings.v3(steps=1, sequences=1, warmup=warmup / TOTAL_T, lr=PEAK)
    return v3.lr * v3.rate(tokens / TOTAL_T)


def _rate(warm=True, start=PLATEAU_T, end=DECAYED_T, low=0.1, tail=7.3e-6, shape="cosine", level=None):
    """V3's schedule with one part altered."""

    def rate(tokens, warmup):
        if warm and tokens < warmup:
            return PEAK * tokens / warmup
        if tail is not None and tokens >= TAIL_T:
            return tail
        if level is not None and tokens >= end:
            return level
        passed = min(max((tokens - (warmup if start is None else start)) / (end - (warmup if start is None else start)), 0.0), 1.0)
        down = 1 - passed if shape == "line" else 0.5 * (1 + math.cos(math.pi * passed))
        return PEAK * (low + (1 - low) * down)

    return rate


def _warmup_by_heart(tokens, warmup):
    return learning_rate(tokens, 0.028)


def _factor_of_the_peak(tokens, warmup):
    return learning_rate(tokens, warmup) / PEAK


def _decay(form):
    def rate(tokens, warmup):
        return form((tokens - PLATEAU_T) / 4.3) if PLATEAU_T <= tokens < DECAYED_T else learning_rate(tokens, warmup)

    return rate


def _tails_swapped(tokens, warmup):
    return 7.3e-6 if tokens >= DECAYED_T + 0.167 else learning_rate(tokens, warmup)


def _steps_down(tokens, warmup):
    if tokens < warmup:
        return PEAK * tokens / warmup
    return PEAK if tokens < PLATEAU_T else 2.2e-5 if tokens < TAIL_T else 7.3e-6


RATE = Exercise(
    key="07.learning_rate",
    reference=learning_rate,
    inputs=_rate_inputs,
    tolerance=1e-9,
    because="one cosine and a few products in double precision",
    wrong=(
        Wrong("cosine to zero", _rate(low=0.0, level=2.2e-5), "your cosine falls to zero and then jumps up; it ends at a tenth of the peak, where the first tail goes on."),
        Wrong("no plateau", _rate(start=None), "your rate begins to fall right after the warm-up; V3 holds the peak until 10T tokens."),
        Wrong("no second tail", _rate(tail=None), "your rate stays at 2.2e-5 to the end; the last 167B tokens are learned at 7.3e-6."),
        Wrong("cosine to the end", _rate(end=TOTAL_T, tail=None), "your cosine ends at 14.8T; it ends at 14.3T, after 4.3T tokens, and two constant tails follow."),
        Wrong("no warm-up", _rate(warm=False), "your rate starts at the peak; it rises from zero first."),
        Wrong("a straight line", _rate(shape="line"), "your rate falls along a straight line; the paper's falls along half a cosine."),
        Wrong("steps", _steps_down, "your rate drops at once at 10T; it falls along half a cosine until 14.3T."),
        Wrong("warm-up by heart", _warmup_by_heart, "your warm-up ends at 0.028 whatever `warmup` is; take the number that is handed in."),
        Wrong("factor of the peak", _factor_of_the_peak, "you return the share of the peak; multiply by the peak, 2.2e-4."),
        Wrong("peak in place of the drop", _decay(lambda p: 2.2e-5 + 2.2e-4 * (1 + math.cos(math.pi * p)) / 2), "your cosine starts above the peak: what it scales is the way down, peak minus low, and not the peak."),
        Wrong("quarter of a circle", _decay(lambda p: 2.2e-5 + 1.98e-4 * math.cos(math.pi * p / 2)), "your cosine covers a quarter of a circle, which ends steeply; (1 + cos(pi p)) / 2 levels out at both ends."),
        Wrong("no pi", _decay(lambda p: 2.2e-5 + 1.98e-4 * (1 + math.cos(p)) / 2), "your cosine lacks pi: with p from 0 to 1 it hardly falls."),
        Wrong("share of all until then", _decay(lambda p: 2.2e-5 + 1.98e-4 * (1 + math.cos(math.pi * p * 4.3 / 14.3)) / 2), "you divide by 14.3; p is the share of the stretch from 10 to 14.3, which is 4.3 long."),
        Wrong("cosine to the last rate", _decay(lambda p: 7.3e-6 + (2.2e-4 - 7.3e-6) * (1 + math.cos(math.pi * p)) / 2), "your cosine falls towards 7.3e-6; its low is 2.2e-5, and 7.3e-6 is only the last tail."),
        Wrong("tails swapped", _tails_swapped, "your last tail begins too early: the 333B at 2.2e-5 come first, the 167B at 7.3e-6 after them."),
        Wrong("cosine too fast", _rate(end=PLATEAU_T + 3.3), "your cosine is over after 3.3T tokens; it takes 4.3T, from 10T to 14.3T."),
    ),
    hints=(
        "Five stretches of the number line, five `if`s. In the third, the cosine, how far along the 4.3T is a token, as a number from 0 to 1?",
        "```text\ntokens < warmup:  peak * tokens / warmup\ntokens < 10:      peak\ntokens < 14.3:    passed = (tokens - 10) / 4.3\n"
        "                  low + (peak - low) * (1 + cos(pi * passed)) / 2,  low = peak / 10\ntokens < 14.633:  low\nelse:             7.3e-6\n```",
    ),
    solution=(
        "def learning_rate(tokens, warmup):\n"
        "    peak, low = 2.2e-4, 2.2e-5\n"
        "    if tokens < warmup:\n"
        "        return peak * tokens / warmup\n"
        "    if tokens < 14.3:\n"
        "        passed = max(tokens - 10, 0) / 4.3\n"
        "        return low + (peak - low) * (1 + math.cos(math.pi * passed)) / 2\n"
        "    return low if tokens < 14.633 else 7.3e-6\n"
    ),
    source=rate_factor,
    differs="It works in shares of the run and factors of the peak, so that any run can have this shape; `Settings.v3` holds V3's own numbers.",
)  # fmt: skip


def _afford_inputs(g: torch.Generator):
    yield {"dollars": 6.0, "price": 2.0, "flops_per_token": 36.0, "peak_flops": 100.0, "utilisation": 0.5}
    yield {"dollars": 5.328e6, "price": 2.0, "flops_per_token": 250.46e9, "peak_flops": 989e12, "utilisation": 0.39}
    yield {"dollars": 1000.0, "price": 1.5, "flops_per_token": 3.1e9, "peak_flops": 312e12, "utilisation": 0.27}


def tokens_for(dollars, price, flops_per_token, peak_flops, utilisation):
    """Tokens that a budget trains on: the rate at which `accounting.mfu` gives `utilisation`, for as long as it lasts."""
    tokens_per_s = utilisation / mfu(flops_per_token, 1.0, peak_flops)
    return dollars / price * 3600 * tokens_per_s


AFFORD = Exercise(
    key="07.tokens_for",
    reference=tokens_for,
    inputs=_afford_inputs,
    tolerance=1e-9,
    because="four products and a quotient in double precision",
    wrong=(
        Wrong("seconds", lambda d, p, f, k, u: d / p * k * u / f, "you multiply hours by operations a second; an hour has 3,600 seconds."),
        Wrong("minutes", lambda d, p, f, k, u: d / p * 60 * k * u / f, "you count 60 seconds in an hour; an hour has 3,600."),
        Wrong("operations", lambda d, p, f, k, u: d / p * 3600 * k * u, "you return the operations that the money buys; how many tokens is that, at flops_per_token each?"),
        Wrong("times the operations", lambda d, p, f, k, u: d / p * 3600 * k * u * f, "you multiply by the operations of a token; dividing gives the tokens."),
        Wrong("no price", lambda d, p, f, k, u: d * 3600 * k * u / f, "you take the dollars for hours; an hour costs `price` dollars."),
        Wrong("percent", lambda d, p, f, k, u: d / p * 3600 * k * u / 100 / f, "you divide the utilisation by 100; it is a share already, from 0 to 1."),
        Wrong("no utilisation", lambda d, p, f, k, u: d / p * 3600 * k / f, "you let the GPU reach its peak; it reaches the share `utilisation` of it."),
        Wrong("divided by the share", lambda d, p, f, k, u: d / p * 3600 * k / u / f, "you divide by the utilisation, as if a half-used GPU did twice the work."),
        Wrong("three times", lambda d, p, f, k, u: d / p * 3600 * k * u / (3 * f), "you triple the operations for the backward pass; `flops_per_token` already holds forward and backward."),
        Wrong("dollars times price", lambda d, p, f, k, u: d * p * 3600 * k * u / f, "you multiply dollars by the price of an hour; dividing gives the hours."),
        Wrong("hours", lambda d, p, f, k, u: d / p, "you return the GPU-hours; how many tokens fit into them?"),
    ),
    hints=(
        "Dollars buy hours, hours are seconds, seconds give operations, operations give tokens. Each arrow is one product or quotient.",
        "```text\nhours = dollars / price\noperations = hours * 3600 * peak_flops * utilisation\nreturn operations / flops_per_token\n```",
    ),
    solution=(
        "def tokens_for(dollars, price, flops_per_token, peak_flops, utilisation):\n"
        "    seconds = dollars / price * 3600\n"
        "    return seconds * peak_flops * utilisation / flops_per_token\n"
    ),
    source=gpu_hours,
    differs="It answers the opposite question, hours from tokens, and counts the operations of a config itself.",
    laws=(Law("your result should double when the dollars double.", lambda f, c: math.isclose(f(*(c | {"dollars": 2 * c["dollars"]}).values()), 2 * f(*c.values()), rel_tol=1e-9)),),
)  # fmt: skip

EXERCISES = (PACK, FIM, RATE, AFFORD)
