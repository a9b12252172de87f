"""One source, four ways to run it: the mechanism, not the kernels."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minimoe_kernels.kernel import cdiv, load, needs, next_power_of_2, real_dtype, running, tl, triton

ROOT = Path(__file__).parents[2]
SCALE = tl.constexpr(3.0)
ELSEWHERE = '''
import torch
import triton
import triton.language as tl
from triton import Config

FACTOR = tl.constexpr(2.0)

@triton.jit
def helper(x):
    return x * FACTOR

@triton.autotune(configs=[Config({"BLOCK": 8}, num_warps=2)], key=["n"])
@triton.jit
def scaled(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(axis=0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, helper(tl.load(x_ptr + offsets, mask=mask)), mask=mask)

def scale(x):
    out = torch.empty_like(x)
    grid = lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)
    scaled[grid](x, out, x.numel())
    return out
'''


@triton.jit
def tripled(x):
    return x * SCALE


@triton.jit
def triple(x_ptr, out_ptr, n, BLOCK: tl.constexpr, KIND: tl.constexpr = tl.float32):
    for i in range(0, n, BLOCK):
        offsets = i + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0).to(KIND)
        tl.store(out_ptr + offsets, tripled(x), mask=offsets < n)


def test_the_package_imports_no_triton():
    code = (
        "import importlib, pkgutil, sys, minimoe_kernels\n"
        "for module in pkgutil.walk_packages(minimoe_kernels.__path__, 'minimoe_kernels.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_kernel_and_the_kernel_that_it_calls_run_on_a_cpu_tensor():
    x, out = torch.arange(11.0), torch.zeros(11)
    triple[(1,)](x, out, 11, BLOCK=4)
    assert torch.equal(out, 3 * x)


def test_a_launch_with_wrong_arguments_says_which_kernel():
    with pytest.raises(TypeError, match="triple: missing a required argument: 'BLOCK'"):
        triple[(1,)](torch.zeros(1), torch.zeros(1), 1)


def test_compiler_options_do_not_reach_the_kernel():
    out = torch.zeros(4)
    triple[(1,)](torch.ones(4), out, 4, BLOCK=4, num_warps=8, num_stages=2)
    assert (out == 3).all()


def test_a_runner_gets_every_launch_within_its_block():
    got = []
    with running(lambda kernel, grid, values, options: got.append((kernel.name, grid, values["BLOCK"], options))):
        triple[(5,)](torch.ones(4), torch.ones(4), 4, BLOCK=4, num_warps=2)
    assert got == [("triple", (5,), 4, {"num_warps": 2})]


def test_a_triton_file_written_elsewhere_runs_as_it_stands():
    ops = load(ELSEWHERE)
    assert ops.scale(torch.arange(21.0)).tolist() == [2.0 * i for i in range(21)]


IDIOMS = """
import torch
import triton
import triton.language as tl

@triton.autotune(configs=[triton.Config({"ROWS": 16, "STEP": 32}, num_stages=3, num_warps=4)], key=["width"])
@triton.jit
def row_products(x_ptr, y_ptr, out_ptr, lock_ptr, rows, width: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr):
    turns = tl.cdiv(width, STEP)
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)) % rows
    step = tl.arange(0, STEP)
    x_ptrs = x_ptr + row[:, None] * width + step[None, :]
    y_ptrs = y_ptr + row[None, :] * width + step[:, None]
    acc = tl.zeros((ROWS, ROWS), dtype=tl.float32)
    for i in range(turns):
        x = tl.load(x_ptrs, mask=step[None, :] < width - i * STEP, other=0.0)
        y = tl.load(y_ptrs, mask=step[:, None] < width - i * STEP, other=0.0)
        acc += tl.dot(x, y, input_precision="ieee")
        x_ptrs += STEP
        y_ptrs += STEP
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.sum(acc, axis=1).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + at, total, mask=at < rows)
    tl.atomic_xchg(lock_ptr, 0)

def run(x, y):
    out, lock = x.new_empty(len(x), dtype=torch.bfloat16), torch.zeros(1, dtype=torch.int32)
    row_products[lambda META: (triton.cdiv(len(x), META["ROWS"]),)](x, y, out, lock, len(x), x.shape[1])
    return out
"""


def test_idioms_of_kernels_in_the_wild():
    """Pointers moved along in a loop, rows wrapped by %, constants by position, a spin lock, a lambda for a grid."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 70, generator=generator), torch.randn(16, 70, generator=generator)
    out = load(IDIOMS).run(x, y)
    assert torch.allclose(out.float(), (x @ y.t()).sum(1), rtol=2.0**-7)  # rounded to bfloat16


def test_a_loaded_file_can_be_given_other_objects():
    ops = load(ELSEWHERE, replace={"FACTOR": -1.0})
    assert ops.scale(torch.ones(3)).tolist() == [-1.0] * 3


def test_marks_and_small_functions():
    assert (cdiv(9, 4), cdiv(8, 4), next_power_of_2(1), next_power_of_2(7168)) == (3, 2, 1, 8192)
    assert needs(89)(triton.jit(tripled.fn)).min_arch == 89 and triple.min_arch == 80


@pytest.mark.skipif(sys.platform != "linux", reason="un-skip when triton has a wheel for this platform")
def test_triton_gets_the_same_source_with_its_own_language():
    import triton as real

    twin = triple.twin
    assert isinstance(twin, real.JITFunction) and twin.src.startswith("def triple(")
    scope = twin.fn.__globals__
    assert scope["tl"] is real.language and scope["tripled"] is tripled.twin
    assert tripled.twin.fn.__globals__["SCALE"].value == 3.0
    assert [p.name for p in twin.params if p.is_constexpr] == ["BLOCK", "KIND"]
    assert real_dtype(tl.float8e4nv) is real.language.float8e4nv and real_dtype(tl.float64) is real.language.float64
