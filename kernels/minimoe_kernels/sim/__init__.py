"""A simulator of Triton: the unmodified source of a kernel, run by NumPy, on any platform, without Triton.

    from minimoe_kernels.kernel import tl, triton

    @triton.jit
    def double(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(out_ptr + offsets, 2 * tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)

    with sim.session(sim.ORDERS) as ran:
        double[(4,)](x, out, 1000, BLOCK=256)
    print(ran.total.bytes)

It gives the numbers that the GPU gives, up to the order of additions: bfloat16 and FP8 are rounded bit for bit. And it
says what a GPU does not: which program left its tensor, which lane read what nobody wrote, whether the order of the
programs mattered, and how many bytes and FLOPs each of them cost. Time is the one thing that it knows nothing of.

How the production version differs: Triton compiles the same source to one instruction stream for thousands of threads.
It checks no address, runs all programs at once, and needs a GPU; its own interpreter needs none, but rounds bfloat16
and FP8 wrongly, checks no address either, and takes more than 20 times as long (bench/results/simulator.md).
"""

from minimoe_kernels.sim.errors import OrderDependent, OutOfBounds, SimulatorError, StoreConflict, Uninitialised
from minimoe_kernels.sim.grid import ORDERS, Launch, Session, run, session
from minimoe_kernels.sim.memory import empty, red_zones
from minimoe_kernels.sim.state import Counts

__all__ = [
    "ORDERS",
    "Counts",
    "Launch",
    "OrderDependent",
    "OutOfBounds",
    "Session",
    "SimulatorError",
    "StoreConflict",
    "Uninitialised",
    "empty",
    "red_zones",
    "run",
    "session",
]
