"""Exercises of chapter 01, the transformer you already half know."""

from dataclasses import replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from minimoe import NANO
from minimoe.accounting import gqa_elements
from minimoe.model.attention import GroupedQueryAttention, attend, attend_by_hand, attend_in_blocks
from minimoe.model.layers import MLP, rms_norm, swiglu
from minimoe.model.rope import apply_rope, rope_turns
from minimoe_course.exercise import Exercise, Law, Wrong

__all__ = ["EXERCISES"]


def _rms_norm_inputs(g: torch.Generator):
    ones_D = torch.ones(2)
    yield {"x_MD": torch.tensor([[3.0, 4.0]]), "weight_D": ones_D, "eps": 0.0}
    yield {"x_MD": torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "weight_D": torch.tensor([2.0, 1.0]), "eps": 1e-2}
    yield {"x_MD": torch.randn(3, 5, generator=g) + 1, "weight_D": torch.rand(5, generator=g), "eps": 1e-6}
    yield {"x_BTD": torch.randn(2, 3, 7, generator=g), "weight_D": torch.randn(7, generator=g), "eps": 0.1}


def _mean_is_removed(x, weight, eps):
    return F.layer_norm(x, weight.shape, weight, None, eps)


def _root_is_forgotten(x, weight, eps):
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + eps)


def _sum_for_mean(x, weight, eps):
    return weight * x / torch.sqrt(x.pow(2).sum(-1, keepdim=True) + eps)


def _eps_outside_the_root(x, weight, eps):
    return weight * x / (torch.sqrt(x.pow(2).mean(-1, keepdim=True)) + eps)


def _gain_is_forgotten(x, weight, eps):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def _mean_over_everything(x, weight, eps):
    return weight * x / torch.sqrt(x.pow(2).mean() + eps)


RMS_NORM = Exercise(
    key="01.rms_norm",
    reference=rms_norm,
    inputs=_rms_norm_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8, and a mean of a few squares and a root add a handful of roundings",
    wrong=(
        Wrong("mean is removed", _mean_is_removed, "you subtract the mean first: that is LayerNorm. RMSNorm leaves it in."),
        Wrong("root is forgotten", _root_is_forgotten, "you divide by the mean square; take its root."),
        Wrong("sum for mean", _sum_for_mean, "you divide by the length of the vector; RMSNorm divides by the root of the MEAN."),
        Wrong("eps outside", _eps_outside_the_root, "you add eps after the root; the formula adds it under the root."),
        Wrong("gain is forgotten", _gain_is_forgotten, "your result is normalised, but the gain weight_D never enters."),
        Wrong("mean over everything", _mean_over_everything, "one token changes another: average over the last axis only."),
    ),
    hints=(
        "How long is the vector `[3, 4]`, and what is the square root of the mean of its squares? Which of the two is "
        "divided by?",
        "```text\nmean_square = mean of x * x over the last axis, axis kept\nreturn weight * x / root(mean_square + eps)\n```",
    ),
    solution=(
        "def rms_norm(x_MD, weight_D, eps):\n"
        "    mean_square_M1 = x_MD.pow(2).mean(-1, keepdim=True)\n"
        "    return weight_D * x_MD * torch.rsqrt(mean_square_M1 + eps)\n"
    ),
    differs="For float32 it calls torch's fused version of the same formula; for bfloat16 it takes the mean in float32 first.",
    forbid=(F.rms_norm, torch.rms_norm),
)


def _attention_inputs(g: torch.Generator):
    q_TN, k_TN = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    yield {"q_TN": q_TN, "k_TN": k_TN, "v_TW": torch.tensor([[10.0], [20.0]]), "scale": 1.0}
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    yield {"q_TN": draw(5, 3), "k_TN": draw(5, 3), "v_TW": draw(5, 4), "scale": 0.5}


def causal_attention(q_TN, k_TN, v_TW, scale):
    """`attend_by_hand` for one sequence and one head."""
    return attend_by_hand(q_TN[None, None], k_TN[None, None], v_TW[None, None], scale)[0, 0]


