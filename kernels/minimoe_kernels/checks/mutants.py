"""Deliberately wrong kernels: every check must reject each of them.

Three kinds are made for every kernel. `zeros` stores 0 instead of its result. `last tile` leaves out the last turn of
its loops, or, if it has none, its last program. `operand` reads something plausible and wrong: another row, another
axis order, the other operand. More are slips that people make. A mutant is the kernel's own source with a few
characters changed, run by the simulator, so it is refused either for its *values* or for what it does to *memory*.

`python -m minimoe_kernels.checks.mutants` runs them all and writes the table kernels/mutants.md.

How the production version differs: mutation testing is rare for kernels, and a tolerance is rarely tried on anything
wrong.
"""

import importlib
import inspect
from pathlib import Path

import numpy as np

from minimoe_kernels import sim
from minimoe_kernels.checks.slips import SLIPS
from minimoe_kernels.kernel import Kernel, load, rescoped, tl
from minimoe_kernels.sim.block import block
from minimoe_kernels.sim.state import now

__all__ = ["MODULES", "caught_by", "kernels_of", "mutants_of", "table"]

MODULES = (
    "rms_norm", "rope", "swiglu", "fp8_quant", "swiglu_quant", "fp8_gemm", "router", "align", "permute", "grouped_gemm",
    "mla_decode", "mla_prefill", "log_probs",
)  # fmt: skip


def source_of(module: str) -> str:
    return inspect.getsource(importlib.import_module(f"minimoe_kernels.{module}"))


def kernels_of(module: str) -> list[str]:
    """The names of a module's kernels, in the order of the file; those that only other kernels call are among them."""
    source = source_of(module)
    found = vars(importlib.import_module(f"minimoe_kernels.{module}"))
    return [name for name, value in found.items() if isinstance(value, Kernel) and f"\ndef {name}(" in source]


def mutants_of(module: str, kernel: str) -> list[str]:
    """The names of a kernel's mutants. One that is not launched stores nothing and owns no tile."""
    launched = f" {kernel}[" in source_of(module)
    slips = [name for of, name, _, _ in SLIPS[module] if of == kernel]
    return ["zeros", "last tile", *slips] if launched else slips


class Namespace:
    """`tl` with some of its functions replaced."""

    def __init__(self, **replaced):
        self.__dict__.update(vars(tl), **replaced)


def _store_zeros(pointer, value, mask=None, **hints):
    tl.store(pointer, block(value).to(pointer.dtype.element_ty) * 0, mask, **hints)


def _range_less_one(*arguments, **_hints):
    turns = list(tl.range(*arguments))
    return iter(turns[:-1])


def mutate(module: str, kernel: str, mutant: str):
    """A copy of the module in which one kernel is wrong."""
    source = source_of(module)
    for of, name, old, new in SLIPS[module]:
        if (of, name) == (kernel, mutant):
            head, mark, body = source.partition(f"def {kernel}(")
            if not mark or body.partition("\n\n\n")[0].count(old) != 1:
                raise ValueError(f"{module}.{kernel} has not exactly one {old!r} to make {mutant!r} of")
            return load(head + mark + body.replace(old, new, 1), f"{module} with {mutant}")
    ops = load(source, f"{module} with {mutant}")
    wrong = getattr(ops, kernel)
    if mutant == "zeros":
        wrong.fn = rescoped(wrong.fn, {"tl": Namespace(store=_store_zeros)})
    elif " range(" in inspect.getsource(wrong.fn):
        wrong.fn = rescoped(wrong.fn, {"tl": Namespace(range=_range_less_one)})
    else:
        wrong.__dict__["simulated"] = _without_last_program(wrong.simulated)
    return ops


def _without_last_program(function):
    def run(**values):
        if now.program != tuple(n - 1 for n in now.grid):
            function(**values)

    return run


def caught_by(module: str, kernel: str, mutant: str) -> str:
    """What refuses the mutant: "values", "memory", or "" if its check passes."""
    check = importlib.import_module(f"minimoe_kernels.checks.{module}").check
    try:
        with np.errstate(all="ignore"), sim.session(("forward",)):
            check(mutate(module, kernel, mutant))
    except sim.SimulatorError:
        return "memory"
    except AssertionError:
        return "values"
    return ""


def table() -> str:
    """All mutants and what catches them, as markdown."""
    lines = [
        "# Wrong kernels, and what refuses them",
        "",
        "Written by `python -m minimoe_kernels.checks.mutants`; a test holds it against the kernels. `values`: the",
        "result differs from float64 by more than the format allows. `memory`: the simulator refuses an access.",
        "",
        "| kernel | mutant | caught by |",
        "|---|---|---|",
    ]
    for module in MODULES:
        for kernel in kernels_of(module):
            for mutant in mutants_of(module, kernel):
                lines.append(f"| {module}.{kernel} | {mutant} | {caught_by(module, kernel, mutant) or 'NOTHING'} |")
    return "\n".join(lines) + "\n"


def main():
    path = Path(__file__).parents[2] / "mutants.md"
    path.write_text(table())
    print(path.read_text())


if __name__ == "__main__":
    main()
