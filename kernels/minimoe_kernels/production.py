"""Every kernel at the sizes it is for: DeepSeek-V3's, with nothing allocated.

The tensors lie on PyTorch's device "meta", where they have shapes and types and no memory. A wrapper called on them
chooses its tiles, warps and stages as it would for real, and the runner that takes the launch compiles instead of
running (`minimoe_kernels.resources`). So what is compiled is what would be launched, written down once.

How the production version differs: engines keep lists of sizes and compile them all when they start, so that no request
waits for a compiler.
"""

import torch

from minimoe_kernels import (
    align,
    fp8_gemm,
    fp8_quant,
    grouped_gemm,
    log_probs,
    mla_decode,
    mla_prefill,
    permute,
    rms_norm,
    rope,
    router,
    swiglu,
    swiglu_quant,
)

__all__ = ["CASES"]

TOKENS, HIDDEN, WIDTH, EXPERTS, CHOSEN = 8192, 7168, 2048, 256, 8
ROWS = TOKENS * CHOSEN
BF16, FP8, INT = torch.bfloat16, torch.float8_e4m3fn, torch.int32


def tensor(*shape, dtype=BF16, grad=False):
    """A tensor that has a shape and no numbers."""
    return torch.empty(shape, dtype=dtype, device="meta", requires_grad=grad)


def backward(out, *inputs):
    torch.autograd.grad(out, inputs, tensor(*out.shape, dtype=out.dtype))


def alignment(tile=128):
    tiles = ROWS // tile + EXPERTS
    places = tensor(ROWS, dtype=INT), tensor(TOKENS, CHOSEN, dtype=INT), tensor(EXPERTS, dtype=INT)
    return align.Alignment(*places, tensor(tiles, dtype=INT), tensor(tiles, dtype=INT), tile)


def rms_norm_both():
    x, residual, weight = tensor(TOKENS, HIDDEN, grad=True), tensor(TOKENS, HIDDEN), tensor(HIDDEN, grad=True)
    backward(rms_norm.add_rms_norm(x, residual, weight, 1e-6)[0], x, weight)


def rope_heads():
    rope.rope(tensor(TOKENS, 128, 192)[..., 128:], tensor(4096, 64, dtype=torch.float32), tensor(TOKENS, dtype=INT))


def swiglu_both():
    both = tensor(ROWS, 2 * WIDTH, grad=True)
    backward(swiglu.swiglu(both[:, :WIDTH], both[:, WIDTH:]), both)


def swiglu_to_fp8():
    both = tensor(ROWS, 2 * WIDTH)
    swiglu_quant.swiglu_quant(both[:, :WIDTH], both[:, WIDTH:])


def to_fp8_and_back():
    fp8_quant.quantise_tiles(tensor(TOKENS, HIDDEN))
    fp8_quant.quantise_blocks(tensor(WIDTH, HIDDEN), power_of_two=True)
    fp8_quant.dequantise(tensor(WIDTH, HIDDEN, dtype=FP8), tensor(16, 56, dtype=torch.float32), BF16)


def fp8_product():
    for rows in (16, WIDTH):  # blocks; tiles, as in a weight gradient
        scales = tensor(TOKENS, 56, dtype=torch.float32), tensor(rows, 56, dtype=torch.float32)
        fp8_gemm.fp8_gemm(tensor(TOKENS, HIDDEN, dtype=FP8), scales[0], tensor(WIDTH, HIDDEN, dtype=FP8), scales[1])


def routing():
    logits, bias = tensor(TOKENS, EXPERTS, dtype=torch.float32), tensor(EXPERTS, dtype=torch.float32)
    router.route(logits, bias, CHOSEN, n_group=8, topk_group=4, factor=2.5)


def moving():
    align.align(tensor(TOKENS, CHOSEN, dtype=INT), EXPERTS)
    x, there = tensor(TOKENS, HIDDEN, grad=True), alignment()
    gates = tensor(TOKENS, CHOSEN, dtype=torch.float32, grad=True)
    rows = permute.permute(x, there)
    backward(permute.unpermute(rows, gates, there), x, gates)


def grouped():
    x, weight = tensor(ROWS, HIDDEN, grad=True), tensor(EXPERTS, WIDTH, HIDDEN, grad=True)
    backward(grouped_gemm.grouped_gemm(x, weight, alignment()), x, weight)


def decoding():
    for heads in (16, 128):
        q, cache = tensor(128, heads, 576), tensor(8192, 64, 576)
        mla_decode.mla_decode(q, cache, tensor(128, 64, dtype=INT), tensor(128, dtype=INT), 512, 0.1)


def prefilling():
    nope, rotary, shared = (128, 128), (128, 64), (64,)
    inputs = [tensor(1, TOKENS, *shape, grad=True) for shape in (nope, rotary, nope, shared, nope)]
    backward(mla_prefill.mla_prefill(*inputs, 0.1)[0], *inputs)


def likelihood():
    x, weight = tensor(TOKENS, HIDDEN, grad=True), tensor(129_280, HIDDEN, grad=True)
    backward(log_probs.log_probs(x, weight, tensor(TOKENS, dtype=torch.int64)), x, weight)


# Each launches one or more kernels; those that multiply must use a tensor core (see `resources.TENSOR_CORE`).
CASES = (
    rms_norm_both, rope_heads, swiglu_both, swiglu_to_fp8, to_fp8_and_back, fp8_product, routing, moving, grouped,
    decoding, prefilling, likelihood,
)  # fmt: skip
