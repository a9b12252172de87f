"""The kernels under Triton's own interpreter, in another process: whether a kernel is interpreted is decided once."""

import json
import os
import subprocess
import sys

import pytest
import torch

from minimoe_kernels.checks.mutants import MODULES
from minimoe_kernels.interpreter import interpret, probe_cast
from minimoe_kernels.kernel import running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="un-skip when triton has a wheel for this platform")


@pytest.fixture(scope="module")
def records():
    command = [sys.executable, "-W", "ignore", "-m", "minimoe_kernels.interpreter"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # 1: a check failed, and its record says so
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_faults_of_the_pinned_triton_are_found_and_mended(records):
    """An empty list here means that Triton was mended: the repair then does nothing, and this line can go."""
    assert {"bfloat16 dot", "float32 to torch.float8_e4m3fn", "bfloat16 comparison"} <= set(records[0]["faults"])


@pytest.mark.parametrize("module", MODULES)
def test_values_and_gradients(records, module):
    (record,) = [r for r in records if r.get("module") == module]
    assert record["error"] == ""


def test_a_sound_interpreter_is_left_alone():
    """The repair asks first: with no fault it replaces nothing."""
    code = (
        "import os; os.environ['TRITON_INTERPRET'] = '1'\n"
        "import minimoe_kernels.interpreter as ours\n"
        "from triton.runtime.interpreter import InterpreterBuilder as builder\n"
        "ours.faults, before = list, builder.binary_op\n"
        "with ours.repaired() as found: print(found, builder.binary_op is before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[] True", done.stderr


def test_a_loop_that_stops_beside_a_new_numpy_is_found_and_mended():
    """As Triton 3.6.0 has it: NumPy 2.4 turns an array with an axis into no index."""
    code = (
        "import os; os.environ['TRITON_INTERPRET'] = '1'\n"
        "import minimoe_kernels.interpreter as ours\n"
        "from triton.runtime import interpreter\n"
        "mended = interpreter._patch_lang_tensor\n"
        "def old(tensor, scope):\n"
        "    mended(tensor, scope)\n"
        "    scope.set_attr(tensor, '__index__', lambda self: int([self.handle.data]))\n"
        "interpreter._patch_lang_tensor = old\n"
        "with ours.repaired() as found: print(ours.LOOP in found, ours.LOOP in ours.faults())\n"
        "print(interpreter._patch_lang_tensor is old)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False", "True"], done.stderr


def test_without_the_variable_the_runner_says_what_to_set(monkeypatch):
    monkeypatch.setitem(os.environ, "TRITON_INTERPRET", "0")
    with running(interpret), pytest.raises(RuntimeError, match="set TRITON_INTERPRET=1 before Python starts"):
        probe_cast[(1,)](torch.zeros(8), torch.zeros(8))