def _attention(scaled=True, diagonal=0, hide=float("-inf"), axis=-1, masked=True):
    def attention(q, k, v, scale):
        scores = q @ k.T * (scale if scaled else 1)
        future = torch.ones_like(scores, dtype=torch.bool).triu(1 + diagonal)
        scores = scores.masked_fill(future, hide) if masked else scores
        return scores.softmax(axis).nan_to_num() @ v

    return attention


def _masked_after(q, k, v, scale):
    return (q @ k.T * scale).softmax(-1).tril() @ v


def _past_hidden(q, k, v, scale):
    past = torch.ones(len(q), len(q), dtype=torch.bool).tril(-1)
    return (q @ k.T * scale).masked_fill(past, float("-inf")).softmax(-1) @ v


def _own_scale(q, k, v, scale):
    return _attention()(q, k, v, q.shape[1] ** -0.5)


ATTENTION = Exercise(
    key="01.causal_attention",
    reference=causal_attention,
    inputs=_attention_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8; a softmax and two products of a few terms add a handful of roundings",
    wrong=(
        Wrong("no mask", _attention(masked=False), "your first token sees the second: hide what comes later before the softmax."),
        Wrong("masked with zero", _attention(hide=0.0), "you hide the future with a score of 0, but exp(0) is 1: it still gets weight. Use minus infinity."),
        Wrong("masked after", _masked_after, "your weights no longer add up to 1: hide the future before the softmax, not after it."),
        Wrong("past hidden", _past_hidden, "you hide the past; the future is where the column is larger than the row."),
        Wrong("own scale", _own_scale, "you scale by 1/sqrt(N) of your own; use `scale`."),
        Wrong("no scale", _attention(scaled=False), "your scores are not multiplied by `scale`."),
        Wrong("one too many", _attention(diagonal=1), "your mask is off by one: token t sees token t + 1."),
        Wrong("not itself", _attention(diagonal=-1), "your mask is off by one: a token must see itself."),
        Wrong("over queries", _attention(axis=0), "your weights add up to 1 over the tokens that look; they must over the tokens looked at."),
    ),
    hints=(
        "Make the table of scores first, T x T. Which half of it belongs to the future?",
        "```text\nscores = q times k transposed, times scale\nscores where column > row: minus infinity\nweights = softmax along each row\nreturn weights times v\n```",
    ),
    solution=(
        "def causal_attention(q_TN, k_TN, v_TW, scale):\n"
        "    scores_TS = q_TN @ k_TN.T * scale\n"
        "    future_TS = torch.ones_like(scores_TS, dtype=torch.bool).triu(1)\n"
        '    return scores_TS.masked_fill(future_TS, float("-inf")).softmax(-1) @ v_TW\n'
    ),
    source=attend_by_hand,
    differs="It does the same for all sequences and heads at once, and takes other masks.",
    forbid=(F.scaled_dot_product_attention, attend, attend_in_blocks),
)


def _rotation_inputs(g: torch.Generator):
    yield {"x_TR": torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "positions_T": torch.tensor([0.0, 1.5707964]), "theta": 10000.0}
    yield {"x_TR": torch.randn(3, 8, generator=g), "positions_T": torch.tensor([0.0, 2.0, 7.0]), "theta": 100.0}


def rotate_pairs(x_TR, positions_T, theta):
    """`apply_rope` with the rotations of a head of R numbers."""
    R = x_TR.shape[1]
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": R}
    config = replace(NANO, kv_lora_rank=None, q_lora_rank=None, rope_theta=theta, **heads)
    return apply_rope(x_TR, rope_turns(config, positions_T, torch.float32))


