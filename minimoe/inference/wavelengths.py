"""How many tokens each rotary pair needs for one full turn, and which pairs never made one in training.

A pair that turns fast has met every angle many times before the trained length ends. A pair whose wavelength is longer
than that has met only the beginning of its circle; every position beyond the trained length is an angle that no weight
has been fitted to. So the list of wavelengths, held against the trained length, says what is new to a model in a longer
row.

How the production version differs: nobody looks; the numbers follow from a config of five entries.
"""

import math
from dataclasses import dataclass

from minimoe.config import ModelConfig
from minimoe.model.rope import inv_freq, yarn_ramp

__all__ = ["RotaryPairs", "rotary_pairs", "trained_tokens"]


@dataclass(frozen=True)
class RotaryPairs:
    """Every rotary pair of a config, fastest first; lengths in tokens.

    `plain_tokens`: tokens a turn before YaRN; `now_tokens`: with the config's YaRN; `ramp`: how much a pair is slowed
    down, 0 (not at all) to 1 (by the whole factor). `trained_tokens` is the length before the extension, `read_tokens`
    the one after it; they are equal in a config without YaRN.
    """

    plain_tokens: tuple[float, ...]
    now_tokens: tuple[float, ...]
    ramp: tuple[float, ...]
    trained_tokens: int
    read_tokens: int

    @property
    def turns(self) -> tuple[float, ...]:
        """Full turns of each pair within the trained length, before YaRN."""
        return tuple(self.trained_tokens / length for length in self.plain_tokens)

    @property
    def finished(self) -> int:
        """How many pairs complete at least one turn within the trained length."""
        return sum(turns >= 1 for turns in self.turns)


def trained_tokens(config: ModelConfig) -> int:
    """The length before any extension: YaRN's original length, or `max_position_embeddings` without YaRN."""
    if config.rope_scaling is None:
        return config.max_position_embeddings
    return round(config.rope_scaling["original_max_position_embeddings"])


def rotary_pairs(config: ModelConfig) -> RotaryPairs:
    """Wavelength 2 pi / frequency of every rotary pair, before and with the config's YaRN.

    Source: arXiv 2309.00071 equation 13; `precompute_freqs_cis` of DeepSeek-V3's inference/model.py @9b4e9788.
    Chapter 06.
    """
    width = config.qk_rope_head_dim if config.is_mla else config.head_dim
    plain = tuple(2 * math.pi * config.rope_theta ** (2 * i / width) for i in range(width // 2))
    now = tuple((2 * math.pi / inv_freq(config)).tolist())
    scaling, trained = config.rope_scaling, trained_tokens(config)
    if scaling is None:
        return RotaryPairs(plain, now, (0.0,) * len(plain), trained, trained)
    ramp = tuple(yarn_ramp(width, config.rope_theta, scaling).tolist())
    return RotaryPairs(plain, now, ramp, trained, round(trained * scaling["factor"]))
