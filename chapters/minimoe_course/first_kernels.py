"""The launches of chapter 14's exercises, its words for a verdict, and RMSNorm written in three ways, to be counted.

`@launched` above a kernel makes it a function of tensors: it lays the tensors out, makes an unwritten result, launches
the kernel forward, reversed and shuffled in the simulator, and hands the result back. The three ways of RMSNorm differ
in nothing but how often a number crosses the memory bus.

How the production version differs: the launch is the part that engines tune, by the size of the problem and the GPU.
"""

import functools

import matplotlib as mpl
import torch

from minimoe_course.figures import GREY, OKABE_ITO, STYLE, blank
from minimoe_kernels import sim
from minimoe_kernels.kernel import Kernel, cdiv, next_power_of_2, tl, triton

__all__ = ["Launched", "WAYS", "counted", "launched", "one_pass", "roofline", "separately", "two_passes"]
__all__ += ["verdict"]

BLOCK = 4  # of the exercises: so small that five numbers need two programs


def _launch_swiglu(kernel, gate_MF, up_MF):
    M, F = gate_MF.shape
    both = torch.cat([gate_MF, up_MF], dim=1)  # one product made both: a row of gates, then a row of ups
    out_MF = sim.empty(M, F)
    kernel[(M, cdiv(F, BLOCK))](both[:, :F], both[:, F:], out_MF, F, 2 * F, BLOCK=BLOCK)
    return out_MF


def _launch_rms_norm(kernel, x_MD, weight_D, eps):
    M, D = x_MD.shape
    out_MD = sim.empty(M, D)
    kernel[(M,)](x_MD, weight_D, out_MD, D, eps, BLOCK=next_power_of_2(D))
    return out_MD


LAUNCHES = {"swiglu": _launch_swiglu, "rms_norm": _launch_rms_norm}


class Launched:
    """A kernel with its launch around it: a function of tensors. Gives None for a kernel that moves nothing."""

    def __init__(self, kernel: Kernel, launch):
        functools.update_wrapper(self, kernel.fn)
        self.kernel, self.launch = kernel, launch
        self.__code__ = kernel.fn.__code__  # a check quotes the line of the reader's cell, and finds it by this

    def __call__(self, *tensors):
        with sim.session(sim.ORDERS) as ran:
            out = self.launch(self.kernel, *tensors)
        return out if ran.total.bytes else None


def launched(kernel: Kernel) -> Launched:
    """`@launched` above `@triton.jit`: the kernel called `swiglu` or `rms_norm` as a function of tensors."""
    if not isinstance(kernel, Kernel) or kernel.name not in LAUNCHES:
        known, name = " and ".join(LAUNCHES), getattr(kernel, "__name__", kernel)
        raise TypeError(f"@launched stands above @triton.jit and knows {known}, not {name}")
    return Launched(kernel, LAUNCHES[kernel.name])


def verdict(launch, orders=sim.ORDERS) -> str:
    """What the simulator says of a launch (a function without arguments), run in every order: its error, or nothing."""
    try:
        with sim.session(orders):
            launch()
    except sim.SimulatorError as error:
        return f"{type(error).__name__}: {error}"
    return "no complaint"


# --- RMSNorm three ways -----------------------------------------------------------------------------------------------


