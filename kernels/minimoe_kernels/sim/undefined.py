"""What a lane holds that loaded nothing, because its mask was False and `tl.load` had no `other`: anything at all.

Here it holds a NaN that can be told from every other, by the bits of its mantissa, of which the lowest name the tensor
that was not loaded; additions and products pass it on.
Where a NaN would be passed over (the largest of some numbers) or be written down, it is an error that names the cause.
Operations that round to bfloat16 or FP8, or compare, make an ordinary NaN or an ordinary False of it.

How the production version differs: on a GPU the register keeps what was in it, often a zero; the kernel works until
the compiler, the GPU or the neighbouring code changes.
"""

import numpy as np

from minimoe_kernels.sim.errors import Uninitialised
from minimoe_kernels.sim.state import now

__all__ = ["is_undefined", "refuse_undefined", "undefined"]

# (type of the bits, the mark, where the tensor's number begins in it): the same NaN in float32 and in float64
MARKS = {4: (np.uint32, 0x7FD56000, 0), 8: (np.uint64, 0x7FFAAC0000000000, 29)}
ROOM = 0x2000  # of tensor numbers, the 13 bits that the mark leaves
_tensors = []  # names, by number


def undefined(shape, kind, tensor: str) -> np.ndarray:
    """What lanes hold that loaded nothing of `tensor`: the marked NaN; of integers a number that no offset survives."""
    if kind.kind == "f":
        bits, mark, low = MARKS[np.dtype(kind.numpy).itemsize]
        return np.full(shape, mark | _number(tensor) << low, dtype=bits).view(kind.numpy)
    return np.full(shape, np.iinfo(kind.numpy).min // 3 if kind.kind != "b" else True, dtype=kind.numpy)


def _number(tensor):
    if tensor not in _tensors:
        _tensors.append(tensor)
    return _tensors.index(tensor) % ROOM


def _parts(data):
    """(which numbers are the marked NaN, the number of the tensor in each)."""
    bits, mark, low = MARKS[data.itemsize]
    magnitude = np.ascontiguousarray(data).reshape(data.shape).view(bits) & bits(2 ** (8 * data.itemsize - 1) - 1)
    number = (magnitude >> bits(low)) & bits(ROOM - 1)  # a sign may have been turned, hence the magnitude
    return magnitude - (number << bits(low)) == mark, number


def is_undefined(data: np.ndarray) -> np.ndarray | None:
    """Which of the numbers are the marked NaN; None if none is."""
    data = np.asarray(data)
    if data.dtype.kind != "f" or not np.isnan(data).any():
        return None
    marked, _ = _parts(data)
    return marked if marked.any() else None


def refuse_undefined(data: np.ndarray, verb: str, if_some: str = ""):
    """Raise `Uninitialised` if one of the numbers is the marked NaN; `if_some` is the cause if not all of them are."""
    marked = is_undefined(data)
    if marked is not None:
        _, number = _parts(np.asarray(data))
        tensor = _tensors[int(number[marked].flat[0])]
        cause = "tl.load had no `other`, so on a GPU they hold anything"
        cause = f"{if_some} ({cause})" if if_some and not marked.all() else f"their mask was False and {cause}"
        raise Uninitialised(
            f"{now.where()} {verb} {int(marked.sum())} of {marked.size} numbers made of lanes that loaded nothing from "
            f"{tensor}: {cause}"
        )
