"""What every test stands on: no network, the same draws each run, and the axis rule of the library's tensor names.

The axis rule: a tensor called `gates_MK` has two axes, and within one call M is one number. Reading code by such names
is safe only while they are true, so on return of every `minimoe` function the local tensors are held against them.
"""

import os
import re
import socket
import sys
from opcode import opname
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # last digits depend on the number of threads
os.environ["HF_HUB_OFFLINE"] = "1"

TESTS = Path(__file__).parent
LIBRARY = TESTS.parent / "minimoe"
AXES = re.compile(r"_([A-Z]+)$")
RETURNS = {"RETURN_VALUE", "RETURN_CONST", "YIELD_VALUE"}

hypothesis.settings.register_profile("minimoe", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("minimoe")

_connect = socket.socket.connect


def _connect_here(self, address):
    # A test that needs the network passes on one machine and fails on the next.
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise RuntimeError(f"a test tried to reach {address[0]}: tests use no network")
    return _connect(self, address)


socket.socket.connect = _connect_here


class AxisRule:
    """Watches calls of functions defined under `folder`; `broken` collects every name that does not tell the truth."""

    def __init__(self, folder=LIBRARY):
        self.folder = str(folder) + os.sep
        self.names = {}  # code object -> its locals that carry axes; empty for code outside the folder
        self.broken = []

    def __enter__(self):
        self.before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_):
        sys.setprofile(self.before)

    def _profile(self, frame, event, _argument):
        if event != "return":
            return
        code = frame.f_code
        names = self.names.get(code)
        if names is None:
            names = self.names[code] = self._axes_of(code)
        if not names:
            return
        wrong = self._violation(names, frame.f_locals)
        # An exception passing through also says "return", and a function may well be rejecting a mis-shaped argument.
        if wrong and opname[code.co_code[frame.f_lasti]] in RETURNS:
            self.broken.append(f"{os.path.basename(code.co_filename)}, {code.co_qualname}: {wrong}")

    def _axes_of(self, code):
        if not code.co_filename.startswith(self.folder):
            return ()
        names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
        return tuple((name, match[1]) for name in names if (match := AXES.search(name)))

    @staticmethod
    def _violation(names, values):
        size_of = {}
        for name, axes in names:
            shape = getattr(values.get(name), "shape", None)
            if not isinstance(shape, tuple):  # a list, a number, not yet assigned
                continue
            if len(shape) != len(axes):
                return f"{name} names {len(axes)} axes and has {len(shape)}, of shape {tuple(shape)}"
            for letter, size in zip(axes, shape, strict=True):
                other, other_size = size_of.setdefault(letter, (name, size))
                if size != other_size:
                    return f"{letter} is {other_size} in {other} and {size} in {name}"
        return None


@pytest.fixture
def axis_rule():
    """The rule itself, for the test that shows it rejects a violation."""
    return AxisRule


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Hold every test of the library to the axis rule. A wrapper, so that it also covers each example of hypothesis."""
    in_library_tests = TESTS / "minimoe" in pyfuncitem.path.parents
    if not in_library_tests or pyfuncitem.get_closest_marker("no_axis_check"):
        return (yield)
    rule = AxisRule()
    with rule:
        result = yield
    if rule.broken:
        lines = "\n  ".join(dict.fromkeys(rule.broken))
        pytest.fail(f"names that do not match their tensors:\n  {lines}", pytrace=False)
    return result
