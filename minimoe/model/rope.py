"""Rotary positions, and YaRN, which stretches them.

RoPE turns each adjacent pair of numbers of a query or key by an angle proportional to its position: pair i turns by
`position * theta^(-2i/R)`. The score of a query at m with a key at n then depends on m - n alone. Pair 0 turns one
radian a token; the last pair of DeepSeek-V3 turns once in about 47,000 tokens.

YaRN lets a model trained on 4,096 tokens read 40 times more. Pairs that turned many times within the training length
are left alone, pairs that never finished a turn are slowed down by `factor`, and the pairs between are mixed. Attention
over more tokens is flatter, so the softmax is sharpened by `mscale` squared.

How the production version differs: DeepSeek's own inference code switches YaRN on only if the maximum length exceeds
the original one; transformers applies it whenever the config has it. minimoe does as transformers does.
"""

import math

import torch

from minimoe.config import YARN_DEFAULTS, ModelConfig

__all__ = ["apply_rope", "inv_freq", "rope_turns", "softmax_scale", "yarn_mscale", "yarn_ramp"]


def yarn_mscale(factor: float, mscale: float) -> float:
    """0.1 * mscale * ln(factor) + 1, and 1 when nothing is stretched.

    Source: YaRN, arXiv 2309.00071 section 3.4; DeepSeek-V2, arXiv 2405.04434 section 3.1.4. Chapter 06.
    """
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def yarn_ramp(width: int, theta: float, scaling: dict) -> torch.Tensor:
    """How much each of the width/2 pairs is slowed down: 0 keeps the pair, 1 divides its frequency by `factor`.

    A pair that turns r times within the original length sits at index width * ln(length / (2 pi r)) / (2 ln theta).
    The ramp rises from 0 at `beta_fast` turns to 1 at `beta_slow` turns; both ends are rounded outwards.

    Source: `precompute_freqs_cis` of DeepSeek-V3's inference/model.py @9b4e9788; arXiv 2309.00071 section 3.2. Chapter
    06.
    """
    values = YARN_DEFAULTS | scaling

    def pair_that_turns(times: float) -> float:
        length = values["original_max_position_embeddings"]
        return width * math.log(length / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_that_turns(values["beta_fast"])), 0)
    high = min(math.ceil(pair_that_turns(values["beta_slow"])), width - 1)
    span = high - low if high != low else 0.001
    return ((torch.arange(width // 2, dtype=torch.float64) - low) / span).clamp(0, 1)


def inv_freq(config: ModelConfig) -> torch.Tensor:
    """Radians per token of every rotary pair, YaRN included; float64, R/2 numbers, falling.

    theta^(-2i/R); under YaRN each is mixed with itself over `factor` by `yarn_ramp`.

    Source: Su et al., arXiv 2104.09864 equation 15; arXiv 2412.19437 section 4.3. Chapters 01 and 06.
    """
    width = config.qk_rope_head_dim if config.is_mla else config.head_dim
    freqs = config.rope_theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    if config.rope_scaling is None:
        return freqs
    ramp = yarn_ramp(width, config.rope_theta, config.rope_scaling)
    return freqs / config.rope_scaling["factor"] * ramp + freqs * (1 - ramp)


def softmax_scale(config: ModelConfig) -> float:
    """What attention scores are multiplied by: 1/sqrt(width of a head), times mscale squared under YaRN.

    Raises nothing. Source: `MLA.__init__` of DeepSeek-V3's inference/model.py @9b4e9788. Chapters 02 and 06.
    """
    scale = config.qk_head_dim**-0.5
    if config.rope_scaling is None:
        return scale
    values = YARN_DEFAULTS | config.rope_scaling
    return scale * yarn_mscale(values["factor"], values["mscale_all_dim"]) ** 2


def rope_turns(config: ModelConfig, positions: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The rotation of every pair at every position, as complex numbers of length 1 (complex128 for float64).

    Takes whole-number positions of any shape; gives that shape with an axis of R/2 pairs appended.
    Under YaRN the length is the ratio of the two mscales, 1 in every released model. A config that does not give both
    gets the YaRN paper's own factor, 0.1 ln(factor) + 1, on queries and on keys, as in transformers.
    Source: `precompute_freqs_cis` of DeepSeek-V3's inference/model.py @9b4e9788. Chapter 01.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    freqs = inv_freq(config).to(device=positions.device, dtype=wide)
    angles = positions[..., None].to(wide) * freqs
    return torch.polar(torch.full_like(angles, _turn_length(config)), angles)


def _turn_length(config: ModelConfig) -> float:
    scaling = config.rope_scaling
    if scaling is None:
        return 1.0
    factor, mscale, mscale_all_dim = scaling["factor"], scaling.get("mscale"), scaling.get("mscale_all_dim")
    if mscale and mscale_all_dim:
        return yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)
    return yarn_mscale(factor, 1.0)


def apply_rope(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn every adjacent pair (x0, x1), (x2, x3), ... of the last axis; the layout stays interleaved.

    (x0 + i x1) * turn. `turns` must broadcast against `x` with its last axis halved. Takes any float dtype, gives the
    same; the product is taken in float32 at least. Half-split layouts (rotate_half) are another order of the same
    numbers.

    Source: `apply_rotary_emb` of DeepSeek-V3's inference/model.py @9b4e9788. Chapter 01.
    """
    return _Turn.apply(x, turns)


class _Turn(torch.autograd.Function):
    """The gradient of a rotation is the rotation back."""

    @staticmethod
    def forward(ctx, x, turns):
        ctx.save_for_backward(turns)
        return _turned(x, turns)

    @staticmethod
    def backward(ctx, d_out):
        (turns,) = ctx.saved_tensors
        return _turned(d_out, turns.conj()), None


def _turned(x, turns):
    wide = x if x.dtype == torch.float64 else x.float()
    if wide.storage_offset() % 2 or any(step % 2 for step in wide.stride()[:-1]):
        # a pair must start at an even address, and after an odd number of others (qk_nope_head_dim=7) it does not
        wide = wide.clone(memory_format=torch.contiguous_format)
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)
