"""Log-probabilities of chosen tokens, and the cross-entropy made of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe_kernels import log_probs as ops
from minimoe_kernels import sim
from minimoe_kernels.checks import log_probs as checks


def test_values_gradients_memory_and_order(every_order):
    checks.check(ops)


@settings(max_examples=8)
@given(st.integers(1, 20), st.integers(2, 150), st.integers(1, 20))
def test_small_shapes(M, V, D):
    checks.check(ops, sizes=[(M, V, D, 1.0)], dtypes=[torch.float32])


def test_gradients_in_float64():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    token = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda *t: ops.log_probs(*t, token, 0.8), (x, weight))
    assert torch.autograd.gradcheck(lambda *t: ops.token_loss(*t, torch.tensor([0, -100, 2])), (x, weight))


def test_rows_are_worked_on_in_chunks_with_the_same_result(monkeypatch):
    x, weight, token = torch.randn(20, 16), torch.randn(40, 16), torch.randint(0, 40, (20,))

    def gradients():
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        return torch.autograd.grad(ops.token_loss(*leaves, token), leaves)

    whole = gradients()
    monkeypatch.setattr(ops, "CHUNK", 7)
    with sim.session() as ran:
        parts = gradients()
    slopes = [launch for launch in ran.launches if launch.kernel == "slope_kernel"]
    assert [launch.tensors["slope_ptr"][1] for launch in slopes] == [7 * 40 * 4, 7 * 40 * 4, 6 * 40 * 4]
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, atol=1e-6)  # float32, sizes below 1


def test_forward_writes_a_few_numbers_a_piece_and_no_logits():
    M, V, D = 20, 1000, 16
    with sim.session() as ran:
        ops.log_probs(torch.randn(M, D), torch.randn(V, D), torch.zeros(M, dtype=torch.int64))
    pieces = -(-V // 128)
    assert ran.total.stored_bytes == 4 * M * (3 * pieces + 2) < 4 * M * V / 30


def test_logits_of_any_size_do_not_overflow():
    x, weight = torch.full((1, 1), 300.0), torch.tensor([[1.0], [2.0], [-3.0]])
    out = ops.log_probs(x, weight, torch.tensor([0]))
    assert out.tolist() == [-300.0]


def test_a_batch_without_a_counted_token_has_a_loss_and_gradients_of_zero():
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    loss = ops.token_loss(x, weight, torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0 and (x.grad == 0).all() and (weight.grad == 0).all()


def test_what_disagrees_is_refused():
    x, weight, token = torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"tokens \(2,\): want \(M, D\), \(V, D\), \(M,\)"):
        ops.log_probs(x, weight, token[:2])
    with pytest.raises(ValueError, match="x is torch.bfloat16, the weight torch.float32"):
        ops.log_probs(x.bfloat16(), weight, token)
    with pytest.raises(ValueError, match="temperature=0"):
        ops.log_probs(x, weight, token, 0)
