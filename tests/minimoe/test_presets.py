"""The published models' numbers. That each equals its official file is tested in test_config.py."""

import dataclasses

import pytest

from minimoe.config import PRESETS, V2, V2_LITE, V3, ModelConfig
from minimoe.presets import PRESET_VALUES


def test_the_presets_differ_where_the_papers_say():
    assert (V3.n_routed_experts, V3.n_group, V3.topk_group, V3.num_experts_per_tok) == (256, 8, 4, 8)
    assert (V2.n_routed_experts, V2.n_group, V2.topk_group, V2.num_experts_per_tok) == (160, 8, 3, 6)
    assert V2_LITE.q_lora_rank is None and V3.q_lora_rank == 1536
    assert [PRESETS[n].model_type for n in ("V2", "V3", "V3_2", "MOONLIGHT")] == [
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "deepseek_v3",
    ]


def test_a_preset_is_its_table_and_v3_the_defaults():
    assert PRESET_VALUES.keys() == PRESETS.keys()
    for name, values in PRESET_VALUES.items():
        assert PRESETS[name] == ModelConfig(**values)
    assert dataclasses.replace(V3, rope_scaling=None, quantization_config=None) == ModelConfig()


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_token_caches_is_the_same_in_every_published_model(name):
    width = PRESETS[name].kv_lora_rank + PRESETS[name].qk_rope_head_dim
    assert width == (48 if name == "NANO" else 576)


def test_no_two_presets_share_a_dictionary():
    seen = [id(d) for c in PRESETS.values() for d in (c.rope_scaling, c.quantization_config, c.extra) if d is not None]
    assert len(set(seen)) == len(seen)
