"""Exercises of chapter 02, MLA: attention compression."""

from types import SimpleNamespace

import torch
from torch.utils.flop_counter import FlopCounterMode

from minimoe.accounting import absorb_pays_below, mla_elements
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe_course.exercise import Exercise, Law, Wrong

__all__ = ["EXERCISES"]


def _cache_inputs(g: torch.Generator):
    yield {"layers": 1, "latent": 2, "rotary": 1, "heads": 4, "bytes_per_number": 2}
    yield {"layers": 61, "latent": 512, "rotary": 64, "heads": 128, "bytes_per_number": 2}
    yield {"layers": 27, "latent": 512, "rotary": 64, "heads": 16, "bytes_per_number": 1}


def cache_kb(layers, latent, rotary, heads, bytes_per_number):
    """Kilobytes (of 1000 bytes) that one token leaves behind in all layers: mla_elements * bytes / 1000."""
    return mla_elements(layers, latent, rotary) * bytes_per_number / 1000


CACHE_KB = Exercise(
    key="02.cache_kb",
    reference=cache_kb,
    inputs=_cache_inputs,
    tolerance=1e-9,
    because="a product of small whole numbers and one division",
    wrong=(
        Wrong("one layer", lambda n, c, r, h, b: (c + r) * b / 1000, "your bill is for one layer; every layer has its own latent."),
        Wrong(
            "a rotary key a head",
            lambda n, c, r, h, b: n * (c + h * r) * b / 1000,
            "you store a rotary key for every head; the heads share one.",
        ),
        Wrong("no rotary key", lambda n, c, r, h, b: n * c * b / 1000, "the rotary key is missing; it is cached beside the latent."),
        Wrong(
            "key and value",
            lambda n, c, r, h, b: n * 2 * (c + r) * b / 1000,
            "you count twice, as if for a key and a value; one latent serves both.",
        ),
        Wrong("times heads", lambda n, c, r, h, b: n * h * (c + r) * b / 1000, "you multiply by the heads; they all read the same latent and the same rotary key."),
        Wrong("bytes", lambda n, c, r, h, b: n * (c + r) * b, "your result is in bytes; a KB is 1000 of them."),
        Wrong("kibibytes", lambda n, c, r, h, b: n * (c + r) * b / 1024, "you divide by 1024; the paper's KB is 1000 bytes."),
        Wrong(
            "latent a head",
            lambda n, c, r, h, b: n * (h * c + r) * b / 1000,
            "you store a latent for every head; there is one a token and layer.",
        ),
    ),
    hints=(
        "Which of the five arguments does the cache not depend on at all?",
        "```text\nnumbers = layers * (latent + rotary)\nreturn numbers * bytes_per_number / 1000\n```",
    ),
    solution="def cache_kb(layers, latent, rotary, heads, bytes_per_number):\n    return layers * (latent + rotary) * bytes_per_number / 1000\n",
    source=mla_elements,
    differs="It stops at the number of elements; `accounting.cache_bytes` multiplies by the bytes of a precision.",
)


def _split_inputs(g: torch.Generator):
    yield {"weight": torch.arange(8.0).reshape(4, 2), "H": 2, "N": 1, "W": 1}
    yield {"weight": torch.randn(3 * (2 + 5), 4, generator=g), "H": 3, "N": 2, "W": 5}


def split_up_projection(weight, H, N, W):
    """`MultiHeadLatentAttention.up_projections` on a bare matrix of H * (N + W) rows."""
    layer = SimpleNamespace(kv_b_proj=SimpleNamespace(weight=weight), heads=H, nope=N, value=W)
    return MultiHeadLatentAttention.up_projections(layer)


def _all_keys_first(weight, H, N, W):
    return weight[: H * N].reshape(H, N, -1), weight[H * N :].reshape(H, W, -1)


def _values_first(weight, H, N, W):
    per_head = weight.reshape(H, N + W, -1)
    return per_head[:, W:], per_head[:, :W]


def _heads_inside(weight, H, N, W):
    per_head = weight.reshape(N + W, H, -1).transpose(0, 1)
    return per_head[:, :N], per_head[:, N:]


