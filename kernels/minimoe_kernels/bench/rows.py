"""The cases that move rows: norms, rotations, SwiGLU, FP8 and back, routing, sorting, permuting. All are bandwidth's.

How the production version differs: a serving engine measures its kernels inside the running model, neighbours and all.
"""

import torch
import torch.nn.functional as F

from minimoe.model import layers
from minimoe.model.moe import sum_of_rows
from minimoe_kernels import align as align_module
from minimoe_kernels import fp8_quant, permute, rms_norm, rope, router, swiglu, swiglu_quant
from minimoe_kernels.bench import peers
from minimoe_kernels.bench.sides import Case, backward, compiled, forward, randn

EPS = 1e-6


def norm(device, M, D):
    inputs = randn(M, D, device=device), randn(D, device=device)
    return forward(rms_norm.rms_norm, *inputs, EPS)(), {
        "torch": forward(layers.rms_norm, *inputs, EPS),
        "torch.compile": forward(compiled(layers.rms_norm), *inputs, EPS),
        "F.rms_norm": forward(lambda x, weight: F.rms_norm(x, (D,), weight, EPS), *inputs),
    } | peers.liger("liger_rms_norm", lambda found: forward(found, *inputs, EPS, 0.0, "llama", False))


def added_norm(device, M, D):
    inputs = randn(M, D, device=device), randn(M, D, device=device), randn(D, device=device)
    plain = rms_norm.add_rms_norm_reference
    return forward(rms_norm.add_rms_norm, *inputs, EPS)(), {
        "torch": forward(plain, *inputs, EPS),
        "torch.compile": forward(compiled(plain), *inputs, EPS),
    }


def norm_backward(device, M, D):
    inputs, d_out = (randn(M, D, device=device), randn(D, device=device)), randn(M, D, device=device)

    def of(function):
        return backward(lambda x, weight: function(x, weight, EPS), inputs, d_out)

    return of(rms_norm.rms_norm)(), {
        "torch": of(layers.rms_norm),
        "torch.compile": of(compiled(layers.rms_norm)),
        "F.rms_norm": of(lambda x, weight, eps: F.rms_norm(x, (D,), weight, eps)),
    } | peers.liger("liger_rms_norm", lambda found: of(lambda *t: found(*t, 0.0, "llama", False)))


def rotate(device, M, H, R):
    """The last R of 3R numbers of every query head, and the one rotary key."""
    heads, key = randn(M, H, 3 * R, device=device)[..., 2 * R :], randn(M, 1, R, device=device)
    angle = torch.arange(M, device=device)[:, None] * 10000.0 ** (-torch.arange(0, R, 2, device=device) / R)
    turns = torch.stack((angle.cos(), angle.sin()), -1).flatten(-2)
    position = torch.randperm(M, device=device).int()

    def both(function):
        return lambda: (function(heads, turns, position), function(key, turns, position))

    return forward(both(rope.rope))(), {
        "torch": forward(both(rope.rope_reference)),
        "torch.compile": forward(compiled(both(peers.turned))),
    }


def halves(M, width, device):
    both = randn(M, 2 * width, device=device)
    return both[:, :width], both[:, width:]


def swiglu_forward(device, M, F):
    inputs = halves(M, F, device)
    return forward(swiglu.swiglu, *inputs)(), {
        "torch": forward(peers.swiglu, *inputs),
        "torch.compile": forward(compiled(peers.swiglu), *inputs),
    }


def swiglu_backward(device, M, F):
    inputs, d_out = halves(M, F, device), randn(M, F, device=device)
    return backward(swiglu.swiglu, inputs, d_out)(), {
        "torch": backward(peers.swiglu, inputs, d_out),
        "torch.compile": backward(compiled(peers.swiglu), inputs, d_out),
    }


def eager_and_compiled(ours, plain, *inputs):
    """The usual two peers of a function without a gradient."""
    sides = {"torch": forward(plain, *inputs), "torch.compile": forward(compiled(plain), *inputs)}
    return forward(ours, *inputs)(), sides


def fused_quant(device, M, F):
    return eager_and_compiled(swiglu_quant.swiglu_quant, peers.swiglu_tiles, *halves(M, F, device))


def to_tiles(device, M, D):
    return eager_and_compiled(fp8_quant.quantise_tiles, peers.tiles, randn(M, D, device=device))


def to_blocks(device, X, Y):
    return eager_and_compiled(fp8_quant.quantise_blocks, peers.blocks, randn(X, Y, device=device))


