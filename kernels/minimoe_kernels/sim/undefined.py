"""What a lane holds that loaded nothing, because its mask was False and `tl.load` had no `other`: anything at all.

Here it holds a NaN that can be told from every other, by the bits of its mantissa; additions and products pass it on.
Where a NaN would be passed over (the largest of some numbers) or be written down, it is an error that names the cause.
Operations that round to bfloat16 or FP8, or compare, make an ordinary NaN or an ordinary False of it.

How the production version differs: on a GPU the register keeps what was in it, often a zero; the kernel works until
the compiler, the GPU or the neighbouring code changes.
"""

import numpy as np

from minimoe_kernels.sim.errors import Uninitialised
from minimoe_kernels.sim.state import now

__all__ = ["is_undefined", "refuse_undefined", "undefined"]

MARKS = {4: (np.uint32, 0x7FD56000), 8: (np.uint64, 0x7FFAAC0000000000)}  # the same NaN in float32 and in float64


def undefined(shape, kind) -> np.ndarray:
    """What lanes hold that loaded nothing: the marked NaN; for integers a number that no offset survives."""
    if kind.kind == "f":
        bits, mark = MARKS[np.dtype(kind.numpy).itemsize]
        return np.full(shape, mark, dtype=bits).view(kind.numpy)
    return np.full(shape, np.iinfo(kind.numpy).min // 3 if kind.kind != "b" else True, dtype=kind.numpy)


def is_undefined(data: np.ndarray) -> np.ndarray | None:
    """Which of the numbers are the marked NaN; None if none is."""
    data = np.asarray(data)
    if data.dtype.kind != "f" or not np.isnan(data).any():
        return None
    bits, mark = MARKS[data.itemsize]
    magnitude = bits(2 ** (8 * data.itemsize - 1) - 1)  # a sign may have been turned
    marked = (np.ascontiguousarray(data).reshape(data.shape).view(bits) & magnitude) == mark
    return marked if marked.any() else None


def refuse_undefined(data: np.ndarray, verb: str):
    """Raise `Uninitialised` if one of the numbers is the marked NaN."""
    marked = is_undefined(data)
    if marked is not None:
        raise Uninitialised(
            f"{now.where()} {verb} {int(marked.sum())} of {marked.size} numbers that come from lanes which loaded "
            "nothing: their mask was False and tl.load had no `other`, so on a GPU they hold anything"
        )
