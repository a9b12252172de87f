"""What the kernels are held against: the same functions as PyTorch has them, eager and compiled.

Each is written as its users write it, without a check or a conversion that the kernel is spared. Where PyTorch has one
call for a function (`torch._grouped_mm`, `scaled_dot_product_attention`, `F.scaled_mm`) that call is a peer too. What a
peer needs in another layout is made before the clock runs: a doubt goes in the peer's favour.

Liger-Kernel joins where somebody has installed it; minimoe does not ask for it. Of its functions those take part that
leave their inputs alone: its SwiGLU writes the gradients over them.

How the production version differs: an engine's authors measure against vLLM, SGLang and DeepGEMM too.
"""

import importlib.util
from importlib import metadata

import torch
import torch.nn.functional as F

from minimoe.fp8_blocks import FP8_MAX
from minimoe_kernels.fp8_quant import TILE

FP8 = torch.float8_e4m3fn


def liger(name, prepare):
    """{"Liger": its side} of one of its functions, which `prepare` is given; {} where it is not installed."""
    if importlib.util.find_spec("liger_kernel") is None:
        return {}
    return {"Liger": lambda: prepare(getattr(importlib.import_module("liger_kernel.transformers.functional"), name))()}


def version_of(name: str) -> str:
    """The version of the package that a peer of this name comes from."""
    return metadata.version("liger-kernel") if name == "Liger" else str(torch.__version__)


def turned(x_MHR, turns_SR, position_M):
    """Rotary positions with real numbers: the compiler of PyTorch has no complex ones."""
    turn = turns_SR[position_M][:, None].unflatten(-1, (-1, 2))
    cos, sin = turn[..., 0], turn[..., 1]
    even, odd = x_MHR.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x_MHR.dtype)


def swiglu(gate_MF, up_MF):
    return F.silu(gate_MF) * up_MF


def tiles(x_MD):
    """FP8 with a scale for each 128 numbers of a row."""
    x_MJT = x_MD.float().unflatten(-1, (-1, TILE))
    amax_MJ = x_MJT.abs().amax(-1)
    scale_MJ = torch.where(amax_MJ > 0, amax_MJ / FP8_MAX, 1.0)
    return (x_MJT / scale_MJ[..., None]).flatten(-2).to(FP8), scale_MJ


def blocks(weight_XY):
    """FP8 with a scale for each 128 x 128 block."""
    x = weight_XY.float().unflatten(0, (-1, TILE)).unflatten(-1, (-1, TILE))
    amax_IJ = x.abs().amax((1, 3))
    scale_IJ = torch.where(amax_IJ > 0, amax_IJ / FP8_MAX, 1.0)
    return (x / scale_IJ[:, None, :, None]).flatten(-2).flatten(0, 1).to(FP8), scale_IJ


def unblocked(fp8_XY, scale_IJ):
    """The bf16 matrix that FP8 and block scales stand for."""
    x = fp8_XY.float().unflatten(0, (-1, TILE)).unflatten(-1, (-1, TILE))
    return (x * scale_IJ[:, None, :, None]).flatten(-2).flatten(0, 1).bfloat16()


def untiled(fp8_MD, scale_MJ):
    """The bf16 rows that FP8 and tile scales stand for."""
    return (fp8_MD.float().unflatten(-1, (-1, TILE)) * scale_MJ[..., None]).flatten(-2).bfloat16()


def swiglu_tiles(gate_MF, up_MF):
    return tiles((F.silu(gate_MF.float()) * up_MF.float()).to(gate_MF.dtype))


def scaled_mm(x_MD, x_scale_MJ, weight_FD, w_scale_IJ):
    """cuBLAS with 1 x 128 and 128 x 128 scales. It wants the scales of x by columns, and J a multiple of 4."""
    one, square = F.ScalingType.BlockWise1x128, F.ScalingType.BlockWise128x128
    return F.scaled_mm(x_MD, weight_FD.t(), x_scale_MJ, one, w_scale_IJ.t(), square, output_dtype=torch.bfloat16)


def route(logits_ME, bias_E, top_k, n_group, topk_group, factor):
    """The gate as DeepSeek-V3's inference/model.py has it, with `topk` throughout."""
    scores_ME = logits_ME.sigmoid()
    groups_MGS = (scores_ME + bias_E).unflatten(1, (n_group, -1))
    best = groups_MGS.topk(2, dim=-1).values.sum(-1).topk(topk_group, dim=-1).indices
    dropped_MG = torch.ones_like(groups_MGS[..., 0], dtype=torch.bool).scatter(1, best, False)
    chosen_MK = groups_MGS.masked_fill(dropped_MG[..., None], float("-inf")).flatten(1).topk(top_k, dim=-1).indices
    gates_MK = scores_ME.gather(1, chosen_MK)
    return chosen_MK, gates_MK / gates_MK.sum(-1, keepdim=True) * factor


def sort(chosen_MK, n_experts):
    """Orders and ends by a stable sort. The lists of tiles are not made: a doubt in the peer's favour."""
    experts, order_A = chosen_MK.flatten().sort(stable=True)
    where_A = torch.empty_like(order_A).scatter_(0, order_A, torch.arange(len(order_A), device=order_A.device))
    names_E = torch.arange(n_experts, device=experts.device, dtype=experts.dtype)
    ends_E = torch.searchsorted(experts, names_E, right=True)
    return order_A, where_A.view(chosen_MK.shape), ends_E


def permute(x_MD, order_A, K):
    return x_MD[order_A // K]


def unpermute(y_AD, gates_MK, where_MK):
    """One gather and one sum, in float32 as the kernel has it."""
    return (y_AD[where_MK].float() * gates_MK[..., None]).sum(1).to(y_AD.dtype)


def loop(x_AD, weight_EFD, ends):
    """A product an expert. `ends` is a list: the clock does not wait for it."""
    pairs = zip([0, *ends[:-1]], ends, weight_EFD, strict=True)
    return torch.cat([x_AD[start:end] @ weight.t() for start, end, weight in pairs])


def grouped(x_AD, weight_EFD, ends_E):
    return torch._grouped_mm(x_AD, weight_EFD.transpose(-2, -1), offs=ends_E)


def grouped_gradients(d_out_AF, x_AD, weight_EFD, ends_E):
    """Of rows and weights: two calls."""
    d_x_AD = torch._grouped_mm(d_out_AF, weight_EFD, offs=ends_E)
    return d_x_AD, torch._grouped_mm(d_out_AF.t(), x_AD, offs=ends_E)


def decode(q_BHX, entries_BSX, latent, scale):
    """Absorbed attention on a cache without pages, all heads as the rows of one product."""
    weights = (torch.bmm(q_BHX, entries_BSX.transpose(1, 2)).float() * scale).softmax(-1).to(q_BHX.dtype)
    return torch.bmm(weights, entries_BSX[..., :latent])


def sdpa_decode(q_BHX, entries_BSX, latent, scale):
    """The same by one call: the heads are H queries of one head that sees every key."""
    key, value = entries_BSX[:, None], entries_BSX[:, None, :, :latent]
    return F.scaled_dot_product_attention(q_BHX[:, None], key, value, scale=scale)[:, 0]


def log_probs(x_MD, weight_VD, token_M):
    logits_MV = F.linear(x_MD, weight_VD).float()
    return logits_MV.log_softmax(-1).gather(1, token_M[:, None])[:, 0]


def cross_entropy(x_MD, weight_VD, token_M):
    return F.cross_entropy(F.linear(x_MD, weight_VD).float(), token_M)