def _rotation(frequency=lambda i, R, theta: theta ** (-2 * i / R), direction=1, first=0, half=False):
    def rotate(x, positions, theta):
        R = x.shape[1]
        angles = direction * (positions[:, None] + first) * frequency(torch.arange(R // 2), R, theta)
        a, b = (x[:, : R // 2], x[:, R // 2 :]) if half else (x[:, 0::2], x[:, 1::2])
        turned = (a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin())
        return torch.cat(turned, -1) if half else torch.stack(turned, -1).flatten(1)

    return rotate


def _separated(x, positions, theta):
    turned = _rotation()(x, positions, theta)
    return torch.cat([turned[:, 0::2], turned[:, 1::2]], -1)


ROTATION = Exercise(
    key="01.rotate_pairs",
    reference=rotate_pairs,
    inputs=_rotation_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8 and an angle of 7 radians loses one digit more in sine and cosine",
    wrong=(
        Wrong("half-split", _rotation(half=True), "you pair number i with number i + R/2; DeepSeek's pairs are neighbours: (0, 1), (2, 3), ..."),
        Wrong("parted", _separated, "the rotation is right, but the pairs come out parted: first halves, then second halves. Put them back side by side."),
        Wrong("backwards", _rotation(direction=-1), "you turn the other way: check the sign of the sine."),
        Wrong("one position late", _rotation(first=1), "your first token is already turned; position 0 turns by nothing."),
        Wrong("one frequency", _rotation(lambda i, R, theta: torch.ones(len(i))), "all your pairs turn alike; pair i turns by theta^(-2i/R) a token."),
        Wrong("theta fixed", lambda x, positions, theta: _rotation()(x, positions, 10000.0), "you use 10,000 whatever `theta` says."),
        Wrong("exponent i/R", _rotation(lambda i, R, theta: theta ** (-i / R)), "your frequencies fall half as fast: the exponent is -2i/R, with i the number of the pair."),
    ),
    hints=(
        "A pair (a, b) turned by an angle is (a cos - b sin, a sin + b cos). Which angle belongs to pair i at position t?",
        "```text\nangles = positions (as a column) * theta to the power -2i/R, i = 0 .. R/2-1\na, b = every even and every odd number\n"
        "stack (a cos - b sin, a sin + b cos) along a new last axis, then flatten it\n```",
    ),
    solution=(
        "def rotate_pairs(x_TR, positions_T, theta):\n"
        "    R = x_TR.shape[1]\n"
        "    angles = positions_T[:, None] * theta ** (-torch.arange(0, R, 2) / R)\n"
        "    a, b = x_TR[:, 0::2], x_TR[:, 1::2]\n"
        "    cos, sin = angles.cos(), angles.sin()\n"
        "    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(1)\n"
    ),
    source=apply_rope,
    differs="It writes a pair as one complex number, so that turning is one multiplication; `rope_turns` prepares the rotations once a call.",
    forbid=(torch.polar,),
)


def _feed_forward_inputs(g: torch.Generator):
    yield {"x_MD": torch.tensor([[1.0]]), "w_gate_FD": torch.tensor([[1.0]]), "w_up_FD": torch.tensor([[3.0]]), "w_down_DF": torch.tensor([[2.0]])}
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    yield {"x_MD": draw(2, 3), "w_gate_FD": draw(5, 3), "w_up_FD": draw(5, 3), "w_down_DF": draw(3, 5)}


def feed_forward(x_MD, w_gate_FD, w_up_FD, w_down_DF):
    """`MLP.forward` with the three weights given."""
    gate, up, down = (lambda x, w=w: F.linear(x, w) for w in (w_gate_FD, w_up_FD, w_down_DF))
    return MLP.forward(SimpleNamespace(gate_proj=gate, up_proj=up, down_proj=down), x_MD)


FEED_FORWARD = Exercise(
    key="01.feed_forward",
    reference=feed_forward,
    inputs=_feed_forward_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8; the products have at most five terms",
    wrong=(
        Wrong("gate on up", lambda x, g, u, d: (x @ g.T * F.silu(x @ u.T)) @ d.T, "SiLU sits on the up projection; it belongs on the gate."),
        Wrong("sum", lambda x, g, u, d: (F.silu(x @ g.T) + x @ u.T) @ d.T, "you add gate and up; they are multiplied."),
        Wrong("sigmoid", lambda x, g, u, d: ((x @ g.T).sigmoid() * (x @ u.T)) @ d.T, "your gate is a sigmoid; SiLU is z times the sigmoid of z."),
        Wrong("relu", lambda x, g, u, d: (F.relu(x @ g.T) * (x @ u.T)) @ d.T, "your gate is a ReLU; the layer uses SiLU."),
        Wrong("silu of the product", lambda x, g, u, d: F.silu((x @ g.T) * (x @ u.T)) @ d.T, "you take SiLU of the product; it is taken of the gate alone, before."),
        Wrong("no gate", lambda x, g, u, d: F.silu(x @ u.T) @ d.T, "w_gate_FD never enters: SwiGLU multiplies two projections."),
    ),
    hints=(
        "Three matrix products and one multiplication of two vectors of width F.",
        "```text\ngate = x times w_gate transposed\nup = x times w_up transposed\nreturn (silu(gate) * up) times w_down transposed\n```",
    ),
    solution=(
        "def feed_forward(x_MD, w_gate_FD, w_up_FD, w_down_DF):\n"
        "    gate_MF = x_MD @ w_gate_FD.T\n"
        "    return (gate_MF * gate_MF.sigmoid() * (x_MD @ w_up_FD.T)) @ w_down_DF.T\n"
    ),
    source=MLP,
    differs="Its `swiglu` keeps two tensors for the backward pass instead of four.",
    forbid=(swiglu,),
)


def _grouped_inputs(g: torch.Generator):
    eye, values = torch.eye(2), torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    yield {"q_HN": torch.zeros(4, 2), "k_GSN": torch.stack([eye, eye]), "v_GSW": values, "scale": 1.0}
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    yield {"q_HN": draw(3, 4), "k_GSN": draw(1, 7, 4), "v_GSW": draw(1, 7, 5), "scale": 0.5}
    yield {"q_HN": draw(3, 4), "k_GSN": draw(3, 7, 4), "v_GSW": draw(3, 7, 5), "scale": 0.5}
    yield {"q_HN": draw(6, 4), "k_GSN": draw(2, 11, 4), "v_GSW": draw(2, 11, 5), "scale": 0.5}


def grouped_attention(q_HN, k_GSN, v_GSW, scale):
    """`attend` for one query that sees every key."""
    sees_all = torch.ones(1, 1, k_GSN.shape[1], dtype=torch.bool)
    return attend(q_HN[None, :, None], k_GSN[None], v_GSW[None], scale, sees_all)[0, :, 0]


def _shared(spread_keys, spread_values=None):
    def attention(q, k, v, scale):
        times = len(q) // len(k)
        k, v = spread_keys(k, times), (spread_values or spread_keys)(v, times)
        weights = (torch.einsum("hn,hsn->hs", q, k) * scale).softmax(-1)
        return torch.einsum("hs,hsw->hw", weights, v)

    return attention


def _tiled(x, times):
    return x.repeat(times, 1, 1)


def _neighbours(x, times):
    return x.repeat_interleave(times, 0)


def _over_heads(q, k, v, scale):
    k, v = _neighbours(k, len(q) // len(k)), _neighbours(v, len(q) // len(v))
    weights = (torch.einsum("hn,hsn->hs", q, k) * scale).softmax(0)
    return torch.einsum("hs,hsw->hw", weights, v)


def _only_first_sees(q, k, v, scale):
    return _neighbours(v, len(q) // len(v))[:, 0]


GROUPED = Exercise(
    key="01.grouped_attention",
    reference=grouped_attention,
    inputs=_grouped_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8; a softmax and two products of a few terms add a handful of roundings",
    wrong=(
        Wrong("dealt out", _shared(_tiled), "you deal the key heads out like cards (0, 1, 0, 1); neighbours share: heads 0 and 1 read key head 0."),
        Wrong("values dealt out", _shared(_neighbours, _tiled), "the scores are right, but your values come from another key head than the scores."),
        Wrong("first for all", _shared(lambda x, n: x[:1].expand(n * len(x), -1, -1)), "all heads read key head 0: that is MQA."),
        Wrong("over heads", _over_heads, "your weights add up to 1 over the heads; they must over the S tokens."),
        Wrong("causal", _only_first_sees, "your query sees only the first key: here it sees every one, so no mask is needed."),
        Wrong("mean of all", _shared(lambda x, n: x.mean(0, keepdim=True).expand(n * len(x), -1, -1)), "you average the key heads; each query head reads one of them."),
    ),
    hints=(
        "With 6 query heads and 3 key heads, which key head does query head 5 read? And head 1?",
        "```text\nrepeat each key head H/G times, copies next to each other\nthe same for the values\nthen attention, head by head, without a mask\n```",
    ),
    solution=(
        "def grouped_attention(q_HN, k_GSN, v_GSW, scale):\n"
        "    times = len(q_HN) // len(k_GSN)\n"
        "    k_HSN, v_HSW = k_GSN.repeat_interleave(times, 0), v_GSW.repeat_interleave(times, 0)\n"
        '    weights_HS = (torch.einsum("hn,hsn->hs", q_HN, k_HSN) * scale).softmax(-1)\n'
        '    return torch.einsum("hs,hsw->hw", weights_HS, v_HSW)\n'
    ),
    source=GroupedQueryAttention,
    differs="It projects, rotates and caches as well, and lets torch's kernel share the key heads without copying them.",
    forbid=(F.scaled_dot_product_attention,),
)


def _fit_inputs(g: torch.Generator):
    yield {"memory_gb": 1.0, "layers": 1, "kv_heads": 1, "head_dim": 1, "bytes_per_number": 2}
    yield {"memory_gb": 80.0, "layers": 126, "kv_heads": 8, "head_dim": 128, "bytes_per_number": 2}
    yield {"memory_gb": 16.0, "layers": 61, "kv_heads": 128, "head_dim": 128, "bytes_per_number": 1}


def tokens_that_fit(memory_gb, layers, kv_heads, head_dim, bytes_per_number):
    """Whole tokens whose `gqa_elements` fit into `memory_gb` of 10^9 bytes."""
    return int(memory_gb * 1e9 // (gqa_elements(layers, kv_heads, head_dim) * bytes_per_number))


FIT = Exercise(
    key="01.tokens_that_fit",
    reference=tokens_that_fit,
    inputs=_fit_inputs,
    tolerance=0.0,
    because="whole numbers",
    wrong=(
        Wrong("bytes a token", lambda m, n, h, d, b: 2 * n * h * d * b, "that is what one token takes; divide the memory by it."),
        Wrong("keys alone", lambda m, n, h, d, b: int(m * 1e9 // (n * h * d * b)), "you store keys and no values; both are needed."),
        Wrong("one layer", lambda m, n, h, d, b: int(m * 1e9 // (2 * h * d * b)), "you pay for one layer; every layer keeps its own."),
        Wrong("gibibytes", lambda m, n, h, d, b: int(m * 2**30 // (2 * n * h * d * b)), "you count 2^30 bytes to the GB; here it is 10^9."),
        Wrong("bytes forgotten", lambda m, n, h, d, b: int(m * 1e9 // (2 * n * h * d)), "you count numbers, not bytes."),
        Wrong("not whole", lambda m, n, h, d, b: m * 1e9 / (2 * n * h * d * b) + 0.5, "a token fits whole or not at all: round down."),
    ),
    laws=(Law("a token fits whole or not at all: round down.", lambda f, case: f(*case.values()) == int(f(*case.values()))),),
    hints=(
        "How many bytes does one token leave behind, in all layers?",
        "```text\none = 2 * layers * kv_heads * head_dim * bytes_per_number\nreturn memory_gb * 10^9, divided by one, rounded down\n```",
    ),
    solution=(
        "def tokens_that_fit(memory_gb, layers, kv_heads, head_dim, bytes_per_number):\n"
        "    token_bytes = 2 * layers * kv_heads * head_dim * bytes_per_number\n"
        "    return int(memory_gb * 1e9 // token_bytes)\n"
    ),
    source=gqa_elements,
    differs="It gives elements a token; the division is yours.",
)

EXERCISES = (RMS_NORM, ATTENTION, ROTATION, FEED_FORWARD, GROUPED, FIT)