SPLIT = Exercise(
    key="02.split_up_projection",
    reference=split_up_projection,
    inputs=_split_inputs,
    tolerance=0.0,
    because="nothing is computed: the same numbers are handed out under other names",
    wrong=(
        Wrong("all keys first", _all_keys_first, "your first H*N rows are keys and the rest values; the rows go head by head."),
        Wrong("values first", _values_first, "you took each head's first W rows as its values; a head's key rows come first."),
        Wrong("heads inside", _heads_inside, "you let the head change fastest; all rows of head 0 come before those of head 1."),
    ),
    hints=(
        "The matrix has H blocks of N + W rows. What shape shows the blocks as an axis of their own?",
        "```text\nview the rows as (H, N + W)\nreturn the first N rows of each block, and the other W\n```",
    ),
    solution=(
        "def split_up_projection(weight, H, N, W):\n"
        "    per_head = weight.reshape(H, N + W, -1)\n"
        "    return per_head[:, :N], per_head[:, N:]\n"
    ),
    source=MultiHeadLatentAttention.up_projections,
    differs="It reads the sizes from the layer, and einops writes the axes out.",
    returns=("w_uk_HNC", "w_uv_HWC"),
)


def _absorbed_inputs(g: torch.Generator):
    one = torch.ones
    yield {
        "q_nope_HN": one(1, 1), "q_rot_HR": one(1, 2), "latent_SC": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        "k_rot_SR": torch.zeros(2, 2), "w_uk_HNC": one(1, 1, 2), "w_uv_HWC": torch.tensor([[[1.0, 1.0]]]), "scale": 1.0,
    }  # fmt: skip
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    yield {
        "q_nope_HN": draw(3, 4), "q_rot_HR": draw(3, 2), "latent_SC": draw(7, 5), "k_rot_SR": draw(7, 2),
        "w_uk_HNC": draw(3, 4, 5), "w_uv_HWC": draw(3, 6, 5), "scale": 6**-0.5,
    }  # fmt: skip


def absorbed_attention(q_nope_HN, q_rot_HR, latent_SC, k_rot_SR, w_uk_HNC, w_uv_HWC, scale):
    """`MultiHeadLatentAttention.absorb` for one query."""
    heads, latent = len(q_nope_HN), latent_SC.shape[1]
    layer = SimpleNamespace(up_projections=lambda: (w_uk_HNC, w_uv_HWC), scale=scale, heads=heads, latent=latent)
    entries = torch.cat([latent_SC, k_rot_SR], dim=-1)[None]
    sees_all = torch.ones(1, 1, len(latent_SC), dtype=torch.bool)
    return MultiHeadLatentAttention.absorb(layer, q_nope_HN[None, None], q_rot_HR[None, None], entries, sees_all)[0, 0]


def _variant(rotary=True, scaled=True, own_scale=False, over_heads=False, values=True):
    def attention(q_nope, q_rot, latent, k_rot, w_uk, w_uv, scale):
        q_latent = torch.einsum("hn,hnc->hc", q_nope, w_uk)
        scores = q_latent @ latent.T + (q_rot @ k_rot.T if rotary else 0)
        if scaled:
            scores = scores * ((latent.shape[1] + k_rot.shape[1]) ** -0.5 if own_scale else scale)
        weights = scores.softmax(0 if over_heads else -1)
        mixed = weights @ latent
        return torch.einsum("hc,hwc->hw", mixed, w_uv) if values else mixed

    return attention


def _keys_for_values(q_nope, q_rot, latent, k_rot, w_uk, w_uv, scale):
    q_latent = torch.einsum("hn,hnc->hc", q_nope, w_uk)
    weights = ((q_latent @ latent.T + q_rot @ k_rot.T) * scale).softmax(-1)
    return torch.einsum("hc,hnc->hn", weights @ latent, w_uk)


def _rebuilds_nothing(fn, case):
    """No more multiplications than absorbing takes: H (N C + S (2 C + R) + W C), with room for another order."""
    (H, N, C), W = case["w_uk_HNC"].shape, case["w_uv_HWC"].shape[1]
    (S, R) = case["k_rot_SR"].shape
    with FlopCounterMode(display=False) as counter:
        fn(*case.values())
    return counter.get_total_flops() / 2 <= 1.2 * H * (N * C + S * (2 * C + R) + W * C)


