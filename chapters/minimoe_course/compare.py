"""Comparing a reader's result with the library's, and saying in words how they differ.

Results are trees (a tensor, a tuple of tensors, a dict) whose leaves are compared one by one: structure, then shape,
then values within a relative tolerance, then dtype. `difference` finds the most useful sentence: a transposed result,
a constant factor, a NaN, or the place where the two are furthest apart.
"""

from typing import Any

import torch
from torch.utils._pytree import tree_flatten

__all__ = ["as_text", "difference", "edited", "same"]


def _tensor(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, bool | int | float | complex):
        return torch.tensor(value, dtype=torch.float64) if isinstance(value, float) else torch.tensor(value)
    return torch.as_tensor(value) if hasattr(value, "__array__") else None


def _close(mine: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    if mine.shape != theirs.shape:
        return False
    exact = not (theirs.is_floating_point() or theirs.is_complex())
    if exact and not mine.is_floating_point():
        return torch.equal(mine.to(theirs.dtype) if mine.dtype != theirs.dtype else mine, theirs)
    wide = torch.complex128 if theirs.is_complex() or mine.is_complex() else torch.float64
    mine, theirs = mine.to(wide), theirs.to(wide)
    finite = theirs.abs()[torch.isfinite(theirs.abs())]
    scale = finite.max().item() if finite.numel() else 0.0
    return torch.allclose(mine, theirs, rtol=0.0, atol=tolerance * scale, equal_nan=True)


def same(mine: Any, theirs: Any, tolerance: float) -> bool:
    """Whether two results agree in structure, shape and value; dtypes may differ."""
    mine_leaves, mine_tree = tree_flatten(mine)
    their_leaves, their_tree = tree_flatten(theirs)
    if len(mine_leaves) != len(their_leaves) or mine_tree != their_tree:
        return False
    for mine, theirs in zip(mine_leaves, their_leaves, strict=True):
        a, b = _tensor(mine), _tensor(theirs)
        if a is None or b is None:
            if (a is None) != (b is None) or mine != theirs:
                return False
        elif not _close(a, b, tolerance):
            return False
    return True


def edited(before: Any, after: Any, versions: list[int]) -> bool:
    """Whether `after`, which started as a copy of `before`, has been written to. `versions` are its counters at the
    start."""
    old, _ = tree_flatten(before)
    new, _ = tree_flatten(after)
    if len(old) != len(new) or [leaf._version for leaf in new if isinstance(leaf, torch.Tensor)] != versions:
        return True
    return any(_changed(a, b) for a, b in zip(old, new, strict=True))


def _changed(old: Any, new: Any) -> bool:
    if isinstance(old, torch.Tensor):  # `.data` and NumPy views write without moving the version counter
        return not torch.equal(old.nan_to_num(), new.nan_to_num()) if old.shape == new.shape else True
    return old != new if isinstance(old, bool | int | float | str) else False


def difference(mine: Any, theirs: Any, tolerance: float, returns: tuple[str, ...] = ()) -> str:
    """One sentence on how `mine` differs from `theirs`; empty if it does not."""
    mine_leaves, mine_tree = tree_flatten(mine)
    their_leaves, their_tree = tree_flatten(theirs)
    if len(mine_leaves) != len(their_leaves) or mine_tree != their_tree:
        wanted = f" ({', '.join(returns)})" if returns else ""
        return f"you return {_kind(mine)}; expected {_kind(theirs)}{wanted}"
    names = returns if len(returns) == len(their_leaves) else [""] * len(their_leaves)
    for name, a, b in zip(names, mine_leaves, their_leaves, strict=True):
        told = _leaf_difference(name or "your result", a, b, tolerance)
        if told:
            return told
    return ""


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _leaf_difference(name: str, mine: Any, theirs: Any, tolerance: float) -> str:
    a, b = _tensor(mine), _tensor(theirs)
    if a is None or b is None:
        return "" if a is b is None and mine == theirs else f"{name} is {mine!r}; expected {theirs!r}"
    if _close(a, b, tolerance):
        if isinstance(theirs, torch.Tensor) and isinstance(mine, torch.Tensor) and a.dtype != b.dtype:
            if a.is_floating_point() != b.is_floating_point() or b.is_floating_point():
                return f"the numbers are right, but {name} is {_dtype(a)}; expected {_dtype(b)}"
        return ""
    if a.shape != b.shape:
        turned = a.ndim == 2 and a.T.shape == b.shape and _close(a.T, b, tolerance)
        return f"{name} has shape {tuple(a.shape)}; expected {tuple(b.shape)}" + (
            ": it is transposed" if turned else ""
        )
    a, b = a.to(torch.float64) if not a.is_complex() else a, b.to(torch.float64) if not b.is_complex() else b
    if a.isnan().any() and not b.isnan().any():
        return f"{name} holds NaN"
    factor = _factor(a, b, tolerance)
    if factor is not None:
        return f"{name} is {factor:.4g} times the right one everywhere"
    where = _worst(a, b)
    place = f" at [{', '.join(map(str, where))}]" if where else ""
    return f"{name} is {_number(a[where].item())}{place}; expected {_number(b[where].item())}"


def _factor(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> float | None:
    if a.numel() < 2 or a.is_complex() or not (a.isfinite().all() and b.isfinite().all()) or not b.abs().max() > 0:
        return None
    factor = ((a * b).sum() / (b * b).sum()).item()
    return factor if factor != 0 and _close(a, b * factor, tolerance) else None


def _worst(a: torch.Tensor, b: torch.Tensor) -> tuple[int, ...]:
    gap = (a - b).abs().nan_to_num(nan=float("inf"), posinf=float("inf"))
    gap = torch.where(a == b, torch.zeros_like(gap), gap)
    return tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)) if gap.ndim else ()


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _number(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, float | complex) else str(x)


def as_text(value: Any, limit: int = 12) -> str:
    """A value short enough for one line: small tensors in full, four digits; large ones by shape."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.numel() > limit:
            return f"{_dtype(value)}{list(value.shape)}"
        return _nested(value.tolist())
    if isinstance(value, tuple | list):
        return _nested(value, limit)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_text(item, limit)}" for key, item in value.items()) + "}"
    text = _number(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _nested(value: Any, limit: int = 12) -> str:
    if isinstance(value, tuple | list):
        inner = ", ".join(_nested(item, limit) for item in value)
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    return as_text(value, limit) if isinstance(value, torch.Tensor) else _number(value)
