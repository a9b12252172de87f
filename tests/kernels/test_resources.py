"""What the compiler makes of the kernels, on a machine without a GPU, held against kernels/resources.json."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch

from minimoe_kernels.kernel import running, tl, triton
from minimoe_kernels.production import CASES
from minimoe_kernels.resources import ARCHES, PATH, SHARED_LIMIT, compile_launch, specialised, worse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="un-skip when triton has a wheel for this platform")


@triton.jit
def wide_product(x_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    x = tl.load(x_ptr + at)
    tl.store(out_ptr + at, tl.dot(x, x))


@pytest.fixture(scope="module")
def committed():
    return json.loads(PATH.read_text())


@pytest.fixture
def cached(pytestconfig, monkeypatch):
    folder = str(pytestconfig.cache.mkdir("triton"))
    monkeypatch.setenv("TRITON_CACHE_DIR", folder)
    return folder


@pytest.mark.timeout(900)  # 70 compilations: 40 seconds of one quiet core
def test_every_kernel_compiles_for_every_architecture_and_none_is_worse_than_committed(cached):
    command = [sys.executable, "-m", "minimoe_kernels.resources", "--check"]
    done = subprocess.run(command, env=os.environ | {"TRITON_CACHE_DIR": cached}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_committed_kernel_spills_or_asks_for_more_than_there_is(committed):
    spilling = set()
    for name, by_arch in committed["kernels"].items():
        assert set(by_arch) == {f"sm_{arch}" for arch in ARCHES}
        for arch, found in by_arch.items():
            if isinstance(found, dict):
                assert found["shared_bytes"] <= SHARED_LIMIT[int(arch[3:])] and found["registers"] <= 255
                if found["spills"] or found["stack_bytes"]:
                    spilling.add((name.split("(")[0], arch, found["stack_bytes"]))
    # MLA's attentions keep up to 128 sums a thread in registers; an A100 has no other place for them
    on_a100 = {("split_kernel", "sm_80", 24), ("prefill_kernel", "sm_80", 64), ("query_gradient_kernel", "sm_80", 96)}
    assert spilling == on_a100 | {("key_gradient_kernel", "sm_90", 16)}


def test_kernels_that_multiply_do_it_on_the_tensor_core(committed):
    products = {name.split("(")[0]: by for name, by in committed["kernels"].items() if by["sm_90"]["tensor_core"]}
    assert set(products) >= {
        "fp8_gemm_kernel", "rows_kernel", "weight_gradient_kernel", "split_kernel", "prefill_kernel", "pieces_kernel",
        "slope_kernel",
    }  # fmt: skip
    assert products["fp8_gemm_kernel"]["sm_90"]["tensor_core"] == ["QGMMA"]
    assert products["rows_kernel"]["sm_90"]["tensor_core"] == ["HGMMA"]


def test_fp8_kernels_say_which_architectures_have_them(committed):
    fp8 = {name: by for name, by in committed["kernels"].items() if "fp8" in name}
    assert len(fp8) >= 5 and all(by["sm_80"] == "needs sm_89" for by in fp8.values())


def test_growth_is_reported_and_shrinking_is_not(committed):
    before = committed["kernels"]
    assert worse(before, before) == []
    after = copy.deepcopy(before)
    name = next(name for name in after if name.startswith("rows_kernel"))
    after[name]["sm_90"] |= {"spills": 12, "tensor_core": [], "shared_bytes": 300_000, "registers": 20}
    said = worse(before, after)
    assert len(said) == 3 and all(name in line for line in said)
    assert "spills 12, was 0" in said[0] and "no tensor core, was HGMMA" in said[1] and "cannot be launched" in said[2]
    assert "nothing launches it" in worse(before | {"gone": {}}, before)[0]
    assert "not in the file" in worse({}, before)[0]


def test_a_spill_is_seen(cached):
    """A product of 64 x 64 whose threads may have 32 registers each."""
    values = {"x_ptr": torch.empty(64, 64, dtype=torch.bfloat16, device="meta")}
    values |= {"out_ptr": torch.empty(64, 64, device="meta"), "N": 64}
    found = compile_launch(80, wide_product, values, {"num_warps": 4, "maxnreg": 32})
    assert found["spills"] > 0 and found["stack_bytes"] > 0 and found["registers"] == 32


def test_arguments_are_specialised_as_the_launcher_does_it():
    values = {"x_ptr": torch.empty(2, dtype=torch.float8_e4m3fn), "out_ptr": None, "N": 16}
    signature, constants, hints = specialised(wide_product, values)
    assert signature == {"x_ptr": "*fp8e4nv", "out_ptr": "constexpr", "N": "constexpr"}
    assert constants == {(1,): None, (2,): 16} and list(hints) == [(0,)]

    @triton.jit
    def sizes(a, b, c, d):
        tl.static_assert(True)

    signature, constants, hints = specialised(sizes, {"a": 1, "b": 32, "c": 2**40 + 1, "d": 0.5})
    assert signature == {"a": "constexpr", "b": "i32", "c": "i64", "d": "fp32"}
    assert constants == {(0,): 1} and list(hints) == [(1,)]


def test_cases_allocate_nothing():
    made = []

    with running(lambda kernel, grid, values, options: made.extend(values.values())):
        for case in CASES:
            case()
    assert {t.device.type for t in made if isinstance(t, torch.Tensor)} == {"meta"}
