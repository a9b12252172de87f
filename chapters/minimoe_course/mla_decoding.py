"""What chapter 16 counts and reads: a decoding step in the simulator, a row of a page table, the compiler's report.

How the production version differs: a profiler counts on the GPU, and an engine's pages hold real sequences.
"""

import functools
import inspect
import json
import textwrap

import torch

from minimoe_kernels import sim
from minimoe_kernels.kernel import Kernel, cdiv
from minimoe_kernels.mla_decode import combine_kernel, mla_decode
from minimoe_kernels.resources import PATH

__all__ = ["STEPS", "UNUSED", "combined", "compiled", "counted_decode", "pages_of", "source_part"]

# The decode kernel with 64 heads a program, by entries of a step: (registers, spill instructions, shared memory) of
# each architecture. Compiled with Triton 3.7.1; `python -m minimoe_course.mla_decoding` compiles them again.
STEPS = {
    64: {"sm_80": (255, 49, 155_648), "sm_90": (255, 0, 221_184), "sm_100": (255, 6, 352_816)},
    32: {"sm_80": (255, 13, 114_688), "sm_90": (223, 0, 147_456), "sm_100": (228, 0, 213_552)},
    16: {"sm_80": (254, 0, 94_208), "sm_90": (209, 0, 131_072), "sm_100": (220, 0, 143_920)},
}
UNUSED = 2**20  # what stands in the slots of a page table that no sequence uses: no page has this number
PAGE, LATENT, ROTARY = 64, 512, 64


def counted_decode(heads: int, entries: int, splits: int = 1, sequences: int = 1) -> sim.Session:
    """One decoding step of V3's widths in bfloat16, counted: `.total` and `.launches`."""
    width, each = LATENT + ROTARY, cdiv(entries, PAGE)
    q_BHX = torch.ones(sequences, heads, width, dtype=torch.bfloat16)
    cache_PSX = torch.ones(sequences * each, PAGE, width, dtype=torch.bfloat16)
    table_BJ = torch.arange(sequences * each, dtype=torch.int32).view(sequences, each)
    lengths_B = torch.full((sequences,), entries, dtype=torch.int32)
    with sim.session() as ran:
        mla_decode(q_BHX, cache_PSX, table_BJ, lengths_B, LATENT, width**-0.5, splits=splits)
    return ran


def combined(parts_XHC: torch.Tensor, log_sums_XH: torch.Tensor, kernel: Kernel = combine_kernel) -> torch.Tensor:
    """The library's combine kernel on shares that come first: (H, C)."""
    X, H, C = parts_XHC.shape
    out_HC = sim.empty(H, C)
    block = max(2, 1 << (X - 1).bit_length())
    parts_HXC, log_sums_HX = parts_XHC.transpose(0, 1).contiguous(), log_sums_XH.t().contiguous()
    kernel[(H,)](parts_HXC, log_sums_HX, out_HC, C=C, SPLITS=X, BLOCK_X=block)
    return out_HC


def source_part(kernel: Kernel, first: str, last: str) -> str:
    """A kernel's source from the line that begins with `first` to the one that begins with `last`, both included.

    Raises `ValueError` if one of the two is not there.
    """
    lines = inspect.getsource(kernel).splitlines()
    begins = [line.strip() for line in lines]
    found = [next((i for i, line in enumerate(begins) if line.startswith(word)), -1) for word in (first, last)]
    if min(found) < 0:
        raise ValueError(f"{kernel.name} has no line that begins with {(first, last)[found.index(-1)]!r}")
    return textwrap.dedent("\n".join(lines[found[0] : found[1] + 1]))


def pages_of(length: int, page: int, slots: int) -> torch.Tensor:
    """A row of a page table: as many pages as `length` entries need, in falling order, then slots that are UNUSED."""
    used = cdiv(length, page)
    return torch.tensor([*range(used - 1, -1, -1), *[UNUSED] * (slots - used)], dtype=torch.int32)


@functools.cache
def _report() -> dict:
    return json.loads(PATH.read_text())["kernels"]


def compiled(arch: str, *words: str) -> dict:
    """The compiler's report of the one launch of the decode kernel whose name has these words.

    Raises `ValueError` unless there is exactly one.
    """
    names = [n for n in _report() if n.startswith("split_kernel(") and all(f"{word}," in n for word in words)]
    if len(names) != 1:
        raise ValueError(f"{len(names)} launches of split_kernel have {', '.join(words)}: {names}")
    return _report()[names[0]][arch]


def main():
    """Compile the kernel with 64 heads a program for each step, and print what STEPS should hold."""
    from unittest import mock

    from minimoe_kernels import mla_decode as module
    from minimoe_kernels.production import decoding
    from minimoe_kernels.resources import compile_all

    for step in STEPS:
        with mock.patch.object(module, "plan", lambda *_, step=step: (64, step, 1)):
            found = compile_all(cases=(decoding,))
        (by_arch,) = (by for name, by in found.items() if name.startswith("split_kernel("))
        print(step, {arch: (r["registers"], r["spills"], r["shared_bytes"]) for arch, r in by_arch.items()})


if __name__ == "__main__":
    main()
