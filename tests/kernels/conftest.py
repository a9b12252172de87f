"""The fixture that every kernel's test stands on."""

import pytest

from minimoe_kernels import sim


@pytest.fixture
def every_order():
    """Launches run forward, reversed and shuffled; outputs lie between red zones; reading the unwritten is an error."""
    with sim.session(sim.ORDERS) as ran, sim.red_zones():
        yield ran
