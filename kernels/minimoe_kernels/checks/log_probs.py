"""Checks of `minimoe_kernels.log_probs`."""

import torch

from minimoe_kernels.checks.agreement import agree, guarded
from minimoe_kernels.checks.gradients import gradients

SIZES = [(5, 300, 40, 0.7), (35, 20, 16, 1.0), (1, 1, 3, 1.0)]  # rows, vocabulary, width, temperature
DTYPES = [torch.bfloat16, torch.float32]


def check(ops, device="cpu", sizes=SIZES, dtypes=DTYPES):
    """Log-probabilities and the mean loss, forward and backward; vocabularies that no piece divides."""
    for M, V, D, temperature in sizes:
        for dtype in dtypes:
            generator = torch.Generator().manual_seed(M * 1000 + V)
            x, weight = (torch.randn(n, D, generator=generator).to(dtype) for n in (M, V))
            token, d = torch.randint(0, V, (M,), generator=generator), torch.randn(M, generator=generator)
            token[0] = V - 1
            some = torch.where(torch.rand(M, generator=generator) < 0.3, -100, token)
            name = f"M={M} V={V} D={D} {dtype}"
            _check_one(f"log_probs {name}", ops.log_probs, ops.log_probs_reference, x, weight, (token, temperature), d,
                       device)  # fmt: skip
            _check_one(f"token_loss {name}", ops.token_loss, ops.token_loss_reference, x, weight, (some,),
                       torch.tensor(1.7), device)  # fmt: skip


def _check_one(name, kernel, reference, x, weight, rest, d, device):
    there = [guarded(rest[0], device), *rest[1:]]
    out, grads = gradients(lambda *t: kernel(*t, *there), [guarded(x, device), guarded(weight, device)], [d.to(device)])
    usual, usual_grads = gradients(lambda *t: reference(*t, *rest), [x, weight], [d])
    exact, exact_grads = gradients(lambda *t: reference(*t, *rest), [x.double(), weight.double()], [d.double()])
    # a log-probability is a difference of logits, each a float32 sum of numbers of its size, then divided
    temperature = rest[1] if len(rest) > 1 else 1.0
    reach = 2.0**-24 * float((x.double() @ weight.double().t()).abs().max()) / temperature
    agree(name, out[0], exact[0], usual[0], floor=4 * reach)
    for which, got, want, plain in zip(("x", "weight"), grads, exact_grads, usual_grads, strict=True):
        # a probability is as good relatively as its logit is absolutely; in 16 bits each slope is rounded before it is
        # multiplied on, and one slope, the chosen token's, decides a row: its error leans to one side there
        unit = 2.0**-9 if x.dtype == torch.bfloat16 else 4 * 2.0**-24
        floor = (unit + 4 * reach) * float(want.abs().max())
        floor += reach * float(d.abs().max()) if weight.shape[0] == 1 else 0.0
        agree(f"{name}: gradient of {which}", got, want, plain, unbiased=False, floor=floor)