ABSORBED = Exercise(
    key="02.absorbed_attention",
    reference=absorbed_attention,
    inputs=_absorbed_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8, and the largest sum here has a few dozen terms; the library adds them in another order",
    wrong=(
        Wrong("no rotary score", _variant(rotary=False), "your scores ignore positions: add the rotary query times the rotary key."),
        Wrong("no scale", _variant(scaled=False), "your scores are not multiplied by `scale`."),
        Wrong(
            "scale of the wide key",
            _variant(own_scale=True),
            "you scale by the width of the latent key, 1/sqrt(C + R). The scores are still those of heads of N + R numbers: use `scale`.",
        ),
        Wrong("softmax over heads", _variant(over_heads=True), "your weights add up to 1 over the heads; they must over the S tokens."),
        Wrong("latents returned", _variant(values=False), "you return mixed latents; W_UV turns them into values, once, after the sum."),
        Wrong("W_UK twice", _keys_for_values, "you map the mixed latents with W_UK; that gives keys, and the output needs W_UV."),
    ),
    laws=(Law("the numbers are right, but you rebuilt keys or values for every cached token: move W_UK to the query, W_UV to the end.", _rebuilds_nothing),),
    hints=(
        "Three products before the softmax and two after it. Where do the H heads still differ, once they all read the same S latents?",
        "```text\nq_latent_HC = each head's q_nope times its w_uk\nscores_HS  = q_latent . latent + q_rot . k_rot, times scale\n"
        "weights_HS = softmax over S\nmixed_HC   = weights . latent\nout_HW     = each head's w_uv times its mixed\n```",
    ),
    solution=(
        "def absorbed_attention(q_nope_HN, q_rot_HR, latent_SC, k_rot_SR, w_uk_HNC, w_uv_HWC, scale):\n"
        '    q_latent_HC = torch.einsum("hn,hnc->hc", q_nope_HN, w_uk_HNC)\n'
        "    scores_HS = (q_latent_HC @ latent_SC.T + q_rot_HR @ k_rot_SR.T) * scale\n"
        "    mixed_HC = scores_HS.softmax(-1) @ latent_SC\n"
        '    return torch.einsum("hc,hwc->hw", mixed_HC, w_uv_HWC)\n'
    ),
    source=MultiHeadLatentAttention.absorb,
    differs="It takes many rows and queries at once, and lets all heads stand as queries of one wide head, so that a fused kernel applies.",
)


def _crossover_inputs(g: torch.Generator):
    yield {"C": 6, "N": 2, "W": 2}
    yield {"C": 512, "N": 128, "W": 128}
    yield {"C": 32, "N": 16, "W": 24}


CROSSOVER = Exercise(
    key="02.crossover",
    reference=absorb_pays_below,
    inputs=_crossover_inputs,
    tolerance=1e-9,
    because="one division of whole numbers",
    wrong=(
        Wrong(
            "rebuilding alone", lambda C, N, W: C * (N + W) / (2 * C),
            "you set rebuilding against absorbed attention, but `expand` also has to attend afterwards: N + W a query.",
        ),
        Wrong("keys alone", lambda C, N, W: C * N / (2 * C - N - W), "you rebuild keys and forget the values."),
        Wrong("upside down", lambda C, N, W: (2 * C - N - W) / (C * (N + W)), "your fraction is upside down."),
        Wrong(
            "one latent", lambda C, N, W: C * (N + W) / (C - N - W),
            "the absorbed query meets the latent twice: C for the score, and C for the sum.",
        ),
    ),
    hints=(
        "To expand, the latent of C numbers is turned into N + W numbers once; then every new token compares N + R numbers and mixes W.",
        "```text\nexpand: C*(N + W) + T*(N + R + W)\nabsorb: T*(C + R + C)\nset them equal, solve for T\n```",
    ),
    solution="def crossover(C, N, W):\n    return C * (N + W) / (2 * C - N - W)\n",
    differs="It is called `absorb_pays_below`, refuses sizes for which absorbing never costs more, and says where the formula comes from.",
)  # fmt: skip

EXERCISES = (CACHE_KB, SPLIT, ABSORBED, CROSSOVER)
