"""The simulator beside Triton's interpreter: one tiled matrix product of 256 x 256 x 256, the same source on both.

The interpreter runs bfloat16 with minimoe's repair, since without it its products are wrong; the results of both sides
are asserted to agree with float64 first. The simulator checks every address and counts every byte as it always does,
and runs one order of the grid; "minimoe, three orders" is what the tests do.
"""

import os

import torch
from rounds import compare, interleave, summary

SIZE, TILES = 256, (64, 32)


def case(dtype, tile):
    """The two sides as functions without arguments, checked."""
    from product import product

    from minimoe_kernels import sim
    from minimoe_kernels.interpreter import interpret
    from minimoe_kernels.kernel import running

    generator = torch.Generator().manual_seed(tile)
    a, b = (torch.randn(SIZE, SIZE, generator=generator).to(dtype) for _ in range(2))
    out, exact = torch.empty(SIZE, SIZE), a.double() @ b.double()
    grid = SIZE // tile, SIZE // tile

    def launch():
        product[grid](a, b, out, SIZE, SIZE, SIZE, BLOCK=tile)

    def interpreted():
        with running(interpret):
            launch()

    def every_order():
        with sim.session(sim.ORDERS):
            launch()

    sides = {"minimoe": launch, "minimoe, three orders": every_order, "Triton's interpreter": interpreted}
    for name, side in sides.items():
        out.fill_(float("nan"))
        side()
        error = float((out - exact).abs().max() / exact.abs().max())
        assert error < 1e-5, f"{name} is off by {error:.2g} of the largest number"
    return sides


def run(rounds: int, seed: int) -> dict:
    """Every type and tile, the sides taking turns."""
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    from minimoe_kernels.interpreter import repaired

    cases = []
    with repaired() as found:
        for dtype in (torch.float32, torch.bfloat16):
            for tile in TILES:
                times = interleave(case(dtype, tile), rounds)
                cases.append(
                    {
                        "dtype": str(dtype).removeprefix("torch."),
                        "tile": tile,
                        "cpu_ms": {name: summary(t["cpu_ms"]) for name, t in times.items()},
                        "ratio": compare(times),
                        "rounds": times,
                    }
                )
    return {
        "what": f"a product of {SIZE}^3 in square tiles, the same source on both sides",
        "threads": torch.get_num_threads(),
        "faults_of_the_interpreter": found,
        "cases": cases,
    }
