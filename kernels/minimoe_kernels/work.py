"""The least that each function must move and compute: bytes and FLOPs from its sizes, and the floors that follow.

Bytes: every input tensor once across the memory bus, every result once, nothing in between. FLOPs: every product of a
matrix multiplication as 2, none twice; for what has no product, the additions and multiplications of the formula in the
kernel's module, a transcendental function as one. Comparing and copying are no FLOPs, so `permute` has none.

Bytes over a bandwidth and FLOPs over a rate are two floors under a time; the higher one says which of them binds. They
are never a time. The tests hold the formulas against what the simulator counts where a kernel can reach them.

Letters as everywhere, and A assignments, X and Y rows and columns of a weight; bf16 is 2 bytes, FP8 is 1.

How the production version differs: Nsight Compute reads both from hardware counters, for the launch that ran.
"""

from dataclasses import dataclass

from minimoe_kernels.kernel import cdiv

__all__ = ["DATASHEETS", "WORK", "Work", "floors_us"]

# Dense TFLOP/s in bf16 and FP8 (None: the GPU has none), GB/s. Sources: NVIDIA's datasheets of the A100, H100, H200 and
# L4, and of HGX B200 for one GPU, halved where they count sparsity.
DATASHEETS = {
    "NVIDIA A100-SXM4-40GB": {"bf16": 312.0, "fp8": None, "GBs": 1555.0},
    "NVIDIA A100-SXM4-80GB": {"bf16": 312.0, "fp8": None, "GBs": 2039.0},
    "NVIDIA A100 80GB PCIe": {"bf16": 312.0, "fp8": None, "GBs": 1935.0},
    "NVIDIA L4": {"bf16": 121.0, "fp8": 242.0, "GBs": 300.0},
    "NVIDIA H100 80GB HBM3": {"bf16": 989.0, "fp8": 1979.0, "GBs": 3350.0},
    "NVIDIA H100 PCIe": {"bf16": 756.0, "fp8": 1513.0, "GBs": 2000.0},
    "NVIDIA H200": {"bf16": 989.0, "fp8": 1979.0, "GBs": 4800.0},
    "NVIDIA B200": {"bf16": 2250.0, "fp8": 4500.0, "GBs": 8000.0},
}
TILE = 128  # numbers that share a scale


@dataclass(frozen=True)
class Work:
    """Least bytes and FLOPs of one call; `dtype` names the roof of its products, "bf16" or "fp8"."""

    bytes: int
    flops: int
    dtype: str = "bf16"

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes


def floors_us(work, tflops: float, gigabytes: float) -> tuple[float, float]:
    """The floors under a time, of memory and of arithmetic, in us. `work` is anything with `bytes` and `flops`."""
    return work.bytes / gigabytes / 1e3, work.flops / tflops / 1e6


def rms_norm(M, D):
    return Work(2 * (2 * M * D + D), 4 * M * D)


def add_rms_norm(M, D):
    return Work(2 * (4 * M * D + D), 5 * M * D)


def rms_norm_backward(M, D):
    """Rows, their gradient and scale, the gain; out come the gradients of rows and gain."""
    return Work(2 * (3 * M * D + 2 * D) + 4 * M, 9 * M * D)


def rope(M, H, R):
    """H query heads and the one rotary key, a row of the table and a position for each token."""
    return Work(2 * 2 * M * (H + 1) * R + 4 * M * R + 4 * M, 3 * M * (H + 1) * R)


def swiglu(M, F):
    return Work(2 * 3 * M * F, 3 * M * F)


def swiglu_backward(M, F):
    return Work(2 * 5 * M * F, 9 * M * F)


def swiglu_quant(M, F):
    return Work(5 * M * F + 4 * M * cdiv(F, TILE), 5 * M * F)


def quantise_tiles(M, D):
    return Work(3 * M * D + 4 * M * cdiv(D, TILE), 2 * M * D)


def quantise_blocks(X, Y):
    return Work(3 * X * Y + 4 * cdiv(X, TILE) * cdiv(Y, TILE), 2 * X * Y)


def dequantise(X, Y):
    """Blocks of 128 x 128 to bf16."""
    return Work(3 * X * Y + 4 * cdiv(X, TILE) * cdiv(Y, TILE), X * Y)


def fp8_gemm(M, F, D):
    scales = 4 * (M + cdiv(F, TILE)) * cdiv(D, TILE)
    return Work(M * D + D * F + 2 * M * F + scales, 2 * M * D * F, "fp8")


def route(M, E, K):
    """Logits and bias in float32; ids and gates out. A score is 4 operations, the gates 2 for each chosen expert."""
    return Work(4 * (M * E + E) + 8 * M * K, 4 * M * E + 2 * M * K)


def align(M, K, E):
    """Ids in; out come two orders, the blocks' ends, and the lists of tiles of 128. Counting is no FLOP."""
    return Work(4 * (3 * M * K + E + 2 * (M * K // 128 + min(M * K, E))), 0)


def permute(M, K, D):
    return Work(2 * (M * D + M * K * D) + 4 * M * K, 0)


def unpermute(M, K, D):
    return Work(2 * (M * K * D + M * D) + 8 * M * K, 2 * M * K * D)


def grouped_gemm(A, E, F, D):
    return Work(2 * (A * D + E * F * D + A * F) + 4 * E, 2 * A * F * D)


def grouped_gemm_backward(A, E, F, D):
    """The gradients of the rows and of the weights."""
    return Work(2 * (A * F + 2 * A * D + 2 * E * F * D) + 4 * E, 4 * A * F * D)


def mla_decode(B, S, H, C=512, R=64):
    """The cache, the queries and the results; the table of pages, a ten-thousandth of that, is left out."""
    return Work(2 * (B * S * (C + R) + B * H * (2 * C + R)), 2 * B * S * H * (2 * C + R))


def mla_prefill(T, H, N=128, R=64, W=128):
    """One causal prompt: the T (T + 1) / 2 scores that are not masked, and their part of the values."""
    moved = 2 * (T * H * (N + R) + T * H * N + T * R + 2 * T * H * W) + 4 * T * H
    return Work(moved, 2 * H * (T * (T + 1) // 2) * (N + R + W))


def mla_prefill_backward(T, H, N=128, R=64, W=128):
    """Five products: the scores again, the slopes of the probabilities, and the gradients of q, k and v."""
    inputs = T * H * (N + R) + T * H * N + T * R + T * H * W
    return Work(2 * (2 * inputs + 2 * T * H * W) + 4 * T * H, 2 * H * (T * (T + 1) // 2) * (3 * (N + R) + 2 * W))


def log_probs(M, V, D):
    return Work(2 * (M * D + V * D) + 12 * M, 2 * M * V * D)


def token_loss(M, V, D):
    """Loss and gradients: three products of the logits' size. A kernel that keeps no logits makes them twice."""
    return Work(4 * (M * D + V * D) + 8 * M, 6 * M * V * D)


WORK = {
    function.__name__: function
    for function in (
        rms_norm, add_rms_norm, rms_norm_backward, rope, swiglu, swiglu_backward, swiglu_quant, quantise_tiles,
        quantise_blocks, dequantise, fp8_gemm, route, align, permute, unpermute, grouped_gemm, grouped_gemm_backward,
        mla_decode, mla_prefill, mla_prefill_backward, log_probs, token_loss,
    )
}  # fmt: skip
