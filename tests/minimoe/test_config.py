"""Reading and writing `config.json`: the official files, transformers' own, and back."""

import dataclasses
import json
import tempfile
import warnings
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from model_draws import v2_configs, v3_configs

from minimoe.config import NANO, PRESETS, V2_LITE, V3, V3_2, ModelConfig

OFFICIAL = Path(__file__).parent / "configs"
# What a reader of the model needs to agree on; the rest of a transformers config is bookkeeping.
SHARED_FIELDS = """
    vocab_size hidden_size num_hidden_layers first_k_dense_replace intermediate_size hidden_act num_attention_heads
    num_key_value_heads q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim moe_intermediate_size
    n_routed_experts n_shared_experts num_experts_per_tok n_group topk_group norm_topk_prob routed_scaling_factor
    rms_norm_eps max_position_embeddings tie_word_embeddings initializer_range bos_token_id eos_token_id attention_bias
""".split()


def read_silently(values: dict) -> ModelConfig:
    """Read with every warning an error: nothing in the file may be unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("file", "preset"),
    [
        ("deepseek_v3.json", "V3"),
        ("deepseek_v2_lite.json", "V2_LITE"),
        ("moonlight_16b.json", "MOONLIGHT"),
        ("kimi_k2.json", "KIMI_K2"),
    ],
)
def test_an_official_config_file_equals_its_preset_without_a_warning(file, preset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ModelConfig.from_json(OFFICIAL / file) == PRESETS[preset]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_its_own_file(name, tmp_path):
    PRESETS[name].to_json(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ModelConfig.from_json(tmp_path) == PRESETS[name]
        assert ModelConfig.from_json(tmp_path / "config.json") == PRESETS[name]


@pytest.mark.parametrize("name", [n for n in PRESETS if n != "V3_2"])
def test_transformers_reads_our_file_with_the_same_fields_and_the_same_rope(name, tmp_path):
    from transformers import AutoConfig

    ours = PRESETS[name]
    ours.to_json(tmp_path)
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert type(theirs).__name__ == ("DeepseekV2Config" if ours.model_type == "deepseek_v2" else "DeepseekV3Config")
    assert {f: getattr(theirs, f) for f in SHARED_FIELDS} == {f: getattr(ours, f) for f in SHARED_FIELDS}
    if ours.model_type == "deepseek_v2":
        assert theirs.topk_method == ours.topk_method
    else:
        assert theirs.num_nextn_predict_layers == ours.num_nextn_predict_layers
    rope = dict(theirs.rope_parameters)
    assert rope.pop("rope_theta") == ours.rope_theta
    kind = rope.pop("rope_type")
    if ours.rope_scaling is None:
        assert kind == "default"
    else:
        assert {"type": kind} | {k: v for k, v in rope.items() if k != "type"} == ours.rope_scaling


def test_transformers_reads_our_sparse_attention_fields(tmp_path):
    from transformers import AutoConfig

    V3_2.to_json(tmp_path)
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert theirs.model_type == "deepseek_v32"
    assert (theirs.index_n_heads, theirs.index_head_dim, theirs.index_topk) == (64, 128, 2048)


@pytest.mark.parametrize("name", PRESETS)
def test_a_file_that_transformers_rewrote_still_equals_the_preset(name, tmp_path):
    """It writes `rope_parameters` for `rope_scaling` and adds keys of its own; the meaning must be the same."""
    from transformers import AutoConfig

    PRESETS[name].to_json(tmp_path)
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "rope_parameters" in written and "rope_scaling" not in written
    assert read_silently(written) == PRESETS[name]


def test_the_file_of_a_fresh_deepseek_v3_config_of_transformers_means_a_sigmoid_gate_with_a_bias(tmp_path):
    from transformers import DeepseekV3Config

    yarn = {k: v for k, v in V3.rope_scaling.items() if k != "type"} | {"rope_type": "yarn", "rope_theta": 10000.0}
    DeepseekV3Config(max_position_embeddings=163840, rope_parameters=yarn).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert not {"scoring_func", "topk_method"} & written.keys()
    assert read_silently(written) == dataclasses.replace(V3, quantization_config=None)


def test_the_file_of_a_fresh_deepseek_v2_config_of_transformers_means_a_softmax_gate(tmp_path):
    from transformers import DeepseekV2Config

    yarn = {k: v for k, v in V2_LITE.rope_scaling.items() if k != "type"} | {"rope_type": "yarn", "rope_theta": 10000.0}
    theirs = DeepseekV2Config(
        hidden_size=2048,
        num_hidden_layers=27,
        num_attention_heads=16,
        first_k_dense_replace=1,
        intermediate_size=10944,
        moe_intermediate_size=1408,
        q_lora_rank=None,
        num_experts_per_tok=6,
        max_position_embeddings=163840,
        bos_token_id=100000,
        eos_token_id=100001,
        rope_parameters=yarn,
    )
    theirs.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["n_group"] is None, "this file says null where we say 1: the case under test"
    assert read_silently(written) == V2_LITE


@pytest.mark.parametrize("name", PRESETS)
def test_our_file_says_what_engines_would_otherwise_guess(name):
    written = PRESETS[name].to_dict()
    told = "scoring_func topk_method norm_topk_prob rope_theta rope_scaling moe_layer_freq model_type"
    assert not set(told.split()) - written.keys()
    assert written["rope_scaling"] is None or written["rope_scaling"]["type"] == "yarn"
    assert json.loads(json.dumps(written)) == written


def test_unknown_keys_are_listed_kept_and_written_again():
    with pytest.warns(UserWarning, match="quantum_flux, warp_factor"):
        config = ModelConfig.from_dict(NANO.to_dict() | {"warp_factor": 9, "quantum_flux": True})
    assert config.extra == {"warp_factor": 9, "quantum_flux": True}
    assert config.to_dict()["warp_factor"] == 9
    assert dataclasses.replace(config, extra={}) == NANO


def test_old_and_new_rope_spellings_mean_the_same():
    old = V3.to_dict()
    new = {k: v for k, v in old.items() if k not in ("rope_theta", "rope_scaling")}
    yarn = {k: v for k, v in V3.rope_scaling.items() if k != "type"}
    new["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 10000.0, "attention_factor": None} | yarn
    assert ModelConfig.from_dict(new) == ModelConfig.from_dict(old) == V3
    new["rope_parameters"] = {"rope_type": "default", "rope_theta": 50000.0}
    plain = ModelConfig.from_dict(new)
    assert plain.rope_scaling is None and plain.rope_theta == 50000.0


def test_reading_changes_nothing_in_the_dict_it_was_given():
    values = NANO.to_dict() | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "num_mtp_layers": 1}
    before = json.loads(json.dumps(values))
    ModelConfig.from_dict(values)
    assert values == before


def test_a_file_without_rank_of_the_query_or_with_zero_means_what_its_authors_mean():
    values = V2_LITE.to_dict()
    assert ModelConfig.from_dict(values | {"q_lora_rank": 0}) == V2_LITE
    del values["q_lora_rank"]
    assert ModelConfig.from_dict(values).q_lora_rank == 1536, "the default of both DeepSeek config classes"


def test_the_baseline_has_heads_of_the_usual_width_and_survives_its_file():
    config = dataclasses.replace(NANO, hidden_size=128, kv_lora_rank=None, num_key_value_heads=2)
    assert (config.head_dim, config.qk_head_dim, config.is_mla) == (32, 32, False)
    assert read_silently(config.to_dict()) == config
    wide = dataclasses.replace(NANO, kv_lora_rank=None, head_dim=48)
    assert wide.head_dim == 48 and read_silently(wide.to_dict()) == wide


def test_several_end_tokens_are_kept_as_a_list():
    config = read_silently(NANO.to_dict() | {"eos_token_id": [1, 7]})
    assert config.eos_token_id == [1, 7] and read_silently(config.to_dict()) == config


def test_layers_before_first_k_are_dense_and_mtp_modules_count_on():
    kinds = [NANO.layer_is_moe(layer) for layer in range(NANO.num_hidden_layers + 1)]
    assert kinds == [False, True, True, True]
    assert not dataclasses.replace(NANO, n_routed_experts=None).layer_is_moe(3)


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.one_of(v2_configs(), v3_configs()))
def test_any_config_survives_its_own_file_and_transformers_rewriting_it(config):
    from transformers import AutoConfig

    with tempfile.TemporaryDirectory() as folder:
        config.to_json(folder)
        assert ModelConfig.from_json(folder) == config
        AutoConfig.from_pretrained(folder).save_pretrained(folder)
        again = ModelConfig.from_json(folder)
    assert again == config


def test_editing_what_to_dict_gave_leaves_the_config_alone():
    written = V3.to_dict()
    written["rope_scaling"]["factor"] = 1
    written["quantization_config"].clear()
    assert V3.rope_scaling["factor"] == 40 and V3.quantization_config["fmt"] == "e4m3"


def test_a_config_is_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NANO.hidden_size = 1
    assert len({NANO, V3, dataclasses.replace(NANO)}) == 2
