"""Exercises of chapter 06, Stretching the context, and what its figures read from the recorded study."""

import json
import math
from dataclasses import replace

import numpy as np
import torch

import minimoe
from minimoe.inference.attention_maps import attention_maps
from minimoe.inference.retrieval import RetrievalMap
from minimoe.inference.wavelengths import rotary_pairs
from minimoe.model.rope import apply_rope, inv_freq, softmax_scale
from minimoe_course.exercise import Exercise, Law, Wrong
from minimoe_course.start import data_path
from minimoe_widgets.context_twin import retrieval_twin
from minimoe_widgets.context_words import retrieval_alt

__all__ = ["EXERCISES", "half_split_rope", "hops", "map_figure", "no_rope", "recorded", "seed_map", "share_of_seeds"]
__all__ += ["spread"]


def recorded() -> dict[str, dict]:
    """Seed -> the study's record of that seed (`data/context/retrieval.json`)."""
    return json.loads((data_path("context") / "retrieval.json").read_text(encoding="utf-8"))["seeds"]


def seed_map(record: dict, way: str, when: str) -> RetrievalMap:
    """One recorded map: of the base model (`way` "base"), or of a way to extend it "before" or "after" training."""
    return RetrievalMap.from_dict(record["base"] if way == "base" else record["ways"][way][when])


def spread(way: str, when: str = "before") -> dict[int, list[float]]:
    """Length -> the accuracy over all depths of every recorded seed."""
    seeds = [seed_map(record, way, when).by_length() for record in recorded().values()]
    return {length: [shares[length] for shares in seeds] for length in seeds[0]}


def share_of_seeds(way: str) -> tuple[list[int], list[float]]:
    """Steps of the second phase, and the accuracy at the full length after so many, the median of the seeds."""
    along = [record["ways"][way]["along"] for record in recorded().values()]
    steps = sorted(map(int, along[0]))
    return steps, [float(torch.tensor([seed[str(step)] for seed in along]).median()) for step in steps]


def hops(model, needles, length: int, depth: float = 0.3, rows: int = 4) -> tuple[float, float]:
    """The two looks that an answer takes, each as the weight of the head that looks hardest, mean of a few rows.

    In the first layer the value looks at its key, one token back; in the last the question looks at the value.
    """
    ids_MT, _ = needles.haystacks(rows, length, depth)
    key, weights = round(depth * (length - 4)), []
    for ids in ids_MT:
        maps = attention_maps(model, ids)
        weights.append([maps[0][:, key + 1, key], maps[len(maps) - 1][:, -1, key + 1]])
    first, last = np.array(weights).mean(0).max(-1)
    return float(first), float(last)


def map_figure(found: RetrievalMap, title: str, trained: int = 64):
    """The retrieval map as a figure, with every share written into its cell and a line below the trained length."""
    return retrieval_twin(found, trained, title, retrieval_alt(title, found, trained))


def half_split_rope(x, turns):
    """Rotary positions in the other layout: number i is paired with number i + R/2, as GPT-NeoX and LLaMA have it."""
    first, second = x.chunk(2, dim=-1)
    interleaved = torch.stack([first, second], dim=-1).flatten(-2)
    turned = apply_rope(interleaved, turns)
    return torch.cat([turned[..., 0::2], turned[..., 1::2]], dim=-1)


def no_rope(x, turns):
    """No positions: every pair stays where it is."""
    return x


def _turn_inputs(g: torch.Generator):
    yield {"width": 4, "theta": 100.0, "length": 30}
    yield {"width": 64, "theta": 10000.0, "length": 4096}
    yield {"width": 16, "theta": 100.0, "length": 64}
    yield {"width": 64, "theta": 50000.0, "length": 8192}
    yield {"width": 16, "theta": 100.0, "length": 20}
    yield {"width": 8, "theta": 10.0, "length": 200}  # every pair finishes: a count beyond R/2 shows


def _mla_config(width, theta, length, **scaling):
    return replace(
        minimoe.NANO, qk_rope_head_dim=width, rope_theta=theta, max_position_embeddings=length, rope_scaling=scaling or None
    )


