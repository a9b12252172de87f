"""The fixture that every kernel's test stands on, and a clock for the bench where there is no GPU."""

import copy
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from minimoe_kernels import bench, sim

CLOCK = runpy.run_path(str(Path(__file__).with_name("pretend_clock.py")))
COMPILE = ("torch.compile",)  # it takes seconds, and its peers have a test of their own


@pytest.fixture
def every_order():
    """Launches run forward, reversed and shuffled; outputs lie between red zones; reading the unwritten is an error."""
    with sim.session(sim.ORDERS) as ran, sim.red_zones():
        yield ran


@pytest.fixture
def pretend():
    """`PretendClock`."""
    return CLOCK["PretendClock"]


@pytest.fixture
def believable():
    """A pretending clock whose records are accepted: `believable(us)`."""
    return CLOCK["believable"]


@pytest.fixture(scope="session")
def measured():
    """A record with every field right, made by the bench at small sizes and a pretending clock."""
    case = next(case for case in bench.CASES if case.kernel == "swiglu")
    return bench.run(replace(case, sizes=case.small), CLOCK["believable"](), "cpu", leave_out=COMPILE)


@pytest.fixture
def record(measured):
    """A copy of it, to be changed."""
    return copy.deepcopy(measured)
