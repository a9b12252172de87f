"""MLA over a prompt."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minimoe
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe_kernels import mla_prefill as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import mla_prefill as checks


def test_values_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=8)
@given(st.integers(1, 40), st.integers(0, 20), st.integers(1, 2))
def test_small_shapes(T, before, H):
    checks.check(ops, sizes=[(1, T, T + before, H, 16, 16, 16)], dtypes=[torch.float32])


def test_it_is_the_library_s_expanded_attention():
    config = replace(
        minimoe.NANO, hidden_size=48, num_attention_heads=2, num_key_value_heads=None, kv_lora_rank=24,
        qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=32, q_lora_rank=None,
    )  # fmt: skip
    torch.manual_seed(0)
    layer, T = MultiHeadLatentAttention(config, 0), 21
    q_nope, q_rot, entries = torch.randn(2, T, 2, 16), torch.randn(2, T, 2, 16), torch.randn(2, T, 40)
    theirs = layer.expand(q_nope, q_rot, entries)
    k_nope, v = layer.kv_b_proj(entries[..., :24]).unflatten(-1, (2, 48)).split([16, 32], dim=-1)
    ours, _ = ops.mla_prefill(q_nope, q_rot, k_nope, entries[..., 24:], v, layer.scale)
    assert torch.allclose(ours, theirs, atol=1e-5)  # float32, sizes near 1


def test_gradients_in_float64():
    shapes = (1, 5, 1, 16), (1, 5, 1, 16), (1, 7, 1, 16), (1, 7, 16), (1, 7, 1, 16)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    # along one random direction of each input and output: every entry would be 500 launches
    assert torch.autograd.gradcheck(lambda *t: ops.mla_prefill(*t, 0.25), inputs, fast_mode=True)


def test_a_prompt_in_two_chunks_is_the_prompt():
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 40, 2, 16), (1, 40, 2, 16), (1, 40, 2, 16), (1, 40, 16), (1, 40, 2, 16)
    q_nope, q_rot, k_nope, k_rot, v = (torch.randn(s, generator=generator) for s in shapes)
    whole, log_sum = ops.mla_prefill(q_nope, q_rot, k_nope, k_rot, v, 0.2)
    later, later_log = ops.mla_prefill(q_nope[:, 27:], q_rot[:, 27:], k_nope, k_rot, v, 0.2)
    assert torch.allclose(later, whole[:, 27:], atol=1e-6) and torch.allclose(later_log, log_sum[:, 27:], atol=1e-5)


def test_tiles_above_the_diagonal_are_not_visited():
    """Half the products of a square, and one tile's worth more along the diagonal."""
    B, T, H, N, R, W = 1, 256, 1, 16, 16, 16
    inputs = [torch.randn(s) for s in ((B, T, H, N), (B, T, H, R), (B, T, H, N), (B, T, R), (B, T, H, W))]
    with sim.session() as ran:
        ops.mla_prefill(*inputs, 0.2)
    square = 2 * T * T * (N + R + W)
    assert ran.total.dot_flops == square // 2 + 2 * T * 32 // 2 * (N + R + W)


def test_sizes_that_disagree_are_refused():
    q, k_rot = torch.zeros(1, 4, 2, 16), torch.zeros(1, 3, 16)
    with pytest.raises(ValueError, match="T=4 queries of S=3 tokens"):
        ops.mla_prefill(q, q, q[:, :3], k_rot, q[:, :3], 1.0)
    k_rot, wide = torch.zeros(1, 4, 16), torch.zeros(1, 4, 2, 24)
    with pytest.raises(ValueError, match="W=24: each must be a power of two"):
        ops.mla_prefill(q, q, q, k_rot, wide, 1.0)
