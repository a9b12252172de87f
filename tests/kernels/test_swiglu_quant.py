"""SwiGLU that leaves as FP8."""

import pytest
import torch

from minimoe_kernels import sim
from minimoe_kernels import swiglu_quant as ops
from minimoe_kernels.checks import swiglu_quant as checks
from minimoe_kernels.checks.fp8_quant import outliers
from minimoe_kernels.fp8_quant import quantise_tiles
from minimoe_kernels.swiglu import swiglu


def test_bits_scales_memory_and_order(every_order):
    checks.check(ops)


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_fused_is_bit_for_bit_the_two_kernels(dtype, power):
    gate, up = outliers(20, 300, dtype), outliers(20, 300, dtype, seed=5)
    fused, apart = ops.swiglu_quant(gate, up, power), quantise_tiles(swiglu(gate, up), power)
    assert torch.equal(fused[0].view(torch.uint8), apart[0].view(torch.uint8)) and torch.equal(fused[1], apart[1])


def test_fusing_saves_a_write_and_a_read_of_the_product():
    gate, up = torch.randn(16, 256).bfloat16(), torch.randn(16, 256).bfloat16()
    with sim.session() as fused:
        ops.swiglu_quant(gate, up)
    with sim.session() as apart:
        quantise_tiles(swiglu(gate, up))
    assert apart.total.bytes - fused.total.bytes == 2 * 2 * 16 * 256


def test_inputs_that_disagree_are_refused():
    with pytest.raises(ValueError, match="they must agree"):
        ops.swiglu_quant(torch.zeros(2, 3), torch.zeros(2, 4))
