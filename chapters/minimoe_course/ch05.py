"""Exercises of chapter 05, predicting two tokens at once."""

from types import SimpleNamespace

import torch

from minimoe.accounting import speculation_speedup
from minimoe.inference.speculative import rule
from minimoe.model.attention import Span
from minimoe.model.transformer import Output, Transformer
from minimoe_course.exercise import Exercise, Law, Wrong

__all__ = ["EXERCISES"]


def _inputs_inputs(g: torch.Generator):
    rows = lambda T, D: torch.arange(1.0, T + 1)[:, None].expand(T, D).contiguous()  # noqa: E731
    yield {"state_TD": rows(5, 1), "embedded_TD": 10 * rows(5, 1), "tokens_T": torch.tensor([11, 12, 13, 14, 15])}
    yield {"state_TD": rows(3, 2), "embedded_TD": 10 * rows(3, 2), "tokens_T": torch.tensor([7, 7, 2])}
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    tokens = torch.randint(50, (7,), generator=g)
    yield {"state_TD": draw(7, 4), "embedded_TD": draw(7, 4), "tokens_T": tokens}


def mtp_inputs(state_TD, embedded_TD, tokens_T):
    """What `Transformer._predict_further` feeds its first module, cut to the positions that have a label."""
    fed = []

    def module(state, embedded, span):
        fed.append((state, embedded))
        return state, state, None

    layers = SimpleNamespace(num_hidden_layers=0)
    model = SimpleNamespace(mtp_modules=[module], config=layers, lm_head=lambda x: x)
    span = Span(torch.zeros(1, len(tokens_T)))
    Transformer._predict_further(model, Output(None, state_TD[None]), embedded_TD[None], span)
    (state, embedded), labels = fed[0], tokens_T[2:]
    return state[0, : len(labels)], embedded[0, : len(labels)], labels


def _pair(state, embedded, label, count=2):
    """State from place `state`, embedding from `embedded`, label from `label`: all cut to T - `count` rows."""

    def inputs(state_TD, embedded_TD, tokens_T):
        rows = len(tokens_T) - count
        take = lambda x, first: x[first : first + rows]  # noqa: E731
        return take(state_TD, state), take(embedded_TD, embedded), take(tokens_T, label)

    return inputs


def _rolled(state_TD, embedded_TD, tokens_T):
    return state_TD, embedded_TD.roll(-1, 0), tokens_T.roll(-2)


MTP_INPUTS = Exercise(
    key="05.mtp_inputs",
    reference=mtp_inputs,
    inputs=_inputs_inputs,
    tolerance=0.0,
    because="nothing is computed: rows are picked",
    wrong=(
        Wrong(
            "label one ahead", _pair(0, 1, 1),
            "your label is token i + 1, which the module reads: it can copy it, the loss falls to 0, and nothing is learned.",
        ),
        Wrong("label three ahead", _pair(0, 1, 3, count=3), "your label is token i + 3; the first module predicts token i + 2."),
        Wrong(
            "own token", _pair(0, 0, 2),
            "your module reads the embedding of token i, which its state knows already; it must be told token i + 1.",
        ),
        Wrong(
            "reads its label", _pair(0, 2, 2),
            "your module reads the embedding of token i + 2, the token that it must predict.",
        ),
        Wrong(
            "later state", _pair(1, 1, 2),
            "your state is that of token i + 1: the trunk would have to run on that token first, and the draft would save nothing.",
        ),
        Wrong("wraps around", _rolled, "your last rows wrap around to the beginning of the text; they have no label and must go."),
        Wrong("drops a row too many", _pair(0, 1, 2, count=3), "you drop one row too many: position T - 3 still has token T - 1 as its label."),
    ),
    hints=(
        "Write the first row down: state 0, and then? Which is the last position whose label exists?",
        "```text\nrows i = 0 ... T - 3\nstate of i, embedding of i + 1, token i + 2\n```",
    ),
    solution=(
        "def mtp_inputs(state_TD, embedded_TD, tokens_T):\n"
        "    return state_TD[:-2], embedded_TD[1:-1], tokens_T[2:]\n"
    ),
    source=Transformer._predict_further,
    differs=(
        "It goes on to depth 2 and further, each on the states of the one before; it keeps position T - 2, which has no "
        "label, and the loss leaves that one out."
    ),
    returns=("state", "embedded", "labels"),
)  # fmt: skip


