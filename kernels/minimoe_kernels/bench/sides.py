"""What takes part in a measurement: a kernel at its sizes, our call and its peers, each ready to be called again.

How the production version differs: nothing here is special to production.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from minimoe_kernels.work import WORK, Work

__all__ = ["Case", "Side", "backward", "compiled", "flat", "forward", "randn"]

BF16 = torch.bfloat16


@dataclass(frozen=True)
class Side:
    """One contestant: `call` is what is timed; `seen` puts its results into the form of ours, to compare them."""

    call: Callable[[], object]
    seen: Callable = lambda results: results


@dataclass(frozen=True)
class Case:
    """A kernel at one set of sizes.

    `kernel` is its name in `work.WORK`, `module` where it is written and which of `checks` judges it. `build(device,
    **sizes)` makes random inputs and gives (our `Side`, {peer: a function that prepares its `Side`}). `small` are sizes
    for the simulator.
    """

    kernel: str
    module: str
    build: Callable
    sizes: dict
    small: dict
    min_arch: int = 80

    @property
    def work(self) -> Work:
        return WORK[self.kernel](**self.sizes)

    @property
    def label(self) -> str:
        return f"{self.kernel} " + " ".join(f"{name}={size}" for name, size in self.sizes.items())


def randn(*shape, device, dtype=BF16):
    """Normal random numbers, straight on the device: weights of 15 GB pass through no other memory."""
    return torch.randn(shape, device=device, dtype=dtype)


def forward(function, *inputs, seen=Side.seen):
    """Prepares a side that calls `function(*inputs)` and keeps nothing for a backward pass."""

    def call():
        with torch.no_grad():
            return function(*inputs)

    return lambda: Side(call, seen)


def backward(function, inputs, d_outs, seen=Side.seen):
    """Prepares a side that pulls `d_outs` back to `inputs`; the forward pass runs once, before the clock does."""

    def prepare():
        leaves = [t.detach().requires_grad_() for t in inputs]
        outs = function(*leaves)
        return Side(lambda: torch.autograd.grad(outs, leaves, d_outs, retain_graph=True), seen)

    return prepare


def compiled(function):
    """`torch.compile` of it, made at the first call, so that a failure is this peer's and no other's."""
    made = []

    def call(*inputs):
        if not made:
            import torch._functorch.config as settings

            settings.donated_buffer = False  # a backward pass is timed more than once
            made.append(torch.compile(function, dynamic=False))
        return made[0](*inputs)

    return call


def flat(results) -> list[torch.Tensor]:
    """The tensors of a result, whatever holds them."""
    return [results] if isinstance(results, torch.Tensor) else [t for part in results for t in flat(part)]
