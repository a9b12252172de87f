"""Triton's interpreter, repaired where it rounds wrongly, for as long as it does.

With `TRITON_INTERPRET=1` in the environment Triton runs kernels by NumPy too. It keeps bfloat16 and FP8 as bit patterns
in unsigned integers, and in places computes with the patterns: a product of bfloat16 blocks comes out wrong by nine
orders of magnitude, and 1.94 becomes 1.0 in e4m3, without a word (Triton issues 11584 and 8322). `faults` tries such
operations on numbers whose answer is known. `repaired` replaces the methods at fault by ones that decode, compute and
round as the simulator does, and only if a fault was found: once Triton is mended, this file does nothing. One fault is
older: Triton 3.6.0 beside NumPy 2.4 or newer stops at a loop whose bounds are arguments.

`python -m minimoe_kernels.interpreter` runs the kernels' checks under it and prints one line of JSON for each; its exit
status is 1 if one fails. It is a process of its own because Triton decides at decoration whether a kernel will be
interpreted.

How the production version differs: kernels are debugged on the GPU that they are for, with printed values.
"""

import contextlib
import importlib
import json
import os
import sys
import time

import numpy as np
import torch

from minimoe_kernels.checks.mutants import MODULES
from minimoe_kernels.kernel import real_launch, running, tl, triton
from minimoe_kernels.sim import empty, red_zones
from minimoe_kernels.sim.dtypes import DTYPES

__all__ = ["faults", "interpret", "repaired"]

LOOP = "a loop up to an argument"
NARROW = {"bf16": DTYPES["bfloat16"], "fp8e4nv": DTYPES["fp8e4nv"], "fp8e5": DTYPES["fp8e5"]}