def from_blocks(device, X, Y):
    def ours(fp8_XY, scale_IJ):
        return fp8_quant.dequantise(fp8_XY, scale_IJ, torch.bfloat16)

    return eager_and_compiled(ours, peers.unblocked, *peers.blocks(randn(X, Y, device=device)))


def routed(device, M, E, K):
    """V3's limits: 4 of 8 groups."""
    logits, bias = (randn(*shape, device=device, dtype=torch.float32) for shape in ((M, E), (E,)))
    inputs, sizes = (logits, 0.1 * bias), (K, 8, 4, 2.5)
    return forward(router.route, *inputs, *sizes)(), {
        "torch": forward(peers.route, *inputs, *sizes),
        "torch.compile": forward(compiled(lambda a, b: peers.route(a, b, *sizes)), *inputs),
    }


def choices(device, M, K, E):
    """K different experts for each token, as int32."""
    return torch.rand(M, E, device=device).topk(K, dim=1).indices.int()


def sorted_by_expert(device, M, K, E):
    chosen = choices(device, M, K, E)

    def ours(chosen_MK, n_experts):
        made = align_module.align(chosen_MK, n_experts)
        return made.order_A, made.where_MK, made.ends_E

    return forward(ours, chosen, E)(), {
        "torch": forward(peers.sort, chosen, E),
        "torch.compile": forward(compiled(lambda ids: peers.sort(ids, E)), chosen),
    }


def into_order(device, M, K, D):
    x, there = randn(M, D, device=device), align_module.align_reference(choices(device, M, K, 4 * K), 4 * K)
    order = there.order_A.long()
    return forward(permute.permute, x, there)(), {
        "torch": forward(peers.permute, x, order, K),
        "torch.compile": forward(compiled(lambda rows, places: peers.permute(rows, places, K)), x, order),
    }


def out_of_order(device, M, K, D):
    y, gates = randn(M * K, D, device=device), torch.rand(M, K, device=device)
    there = align_module.align_reference(choices(device, M, K, 4 * K), 4 * K)
    where, half = there.where_MK.long(), gates.bfloat16()
    return forward(permute.unpermute, y, gates, there)(), {
        "torch": forward(sum_of_rows, y, where, half),
        "torch.compile": forward(compiled(peers.unpermute), y, gates, where),
    }


TOKENS = {"M": 8192, "D": 7168}
EXPERT_ROWS = {"M": 65_536, "F": 2048}
CASES = (
    Case("rms_norm", "rms_norm", norm, TOKENS, {"M": 3, "D": 256}),
    Case("add_rms_norm", "rms_norm", added_norm, TOKENS, {"M": 3, "D": 256}),
    Case("rms_norm_backward", "rms_norm", norm_backward, TOKENS, {"M": 3, "D": 256}),
    Case("rope", "rope", rotate, {"M": 8192, "H": 128, "R": 64}, {"M": 5, "H": 3, "R": 16}),
    Case("swiglu", "swiglu", swiglu_forward, EXPERT_ROWS, {"M": 5, "F": 128}),
    Case("swiglu_backward", "swiglu", swiglu_backward, EXPERT_ROWS, {"M": 5, "F": 128}),
    Case("swiglu_quant", "swiglu_quant", fused_quant, EXPERT_ROWS, {"M": 5, "F": 256}, 89),
    Case("quantise_tiles", "fp8_quant", to_tiles, TOKENS, {"M": 5, "D": 256}, 89),
    Case("quantise_blocks", "fp8_quant", to_blocks, {"X": 7168, "Y": 16_384}, {"X": 128, "Y": 256}, 89),
    Case("dequantise", "fp8_quant", from_blocks, {"X": 7168, "Y": 16_384}, {"X": 128, "Y": 256}, 89),
    Case("route", "router", routed, {"M": 8192, "E": 256, "K": 8}, {"M": 5, "E": 64, "K": 6}),
    Case("align", "align", sorted_by_expert, {"M": 8192, "K": 8, "E": 256}, {"M": 40, "K": 3, "E": 8}),
    Case("permute", "permute", into_order, {"M": 8192, "K": 8, "D": 7168}, {"M": 7, "K": 3, "D": 64}),
    Case("unpermute", "permute", out_of_order, {"M": 8192, "K": 8, "D": 7168}, {"M": 7, "K": 3, "D": 64}),
)
