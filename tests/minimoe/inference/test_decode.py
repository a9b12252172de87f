"""minimoe.inference.decode: the prepared step computes what the model's own forward computes."""

from dataclasses import replace

import pytest
import torch
from model_draws import randomise, sample

import minimoe
from minimoe.inference import decode
from minimoe.inference.cache import Cache
from minimoe.inference.decode import DecodePlan, stepper
from minimoe.inference.stepper import Stepper

DRAWS = sample()
PLANNED = {
    name: case
    for name, case in DRAWS.items()
    if case.config.kv_lora_rank % 2 == 0 and (case.config.q_lora_rank or case.config.qk_nope_head_dim) % 2 == 0
}
NANO = replace(minimoe.NANO, vocab_size=61)


def make(config, seed=4, dtype=torch.float64, bias_shift=0.0):
    model = minimoe.Transformer(config)
    randomise(model, seed, bias_shift)
    return model.to(dtype)


def run(steps, prompts, ragged):
    """Prefill, then steps of one and of two tokens, some taken back; logits of trunk and MTP module, in order."""
    generator = torch.Generator().manual_seed(2)
    B, width = prompts.shape
    lengths_B = torch.arange(B) % width + 1 if ragged else torch.full((B,), width)
    out = []
    for new, kept in ((width, lengths_B), (1, 1), (2, torch.ones(B, dtype=torch.int64)), (2, 2), (1, 1)):
        ids_BT = prompts if new == width and not out else torch.randint(0, 11, (B, new), generator=generator)
        normed_BTD, read_BTD = steps.trunk(ids_BT)
        further_BTD = steps.draft(read_BTD, ids_BT.roll(-1, 1))
        steps.advance(kept)
        valid = (torch.arange(ids_BT.shape[1]) < lengths_B[:, None]) if not out else torch.ones_like(ids_BT).bool()
        out += [steps.head(states[valid]) for states in (normed_BTD, further_BTD)]
    return torch.cat(out)


def both(model, batch, ragged):
    prompts = torch.randint(0, 11, (batch, 9), generator=torch.Generator().manual_seed(1))
    caches = [Cache(model.config, batch, 20, model.dtype) for _ in range(2)]
    plan = DecodePlan(model, caches[1], tokens=10**6 if batch % 2 else 0)
    own, planned = run(Stepper(model, caches[0]), prompts, ragged), run(plan, prompts, ragged)
    for mine, fast in zip(caches[0].entries, caches[1].entries, strict=True):
        for row, length in enumerate(caches[0].lengths_B.tolist()):
            torch.testing.assert_close(mine[row, :length], fast[row, :length], rtol=1e-4, atol=1e-4)
    return own, planned


@pytest.mark.parametrize("name", PLANNED)
def test_every_drawn_configuration_decodes_to_the_logits_of_its_own_forward(name):
    case = PLANNED[name]
    model = make(replace(case.config, num_nextn_predict_layers=1), case.seed, bias_shift=case.bias_shift)
    assert DecodePlan.applies(model)
    own, planned = both(model, case.batch + 1, ragged=case.seed % 2 == 1)
    scale = own.abs().max()
    assert ((own - planned).abs().max() / scale).item() < 1e-10  # float64: 1e-16 times some thousand additions


def test_the_draws_cover_ragged_and_even_batches_of_both_generations():
    assert len(PLANNED) >= 15
    assert {c.config.scoring_func for c in PLANNED.values()} == {"sigmoid", "softmax"}
    assert {c.config.q_lora_rank is None for c in PLANNED.values()} == {True, False}
    assert {c.seed % 2 for c in PLANNED.values()} == {0, 1}
    assert any(c.config.n_shared_experts == 0 for c in PLANNED.values())
    assert any(c.config.n_group > c.config.topk_group for c in PLANNED.values())


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("ragged", [False, True])
def test_in_float32_the_difference_is_rounding(batch, ragged):
    model = make(NANO, dtype=torch.float32)
    own, planned = both(model, batch, ragged)
    # a few hundred sums in another order, each of some hundred terms of relative error 6e-8
    assert ((own - planned).abs().max() / own.abs().max()).item() < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("speculative", [False, True])