@triton.jit
def step_kernel(x_ptr, by_ptr, out_ptr, D, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """One of PyTorch's separate operations on a row: read it, do one thing, write it."""
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    mask = columns < D
    x = tl.load(x_ptr + row * D + columns, mask=mask, other=0.0)
    if STEP == "square":
        x = x * x
    if STEP == "times scale":
        x = x * tl.load(by_ptr + row)
    if STEP == "times gain":
        x = x * tl.load(by_ptr + columns, mask=mask, other=0.0)
    tl.store(out_ptr + row * D + columns, x, mask=mask)


@triton.jit
def scale_kernel(square_ptr, scale_ptr, D, eps, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    square = tl.load(square_ptr + row * D + columns, mask=columns < D, other=0.0)
    tl.store(scale_ptr + row, 1.0 / tl.sqrt(tl.sum(square, axis=0) / D + eps))


@triton.jit
def two_passes_kernel(x_ptr, weight_ptr, out_ptr, D, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, D, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * D + columns, mask=columns < D, other=0.0).to(tl.float32)
        total += x * x
    scale = 1.0 / tl.sqrt(tl.sum(total, axis=0) / D + eps)
    for start in range(0, D, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * D + columns, mask=columns < D, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + columns, mask=columns < D, other=0.0).to(tl.float32)
        tl.store(out_ptr + row * D + columns, x * scale * weight, mask=columns < D)


@triton.jit
def one_pass_kernel(x_ptr, weight_ptr, out_ptr, D, eps, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    mask = columns < D
    x = tl.load(x_ptr + row * D + columns, mask=mask, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / D + eps)
    weight = tl.load(weight_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * D + columns, x * scale * weight, mask=mask)


def separately(x_MD, weight_D, eps):
    """Six launches, as the library does it in PyTorch: widen, square, mean and root, times, narrow, times the gain."""
    M, D = x_MD.shape
    block = next_power_of_2(D)
    wide_MD, square_MD, normed_MD = (sim.empty(M, D) for _ in range(3))
    narrow_MD, out_MD = (sim.empty(M, D, dtype=x_MD.dtype) for _ in range(2))
    scale_M = sim.empty(M)
    step_kernel[(M,)](x_MD, None, wide_MD, D, BLOCK=block, STEP="widen")
    step_kernel[(M,)](wide_MD, None, square_MD, D, BLOCK=block, STEP="square")
    scale_kernel[(M,)](square_MD, scale_M, D, eps, BLOCK=block)
    step_kernel[(M,)](wide_MD, scale_M, normed_MD, D, BLOCK=block, STEP="times scale")
    step_kernel[(M,)](normed_MD, None, narrow_MD, D, BLOCK=block, STEP="narrow")
    step_kernel[(M,)](narrow_MD, weight_D, out_MD, D, BLOCK=block, STEP="times gain")
    return out_MD


def two_passes(x_MD, weight_D, eps):
    """One launch that walks along a row in blocks of 64, twice: once to sum, once to scale."""
    out_MD = sim.empty(*x_MD.shape, dtype=x_MD.dtype)
    two_passes_kernel[(len(x_MD),)](x_MD, weight_D, out_MD, x_MD.shape[1], eps, BLOCK=64)
    return out_MD


def one_pass(x_MD, weight_D, eps):
    """One launch that keeps the row in registers between the sum and the scaling."""
    M, D = x_MD.shape
    out_MD = sim.empty(M, D, dtype=x_MD.dtype)
    one_pass_kernel[(M,)](x_MD, weight_D, out_MD, D, eps, BLOCK=next_power_of_2(D))
    return out_MD


WAYS = {"six operations": separately, "one launch, two passes": two_passes, "one launch, one pass": one_pass}


def counted(call, *arguments) -> sim.Session:
    """What `call(*arguments)` launched: a session with `.total` bytes and FLOPs and its `.launches`."""
    with sim.session() as ran:
        call(*arguments)
    return ran


# --- the roofline -----------------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def roofline(points: dict, roofs: dict, title: str):
    """`points` {label: FLOPs a byte} under the first of `roofs` {label: (FLOP/s, bytes/s)}; others are grey."""
    figure, axes = blank(title, "FLOPs a byte", "TFLOP/s at most")
    (peak, bandwidth), far = next(iter(roofs.values())), 4096.0
    for number, (label, (high, wide)) in enumerate(roofs.items()):
        colour, dash = (OKABE_ITO[0], "-") if number == 0 else (GREY, "--")
        ridge, near = high / wide, min(points.values()) / 3
        axes.plot([near, ridge, far], [near * wide / 1e12, high / 1e12, high / 1e12], dash, color=colour)
        style = {"color": colour, "ha": "right", "va": "bottom" if number == 0 else "top"}
        axes.annotate(label, (far, high / 1e12), (0, 3 if number == 0 else -4), textcoords="offset points", **style)
    for label, intensity in points.items():
        at = intensity, min(peak, bandwidth * intensity) / 1e12
        axes.plot(*at, "o", color="black", markersize=7)
        axes.annotate(label, at, (9, -4), textcoords="offset points", va="top")
    axes.set(xscale="log", yscale="log", ylim=(None, 6 * peak / 1e12))
    return figure
