"""The cases that multiply: FP8 and grouped products, MLA's two attentions, log-probabilities and cross-entropy.

How the production version differs: DeepGEMM, FlashMLA and FlashAttention-3 publish theirs, on other GPUs and sizes.
"""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from minimoe_kernels import align, fp8_gemm, grouped_gemm, log_probs, mla_decode, mla_prefill
from minimoe_kernels.bench import peers
from minimoe_kernels.bench.sides import Case, Side, backward, compiled, forward, randn

PAGE = 64


def fp8(device, M, F, D):
    operands = *peers.tiles(randn(M, D, device=device)), *peers.blocks(randn(F, D, device=device))
    wide = peers.untiled(*operands[:2]), peers.unblocked(*operands[2:])
    columns = operands[0], operands[1].t().contiguous().t(), *operands[2:]

    def plain(x, x_scale, weight, w_scale):
        return peers.untiled(x, x_scale) @ peers.unblocked(weight, w_scale).t()

    return forward(fp8_gemm.fp8_gemm, *operands)(), {
        "torch": forward(plain, *operands),
        "torch.compile": forward(compiled(plain), *operands),
        "F.scaled_mm, 1x128 and 128x128": forward(peers.scaled_mm, *columns),
        "torch.mm in bf16": forward(lambda x, weight: x @ weight.t(), *wide),
    }


def experts(device, A, E, F, D):
    """Rows of random experts, at least one each: a weight that nobody reads would be bytes that nobody moves."""
    chosen = torch.cat((torch.arange(E, device=device), torch.randint(0, E, (A - E,), device=device)))
    there = align.align_reference(chosen[:, None].int(), E, 128 if A >= 64 * E else 16)
    return randn(A, D, device=device), randn(E, F, D, device=device), there


def grouped(device, A, E, F, D):
    x, weight, there = experts(device, A, E, F, D)
    return forward(grouped_gemm.grouped_gemm, x, weight, there)(), {
        "torch": forward(peers.loop, x, weight, there.ends_E.tolist()),
        "torch._grouped_mm": forward(peers.grouped, x, weight, there.ends_E),
    }


def grouped_backward(device, A, E, F, D):
    x, weight, there = experts(device, A, E, F, D)
    d_out, ends = randn(A, F, device=device), there.ends_E.tolist()
    return backward(lambda *t: grouped_gemm.grouped_gemm(*t, there), (x, weight), d_out)(), {
        "torch": backward(lambda *t: peers.loop(*t, ends), (x, weight), d_out),
        "torch._grouped_mm": forward(peers.grouped_gradients, d_out, x, weight, there.ends_E),
    }


