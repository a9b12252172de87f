"""The next-token loss: torch's own cross-entropy as the oracle, and the shift by hand."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from minimoe.model import loss as loss_module
from minimoe.model.loss import cross_entropy, next_token_loss


def test_position_i_is_held_against_token_i_plus_one():
    knows = 50.0 * F.one_hot(torch.tensor([[1, 2, 3, 0]]), 5).double()  # the last position has no target
    assert next_token_loss(knows, torch.tensor([[4, 1, 2, 3]])) < 1e-12
    assert next_token_loss(knows, torch.tensor([[1, 2, 3, 0]])) > 49, "a model that repeats its input"


def test_two_predictions_by_hand():
    # probabilities (1/4, 3/4) and (1/2, 1/2); the targets are 1 and 0
    logits = torch.tensor([[[0.0, 1.0986123], [2.0, 2.0], [9.0, -9.0]]])
    expected = (torch.tensor(4 / 3).log() + torch.tensor(2.0).log()) / 2
    torch.testing.assert_close(next_token_loss(logits, torch.tensor([[0, 1, 0]])), expected)


def test_labels_of_minus_100_leave_the_mean():
    logits = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(7, (2, 6), generator=torch.Generator().manual_seed(1))
    labels[0, 2:] = -100
    counted = torch.cat([logits[0, :1], logits[1, :-1]]), torch.cat([labels[0, 1:2], labels[1, 1:]])
    torch.testing.assert_close(next_token_loss(logits, labels), F.cross_entropy(*counted))


def test_without_any_label_the_mean_is_nan_as_in_torch():
    assert next_token_loss(torch.zeros(1, 1, 3), torch.tensor([[2]])).isnan()
    assert cross_entropy(torch.zeros(2, 3), torch.tensor([-100, -100])).isnan()


@given(st.integers(1, 30), st.integers(2, 9), st.integers(1, 40), st.integers(0, 999))
def test_cross_entropy_in_slices_equals_torch_with_its_gradient(M, V, elements, seed):
    generator = torch.Generator().manual_seed(seed)
    mine = torch.randn(M, V, dtype=torch.float64, generator=generator).requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    targets = torch.randint(V, (M,), generator=generator)
    targets[1:][torch.rand(M - 1, generator=generator) < 0.4] = -100
    with mock.patch.object(loss_module, "SLICE_ELEMENTS", elements):
        one = cross_entropy(mine, targets)
        (3 * one).backward()
    other = F.cross_entropy(theirs, targets)
    (3 * other).backward()
    torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_loss_of_narrow_logits_is_taken_in_float32(dtype):
    logits = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(1))
    loss = next_token_loss(logits, labels)
    exact = F.cross_entropy(logits[:, :-1].flatten(0, 1).double(), labels[:, 1:].flatten())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)


def test_huge_logits_do_not_overflow():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 2e4 and logits.grad.tolist() == [[1.0, -1.0, 0.0]]
