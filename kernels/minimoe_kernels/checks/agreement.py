"""When is a result right? When its error is no larger than the format and the computation make it.

Three numbers are at hand: what the kernel gave, what PyTorch gives in the same format, and the exact answer in float64.
The kernel may be off by twice as much as PyTorch is, root mean square, plus what rounding the exact answer to the
output's format costs anyway (a float32 result, computed in float32, is rounded at every step: four times as much). No
element may be off by more than twice that, plus four times what PyTorch is off anywhere beyond one rounding. And in a
narrow format the errors must not lean to one side: rounding down instead of to the nearest doubles the error, which the
first test forgives, but gives it a sign, which no honest rounding has.

How the production version differs: `allclose` with two constants. They must be wide enough for the worst case, and then
let every other case through.
"""

import torch

__all__ = ["Disagreement", "agree", "equal", "guarded"]

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
TIMES, TIMES_WORST = 2.0, 4.0  # how much larger than PyTorch's a kernel's error may be: another order of the sums
STEPS = {torch.float64: 4, torch.float32: 4}  # roundings of a chain done in the output's own precision; else 1
TINY = 2.0**-24  # the spacing of float16 near zero
SIDE = 12.0  # a mean of n signed errors stays below SIDE / sqrt(n) of their size; 12 sigma is never by chance


class Disagreement(AssertionError):
    """A kernel's result is not the reference's."""


def agree(name, got, exact, usual, unbiased: bool = True, floor: float = 0.0) -> None:
    """Raise `Disagreement` unless `got` is as good as `usual`, PyTorch's result in the same format, against `exact`.

    `exact` is float64; where it is not finite, `got` must be the same. `unbiased=False` leaves the test of leaning out,
    for results whose errors are legitimately of one sign; `floor` is an error that each element may have besides, where
    large terms cancel.
    """
    if got.shape != exact.shape:
        raise Disagreement(f"{name}: shape {tuple(got.shape)}, want {tuple(exact.shape)}")
    if not exact.numel():
        return
    dtype, unit, steps = got.dtype, UNIT[got.dtype], STEPS.get(got.dtype, 1)
    got, exact, usual = (t.detach().to("cpu", torch.float64) for t in (got, exact, usual))
    real = exact.isfinite()
    if not torch.equal(got.isfinite(), real) or not torch.equal(got[~real].nan_to_num(), exact[~real].nan_to_num()):
        wrong = int((got.isfinite() != real).sum())
        raise Disagreement(f"{name}: {wrong} of {got.numel()} numbers are NaN or infinite where they should not be")
    error, usual_error = (got - exact)[real], (usual - exact)[real]
    size, sizes = _rms(exact[real]), exact[real].abs()
    limit = TIMES * _rms(usual_error) + steps * unit * size + floor
    if _rms(error) > limit:
        raise Disagreement(f"{name}: error {_rms(error):.3g} (root mean square), the format allows {limit:.3g}")
    beyond = float((usual_error.abs() - unit * sizes).clamp(min=0).max())
    limits = TIMES_WORST * beyond + 2 * steps * unit * sizes + 2 * floor + TINY * (dtype == torch.float16)
    over = error.abs() - limits
    at = int(over.argmax())
    if float(over[at]) > 0:
        raise Disagreement(
            f"{name}: {got[real][at]:.7g} where {exact[real][at]:.7g} is right, off by {float(error.abs()[at]):.3g}; "
            f"the format allows {float(limits[at]):.3g}"
        )
    if unbiased and unit > 2.0**-20:
        _check_side(name, error, exact[real], usual_error)


def _check_side(name, error, exact, usual_error):
    """Rounding errors, seen along the sign of the number, must average to nothing."""
    along = error * exact.sign()
    n, size = len(along), _rms(error)
    lean, usual_lean = float(along.mean()), float((usual_error * exact.sign()).mean())
    if n >= 400 and abs(lean) > SIDE / n**0.5 * size + TIMES * abs(usual_lean):
        side = "towards zero" if lean < 0 else "away from zero"
        raise Disagreement(f"{name}: errors lean {side}, {lean:.3g} on average at size {size:.3g}")


def equal(name: str, got: torch.Tensor, want: torch.Tensor) -> None:
    """Raise `Disagreement` unless both hold the same bits."""
    if got.shape != want.shape or got.dtype != want.dtype:
        ours, theirs = (f"{tuple(t.shape)} {t.dtype}" for t in (got, want))
        raise Disagreement(f"{name}: {ours}, want {theirs}")
    bits = [t.detach().cpu().contiguous().flatten().view(torch.uint8).view(-1, t.itemsize) for t in (got, want)]
    differs = (bits[0] != bits[1]).any(-1) if got.numel() else torch.zeros(0, dtype=torch.bool)
    if differs.any():
        at = int(differs.int().argmax())
        values = [t.detach().cpu().flatten()[at].item() for t in (got, want)]
        raise Disagreement(
            f"{name}: {int(differs.sum())} of {got.numel()} differ, the first at {at}: {values[0]}, want {values[1]}"
        )


def guarded(x: torch.Tensor, device="cpu") -> torch.Tensor:
    """A copy of `x` between two strips of NaN (integers: of a number no index survives), to catch reads beyond it."""
    strip = 256
    poison = float("nan") if x.is_floating_point() else torch.iinfo(x.dtype).max // 2
    whole = torch.full((x.numel() + 2 * strip,), poison, dtype=torch.float32 if x.is_floating_point() else x.dtype)
    whole = whole.to(device, x.dtype)
    whole[strip : strip + x.numel()] = x.detach().to(device).flatten()
    return whole[strip : strip + x.numel()].view(x.shape).requires_grad_(x.requires_grad)


def _rms(x):
    return float(x.square().mean().sqrt()) if x.numel() else 0.0
