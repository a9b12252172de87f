"""A folder written by one side is a model on the other: the same weights, logits and tokens, MTP modules included."""

from dataclasses import replace

import pytest
import torch
import transformers
from model_draws import randomise, sample
from official_models import CLASSES, AllInFloat64
from transformers.modeling_layers import MtpModel

import minimoe

CONFIG = minimoe.ModelConfig(
    vocab_size=23, hidden_size=20, num_hidden_layers=2, first_k_dense_replace=1, intermediate_size=17,
    num_attention_heads=2, q_lora_rank=7, kv_lora_rank=6, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=3,
    moe_intermediate_size=9, n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3,
    num_nextn_predict_layers=1, aux_loss_alpha=0.0, eos_token_id=None, bos_token_id=None,
)  # fmt: skip
V2 = replace(CONFIG, scoring_func="softmax", topk_method="group_limited_greedy", norm_topk_prob=False,
             num_nextn_predict_layers=0)  # fmt: skip
# every fourth draw; without shared experts transformers would miss matrices of no rows
DRAWN = {name: case for name, case in list(sample().items())[::4] if case.config.n_shared_experts}


def random_model(config, seed=0):
    model = minimoe.Transformer(config)
    randomise(model, seed)
    return model.double()


def random_ids(config, rows=2, length=9):
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def read_by_transformers(folder, config):
    """The model that transformers makes of a folder in float64, and its report on the names."""
    _, model_class = CLASSES[config.model_type]
    with AllInFloat64():
        model, report = model_class.from_pretrained(
            folder,
            dtype=torch.float64,
            output_loading_info=True,
            attn_implementation="eager",
            experts_implementation="eager",
        )
    return model.eval(), report


def official_logits(model, ids_BT):
    with torch.no_grad(), AllInFloat64():
        return model(ids_BT, use_cache=False).logits


def apart(ours, theirs) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("case", DRAWN.values(), ids=DRAWN.keys())
def test_our_folder_is_the_same_model_for_transformers_and_theirs_for_us(case, tmp_path):
    model, ids_BT = random_model(case.config, case.seed), random_ids(case.config)
    minimoe.save(model, tmp_path / "ours", max_shard_bytes=20_000)
    theirs, report = read_by_transformers(tmp_path / "ours", case.config)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    logits, expected = model(ids_BT).logits, official_logits(theirs, ids_BT)
    assert apart(logits, expected) <= 1e-10

    theirs.save_pretrained(tmp_path / "theirs")
    back = minimoe.load(tmp_path / "theirs")
    assert back.dtype == torch.float64
    assert apart(back(ids_BT).logits, expected) <= 1e-10
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def with_mtp_of(config, monkeypatch):
    # transformers looks for MTP modules behind layer 61 only, wherever the trunk ends
    pattern = rf"model\.layers\.{config.num_hidden_layers}.*"
    monkeypatch.setattr(transformers.DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", [pattern])


def test_transformers_finds_our_mtp_module_in_the_folder_and_computes_the_same(tmp_path, monkeypatch):
    model, ids_BT = random_model(CONFIG), random_ids(CONFIG)
    minimoe.save(model, tmp_path)
    with_mtp_of(CONFIG, monkeypatch)
    theirs, report = read_by_transformers(tmp_path, CONFIG)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with AllInFloat64(), torch.no_grad():
        mtp = MtpModel.from_pretrained(theirs)
        state = theirs.model(ids_BT, use_cache=False).last_hidden_state
        positions = torch.arange(1, ids_BT.shape[1])[None]
        expected = theirs.lm_head(mtp.forward_layer(0, state[:, :-1], positions, None, input_ids=ids_BT[:, 1:]))
    assert apart(model(ids_BT).mtp_logits[0], expected) <= 1e-10


def greedy_officially(theirs, prompt, new, **options):
    with AllInFloat64():
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        out = theirs.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=0, **options)
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("config", [CONFIG, V2], ids=["V3", "V2"])
def test_greedy_generation_gives_the_tokens_of_transformers(config, tmp_path):
    """Prompts of different lengths in one batch of ours, one by one in theirs."""
    model = random_model(config, seed=1)
    minimoe.save(model, tmp_path)
    theirs, _ = read_by_transformers(tmp_path, config)
    prompts = [random_ids(config, 1, length)[0].tolist() for length in (1, 4, 11)]
    expected = [greedy_officially(theirs, prompt, 20) for prompt in prompts]
    assert len({tuple(tokens) for tokens in expected}) == 3, "the prompts lead to different texts"
    assert minimoe.generate(model, prompts, max_new_tokens=20, stop_tokens=[]).tokens == expected


def test_speculative_generation_gives_the_same_tokens_as_transformers_with_and_without_mtp(tmp_path, monkeypatch):
    model = random_model(CONFIG, seed=2)
    minimoe.save(model, tmp_path)
    with_mtp_of(CONFIG, monkeypatch)
    theirs, _ = read_by_transformers(tmp_path, CONFIG)
    prompt = random_ids(CONFIG, 1, 5)[0].tolist()
    expected = greedy_officially(theirs, prompt, 20)
    assert greedy_officially(theirs, prompt, 20, use_mtp=True) == expected
    result = minimoe.generate(model, [prompt], max_new_tokens=20, stop_tokens=[], speculative=True)
    assert result.tokens == [expected] and result.drafted > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_narrow_folders_hold_the_same_numbers_for_both(dtype, tmp_path):
    model = random_model(CONFIG).to(dtype)
    minimoe.save(model, tmp_path)
    theirs, report = read_by_transformers(tmp_path, CONFIG)
    exact = minimoe.load(tmp_path, dtype=torch.float64)
    ids_BT = random_ids(CONFIG)
    assert apart(exact(ids_BT).logits, official_logits(theirs, ids_BT)) <= 1e-10
    assert minimoe.load(tmp_path).dtype == dtype
