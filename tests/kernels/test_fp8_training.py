"""The FP8 recipe with kernels in place of PyTorch's functions: the same bits where it quantises, the same products."""

import copy

import pytest
import torch

import minimoe
from minimoe.training.fp8 import use_fp8
from minimoe.training.fp8_product import BLOCKS, TILES, product
from minimoe.training.fp8_product import quantise as quantise_by_torch
from minimoe_kernels import sim
from minimoe_kernels.fp8_training import multiply, quantise


def draws(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("block", [TILES, BLOCKS])
@pytest.mark.parametrize("power_of_two", [False, True])
def test_tiles_and_blocks_bit_for_bit(block, power_of_two):
    (x,) = draws((140, 200))
    x[3, :128], x[5] = 0, x[5] * 1e4
    for matrix in (x, x.t()):
        ours, want = quantise(matrix, block, power_of_two), quantise_by_torch(matrix, block, power_of_two)
        assert torch.equal(ours.fp8_XZ.view(torch.uint8), want.fp8_XZ.view(torch.uint8))
        assert torch.equal(ours.scale_IJ, want.scale_IJ) and ours.block == want.block


def test_the_three_products_of_a_layer():
    x_MD, weight_FD, d_y_MF = draws((40, 300), (200, 300), (40, 200))
    weight = quantise(weight_FD, BLOCKS)
    pairs = (
        (quantise(x_MD), weight),
        (quantise(d_y_MF), weight.transposed()),
        (quantise(d_y_MF.t()), quantise(x_MD.t())),
    )
    for a, b in pairs:
        want = product(a, b)
        assert (multiply(a, b) - want).abs().max() < 1e-6 * want.abs().max()


def step(model, ids):
    model.zero_grad()
    loss = model(ids, labels=ids).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_training_step_of_a_model_by_kernels():
    """A sum that rounds otherwise may turn the rounding of a number to FP8, by 1/16 of it: a few numbers, not many."""
    model = minimoe.Transformer(minimoe.NANO, seed=0)
    ids = torch.randint(0, 2048, (1, 24), generator=torch.Generator().manual_seed(1))
    plain, _ = step(model, ids)
    loss, gradients = step(use_fp8(copy.deepcopy(model)), ids)
    with sim.session() as ran:
        by_kernels, found = step(use_fp8(copy.deepcopy(model), multiply, quantise), ids)
    launched = {launch.kernel for launch in ran.launches}
    assert {"fp8_gemm_kernel", "quantise_tiles_kernel", "quantise_blocks_kernel"} <= launched
    assert abs(by_kernels - loss) < 0.1 * abs(loss - plain) and loss != plain
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (found[name] - gradient).norm() <= 2e-2 * gradient.norm(), name