def _rule_inputs(g: torch.Generator):
    double = lambda rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731
    later = [0.1, 0.1, 0.2, 0.6]
    p_2V, q_V = double([[0.5, 0.3, 0.15, 0.05], later]), double([0.2, 0.6, 0.1, 0.1])
    for draft in range(4):
        yield {"p_2V": p_2V, "q_V": q_V, "draft": draft}
    p_2V = torch.rand(2, 7, dtype=torch.float64, generator=g)
    q_V = torch.rand(7, dtype=torch.float64, generator=g)
    p_2V, q_V = p_2V / p_2V.sum(-1, keepdim=True), q_V / q_V.sum()
    for draft in (2, 5):
        yield {"p_2V": p_2V, "q_V": q_V, "draft": draft}


def accept_rule(p_2V, q_V, draft):
    """`rule` for one draft: the distribution that judges it is the one after the last known token."""
    chance_M, rest_MV = rule(p_2V[:1], q_V[None], torch.tensor([draft]))
    return chance_M[0], rest_MV[0]


def _rule(chance=None, rest=None, row=0):
    """The right rule with its `chance` or its `rest` replaced."""
    chance = chance or (lambda p, q: (p / q).clamp(max=1))
    rest = rest or (lambda p, q: (p - q).clamp_min(0) / (p - q).clamp_min(0).sum())

    def attempt(p_2V, q_V, draft):
        p_V = p_2V[row]
        return chance(p_V[draft], q_V[draft]), rest(p_V, q_V)

    return attempt


ACCEPT = Exercise(
    key="05.accept_rule",
    reference=accept_rule,
    inputs=_rule_inputs,
    tolerance=1e-12,
    because="float64 rounds at 1e-16, and a handful of numbers is added and divided",
    wrong=(
        Wrong(
            "threshold", _rule(chance=lambda p, q: (p >= q).double()),
            "you keep a draft if p is at least q and never otherwise. Where p is a little below q it must be kept most of the time.",
        ),
        Wrong(
            "p alone", _rule(chance=lambda p, q: p),
            "your chance is p alone. The draft was already drawn with probability q; keeping it with p makes q times p of it.",
        ),
        Wrong("upside down", _rule(chance=lambda p, q: (q / p).clamp(max=1)), "your chance is q / p; it is p / q."),
        Wrong("not capped", _rule(chance=lambda p, q: p / q), "your chance can be above 1: cap it."),
        Wrong(
            "resampled from p", _rule(rest=lambda p, q: p),
            "you replace a rejected draft by a draw from p itself. Words that the module drafts often then come too often: once as drafts, once more as replacements.",
        ),
        Wrong(
            "not normalised", _rule(rest=lambda p, q: (p - q).clamp_min(0)),
            "your second result does not add up to 1: divide what is left over by its sum.",
        ),
        Wrong(
            "absolute difference", _rule(rest=lambda p, q: (p - q).abs() / (p - q).abs().sum()),
            "you draw the replacement from |p - q|. Words with more q than p have had their share already: cut these at 0.",
        ),
        Wrong(
            "wrong position", _rule(row=1),
            "you judge the draft by the distribution after it (row 1). It stands where row 0 has its say, after the last known token.",
        ),
    ),
    hints=(
        "Count what comes out. A word is drafted with probability q. If it is kept with the chance min(1, p/q), how much of p(word) has been said, and how much is missing?",
        "```text\np = the row that predicts the draft's place\nchance = the smaller of 1 and p[draft] / q[draft]\nrest = p - q, cut at 0, divided by its sum\n```",
    ),
    solution=(
        "def accept_rule(p_2V, q_V, draft):\n"
        "    p_V = p_2V[0]\n"
        "    chance = (p_V[draft] / q_V[draft]).clamp(max=1)\n"
        "    rest_V = (p_V - q_V).clamp_min(0)\n"
        "    return chance, rest_V / rest_V.sum()\n"
    ),
    source=rule,
    differs="It judges many rows at once, and where p equals q, so that nothing is left over, it gives p back instead of 0 / 0.",
    returns=("chance", "rest_V"),
)  # fmt: skip


