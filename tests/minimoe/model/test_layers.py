"""RMSNorm, SwiGLU and the feed-forward block: by hand, by autograd, and at the edges of precision."""

import pytest
import torch
import torch.nn.functional as F

from minimoe.model.layers import MLP, RMSNorm, at_least_float32, rms_norm, swiglu


def test_rms_norm_of_three_four_by_hand():
    # mean square of (3, 4) is 12.5; with eps 3.5 the divisor is 4
    y = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([2.0, 10.0]), eps=3.5)
    assert y.tolist() == [[1.5, 10.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rms_norm_equals_its_formula(dtype):
    x = torch.randn(3, 5, 7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(7, dtype=dtype, generator=torch.Generator().manual_seed(1))
    expected = weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(rms_norm(x, weight, 1e-3), expected)


def test_rms_norm_subtracts_no_mean_and_forgets_the_scale():
    x = torch.tensor([[5.0, 5.0, 5.0]])
    one = torch.ones(3)
    torch.testing.assert_close(rms_norm(x, one, 1e-12), one[None])
    torch.testing.assert_close(rms_norm(1000 * x, one, 1e-12), rms_norm(x, one, 1e-12))


def test_a_zero_vector_stays_zero():
    assert not rms_norm(torch.zeros(2, 4), torch.ones(4), 1e-6).any()


def test_rms_norm_of_bfloat16_takes_the_mean_in_float32():
    """512 numbers of 1: added up in bfloat16, with its 8 bits, the sum of squares would stop growing at 256."""
    x = torch.ones(1, 512, dtype=torch.bfloat16)
    y = rms_norm(x, torch.ones(512, dtype=torch.bfloat16), 1e-6)
    assert y.dtype == torch.bfloat16 and torch.equal(y, x)
    wide = torch.randn(9, 64, generator=torch.Generator().manual_seed(2)).bfloat16()
    exact = rms_norm(wide.double(), torch.ones(64, dtype=torch.float64), 1e-6)
    # one rounding to bfloat16: with 8 significant bits, half a unit in the last place is at most 2^-8 of the value
    y = rms_norm(wide, torch.ones(64, dtype=torch.bfloat16), 1e-6)
    assert ((y.double() - exact).abs() <= exact.abs() * 2**-8 * 1.001).all()


def test_rms_norm_starts_with_a_gain_of_one_and_passes_gradcheck():
    norm = RMSNorm(4).double()
    assert norm.weight.tolist() == [1.0] * 4
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-6), (x, norm.weight))


def test_swiglu_by_hand():
    # silu(0) = 0; silu(ln 3) = ln 3 * 3/4
    gate, up = torch.tensor([0.0, 1.0986123]), torch.tensor([7.0, 4.0])
    torch.testing.assert_close(swiglu(gate, up), torch.tensor([0.0, 3 * 1.0986123]))


def test_swiglu_keeps_its_inputs_and_passes_gradcheck():
    generator = torch.Generator().manual_seed(0)
    gate, up = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True, generator=generator) for _ in range(2))
    before = gate.detach().clone(), up.detach().clone()
    assert torch.autograd.gradcheck(swiglu, (gate, up))
    assert torch.equal(gate, before[0]) and torch.equal(up, before[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_swiglu_and_its_gradients_equal_plain_autograd(dtype):
    generator = torch.Generator().manual_seed(1)
    mine = [torch.randn(6, 9, generator=generator).to(dtype).requires_grad_() for _ in range(2)]
    plain = [x.detach().clone().requires_grad_() for x in mine]
    cotangent = torch.randn(6, 9, generator=generator).to(dtype)
    swiglu(*mine).backward(cotangent)
    (F.silu(plain[0]) * plain[1]).backward(cotangent)
    assert torch.equal(swiglu(*mine), F.silu(plain[0]) * plain[1])
    for one, other in zip(mine, plain, strict=True):
        # the same operations in the same order, up to one rounding of a product
        torch.testing.assert_close(one.grad, other.grad)


def test_the_feed_forward_block_is_down_of_gated_up_without_biases():
    mlp = MLP(hidden_size=5, intermediate_size=7)
    assert {name: tuple(p.shape) for name, p in mlp.named_parameters()} == {
        "gate_proj.weight": (7, 5),
        "up_proj.weight": (7, 5),
        "down_proj.weight": (5, 7),
    }
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    gate, up, down = (p.detach() for p in mlp.parameters())
    torch.testing.assert_close(mlp(x), (F.silu(x @ gate.T) * (x @ up.T)) @ down.T)


def test_at_least_float32_widens_the_narrow_and_leaves_the_wide():
    for given, expected in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert at_least_float32(torch.zeros(2, dtype=given)).dtype == expected
