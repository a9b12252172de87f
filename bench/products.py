"""The matrix products of a step, recorded and then run alone: the floor that the rest of the step stands on."""

import torch
from rounds import interleave, summary
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("aten.mm.", "aten.bmm.", "aten.addmm.", "aten.addmm_.", "aten.baddbmm.")


class Recorder(TorchDispatchMode):
    """Collects the factors' shapes and strides of every matrix product below it, in order."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if str(func).startswith(PRODUCTS):
            factors = [a for a in args if isinstance(a, torch.Tensor)][-2:]
            self.calls.append(tuple((tuple(f.shape), tuple(f.stride())) for f in factors))
        return func(*args, **(kwargs or {}))


def flops(call) -> int:
    """2 * rows * inner * columns (* batch)."""
    (a, _), (b, _) = call
    count = 2 * b[-1]
    for size in a:
        count *= size
    return count


def _like(layout):
    shape, stride = layout
    room = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return torch.randn(room).as_strided(shape, stride)


def products_alone(step, rounds: int) -> dict:
    """Time of the step's matrix products alone: same shapes and layouts, outputs written into memory that is there.

    Equal products share their factors, so these lie in the cache more often than the step's do: a floor, not a target.
    Attention inside the fused kernel is not among them.
    """
    with Recorder() as recorder:
        step()
    factors = {call: tuple(map(_like, call)) for call in dict.fromkeys(recorder.calls)}
    outs = {call: torch.matmul(*pair) for call, pair in factors.items()}

    def products():
        for call in recorder.calls:
            torch.matmul(*factors[call], out=outs[call])

    with torch.no_grad():
        times = interleave({"products": products}, rounds)
    cpu = summary(times["products"]["cpu_ms"])
    return {
        "count": len(recorder.calls),
        "gflop": round(sum(map(flops, recorder.calls)) / 1e9, 3),
        "cpu_ms": cpu,
        "wall_ms": summary(times["products"]["wall_ms"]),
    }
