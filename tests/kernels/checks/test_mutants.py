"""Every deliberately wrong kernel is refused, and the committed table says by what."""

import re
from pathlib import Path

import pytest

from minimoe_kernels.checks import mutants
from minimoe_kernels.checks.slips import SLIPS

TABLE = Path(__file__).parents[3] / "kernels" / "mutants.md"
KERNELS = [(module, kernel) for module in mutants.MODULES for kernel in mutants.kernels_of(module)]


@pytest.fixture(scope="module")
def written():
    rows = re.findall(r"^\| (\w+)\.(\w+) \| (.+?) \| (\w+) \|$", TABLE.read_text(), re.MULTILINE)
    return {(module, kernel, mutant): by for module, kernel, mutant, by in rows}


@pytest.mark.parametrize("module, kernel", KERNELS, ids=[f"{m}.{k}" for m, k in KERNELS])
def test_every_mutant_is_caught_as_the_table_says(module, kernel, written):
    names = mutants.mutants_of(module, kernel)
    assert kernel in ("scale_of", "logits_of", "slopes_of") or names[:2] == ["zeros", "last tile"]
    assert any(name.startswith("operand") for name in names)
    for mutant in names:
        by = mutants.caught_by(module, kernel, mutant)
        assert by, f"{module}.{kernel} with {mutant!r} passes its check"
        assert written[module, kernel, mutant] == by, "run python -m minimoe_kernels.checks.mutants"


def test_the_table_has_no_row_too_many(written):
    assert len(written) == sum(len(mutants.mutants_of(*pair)) for pair in KERNELS)


def test_a_kernel_that_is_right_is_not_caught():
    """The mutation itself must not be what is refused."""
    slip = SLIPS["rope"]
    SLIPS["rope"] = [("rope_kernel", "unchanged", "    if BACK:", "    if BACK:")]
    try:
        assert mutants.caught_by("rope", "rope_kernel", "unchanged") == ""
    finally:
        SLIPS["rope"] = slip


def test_a_slip_whose_text_is_gone_is_an_error():
    slip = SLIPS["rope"]
    SLIPS["rope"] = [("rope_kernel", "gone", "no such text", "")]
    try:
        with pytest.raises(ValueError, match="not exactly one 'no such text'"):
            mutants.mutate("rope", "rope_kernel", "gone")
    finally:
        SLIPS["rope"] = slip
