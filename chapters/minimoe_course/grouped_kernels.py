"""Chapter 15's launches: the reader's grouped product, the same with tiles that ignore experts, and counts of both.

`@launched` above a kernel makes it a function of rows, matrices and loads, as `first_kernels.launched` does for its two
kernels: lay out, look up, launch forward, reversed and shuffled, hand the result back.

How the production version differs: `minimoe_kernels.grouped_gemm` walks along the inner axis in blocks and takes tiles
of 128 rows.
"""

import torch

from minimoe_course.first_kernels import Launched
from minimoe_kernels import sim
from minimoe_kernels.align import Alignment, align_reference
from minimoe_kernels.kernel import Kernel, cdiv, next_power_of_2

__all__ = ["aligned", "grouped_bytes", "grouped_flops", "launched", "layer_routing"]

TILE, BLOCK_F = 4, 16  # so small that loads can be followed by hand; tensor cores take 16 rows at least


def aligned(load_E, tile: int = TILE) -> Alignment:
    """The alignment of rows that stand sorted already, `load_E[e]` of expert e."""
    loads = torch.as_tensor(load_E)
    chosen_A = torch.arange(len(loads)).repeat_interleave(loads)
    return align_reference(chosen_A[:, None], len(loads), tile)


def launch_grouped(kernel, x_AD, weight_EFD, load_E, cut=aligned):
    """One program for each tile and each block of columns; the result begins unwritten."""
    (A, D), (_, F, _), where = x_AD.shape, weight_EFD.shape, cut(load_E)
    out_AF = sim.empty(A, F)
    kernel[(len(where.tile_expert), cdiv(F, BLOCK_F))](
        x_AD, weight_EFD, out_AF, where.ends_E, where.tile_expert, where.tile_start, D, F,
        TILE=TILE, BLOCK_D=max(16, next_power_of_2(D)), BLOCK_F=BLOCK_F,
    )  # fmt: skip
    return out_AF


def launched(kernel: Kernel) -> Launched:
    """`@launched` above `@triton.jit`: the kernel called `grouped` as a function of (x_AD, weight_EFD, load_E)."""
    if not isinstance(kernel, Kernel) or kernel.name != "grouped":
        raise TypeError(f"@launched stands above @triton.jit and knows grouped, not {getattr(kernel, 'name', kernel)}")
    return Launched(kernel, launch_grouped)


def grouped_bytes(load_E, tile: int, D: int, F: int, block: int) -> int:
    """Bytes of the forward product in bfloat16: rows once a block of columns, a matrix once a tile, the result once."""
    tiles, A = sum(cdiv(int(load), tile) for load in load_E), int(sum(load_E))
    return 2 * (A * D * cdiv(F, block) + tiles * D * F + A * F)


def grouped_flops(load_E, tile: int, D: int, F: int) -> int:
    """FLOPs of the forward product, padding of the tiles included; D and F are whole numbers of blocks."""
    return 2 * sum(cdiv(int(load), tile) for load in load_E) * tile * D * F


@torch.no_grad()
def layer_routing(model, batch_BT) -> torch.Tensor:
    """The loads of the routed layer whose busiest expert has most to do."""
    routing = model(batch_BT).routing.values()
    return max((r.load_E for r in routing), key=lambda load_E: int(load_E.max()))
