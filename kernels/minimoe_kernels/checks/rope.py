"""Checks of `minimoe_kernels.rope`."""

import torch

from minimoe_kernels.checks.agreement import agree, guarded
from minimoe_kernels.checks.gradients import gradients

SIZES = [(6, 3, 16), (1, 1, 2), (4, 20, 64), (0, 2, 4)]
DTYPES = [torch.bfloat16, torch.float32]


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Rotation and its gradient, on contiguous heads and on the last R numbers of wider ones."""
    for M, H, R in sizes:
        for dtype in dtypes:
            generator = torch.Generator().manual_seed(M * 100 + H)
            x, d_out = (torch.randn(M, H, R, generator=generator).to(dtype) for _ in range(2))
            S = 2 * M + 3
            angle = torch.arange(S)[:, None] * 10000.0 ** (-torch.arange(0, R, 2) / R)
            turns = torch.view_as_real(torch.polar(torch.ones_like(angle), angle)).flatten(-2)
            position = torch.randint(0, S, (M,), generator=generator, dtype=torch.int32)
            wide = torch.zeros(M, H, R + 8, dtype=dtype)
            wide[..., 8:] = x
            fixed = [guarded(turns, device), guarded(position, device)]
            exact, exact_grads = _exact(x, turns, position, d_out)
            usual, usual_grads = gradients(lambda t, a=turns, p=position: ops.rope_reference(t, a, p), [x], [d_out])
            for what, ours in (("", guarded(x, device)), (" of a slice", guarded(wide, device)[..., 8:])):
                got, grads = gradients(lambda t, f=fixed: ops.rope(t, *f), [ours], [guarded(d_out, device)])
                name = f"rope {M}x{H}x{R} {dtype}{what}"
                agree(f"{name}: out", got[0], exact, usual[0])
                agree(f"{name}: gradient", grads[0], exact_grads, usual_grads[0])


def _exact(x, turns, position, d_out):
    """By the matrix ((cos, -sin), (sin, cos)) of every pair, in float64."""
    turn = turns.double()[position.long()][:, None]
    cos, sin = turn[..., ::2], turn[..., 1::2]

    def turned(t, sign):
        even, odd = t.double()[..., ::2], t.double()[..., 1::2]
        return torch.stack([even * cos - sign * odd * sin, sign * even * sin + odd * cos], dim=-1).flatten(-2)

    return turned(x, 1), turned(d_out, -1)