def test_tokens_are_those_of_the_models_own_forward(batch, speculative, monkeypatch):
    model = make(NANO, dtype=torch.float32)
    prompts = [[3 + row, 7, 9, 20][: 4 - row % 2] for row in range(batch)]
    options = {"max_new_tokens": 60, "stop_tokens": [], "speculative": speculative}
    planned = minimoe.generate(model, prompts, **options)
    monkeypatch.setattr(DecodePlan, "applies", lambda model: False)
    own = minimoe.generate(model, prompts, **options)
    assert planned.tokens == own.tokens
    torch.testing.assert_close(torch.tensor(planned.logprobs), torch.tensor(own.logprobs), rtol=0, atol=1e-4)


def test_a_plan_is_used_where_it_applies_and_only_there(monkeypatch):
    model = make(NANO)
    cache = Cache(NANO, 1, 5, torch.float64)
    assert type(stepper(model, cache)) is DecodePlan
    baseline = replace(NANO, kv_lora_rank=None, q_lora_rank=None, num_key_value_heads=2, head_dim=16)
    assert not DecodePlan.applies(make(baseline))
    assert not DecodePlan.applies(make(NANO, dtype=torch.bfloat16))
    for odd in ({"kv_lora_rank": 31}, {"q_lora_rank": 31}, {"q_lora_rank": None, "qk_nope_head_dim": 15}):
        assert not DecodePlan.applies(make(replace(NANO, **odd)))
    handle = model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    assert type(stepper(model, cache)) is Stepper, "a hook would not be called"
    handle.remove()
    assert DecodePlan.applies(model)
    dispatch, model.model.layers[2].mlp.dispatch = model.model.layers[2].mlp.dispatch, lambda *a: None
    assert not DecodePlan.applies(model), "a kernel that was handed over would not run"
    model.model.layers[2].mlp.dispatch = dispatch
    monkeypatch.setattr(decode, "LIMIT_BYTES", 1000)
    assert not DecodePlan.applies(model)
    with pytest.raises(ValueError, match="DecodePlan does not cover this model"):
        DecodePlan(model, cache)


def test_the_plan_copies_little_and_no_routed_expert():
    model = make(minimoe.NANO, dtype=torch.float32)
    plan = DecodePlan(model, Cache(minimoe.NANO, 1, 5))
    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert plan.w_head_DV.numel() == model.lm_head.weight.numel()
    copied = 0
    for layer in plan.layers:
        for block in (layer.attention, layer.feed_forward):
            for value in vars(block).values():
                for tensor in value if isinstance(value, list) else [value]:
                    if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in owned:
                        copied += tensor.numel()
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    attention = sum(p.numel() for layer in model.model.layers for p in layer.self_attn.parameters())
    shared = sum(p.numel() for name, p in model.named_parameters() if ".shared_experts." in name or ".gate.w" in name)
    assert 0 < copied < 1.5 * attention + shared < experts


def test_experts_are_copied_for_many_tokens_of_a_small_model_only(monkeypatch):
    model = make(NANO)

    def copies(tokens):
        plan = DecodePlan(model, Cache(NANO, 1, 5, torch.float64), tokens)
        expert = model.model.layers[1].mlp.experts[3].up_proj.weight
        return plan.layers[1].feed_forward.up[3].data_ptr() != expert.data_ptr()

    assert not copies(100)
    assert copies(100_000)
    weights_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    monkeypatch.setattr(decode, "LIMIT_BYTES", weights_bytes - 1)
    assert not copies(100_000)


def test_rows_that_grow_apart_and_together_again_are_noticed():
    model = make(NANO)
    plan = DecodePlan(model, Cache(NANO, 3, 9, torch.float64))
    plan.trunk(torch.tensor([[1, 2], [3, 4], [5, 6]]))
    plan.advance(torch.tensor([2, 2, 1]))
    assert plan.uniform is None
    assert plan.keep([0, 1]) == [0, 1] and plan.uniform == 2
    plan.trunk(torch.tensor([[1], [2]]))
    plan.advance(1)
    assert plan.uniform == 3 and plan.cache.lengths_B.tolist() == [3, 3]
