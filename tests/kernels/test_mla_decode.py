"""Absorbed MLA decoding over a paged cache."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minimoe
from minimoe.model.mla import MultiHeadLatentAttention
from minimoe_kernels import mla_decode as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import mla_decode as checks


def test_values_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.integers(1, 18), st.sampled_from([1, 4, 16]),
       st.integers(1, 4))  # fmt: skip
def test_small_shapes(lengths, H, page, splits):
    checks.check(ops, sizes=[(tuple(lengths), H, 16, 16, page, splits)], dtypes=[torch.float32])


def test_it_is_the_library_s_attention_for_the_newest_token():
    """Queries, entries and up-projections from an MLA layer of the course: `absorb` around the kernel."""
    config = replace(
        minimoe.NANO, hidden_size=48, num_attention_heads=3, num_key_value_heads=None, kv_lora_rank=32,
        qk_nope_head_dim=8, qk_rope_head_dim=16, v_head_dim=8, q_lora_rank=None,
    )  # fmt: skip
    torch.manual_seed(0)
    layer = MultiHeadLatentAttention(config, 0)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    lengths, page = (9, 4), 4
    cache, table = checks.paged(lengths, 48, page, torch.float32)
    q_nope, q_rot = torch.randn(2, 1, 3, 8), torch.randn(2, 1, 3, 16)
    w_uk, w_uv = layer.up_projections()
    q = torch.cat([torch.einsum("bthn,hnc->bthc", q_nope, w_uk), q_rot], dim=-1)[:, 0]
    mixed = ops.mla_decode(q, cache, table, torch.tensor(lengths, dtype=torch.int32), 32, layer.scale)
    ours = torch.einsum("bhc,hwc->bhw", mixed, w_uv)
    for b, length in enumerate(lengths):
        pages = table[b, : -(-length // page)].long()
        entries = cache[pages].flatten(0, 1)[None, :length]
        everything = torch.ones(1, 1, length, dtype=torch.bool)
        for path in (layer.absorb, layer.expand):
            theirs = path(q_nope[b : b + 1], q_rot[b : b + 1], entries, everything)[0, 0]
            assert torch.allclose(ours[b], theirs, atol=1e-5)  # float32, sizes near 1


def test_every_entry_is_read_once_for_all_heads_of_a_tile():
    """The bytes that bound decoding: the cache itself, whatever the number of splits."""
    lengths, C, R, page, H = (48, 32), 32, 16, 16, 4
    cache, table = checks.paged(lengths, C + R, page, torch.bfloat16)
    q, count = torch.randn(2, H, C + R).bfloat16(), torch.tensor(lengths, dtype=torch.int32)
    for splits in (1, 3):
        with sim.session() as ran:
            ops.mla_decode(q, cache, table, count, C, 0.1, splits=splits)
        assert ran.launches[0].tensors["cache_ptr"] == (sum(lengths) * (C + R) * 2, 0)


def test_scores_of_any_size_do_not_overflow():
    q = torch.full((1, 1, 48), 30.0)
    cache, table = torch.full((1, 16, 48), 30.0), torch.zeros(1, 1, dtype=torch.int32)
    out = ops.mla_decode(q, cache, table, torch.tensor([16], dtype=torch.int32), 32, 1.0)
    assert torch.allclose(out, torch.full_like(out, 30.0))


def test_a_page_that_does_not_exist_is_caught():
    cache, table = torch.zeros(2, 16, 48), torch.tensor([[2]], dtype=torch.int32)
    with pytest.raises(sim.OutOfBounds, match="cache_ptr"):
        ops.mla_decode(torch.zeros(1, 1, 48), cache, table, torch.tensor([3], dtype=torch.int32), 32, 1.0)


def test_the_plan_fills_the_machine_and_splits_no_further_than_there_are_tiles():
    assert ops.plan(1, 128, 4096, 512) == (64, 32, 64) and ops.plan(128, 128, 4096, 512) == (64, 32, 1)
    assert ops.plan(1, 16, 128, 512) == (16, 64, 2) and ops.plan(1, 8, 8, 32) == (16, 16, 1)


def test_sizes_that_disagree_are_refused():
    cache, table, count = torch.zeros(2, 16, 48), torch.zeros(1, 1, dtype=torch.int32), torch.tensor([3])
    with pytest.raises(ValueError, match="queries of 40 and entries of 48 numbers with a latent of 32"):
        ops.mla_decode(torch.zeros(1, 1, 40), cache, table, count, 32, 1.0)
    with pytest.raises(ValueError, match="2 queries, 1 rows of pages"):
        ops.mla_decode(torch.zeros(2, 1, 48), cache, table, count, 32, 1.0)
