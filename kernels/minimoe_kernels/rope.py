"""Rotary positions: every adjacent pair of numbers of a head turned by its position's angle, forward and back.

    (x0 + i x1) * (cos + i sin)

The angles are a table, one row for each position, as `minimoe.model.rope.rope_turns` makes it (YaRN included): the
kernel looks up the row of its token, so tokens of many sequences at many positions go through one launch. A program
takes one token and all of its heads, and reads the row of the table once for all of them.

The gradient of a rotation is the rotation back: the same kernel with the sign of the sine turned.

I is the number of pairs, R / 2.

How the production version differs: engines rotate the query in the kernel that projects it, and write the rotated key
straight into the paged cache.
"""

import torch

from minimoe.model.rope import apply_rope
from minimoe_kernels.kernel import cdiv, next_power_of_2, tl, triton
from minimoe_kernels.sim import empty

__all__ = ["rope", "rope_reference"]


@triton.jit
def rope_kernel(
    x_ptr, turns_ptr, position_ptr, out_ptr, H, x_row, x_head, out_row,
    R: tl.constexpr, BLOCK_H: tl.constexpr, ACC: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    numbers = tl.arange(0, R)
    mask = heads[:, None] < H
    x = tl.load(x_ptr + row * x_row + heads[:, None] * x_head + numbers[None, :], mask=mask, other=0.0)
    position = tl.load(position_ptr + row).to(tl.int64)
    turn = tl.load(turns_ptr + position * R + numbers).to(ACC)
    real, imaginary = tl.split(tl.reshape(x.to(ACC), (BLOCK_H, R // 2, 2)))
    cos, sin = tl.split(tl.reshape(turn, (R // 2, 2)))
    if BACK:
        sin = -sin
    out = tl.join(real * cos[None, :] - imaginary * sin[None, :], real * sin[None, :] + imaginary * cos[None, :])
    at = out_ptr + row * out_row + heads[:, None] * R + numbers[None, :]
    tl.store(at, tl.reshape(out, (BLOCK_H, R)), mask=mask)


def _launch(x_MHR, turns_SR, position_M, back):
    M, H, R = x_MHR.shape
    out_MHR = empty(M, H, R, dtype=x_MHR.dtype, device=x_MHR.device)
    block = min(64, next_power_of_2(H))
    rope_kernel[(M, cdiv(H, block))](
        x_MHR, turns_SR, position_M, out_MHR, H, x_MHR.stride(0), x_MHR.stride(1), H * R,
        R=R, BLOCK_H=block, ACC=tl.float64 if x_MHR.dtype == torch.float64 else tl.float32, BACK=back,
    )  # fmt: skip
    return out_MHR


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_MHR, turns_SR, position_M):
        ctx.save_for_backward(turns_SR, position_M)
        return _launch(x_MHR, turns_SR, position_M, back=False)

    @staticmethod
    def backward(ctx, d_out_MHR):
        return _launch(d_out_MHR.contiguous(), *ctx.saved_tensors, back=True), None, None


def rope(x_MHR: torch.Tensor, turns_SR: torch.Tensor, position_M: torch.Tensor) -> torch.Tensor:
    """Turn the heads of M tokens, each by the angles of its position; differentiable in x.

    `turns_SR` is the real view of `rope_turns(config, S)`: cosine and sine of each pair side by side. `x_MHR` may be a
    slice of wider heads: only its last axis must be contiguous. Gives a contiguous tensor of x's type.

    Raises `ValueError` unless R is a power of two and equal in both. Positions are not checked on a GPU.
    Source: Su et al., arXiv 2104.09864 equation 34; `apply_rotary_emb` of DeepSeek-V3's inference/model.py @9b4e9788.
    """
    R = x_MHR.shape[-1]
    if R != turns_SR.shape[-1] or R & (R - 1) or R < 2:
        raise ValueError(f"heads have {R} numbers and the table {turns_SR.shape[-1]}: want the same power of two")
    if len(position_M) != len(x_MHR):
        raise ValueError(f"{len(position_M)} positions for {len(x_MHR)} tokens")
    x_MHR = x_MHR if x_MHR.stride(-1) == 1 else x_MHR.contiguous()
    return _Rope.apply(x_MHR, turns_SR.contiguous(), position_M.contiguous())


def rope_reference(x_MHR, turns_SR, position_M):
    """`rope` with the library's complex product."""
    turns_SI = torch.view_as_complex(turns_SR.unflatten(-1, (-1, 2)))
    return apply_rope(x_MHR, turns_SI[position_M.long()][:, None])
