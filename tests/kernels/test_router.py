"""The router's choice."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minimoe
from minimoe.model.router import choose
from minimoe_kernels import router as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import router as checks


def test_choice_gates_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_small_shapes(G, size, data):
    kept = data.draw(st.integers(1, G))
    K = data.draw(st.integers(1, kept * size))
    checks.check(ops, sizes=[(G * size, K, G, kept)], tokens=3)


def test_it_is_the_library_s_choice_on_v3_s_shape():
    generator = torch.Generator().manual_seed(0)
    logits, bias = torch.randn(16, 256, generator=generator), 0.05 * torch.randn(256, generator=generator)
    chosen, gates = ops.route(logits, bias, 8, n_group=8, topk_group=4, factor=2.5)
    config = replace(
        minimoe.V3, n_routed_experts=256, num_experts_per_tok=8, n_group=8, topk_group=4, routed_scaling_factor=2.5
    )
    theirs, their_gates = choose(logits.sigmoid(), bias, config)
    assert torch.equal(chosen.long(), theirs)
    assert torch.allclose(gates, their_gates, rtol=1e-5)  # float32, sums of eight


def test_ties_go_to_the_lower_index():
    chosen, gates = ops.route(torch.zeros(1, 12), torch.zeros(12), 3, n_group=4, topk_group=2)
    assert chosen.tolist() == [[0, 1, 2]] and torch.allclose(gates, torch.full((1, 3), 1 / 3))


def test_bias_moves_the_choice_but_not_the_gate():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    chosen, gates = ops.route(logits, torch.tensor([-1.0, 0, 0, 0]), 2, normalise=False)
    assert chosen.tolist() == [[1, 2]] and torch.allclose(gates, logits.sigmoid()[:, 1:3])


def test_a_token_reads_its_logits_and_the_bias_and_no_more():
    with sim.session() as ran:
        ops.route(torch.zeros(5, 20), torch.zeros(20), 4, n_group=5, topk_group=3)
    assert ran.total.loaded_bytes == 5 * 2 * 20 * 4 and ran.total.stored_bytes == 5 * 4 * 8


@pytest.mark.parametrize(
    "options, says",
    [
        ((3, 3, 1), "8 experts in n_group=3"),
        ((3, 4, 5), "topk_group=5"),
        ((5, 4, 2), "top_k=5, but the kept groups have 4"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        ops.route(torch.zeros(1, 8), torch.zeros(8), *options)
    with pytest.raises(ValueError, match=r"\(7,\) for 8 experts"):
        ops.route(torch.zeros(1, 8), torch.zeros(7), 1)