def _speedup_inputs(g: torch.Generator):
    yield {"acceptance": 0.5, "drafts": 1, "check": 1.25, "draft": 0.25}
    yield {"acceptance": 0.8, "drafts": 2, "check": 1.5, "draft": 0.1}
    yield {"acceptance": 0.9, "drafts": 4, "check": 1.0, "draft": 0.05}
    yield {"acceptance": 0.3, "drafts": 1, "check": 1.6, "draft": 0.4}


def _tokens(a, n):
    return sum(a**k for k in range(n + 1))


SPEEDUP = Exercise(
    key="05.speedup",
    reference=speculation_speedup,
    inputs=_speedup_inputs,
    tolerance=1e-9,
    because="a few products and one division",
    wrong=(
        Wrong(
            "drafts alone", lambda a, n, c, d: sum(a**k for k in range(1, n + 1)) / (c + n * d),
            "you count kept drafts alone; every call also gives one token of the trunk's own.",
        ),
        Wrong(
            "all drafts kept alike", lambda a, n, c, d: (1 + n * a) / (c + n * d),
            "you count the second draft as if the first had always been kept: it counts with a times a.",
        ),
        Wrong(
            "one term short", lambda a, n, c, d: sum(a**k for k in range(n)) / (c + n * d),
            "your sum is one term short: you forgot the trunk's own token, or the last draft. It has drafts + 1 terms.",
        ),
        Wrong("drafting is free", lambda a, n, c, d: _tokens(a, n) / c, "your drafts cost nothing: add drafts * draft to the price of a call."),
        Wrong("checking is free", lambda a, n, c, d: _tokens(a, n) / (1 + n * d), "you charge a plain call, 1; a call that checks costs `check`."),
        Wrong(
            "one draft paid", lambda a, n, c, d: _tokens(a, n) / (c + d),
            "you pay for one draft however many there are: the module runs once for each.",
        ),
        Wrong("all or nothing", lambda a, n, c, d: (1 + n * a**n) / (c + n * d), "you count the drafts only if all of them are kept; those before the first rejected one count too."),
        Wrong("upside down", lambda a, n, c, d: (c + n * d) / _tokens(a, n), "your fraction is upside down: above 1 should mean faster."),
    ),
    laws=(
        Law("with an acceptance of 0 a call gives one token, so the speed-up is 1 / price.", lambda f, case: abs(f(0.0, 1, 2.0, 0.5) - 0.4) < 1e-9),
    ),
    hints=(
        "A call gives one token for certain. With which probability does it give a second, and a third?",
        "```text\ntokens = 1 + a + a^2 + ... + a^drafts\nprice  = check + drafts * draft\nreturn tokens / price\n```",
    ),
    solution=(
        "def speedup(acceptance, drafts, check, draft):\n"
        "    tokens = sum(acceptance**n for n in range(drafts + 1))\n"
        "    return tokens / (check + drafts * draft)\n"
    ),
    differs="It lives in `minimoe.accounting`, next to `break_even_acceptance`, and refuses an acceptance outside 0 to 1.",
)  # fmt: skip

EXERCISES = (MTP_INPUTS, ACCEPT, SPEEDUP)
