"""Round trips: what is saved is loaded to the last bit, here and in transformers, and from there to here; FP8 too."""

import json
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import minimoe
from minimoe.checkpoint import CheckpointError, load, load_into, load_layer, open_checkpoint, save
from minimoe.config import NANO
from minimoe.fp8_blocks import dequantise, quantise
from minimoe.model.attention import Span
from minimoe.model.rope import rope_turns
from minimoe.model.transformer import Transformer

YARN = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1}
V2_ROUTING = {
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "num_nextn_predict_layers": 0,
    "aux_loss_alpha": 0.001,
}
TINY = replace(NANO, vocab_size=90, hidden_size=136, num_hidden_layers=3, n_routed_experts=8, moe_intermediate_size=56)
SHAPES = {
    "MTP": TINY,
    "two MTP modules": replace(TINY, num_nextn_predict_layers=2),
    "no query compression": replace(TINY, q_lora_rank=None, num_nextn_predict_layers=0),
    "YaRN": replace(TINY, rope_scaling=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}, num_nextn_predict_layers=0),
    "all layers dense": replace(TINY, first_k_dense_replace=3, num_nextn_predict_layers=0),
    "softmax, group limited": replace(TINY, topk_method="group_limited_greedy", **V2_ROUTING),
    "softmax, greedy": replace(TINY, topk_method="greedy", n_group=1, topk_group=1, **V2_ROUTING),
    "tied": replace(TINY, tie_word_embeddings=True),
    "baseline GQA": replace(
        TINY, kv_lora_rank=None, q_lora_rank=None, num_key_value_heads=2, num_nextn_predict_layers=0
    ),
}
READ_BY_TRANSFORMERS = [name for name in SHAPES if name not in ("baseline GQA", "tied")]