def finished_turns(width, theta, length):
    """`rotary_pairs(config).finished` from the three numbers it depends on."""
    return rotary_pairs(_mla_config(width, theta, length)).finished


def _count(width, holds):
    return sum(holds(i) for i in range(width // 2))


FINISHED = Exercise(
    key="06.finished_turns",
    reference=finished_turns,
    inputs=_turn_inputs,
    tolerance=0.0,
    because="a count is exact",
    wrong=(
        Wrong(
            "no circle", lambda w, b, n: _count(w, lambda i: b ** (2 * i / w) <= n),
            "you compare theta^(2i/R) with the length. A pair turns by theta^(-2i/R) radians a token, and a turn is 2 pi of them.",
        ),
        Wrong(
            "i over R", lambda w, b, n: _count(w, lambda i: 2 * math.pi * b ** (i / w) <= n),
            "your exponent is i/R; it is 2i/R, since two numbers make one pair.",
        ),
        Wrong(
            "numbers, not pairs", lambda w, b, n: 2 * _count(w, lambda i: 2 * math.pi * b ** (2 * i / w) <= n),
            "you count numbers; two of them are one pair and turn together.",
        ),
        Wrong(
            "the others", lambda w, b, n: _count(w, lambda i: 2 * math.pi * b ** (2 * i / w) > n),
            "you count the pairs that never finish; the question is how many do.",
        ),
        Wrong(
            "half a turn", lambda w, b, n: _count(w, lambda i: math.pi * b ** (2 * i / w) <= n),
            "you let half a turn count: a full one is 2 pi radians.",
        ),
        Wrong(
            "as many pairs as numbers", lambda w, b, n: sum(2 * math.pi * b ** (2 * i / w) <= n for i in range(w)),
            "you count up to pair R - 1; R numbers make R/2 pairs, and the last is i = R/2 - 1.",
        ),
        Wrong(
            "upside down", lambda w, b, n: _count(w, lambda i: 2 * math.pi * b ** (-2 * i / w) <= n),
            "your wavelengths fall. theta^(-2i/R) is how far a pair turns in one token; the tokens of a turn are 2 pi over that.",
        ),
        Wrong(
            "4i over R", lambda w, b, n: _count(w, lambda i: 2 * math.pi * b ** (4 * i / w) <= n),
            "your exponent is 4i/R; it is 2i/R: R is the width, not the number of pairs.",
        ),
        Wrong(
            "from 1", lambda w, b, n: sum(2 * math.pi * b ** (2 * i / w) <= n for i in range(1, w // 2 + 1)),
            "you leave out the first pair: i = 0 turns 1 radian a token, and counts.",
        ),
    ),
    hints=(
        "How many tokens does pair i need for 2 pi radians, if it turns by theta^(-2i/R) radians a token?",
        "```text\nfor every pair i = 0 .. R/2 - 1\n    wavelength = 2 pi * theta^(2i/R)\ncount those that are at most length\n```",
    ),
    solution=(
        "def finished_turns(width, theta, length):\n"
        "    wavelengths = [2 * math.pi * theta ** (2 * i / width) for i in range(width // 2)]\n"
        "    return sum(tokens <= length for tokens in wavelengths)\n"
    ),
    source=rotary_pairs,
    differs="It gives the wavelengths themselves, before and with YaRN, and counts in a property.",
)  # fmt: skip


def _yarn_inputs(g: torch.Generator):
    yield {"width": 8, "theta": 100.0, "factor": 4, "length": 64, "beta_fast": 4, "beta_slow": 1}
    yield {"width": 64, "theta": 10000.0, "factor": 40, "length": 4096, "beta_fast": 32, "beta_slow": 1}
    yield {"width": 16, "theta": 100.0, "factor": 8, "length": 64, "beta_fast": 32, "beta_slow": 1}


def yarn_frequencies(width, theta, factor, length, beta_fast, beta_slow):
    """`inv_freq` of a config with these numbers, in float32, which is what a reader's own tensors are."""
    scaling = {"type": "yarn", "factor": factor, "original_max_position_embeddings": length}
    return inv_freq(_mla_config(width, theta, length, **scaling, beta_fast=beta_fast, beta_slow=beta_slow)).float()


def _yarn_variant(
    ends=(math.floor, math.ceil), lowest=0, cut=(0, 1), reverse=False, ramp=None, mix_lengths=False, whole=False,
    natural=True, over_turns=False, slower=True,
):  # fmt: skip
    def frequencies(width, theta, factor, length, beta_fast, beta_slow):
        freqs = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)

        def pair(times):
            turn = 2 * math.pi if natural else 1.0
            return width * math.log(length / (times * turn)) / (2 * math.log(theta))

        low, high = (end(pair(beta)) for end, beta in zip(ends, (beta_fast, beta_slow), strict=True))
        low, high = max(low, lowest), min(high, width - 1)
        places = torch.arange(width // 2, dtype=torch.float64) * (2 if whole else 1)
        r = ((places - low) / (high - low)).clamp(*cut)
        if over_turns:
            r = ((beta_fast - length * freqs / (2 * math.pi)) / (beta_fast - beta_slow)).clamp(0, 1)
        r = 1 - r if reverse else r
        r = torch.full_like(r, ramp) if ramp is not None else r
        if mix_lengths:
            return (1 / ((1 - r) / freqs + r * factor / freqs)).float()
        return (freqs * (1 - r) + (freqs / factor if slower else freqs * factor) * r).float()

    return frequencies


YARN = Exercise(
    key="06.yarn_frequencies",
    reference=yarn_frequencies,
    inputs=_yarn_inputs,
    tolerance=1e-6,
    because="frequencies are at most 1, and float32 rounds at 6e-8 of them; a power and two products follow",
    wrong=(
        Wrong(
            "ramp reversed", _yarn_variant(reverse=True),
            "your ramp is the wrong way round: you slow the fast pairs down, which tell neighbours apart, and keep the slow ones.",
        ),
        Wrong(
            "not rounded", _yarn_variant(ends=(float, float)),
            "the two ends of your ramp are not whole pairs: round the lower one down and the upper one up.",
        ),
        Wrong("all slowed", _yarn_variant(ramp=1.0), "you slow every pair down: that is position interpolation."),
        Wrong("none slowed", _yarn_variant(ramp=0.0), "you slow no pair down: that is extrapolation."),
        Wrong(
            "wavelengths mixed", _yarn_variant(mix_lengths=True),
            "you mix wavelengths along the ramp; it is the frequencies that are mixed.",
        ),
        Wrong(
            "ramp over numbers", _yarn_variant(whole=True),
            "your ramp counts numbers, not pairs: it rises twice as fast as it should.",
        ),
        Wrong("no circle", _yarn_variant(natural=False), "a turn is 2 pi radians; the ends of your ramp forget it."),
        Wrong(
            "rounded to the nearest", _yarn_variant(ends=(round, round)),
            "you round the ends of the ramp to the nearest pair; the lower goes down and the upper up, so that the ramp is never too short.",
        ),
        Wrong(
            "rounded inwards", _yarn_variant(ends=(math.ceil, math.floor)),
            "you round the ends of the ramp inwards: the lower one goes down and the upper one up.",
        ),
        Wrong(
            "begins below 0", _yarn_variant(lowest=-math.inf),
            "your ramp may begin below pair 0; its lower end is at least 0, or the fastest pair is slowed down too.",
        ),
        Wrong(
            "not cut", _yarn_variant(cut=(-math.inf, math.inf)),
            "your ramp runs on below 0 and above 1: cut it there (clamp).",
        ),
        Wrong(
            "ramp over turns", _yarn_variant(over_turns=True),
            "your ramp rises with the number of turns; V3's rises evenly from pair to pair.",
        ),
        Wrong("sped up", _yarn_variant(slower=False), "you multiply by the factor: a pair is slowed down by dividing its frequency."),
    ),
    hints=(
        "First find the pairs at which the ramp begins and ends: solve length / (2 pi theta^(2i/R)) = beta for i, twice.",
        "```text\nfreqs = theta^(-2i/R) for every pair i\nplace(beta) = R * ln(length / (2 pi beta)) / (2 ln theta)\n"
        "low = floor(place(beta_fast)), at least 0;  high = ceil(place(beta_slow))\nramp = (i - low) / (high - low), cut to 0..1\n"
        "freqs * (1 - ramp) + freqs / factor * ramp\n```",
    ),
    solution=(
        "def yarn_frequencies(width, theta, factor, length, beta_fast, beta_slow):\n"
        "    pairs = torch.arange(width // 2)\n"
        "    freqs = theta ** (-2 * pairs / width)\n"
        "    place = lambda beta: width * math.log(length / (2 * math.pi * beta)) / (2 * math.log(theta))\n"
        "    low, high = max(math.floor(place(beta_fast)), 0), math.ceil(place(beta_slow))\n"
        "    ramp = ((pairs - low) / (high - low)).clamp(0, 1)\n"
        "    return freqs * (1 - ramp) + freqs / factor * ramp\n"
    ),
    source=inv_freq,
    differs="It reads the numbers from a config and works in float64; the ramp is a function of its own, which also survives two equal ends.",
)  # fmt: skip


def _scale_inputs(g: torch.Generator):
    yield {"head_width": 16, "factor": math.e**10, "mscale": 1.0}
    yield {"head_width": 192, "factor": 40, "mscale": 1.0}
    yield {"head_width": 192, "factor": 40, "mscale": 0.707}
    yield {"head_width": 48, "factor": 8, "mscale": 1.0}


def attention_scale(head_width, factor, mscale):
    """`softmax_scale` of a config with heads of that width."""
    scaling = {"type": "yarn", "factor": factor, "original_max_position_embeddings": 64}
    config = _mla_config(16, 1e4, 64, **scaling, mscale=mscale, mscale_all_dim=mscale)
    return softmax_scale(replace(config, qk_nope_head_dim=head_width - 2, qk_rope_head_dim=2))


def _scale_variant(power, log=math.log, inside=False, factor_of=lambda s: s):
    def scale(head_width, factor, mscale):
        m = 0.1 * (1.0 if inside else mscale) * log(factor_of(factor)) + 1
        return head_width**-0.5 * (mscale * m if inside else m) ** power

    return scale


SCALE = Exercise(
    key="06.attention_scale",
    reference=attention_scale,
    inputs=_scale_inputs,
    tolerance=1e-6,
    because="a handful of operations, which may be a tensor's: float32 rounds at 6e-8",
    wrong=(
        Wrong("mscale once", _scale_variant(1), "your factor stands once; it belongs to the query and to the key, so the score has its square."),
        Wrong("mscale forgotten", lambda w, s, m: w**-0.5, "your scale is the one without YaRN: the softmax is as flat as the longer row makes it."),
        Wrong("base 2", _scale_variant(2, math.log2), "you take the logarithm to base 2; the formula has the natural one."),
        Wrong("base 10", _scale_variant(2, math.log10), "you take the logarithm to base 10; the formula has the natural one."),
        Wrong("divided", lambda w, s, m: w**-0.5 / (0.1 * m * math.log(s) + 1) ** 2, "you divide by the factor: that makes the softmax flatter, and it should be sharper."),
        Wrong("times width", lambda w, s, m: w**0.5 * (0.1 * m * math.log(s) + 1) ** 2, "you multiply by the root of the width; scores are divided by it."),
        Wrong("outside", _scale_variant(2, inside=True), "you multiply the whole bracket by mscale; it stands before the logarithm alone."),
        Wrong("mscale ignored", lambda w, s, m: w**-0.5 * (0.1 * math.log(s) + 1) ** 2, "your mscale changes nothing; it stands before the logarithm."),
        Wrong("no 1", lambda w, s, m: w**-0.5 * (0.1 * m * math.log(s)) ** 2, "your m lacks the + 1: at s = 1 it would be 0, and all scores with it."),
        Wrong("no root", lambda w, s, m: (0.1 * m * math.log(s) + 1) ** 2 / w, "you divide by the width; it is divided by its root, as without YaRN."),
        Wrong("m squared alone", lambda w, s, m: (0.1 * m * math.log(s) + 1) ** 2, "you give m squared alone; the scale is that over the root of the width."),
    ),
    hints=(
        "Query and key are each multiplied by 0.1 mscale ln(factor) + 1. What does that do to their product?",
        "```text\nm = 0.1 * mscale * ln(factor) + 1\nreturn m * m / sqrt(head_width)\n```",
    ),
    solution=(
        "def attention_scale(head_width, factor, mscale):\n"
        "    return (0.1 * mscale * math.log(factor) + 1) ** 2 / head_width**0.5\n"
    ),
    source=softmax_scale,
    differs="It reads the numbers from a config, and is 1/sqrt(width) for a config without YaRN.",
)  # fmt: skip


def _layout_inputs(g: torch.Generator):
    yield {"x_TR": torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2), "angles_TP": torch.tensor([[0.0, 0.0], [math.pi / 2, 0.1]])}
    yield {"x_TR": torch.randn(5, 6, generator=g), "angles_TP": torch.randn(5, 3, generator=g)}


def turn_pairs(x_TR, angles_TP):
    """`apply_rope` with angles instead of complex numbers."""
    return apply_rope(x_TR, torch.polar(torch.ones_like(angles_TP), angles_TP))


def _halves(x_TR, angles_TP):
    return half_split_rope(x_TR, torch.polar(torch.ones_like(angles_TP), angles_TP))


def _unwoven(x_TR, angles_TP):
    turned = turn_pairs(x_TR, angles_TP)
    return torch.cat([turned[:, 0::2], turned[:, 1::2]], dim=-1)


def _overwritten(x_TR, angles_TP):
    a, b, cos, sin = x_TR[:, 0::2], x_TR[:, 1::2], angles_TP.cos(), angles_TP.sin()
    a = a * cos - b * sin
    return torch.stack([a, a * sin + b * cos], dim=-1).flatten(-2)


def _keeps_length(fn, case):
    x_TR = case["x_TR"]
    return torch.allclose(fn(x_TR, case["angles_TP"]).norm(dim=-1), x_TR.norm(dim=-1), atol=1e-5)


TURN = Exercise(
    key="06.turn_pairs",
    reference=turn_pairs,
    inputs=_layout_inputs,
    tolerance=1e-6,
    because="two products of numbers below 4, in float32",
    wrong=(
        Wrong("half-split", _halves, "you pair number i with number i + R/2. DeepSeek's weights are laid out with neighbours as pairs: (0, 1), (2, 3), ..."),
        Wrong("turned back", lambda x, a: turn_pairs(x, -a), "you turn the wrong way: the second number of a pair takes + sin of the first."),
        Wrong("unwoven", _unwoven, "your pairs are right, but the result is not woven back: first numbers of all pairs, then second ones."),
        Wrong("not flat", lambda x, a: turn_pairs(x, a).unflatten(-1, (-1, 2)), "your numbers are right, but still stand in pairs, on an axis of their own: flatten the last two."),
        Wrong("overwritten", _overwritten, "you overwrite the first numbers and then turn the second ones with the new ones: both formulas need the old a and b."),
        Wrong("cosine alone", lambda x, a: x * a.repeat_interleave(2, -1).cos(), "you shrink the numbers by the cosine; the sine's part is missing."),
    ),
    laws=(Law("a rotation keeps the length of a vector; yours does not.", _keeps_length),),
    hints=(
        "`x_TR[:, 0::2]` are the first numbers of all pairs and `x_TR[:, 1::2]` the second ones.",
        "```text\na, b = first and second numbers of the pairs\nturned = (a cos - b sin, a sin + b cos)\nweave the two back: stack on a new last axis, flatten\n```",
    ),
    solution=(
        "def turn_pairs(x_TR, angles_TP):\n"
        "    a, b = x_TR[:, 0::2], x_TR[:, 1::2]\n"
        "    cos, sin = angles_TP.cos(), angles_TP.sin()\n"
        "    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)\n"
    ),
    source=apply_rope,
    differs="It multiplies complex numbers, and its gradient is the rotation back.",
)  # fmt: skip

EXERCISES = (FINISHED, TURN, YARN, SCALE)
