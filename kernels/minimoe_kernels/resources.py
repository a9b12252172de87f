"""What the compiler makes of every kernel, on machines that have no GPU: registers, spills, shared memory.

Triton compiles for an architecture that is not there, and the assembler that it brings along writes the machine code.
A kernel that needs more registers than a thread can have *spills*: it parks numbers in slow memory and fetches them
back. Values do not show it, time does. So the numbers are written down, in kernels/resources.json, and compiled again
by the tests: a kernel that begins to spill, or that no longer multiplies on the tensor core, fails there.

    python -m minimoe_kernels.resources            compile all and write the file
    python -m minimoe_kernels.resources --check    compile all and compare

The same launches that run elsewhere are compiled here: `minimoe_kernels.production` makes them, and every argument is
specialised as Triton's launcher does it (a size that is a multiple of 16 is declared as one).

How the production version differs: nobody commits these numbers; a change of compiler, which moves them all, is noticed
on the bill.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import torch

from minimoe_kernels.kernel import real_dtype, running
from minimoe_kernels.production import CASES
from minimoe_kernels.sim.dtypes import dtype

__all__ = ["ARCHES", "SHARED_LIMIT", "TENSOR_CORE", "compile_all", "compile_launch", "launch_name", "worse"]

PATH = Path(__file__).parents[1] / "resources.json"
ARCHES = (80, 90, 100)
SHARED_LIMIT = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes that one program may have
# The machine's instruction for a product of 16-bit numbers, and of 8-bit ones
TENSOR_CORE = {80: ("HMMA",), 90: ("HGMMA", "QGMMA"), 100: ("UTCHMMA", "UTCQMMA", "UTCOMMA")}
NAMES = {
    torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv", torch.float8_e5m2: "fp8e5", torch.int64: "i64", torch.int32: "i32",
    torch.int8: "i8", torch.uint8: "u8", torch.bool: "i1",
}  # fmt: skip


def specialised(kernel, values):
    """What Triton's launcher would tell the compiler: (signature, constants, hints)."""
    signature, constants, hints = {}, {}, {}
    for i, (name, value) in enumerate(values.items()):
        if name in kernel.constants or value is None or (isinstance(value, int) and value == 1):
            signature[name] = "constexpr"
            constants[(i,)] = real_dtype(value) if isinstance(value, dtype) else value
        elif isinstance(value, torch.Tensor):
            signature[name] = "*" + NAMES[value.dtype]
            hints[(i,)] = [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0:
                hints[(i,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    return signature, constants, hints


def compile_launch(arch: int, kernel, values, options) -> dict:
    """One launch compiled for one architecture: what the cubin says of it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, hints = specialised(kernel, values)
    source = ASTSource(kernel.twin, signature, constexprs=constants, attrs=hints)
    options = {"enable_fp_fusion": True} | options
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    found = {"warps": made.metadata.num_warps, "shared_bytes": made.metadata.shared}
    return found | _read(made.asm["cubin"], made.asm["ptx"])


def _read(cubin: bytes, ptx: str) -> dict:
    """Registers, stack and instructions, by the tools that Triton brings along.

    The machine code is taken apart, which is slow, only where there is something to find: a stack or a product.
    """
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()

        def dumped(flag):
            return subprocess.run([tool, flag, file.name], capture_output=True, text=True, check=True).stdout

        usage = dumped("-res-usage")
        registers, stack = (int(re.search(rf"{word}:(\d+)", usage)[1]) for word in ("REG", "STACK"))
        code = dumped("-sass") if stack or "mma" in ptx else ""
    words = re.findall(r"\b(LDL|STL|" + "|".join(sum(TENSOR_CORE.values(), ())) + r")\b", code)
    return {
        "registers": registers,
        "stack_bytes": stack,
        "spills": words.count("LDL") + words.count("STL"),
        "tensor_core": sorted({word for word in words if word not in ("LDL", "STL")}),
    }


def launch_name(kernel, values: dict) -> str:
    """A kernel with the types and the constants of one launch: `swiglu_forward(bf16, bf16, bf16, BLOCK=2048)`."""
    types = [NAMES[v.dtype] for v in values.values() if isinstance(v, torch.Tensor)]
    sizes = [f"{n}={v}" for n, v in values.items() if n in kernel.constants and type(v) is int]
    return f"{kernel.name}({', '.join(types + sizes)})"


def compile_all(arches=ARCHES, cases=CASES) -> dict:
    """{kernel: {"sm_90": resources or why there are none}}; its types and its constants are part of a kernel's name."""
    found = {}

    def take(kernel, grid, values, options):
        name = launch_name(kernel, values)
        if name in found:
            return
        found[name] = {}
        for arch in arches:
            if arch < kernel.min_arch:
                found[name][f"sm_{arch}"] = f"needs sm_{kernel.min_arch}"
            else:
                found[name][f"sm_{arch}"] = compile_launch(arch, kernel, values, options)

    with running(take):
        for case in cases:
            case()
    return found


def worse(committed: dict, found: dict) -> list[str]:
    """What has become worse, one sentence each: new spills, tensor cores no longer used, too much shared memory."""
    out = []
    for name, by_arch in found.items():
        for arch, now in by_arch.items():
            before = committed.get(name, {}).get(arch)
            where = f"{name} on {arch}"
            if before is None:
                out.append(f"{where}: not in the file; run python -m minimoe_kernels.resources")
            elif isinstance(now, str) or isinstance(before, str):
                out += [f"{where}: {now!r}, was {before!r}"] if now != before else []
            else:
                out += [
                    f"{where}: {key} {now[key]}, was {before[key]}"
                    for key in ("spills", "stack_bytes")
                    if now[key] > before[key]
                ]
                if before["tensor_core"] and not now["tensor_core"]:
                    out.append(f"{where}: no tensor core, was {', '.join(before['tensor_core'])}")
                if now["shared_bytes"] > SHARED_LIMIT[int(arch[3:])]:
                    out.append(f"{where}: {now['shared_bytes']} bytes of shared memory cannot be launched")
    return out + [f"{name}: in the file, but nothing launches it" for name in committed.keys() - found.keys()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    options = parser.parse_args()
    os.environ.pop("TRITON_INTERPRET", None)  # with it, nothing would be compiled
    import triton

    found = compile_all()
    if options.check:
        committed = json.loads(PATH.read_text())
        said = worse(committed["kernels"], found)
        head = f"Triton {triton.__version__}: {len(found)} kernels, {len(said)} worse than in {PATH.name}"
        print(head, *said, sep="\n")
        # another compiler spills elsewhere: only what it cannot compile or launch is an error of ours
        same = committed["triton"] == triton.__version__
        raise SystemExit(any(same or "cannot be launched" in line for line in said))
    PATH.write_text(json.dumps({"triton": triton.__version__, "kernels": found}, indent=1) + "\n")
    print(f"{PATH.name}: {len(found)} kernels for {', '.join(f'sm_{arch}' for arch in ARCHES)}")


if __name__ == "__main__":
    main()