def trained(config, seed=1):
    """A model whose norms and biases are not at their start either, so that a mix-up shows."""
    model = Transformer(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim() == 1:
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
            elif "gate.weight" in name:
                tensor.mul_(10)
    return model


def some_ids(config):
    return torch.randint(0, config.vocab_size, (2, 11), generator=torch.Generator().manual_seed(5))


def assert_same(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


@pytest.mark.parametrize(
    "dtype, max_shard_bytes", [(torch.float32, 5e9), (torch.bfloat16, 100_000), (torch.float64, 5e9)], ids=str
)
@pytest.mark.parametrize("name", SHAPES)
def test_what_is_saved_is_loaded_to_the_last_bit(name, dtype, max_shard_bytes, tmp_path):
    model = trained(SHAPES[name]).to(dtype)
    for router in model.routers().values():
        if router.e_score_correction_bias is not None:
            router.e_score_correction_bias = router.e_score_correction_bias.float()
    save(model, tmp_path, max_shard_bytes=max_shard_bytes)
    found = load(tmp_path)
    assert_same(found, model)
    assert found.config == model.config
    ids = some_ids(model.config)
    assert torch.equal(found(ids).logits, model(ids).logits)


def test_saving_in_another_precision_rounds_the_weights_and_not_the_bias(tmp_path):
    model = trained(TINY)
    save(model, tmp_path, dtype=torch.bfloat16)
    found = load(tmp_path)
    assert_same(found, model.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert found.routers()[1].e_score_correction_bias.dtype == torch.float32
    assert load(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_the_loaded_model_trains(tmp_path):
    save(trained(TINY), tmp_path)
    model, ids = load(tmp_path), some_ids(TINY)
    model(ids, labels=ids).loss.backward()
    assert all(p.requires_grad and p.grad is not None for n, p in model.named_parameters() if ".experts." not in n)


def test_tied_weights_are_stored_once_and_tied_again(tmp_path):
    save(trained(SHAPES["tied"]), tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    model = load(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_dtype_that_no_checkpoint_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype=torch.int8 is not one of"):
        save(trained(TINY), tmp_path / "it", dtype=torch.int8)
    save(trained(TINY), tmp_path)
    with pytest.raises(ValueError, match="dtype=torch.float8_e4m3fn is not one of"):
        load(tmp_path, dtype=torch.float8_e4m3fn)


def test_a_model_that_is_not_what_its_config_says_is_not_saved(tmp_path):
    model = trained(TINY)
    model.lm_head = torch.nn.Linear(TINY.hidden_size, 91, bias=False)
    with pytest.raises(ValueError, match=r"'lm_head.weight'.*\(90, 136\).*\(91, 136\)"):
        save(model, tmp_path / "it")
    assert not (tmp_path / "it").exists()


# FP8


def test_fp8_weights_dequantise_exactly_and_the_rest_is_untouched(tmp_path):
    model = trained(TINY)
    save(model, tmp_path, dtype=torch.float32, fp8=True)
    found, stored = load(tmp_path), load_file(tmp_path / "model.safetensors")
    ragged = 0
    for name, tensor in model.state_dict().items():
        if stored[name].dtype == torch.float8_e4m3fn:
            fp8, scale = quantise(tensor)
            assert torch.equal(stored[name + "_scale_inv"], scale)
            assert torch.equal(found.state_dict()[name], dequantise(fp8, scale))
            ragged += any(side % 128 for side in tensor.shape)
        else:
            assert torch.equal(found.state_dict()[name], tensor)
    assert ragged > 10
    high = [name for name in stored if ".mlp.gate." in name or "norm" in name or "eh_proj" in name or "embed" in name]
    assert high and all(stored[name].dtype == torch.float32 for name in high)


def test_an_fp8_config_is_written_as_deepseek_writes_it_and_dropped_again(tmp_path):
    model = trained(TINY)
    save(model, tmp_path / "fp8", dtype=torch.bfloat16, fp8=True)
    written = json.loads((tmp_path / "fp8" / "config.json").read_text())
    assert written["quantization_config"] == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    assert written["torch_dtype"] == "bfloat16"
    save(load(tmp_path / "fp8"), tmp_path / "plain")
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())
    assert_same(load(tmp_path / "plain"), load(tmp_path / "fp8"))


def test_fp8_checkpoints_load_in_the_precision_of_the_embedding(tmp_path):
    save(trained(TINY), tmp_path, dtype=torch.bfloat16, fp8=True)
    assert load(tmp_path).model.layers[1].mlp.experts[0].up_proj.weight.dtype == torch.bfloat16


# load_into and load_layer


def test_load_into_keeps_the_parameters_their_precision_and_the_optimizers_hold_on_them(tmp_path):
    source, target = trained(TINY, seed=1), trained(TINY, seed=2).to(torch.bfloat16)
    save(source, tmp_path)
    parameters = list(target.parameters())
    load_into(target, tmp_path)
    assert all(a is b for a, b in zip(parameters, target.parameters(), strict=True))
    assert_same(target, source.to(torch.bfloat16))


def test_load_into_another_shape_changes_nothing(tmp_path):
    save(trained(TINY), tmp_path)
    target = trained(replace(TINY, moe_intermediate_size=48), seed=2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"experts.0.*\[56, 136\], expected \[48, 136\]"):
        load_into(target, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("name", ["MTP", "softmax, greedy", "tied"])
def test_every_layer_loads_alone_and_computes_the_same(name, tmp_path):
    model = trained(SHAPES[name])
    save(model, tmp_path, max_shard_bytes=200_000)
    for i, whole in enumerate(model.model.layers):
        layer = load_layer(tmp_path, i)
        assert_same(layer, whole)
    span = Span(rope_turns(model.config, torch.arange(7)[None], torch.float32))
    x = torch.randn(1, 7, model.config.hidden_size)
    assert torch.equal(load_layer(tmp_path, 1)(x, span)[0], model.model.layers[1](x, span)[0])


@pytest.mark.parametrize("part", ["self_attn", "self_attn.kv_b_proj", "mlp", "mlp.gate", "mlp.experts.7"])
def test_a_part_of_a_layer_loads_alone(part, tmp_path):
    model = trained(TINY)
    save(model, tmp_path)
    assert_same(load_layer(tmp_path, 2, part), model.model.layers[2].get_submodule(part))


def test_a_layer_loads_when_only_its_shards_are_there(tmp_path):
    model = trained(TINY)
    save(model, tmp_path, max_shard_bytes=200_000)
    source = open_checkpoint(tmp_path)
    needed = {source.entry(name).file for name in source.names("model.layers.1.")}
    for file in set(tmp_path.glob("*.safetensors")) - needed:
        file.unlink()
    assert_same(load_layer(tmp_path, 1), model.model.layers[1])
    with pytest.raises(CheckpointError, match="is missing"):
        load(tmp_path)


def test_layers_and_parts_that_do_not_exist_are_said(tmp_path):
    save(trained(TINY), tmp_path)
    for layer in (-1, 4):
        with pytest.raises(ValueError, match=f"layer={layer}: the config has layers 0 to 3"):
            load_layer(tmp_path, layer)
    with pytest.raises(ValueError, match="part='mlp.experts.8': layer 1 has no such module"):
        load_layer(tmp_path, 1, "mlp.experts.8")


def test_a_broken_layer_is_refused_and_the_others_still_load(tmp_path):
    model = trained(TINY)
    save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"first_k_dense_replace": 2}))
    with pytest.raises(CheckpointError, match="'model.layers.1.mlp.gate_proj.weight' is missing"):
        load_layer(tmp_path, 1)
    assert_same(load_layer(tmp_path, 2), model.model.layers[2])


# transformers


def their_class(config):
    transformers = pytest.importorskip("transformers")
    kind = "V3" if config.model_type == "deepseek_v3" else "V2"
    return getattr(transformers, f"Deepseek{kind}ForCausalLM"), getattr(transformers, f"Deepseek{kind}Config")


def assert_same_logits(theirs, ours):
    ids = some_ids(ours.config)
    with torch.no_grad():
        a, b = theirs.eval()(ids).logits, ours(ids, mtp=False).logits
    # Two float32 programs that add in another order; DeepSeek's code and transformers differ by 2.4e-6 of the scale.
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.no_axis_check
@pytest.mark.parametrize("max_shard_bytes", [5e9, 200_000], ids=["one file", "shards"])
@pytest.mark.parametrize("name", READ_BY_TRANSFORMERS)
def test_transformers_loads_ours_without_a_missing_or_unexpected_name(name, max_shard_bytes, tmp_path):
    config = SHAPES[name]
    model = trained(config)
    save(model, tmp_path, max_shard_bytes=max_shard_bytes)
    theirs, info = their_class(config)[0].from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    # transformers leaves MTP modules out, and knows only that V3's are at layer 61; ours are where the trunk ends.
    mtp = tuple(f"model.layers.{config.num_hidden_layers + k}." for k in range(config.num_nextn_predict_layers))
    assert all(name.startswith(mtp) for name in info["unexpected_keys"])
    assert bool(info["unexpected_keys"]) == bool(mtp)
    assert theirs.dtype == torch.float32
    assert_same_logits(theirs, model)


@pytest.mark.no_axis_check
@pytest.mark.parametrize("name", READ_BY_TRANSFORMERS)
def test_ours_loads_what_transformers_saved(name, tmp_path):
    config = SHAPES[name]
    save(trained(config), tmp_path / "ours")
    their_model, their_config = their_class(config)
    torch.manual_seed(3)
    theirs = their_model(their_config.from_pretrained(tmp_path / "ours"))
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            tensor.add_(torch.randn_like(tensor) * 0.05)
    theirs.save_pretrained(tmp_path / "theirs")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ours = load(tmp_path / "theirs")
    dropped = any("loaded without MTP modules" in str(warning.message) for warning in said)
    assert ours.config.num_nextn_predict_layers == 0
    if config.num_nextn_predict_layers:
        assert dropped
    assert_same_logits(theirs, ours)


def test_a_transformers_folder_that_kept_other_files_is_read(tmp_path):
    save(trained(TINY), tmp_path)
    (tmp_path / "generation_config.json").write_text("{}")
    (tmp_path / "modeling_deepseek.py").write_text("raise RuntimeError('no code of a checkpoint is ever run')")
    assert load(tmp_path).config.hidden_size == TINY.hidden_size


def test_save_and_load_are_the_librarys(tmp_path):
    minimoe.save(trained(TINY), tmp_path / "it")
    shutil.copytree(tmp_path / "it", tmp_path / "copy")
    assert_same(minimoe.load(tmp_path / "copy"), minimoe.load(str(tmp_path / "it")))
