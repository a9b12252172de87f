"""The router of V3 after its matrix product: sigmoid, bias, the group limit, the K best, normalised gates; one launch.

PyTorch needs a dozen launches for it, each on a few numbers: the work is nothing and the waiting is all. Here a program
takes one token. Its E scores lie in registers as G rows, one for each group, so "the sum of a group's two best" is two
row maxima, and "the best groups" and "the K best experts" are the same three lines repeated: find the largest, note it,
strike it out.

Ties go to the lower index, everywhere: PyTorch's topk does not say where they go, and a kernel that training, decoding
and replay run must.

How the production version differs: engines fuse the matrix product in front (E is small) and the counting of tokens an
expert behind, and pick experts with warp shuffles.
"""

import torch

from minimoe_kernels.kernel import next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["route", "route_reference"]


@triton.jit
def route_kernel(
    logits_ptr, bias_ptr, chosen_ptr, gates_ptr, factor, GROUPS: tl.constexpr, KEPT: tl.constexpr, SIZE: tl.constexpr,
    K: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_K: tl.constexpr, NORMALISE: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    group, member = tl.arange(0, BLOCK_G), tl.arange(0, BLOCK_S)
    expert = group[:, None] * SIZE + member[None, :]
    real = (group[:, None] < GROUPS) & (member[None, :] < SIZE)
    logits = tl.load(logits_ptr + token * GROUPS * SIZE + expert, mask=real, other=0.0).to(tl.float32)
    score = 1.0 / (1.0 + tl.exp(-logits))
    biased = tl.where(real, score + tl.load(bias_ptr + expert, mask=real, other=0.0), float("-inf"))

    if KEPT < GROUPS:
        best = tl.max(biased, axis=1)
        if SIZE > 1:
            first = tl.argmax(biased, axis=1)
            best += tl.max(tl.where(member[None, :] == first[:, None], float("-inf"), biased), axis=1)
        best = tl.where(group < GROUPS, best, float("-inf"))
        kept = group < 0
        for _ in tl.static_range(KEPT):
            winner = tl.argmax(best, axis=0)
            kept = kept | (group == winner)
            best = tl.where(group == winner, float("-inf"), best)
        biased = tl.where(kept[:, None], biased, float("-inf"))

    flat_biased = tl.reshape(biased, (BLOCK_G * BLOCK_S,))
    flat_score = tl.reshape(score, (BLOCK_G * BLOCK_S,))
    flat_expert = tl.reshape(expert, (BLOCK_G * BLOCK_S,))
    place = tl.arange(0, BLOCK_G * BLOCK_S)
    slot = tl.arange(0, BLOCK_K)
    chosen = tl.zeros((BLOCK_K,), dtype=tl.int32)
    gates = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for k in tl.static_range(K):
        here = place == tl.argmax(flat_biased, axis=0)
        chosen = tl.where(slot == k, tl.sum(tl.where(here, flat_expert, 0), axis=0), chosen)
        gates = tl.where(slot == k, tl.sum(tl.where(here, flat_score, 0.0), axis=0), gates)
        flat_biased = tl.where(here, float("-inf"), flat_biased)
    if NORMALISE:
        gates = gates / (tl.sum(gates, axis=0) + 1e-20)
    tl.store(chosen_ptr + token * K + slot, chosen, mask=slot < K)
    tl.store(gates_ptr + token * K + slot, gates * factor, mask=slot < K)


def route(
    logits_ME: torch.Tensor,
    bias_E: torch.Tensor,
    top_k: int,
    n_group: int = 1,
    topk_group: int = 1,
    factor: float = 1.0,
    normalise: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The K experts of every token, best biased score first, and their gates: (chosen_MK int32, gates_MK float32).

    s = sigmoid(logits); the `topk_group` of `n_group` groups with the largest sum of two best s + bias; of their
    experts the K with the largest s + bias; gates = s / sum(s) * factor over the chosen (without `normalise` s *
    factor). Ties go to the lower index. No gradient: training takes it from the scores.

    Raises `ValueError` for sizes that do not divide or cannot hold K experts.
    Source: arXiv 2412.19437 equations 13-16; `Gate.forward` of DeepSeek-V3's inference/model.py @9b4e9788.
    """
    M, E = logits_ME.shape
    check_groups(E, tuple(bias_E.shape), top_k, n_group, topk_group)
    chosen_MK = empty(M, top_k, dtype=torch.int32, device=logits_ME.device)
    gates_MK = empty(M, top_k, device=logits_ME.device)
    size = E // n_group
    route_kernel[(M,)](
        logits_ME.contiguous(), bias_E.contiguous(), chosen_MK, gates_MK, factor, GROUPS=n_group, KEPT=topk_group,
        SIZE=size, K=top_k, BLOCK_G=next_power_of_2(n_group), BLOCK_S=next_power_of_2(size),
        BLOCK_K=next_power_of_2(top_k), NORMALISE=normalise, num_warps=1,
    )  # fmt: skip
    return chosen_MK, gates_MK


def check_groups(E, bias_shape, top_k, n_group, topk_group):
    if bias_shape != (E,):
        raise ValueError(f"a bias of shape {bias_shape} for {E} experts")
    if E % n_group or not 1 <= topk_group <= n_group:
        raise ValueError(f"{E} experts in n_group={n_group} groups of which topk_group={topk_group} are kept")
    if not 1 <= top_k <= topk_group * (E // n_group):
        raise ValueError(f"top_k={top_k}, but the kept groups have {topk_group * (E // n_group)} experts")


def route_reference(logits_ME, bias_E, top_k, n_group=1, topk_group=1, factor=1.0, normalise=True):
    """`route` in PyTorch, with stable sorts so that ties go to the lower index."""
    check_groups(logits_ME.shape[1], tuple(bias_E.shape), top_k, n_group, topk_group)
    scores_ME = torch.sigmoid(logits_ME if logits_ME.dtype == torch.float64 else logits_ME.float())
    groups = (scores_ME + bias_E).unflatten(1, (n_group, -1))
    group_scores_MG = groups.sort(dim=-1, descending=True).values[..., :2].sum(-1)
    best = group_scores_MG.sort(dim=-1, descending=True, stable=True).indices[:, :topk_group]
    kept_MG = torch.zeros_like(group_scores_MG, dtype=torch.bool).scatter_(1, best, True)
    biased_ME = groups.masked_fill(~kept_MG[..., None], float("-inf")).flatten(1)
    chosen_MK = biased_ME.sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
    gates_MK = scores_ME.gather(1, chosen_MK)
    if normalise:
        gates_MK = gates_MK / (gates_MK.sum(-1, keepdim=True) + 1e-20)
    return chosen_MK.int(), gates_MK * factor
