"""What a kernel must move and compute at DeepSeek-V3's sizes, by formula, and what the simulator counts at small ones.

A bound is a floor under the time, never a time (`minimoe_kernels.work` has the formulas). The simulator counts every
load in full, so a tensor that several programs read stands in its count several times.

How the production version differs: Nsight Compute reads both from hardware counters, for the launch that ran.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from minimoe import V3
from minimoe_kernels import sim
from minimoe_kernels.fp8_gemm import fp8_gemm
from minimoe_kernels.mla_decode import mla_decode
from minimoe_kernels.mla_prefill import mla_prefill
from minimoe_kernels.rms_norm import rms_norm
from minimoe_kernels.swiglu import swiglu
from minimoe_kernels.work import DATASHEETS, WORK, floors_us

__all__ = ["CASES", "DATASHEET", "Case", "counted"]

H100 = DATASHEETS["NVIDIA H100 80GB HBM3"]
DATASHEET = {dtype: (H100[dtype], H100["GBs"]) for dtype in ("bf16", "fp8")}  # TFLOP/s, GB/s
D, F = V3.hidden_size, V3.moe_intermediate_size
C, R, N, W = V3.kv_lora_rank, V3.qk_rope_head_dim, V3.qk_nope_head_dim, V3.v_head_dim
BF16 = torch.bfloat16


@dataclass(frozen=True)
class Case:
    """A kernel at one shape: least bytes, FLOPs, the names of its launches in resources.json, a small run of it."""

    kernel: str
    shape: str
    dtype: str
    bytes: int
    flops: int
    resources: tuple[str, ...]
    small: Callable[[], object]
    small_shape: str

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes

    def at_least_us(self, tflops: float, gigabytes: float) -> tuple[float, float]:
        """The two floors under the time: of memory and of arithmetic."""
        return floors_us(self, tflops, gigabytes)

    def roof(self, tflops: float, gigabytes: float) -> float:
        """TFLOP/s at most."""
        return min(tflops, self.intensity * gigabytes / 1e3)


def counted(case: Case) -> sim.Counts:
    """What the simulator counts when the small run of it is launched."""
    with sim.session() as ran:
        case.small()
    return ran.total


def _norm():
    rms_norm(torch.ones(8, 256, dtype=BF16), torch.ones(256, dtype=BF16), 1e-6)


def _swiglu():
    swiglu(torch.ones(8, 256, dtype=BF16), torch.ones(8, 256, dtype=BF16))


def _product():
    x, w = (torch.ones(n, 256).to(torch.float8_e4m3fn) for n in (128, 128))
    fp8_gemm(x, torch.ones(128, 2), w, torch.ones(1, 2))


def _decode(heads):
    def run():
        cache, table = torch.ones(2, 64, 80, dtype=BF16), torch.tensor([[0, 1]], dtype=torch.int32)
        lengths = torch.tensor([128], dtype=torch.int32)
        mla_decode(torch.ones(1, heads, 80, dtype=BF16), cache, table, lengths, 64, 0.1, splits=1)

    return run


def _prefill():
    nope, rotary, shared = (2, 32), (2, 16), (16,)
    mla_prefill(*(torch.ones(1, 128, *shape, dtype=BF16) for shape in (nope, rotary, nope, shared, nope)), 0.1)


def _case(kernel, sizes, shape, launch, small, small_shape):
    work = WORK[kernel](**sizes)
    return Case(kernel, shape, work.dtype, work.bytes, work.flops, launch, small, small_shape)


def _decoding(heads: int) -> Case:
    sizes, block = {"B": 128, "S": 4096, "H": heads, "C": C, "R": R}, f"BLOCK_H={min(64, heads)},"
    small = f"1 sequence of 128, {heads} heads, latent 64"
    shape = f"128 sequences of 4096, {heads} heads"
    return _case("mla_decode", sizes, shape, ("split_kernel(", block), _decode(heads), small)


def _cases():
    T, rows, H = 8192, 8192 * V3.num_experts_per_tok, V3.num_attention_heads
    yield _case("rms_norm", {"M": T, "D": D}, f"{T} x {D}", ("rms_norm_forward(",), _norm, "8 x 256")
    yield _case("swiglu", {"M": rows, "F": F}, f"{rows} x {F}", ("swiglu_forward(",), _swiglu, "8 x 256")
    sizes = {"M": T, "F": F, "D": D}
    launch = "fp8_gemm_kernel(", "W_ROWS=128"  # the weight in blocks
    yield _case("fp8_gemm", sizes, f"{T} x {D} x {F}", launch, _product, "128 x 256 x 128")
    yield from map(_decoding, (16, 64, 128))
    sizes, small = {"T": T, "H": H, "N": N, "R": R, "W": W}, "128 tokens, 2 heads of 32 + 16"
    yield _case("mla_prefill", sizes, f"{T} tokens, {H} heads", ("prefill_kernel(",), _prefill, small)


CASES = tuple(_cases())
