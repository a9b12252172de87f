"""FLOPs: the published figures, a profiler's count on our own model, and the edges."""

from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.accounting import absorb_pays_below, decode_flops, flops, parameters
from minimoe.config import NANO, V2, V3, V3_2, ModelConfig


@pytest.mark.parametrize(("config", "gflops"), [(V2, 155.31), (V3, 250.46)], ids=["V2", "V3"])
def test_training_flops_per_token_at_4096_are_those_of_the_isca_table(config, gflops):
    assert round(flops(config, 4096).training / 1e9, 2) == gflops


def dense(hidden_size, layers, heads, groups, width, vocab_size):
    """A dense model with grouped-query attention, as a config."""
    return ModelConfig(
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        intermediate_size=width,
        vocab_size=vocab_size,
        kv_lora_rank=None,
        n_routed_experts=None,
        num_nextn_predict_layers=0,
    )


QWEN_72B = dense(8192, 80, 64, 8, 29568, 152064)  # its biases on queries, keys and values are left out: 0.001%
LLAMA_405B = dense(16384, 126, 128, 8, 53248, 128256)


@pytest.mark.parametrize(
    ("config", "gflops", "printed"), [(QWEN_72B, 444.9, 394), (LLAMA_405B, 2473, 2448)], ids=["Qwen-72B", "LLaMA-405B"]
)
def test_the_dense_rows_of_the_isca_table_do_not_follow_from_the_same_formula(config, gflops, printed):
    ours = flops(config, 4096).training / 1e9
    assert ours == pytest.approx(gflops, rel=2e-4)
    assert abs(ours / printed - 1) > 0.01, "V2 and V3 agree to 0.2%"


def test_ignoring_the_causal_mask_doubles_attention_only():
    causal, full = flops(V3, 4096), flops(V3, 4096, causal=False)
    assert round(full.training / 1e9, 1) == 281.2
    assert full.attention == 2 * causal.attention and full.linear == causal.linear


def test_the_linear_part_is_six_times_the_activated_parameters_with_head():
    count = flops(NANO, 128)
    assert 3 * count.linear == 6 * parameters(NANO).activated.with_head
    assert count.training == 3 * count.forward


@pytest.mark.parametrize(
    "config",
    [NANO, replace(NANO, q_lora_rank=None), replace(NANO, kv_lora_rank=None, num_key_value_heads=2)],
    ids=["latent", "no-query-latent", "gqa"],
)
def test_a_profiler_counts_the_same_operations_in_our_model(config):
    """torch counts the matrix products that ran; norms, biases and the gate's bias are not products."""
    from torch.utils.flop_counter import FlopCounterMode

    config = replace(config, num_nextn_predict_layers=0)
    B, T = 2, 48
    model = minimoe.Transformer(config, seed=0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.randint(config.vocab_size, (B, T)))
    counts = counter.get_flop_counts()["Global"]
    linear = sum(n for op, n in counts.items() if "attention" not in str(op) and "bmm" not in str(op))
    ours = flops(config, T, causal=False)
    activated = parameters(config).activated.with_head
    not_products = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 1) + (
        (config.num_hidden_layers - config.first_k_dense_replace) * config.n_routed_experts
    )
    assert linear / (B * T) == 2 * (activated - not_products)
    assert linear / (B * T) == pytest.approx(ours.linear, rel=2e-3), "what is not a product is small"


def test_decoding_v3_2_at_a_million_tokens_is_mostly_its_indexer():
    """128 heads attend to 2,048 latents; 64 index heads of 128 read a million keys (arXiv 2512.02556 section 2.1)."""
    count = decode_flops(V3_2, 2**20)
    assert round(count.linear / 1e9, 1) == 75.0
    assert round(count.attention / 1e9, 1) == 34.8
    assert round(count.indexer / 1e9) == 1048


def test_sparse_attention_trains_like_dense_attention_until_the_sequence_exceeds_its_budget():
    assert flops(V3_2, 2048).attention == flops(V3, 2048).attention
    longer = flops(V3_2, 8192)
    seen = sum(min(i, 2048) for i in range(8192)) / 8192
    assert longer.attention == pytest.approx(flops(V3, 8192).attention * seen / (8192 / 2), rel=1e-3)
    assert longer.indexer > 0 == flops(V3, 8192).indexer


def test_absorbing_costs_more_per_past_token_and_rebuilding_costs_far_more():
    absorb, expand = decode_flops(V3, 4096, "absorb"), decode_flops(V3, 4096, "expand")
    assert absorb.attention / expand.attention == pytest.approx((2 * 512 + 64) / (128 + 64 + 128))
    assert absorb.expansion == 0 and expand.expansion == 2 * 4095 * 512 * 128 * 256 * 61
    assert absorb.linear == expand.linear
    assert expand.forward > 50 * absorb.forward


def test_rebuilding_pays_from_171_new_tokens_a_call_in_v3():
    """T new tokens on S cached ones, a head: rebuilding costs S C (N + W) once, absorbing 2 C - N - W more a score."""
    threshold = absorb_pays_below(512, 128, 128)
    assert round(threshold, 1) == 170.7

    def expand(T):
        return 512 * (128 + 128) + T * (128 + 64 + 128)

    def absorb(T):
        return T * (2 * 512 + 64)

    assert absorb(170) < expand(170) and absorb(171) > expand(171)
    with pytest.raises(ValueError, match="kv_lora_rank=64 .* qk_nope_head_dim . v_head_dim=64"):
        absorb_pays_below(32, 32, 32)


def test_with_one_token_nothing_is_rebuilt():
    assert decode_flops(V3, 1, "expand").expansion == 0


def test_decoding_the_baseline_attends_over_full_heads():
    config = replace(NANO, kv_lora_rank=None, head_dim=32, num_hidden_layers=5)
    assert decode_flops(config, 10).attention == 2 * 10 * 4 * (32 + 32) * 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: flops(NANO, 0), "seq_len=0"),
        (lambda: decode_flops(NANO, 0), "context_len=0"),
        (lambda: decode_flops(NANO, 5, "magic"), "path='magic'"),
    ],
)
def test_a_length_or_path_that_does_not_exist_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