def decoding(device, B, S, H, C, R):
    q, cache = randn(B, H, C + R, device=device), randn(B * S // PAGE, PAGE, C + R, device=device)
    table = torch.randperm(B * S // PAGE, device=device).view(B, -1)
    lengths, scale = torch.full((B,), S, device=device, dtype=torch.int32), (C + R) ** -0.5
    entries = cache[table].flatten(1, 2)
    return forward(mla_decode.mla_decode, q, cache, table.int(), lengths, C, scale)(), {
        "torch": forward(peers.decode, q, entries, C, scale),
        "torch.compile": forward(compiled(lambda a, b: peers.decode(a, b, C, scale)), q, entries),
        "sdpa": forward(peers.sdpa_decode, q, entries, C, scale),
    }


def attention_inputs(device, T, H, N, R, W):
    """What the kernel takes, and the same as q, k (B, H, T, N + R) and v (B, H, T, W) for PyTorch's attention."""
    shapes = (1, T, H, N), (1, T, H, R), (1, T, H, N), (1, T, R), (1, T, H, W)
    ours = [randn(*shape, device=device) for shape in shapes]
    q_nope, q_rot, k_nope, k_rot, v = ours
    k = torch.cat((k_nope, k_rot[:, :, None].expand(-1, -1, H, -1)), -1)
    return ours, [x.transpose(1, 2) for x in (torch.cat((q_nope, q_rot), -1), k, v)]


def attend(q, k, v, scale):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def attend_by_cudnn(q, k, v, scale):
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return attend(q, k, v, scale)


def contestants(theirs, make, seen, W):
    """PyTorch's attention: as it chooses, by cuDNN, and with v widened to the keys, as FlashAttention-2 needs it."""
    q, k, v = theirs
    wide = F.pad(v, (0, q.shape[-1] - W))
    return {
        "sdpa": make(attend, theirs, seen),
        "sdpa, cuDNN": make(attend_by_cudnn, theirs, seen),
        "sdpa, v padded": make(attend, (q, k, wide), seen),
    }


def prefilling(device, T, H, N, R, W):
    ours, theirs = attention_inputs(device, T, H, N, R, W)
    scale = (N + R) ** -0.5

    def make(function, inputs, seen):
        return forward(function, *inputs, scale, seen=seen)

    own = forward(mla_prefill.mla_prefill, *ours, scale, seen=lambda results: results[0])()
    return own, contestants(theirs, make, lambda out: out[..., :W].transpose(1, 2), W)


def prefilling_backward(device, T, H, N, R, W):
    ours, theirs = attention_inputs(device, T, H, N, R, W)
    d_out, scale = randn(1, T, H, W, device=device), (N + R) ** -0.5

    def make(function, inputs, seen):
        d = F.pad(d_out.transpose(1, 2), (0, inputs[2].shape[-1] - W))
        return backward(lambda *t: function(*t, scale), inputs, d, seen)

    def seen(gradients):
        q, k, v = (t.transpose(1, 2) for t in gradients)
        return q[..., :N], q[..., N:], k[..., :N], k[..., N:].float().sum(2), v[..., :W]

    own = backward(lambda *t: mla_prefill.mla_prefill(*t, scale)[0], ours, d_out)()
    return own, contestants(theirs, make, seen, W)


def head(device, M, V, D):
    """Hidden states, a language-model head of the usual size, and tokens."""
    x, weight = randn(M, D, device=device), randn(V, D, device=device).mul_(D**-0.5)
    return x, weight, torch.randint(0, V, (M,), device=device)


def likelihood(device, M, V, D):
    inputs = head(device, M, V, D)
    return forward(log_probs.log_probs, *inputs)(), {
        "torch": forward(peers.log_probs, *inputs),
        "torch.compile": forward(compiled(peers.log_probs), *inputs),
    }


def loss(device, M, V, D):
    """Forward and backward in one: what a training step pays."""
    x, weight, token = head(device, M, V, D)
    leaves = x.requires_grad_(), weight.requires_grad_()

    def of(function):
        def call():
            value = function(*leaves, token)
            return value.detach(), *torch.autograd.grad(value, leaves)

        return lambda: Side(call)

    return of(log_probs.token_loss)(), {
        "torch": of(peers.cross_entropy),
        "torch.compile": of(compiled(peers.cross_entropy)),
    } | peers.liger("liger_fused_linear_cross_entropy", of)


def decode_sizes(heads):
    return {"B": 128, "S": 4096, "H": heads, "C": 512, "R": 64}


FEW = {"A": 65_536, "E": 32, "F": 4096, "D": 7168}  # 256 experts on 8 GPUs; gate and up projection in one
MANY = {"A": 1024, "E": 256, "F": 4096, "D": 7168}  # decoding 128 tokens on one GPU: the weights are all that moves
PROMPT = {"T": 8192, "H": 128, "N": 128, "R": 64, "W": 128}
VOCABULARY = {"M": 8192, "V": 129_280, "D": 7168}
SMALL_EXPERTS = {"A": 48, "E": 3, "F": 32, "D": 16}
SMALL_CACHE = {"B": 2, "S": 128, "H": 16, "C": 64, "R": 16}
SMALL_PROMPT = {"T": 40, "H": 2, "N": 32, "R": 16, "W": 16}
CASES = (
    Case("fp8_gemm", "fp8_gemm", fp8, {"M": 8192, "F": 2048, "D": 7168}, {"M": 32, "F": 128, "D": 512}, 89),
    Case("fp8_gemm", "fp8_gemm", fp8, {"M": 4096, "F": 4096, "D": 7168}, {"M": 32, "F": 128, "D": 512}, 89),
    Case("grouped_gemm", "grouped_gemm", grouped, FEW, SMALL_EXPERTS),
    Case("grouped_gemm", "grouped_gemm", grouped, MANY, SMALL_EXPERTS),
    Case("grouped_gemm_backward", "grouped_gemm", grouped_backward, FEW, SMALL_EXPERTS),
    *(
        Case("mla_decode", "mla_decode", decoding, decode_sizes(heads), SMALL_CACHE | {"H": heads})
        for heads in (16, 64, 128)
    ),
    Case("mla_prefill", "mla_prefill", prefilling, PROMPT, SMALL_PROMPT),
    Case("mla_prefill_backward", "mla_prefill", prefilling_backward, PROMPT, SMALL_PROMPT),
    Case("log_probs", "log_probs", likelihood, VOCABULARY, {"M": 20, "V": 300, "D": 48}),
    Case("token_loss", "log_probs", loss, VOCABULARY, {"M": 20, "V": 300, "D": 48}),
)