def interpret(kernel, grid, values, options):
    """The runner: `with running(interpret): ...`. Raises unless TRITON_INTERPRET=1 was set before Triton came in."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError(f"{kernel.name}: set TRITON_INTERPRET=1 before Python starts to run it in the interpreter")
    return real_launch(kernel, grid, values, options)


@triton.jit
def probe_cast(x_ptr, out_ptr):
    at = tl.arange(0, 8)
    tl.store(out_ptr + at, tl.load(x_ptr + at).to(out_ptr.dtype.element_ty))


@triton.jit
def probe_pairs(x_ptr, y_ptr, sum_ptr, less_ptr, total_ptr):
    at = tl.arange(0, 8)
    x, y = tl.load(x_ptr + at), tl.load(y_ptr + at)
    tl.store(sum_ptr + at, x * y + x)
    tl.store(less_ptr + at, (x < y).to(tl.int32))
    tl.store(total_ptr, tl.sum(x, axis=0))


@triton.jit
def probe_dot(x_ptr, out_ptr):
    at = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    x = tl.load(x_ptr + at)
    tl.store(out_ptr + at, tl.dot(x, x))


@triton.jit
def probe_loop(out_ptr, n):
    total = 0
    for i in range(0, n):
        total += i
    tl.store(out_ptr, total)


def faults() -> list[str]:
    """The operations that the interpreter gets wrong on known numbers, by name. Needs TRITON_INTERPRET=1."""
    x = torch.tensor([1.94, -0.3, 127.998, 300.7, 1e-3, -7.77, 0.0, 500.0])
    wrong = []
    with running(interpret):
        for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
            narrow, back = empty(8, dtype=dtype), empty(8)
            probe_cast[(1,)](x, narrow)
            if not torch.equal(narrow.float(), x.to(dtype).float()):
                wrong.append(f"float32 to {dtype}")
            probe_cast[(1,)](x.to(dtype), back)
            if not torch.equal(back, x.to(dtype).float()):
                wrong.append(f"{dtype} to float32")
        a, b = x.bfloat16(), x.flip(0).bfloat16()
        added, less, total = empty(8, dtype=a.dtype), empty(8, dtype=torch.int32), empty(1)
        probe_pairs[(1,)](a, b, added, less, total)
        if not torch.equal(added, a * b + a):
            wrong.append("bfloat16 arithmetic")
        if not torch.equal(less.bool(), a < b):
            wrong.append("bfloat16 comparison")
        if not torch.isclose(total[0], a.float().sum(), rtol=2.0**-7):
            wrong.append("bfloat16 sum")
        square, out = (x[:, None] * torch.ones(16)).repeat(2, 1).bfloat16(), empty(16, 16)
        probe_dot[(1,)](square, out)
        if not torch.allclose(out, square.float() @ square.float(), rtol=1e-5):
            wrong.append("bfloat16 dot")
        turns = empty(1, dtype=torch.int32)
        with contextlib.suppress(Exception):  # Triton raises another one in its place
            probe_loop[(1,)](turns, 5)
        if turns[0] != 10:
            wrong.append(LOOP)
    return wrong


@contextlib.contextmanager
def repaired():
    """Within it the interpreter rounds rightly; yields the faults that were found (none: nothing is changed).

    Raises `RuntimeError` if a fault remains.
    """
    found = faults()
    if not found:
        yield found
        return
    from triton.runtime import interpreter

    builder, reduce_ops = interpreter.InterpreterBuilder, interpreter.ReduceOps
    new = _builder_methods(builder, interpreter)
    old = {name: vars(builder)[name] for name in new}
    old_sum, old_patch = reduce_ops.sum, interpreter._patch_lang_tensor
    try:
        for name, method in new.items():
            setattr(builder, name, method)
        reduce_ops.sum = _sum(old_sum)
        if LOOP in found:
            interpreter._patch_lang_tensor = _with_index(old_patch)
        if left := faults():
            raise RuntimeError(f"Triton's interpreter still gets wrong: {', '.join(left)}")
        yield found
    finally:
        for name, method in old.items():
            setattr(builder, name, method)
        reduce_ops.sum, interpreter._patch_lang_tensor = old_sum, old_patch


def _builder_methods(builder, interpreter):
    """The replacements, by name; what has no narrow operand goes to the method that was there."""
    handle = interpreter.TensorHandle
    plain = {name: vars(builder)[name] for name in ("cast_impl", "create_fp_to_fp", "binary_op", "create_dot")}

    def values(operand):
        kind = NARROW.get(operand.dtype.scalar.name)
        return operand.data if kind is None else kind.decode(operand.data)

    def narrowed(data, dtype):
        kind = NARROW.get(dtype.scalar.name)
        if kind is None:
            return handle(np.asarray(data).astype(interpreter._get_np_dtype(dtype)), dtype.scalar)
        return handle(kind.encode(kind.round(np.asarray(data).astype(np.float32))), dtype.scalar)

    def cast_impl(self, src, dst_type):
        if {src.dtype.scalar.name, dst_type.scalar.name} & NARROW.keys():
            return narrowed(values(src), dst_type)
        return plain["cast_impl"](self, src, dst_type)

    def create_fp_to_fp(self, src, dst_type, rounding_mode):
        if {src.dtype.scalar.name, dst_type.scalar.name} & NARROW.keys():
            return narrowed(values(src), dst_type)
        return plain["create_fp_to_fp"](self, src, dst_type, rounding_mode)

    def binary_op(self, lhs, rhs, op):
        if lhs.dtype.scalar.name not in NARROW:
            return plain["binary_op"](self, lhs, rhs, op)
        out = op(values(lhs), values(rhs))
        return handle(out, interpreter.tl.int1) if out.dtype == bool else narrowed(out, lhs.dtype)

    def create_dot(self, a, b, d, *rest):
        if a.dtype.scalar.name not in NARROW:
            return plain["create_dot"](self, a, b, d, *rest)
        return handle(np.matmul(values(a), values(b)).astype(d.data.dtype) + d.data, d.dtype.scalar)

    return {f.__name__: f for f in (cast_impl, create_fp_to_fp, binary_op, create_dot)}


def _with_index(plain):
    """What Triton does to its tensors before a launch, and a number of one element as an index."""

    def patch(tensor, scope):
        plain(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patch


def _sum(plain):
    def sum(self, input):
        kind = NARROW.get(input.dtype.scalar.name)
        if kind is None:
            return plain(self, input)
        total = np.sum(kind.decode(input.handle.data), axis=self.axis, keepdims=self.keep_dims)
        return self.to_tensor(kind.encode(kind.round(np.asarray(total))), input.dtype)

    return sum


def check_all(modules=MODULES):
    """Run the checks of these modules at their first sizes; yields a record for each."""
    with repaired() as found, running(interpret):
        yield {"faults": found}
        for module in modules:
            ops = importlib.import_module(f"minimoe_kernels.{module}")
            checks = importlib.import_module(f"minimoe_kernels.checks.{module}")
            start, said = time.process_time(), ""
            try:
                with red_zones():
                    checks.check(ops, sizes=checks.SIZES[:1])
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            yield {"module": module, "error": said, "cpu_s": round(time.process_time() - start, 2)}


if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"
    failed = False
    for record in check_all(sys.argv[1:] or MODULES):
        print(json.dumps(record), flush=True)
        failed |= bool(record.get("error"))
    sys.exit(failed)
