"""One source of a kernel, four ways to run it.

A kernel here is the function that a Triton file would hold, letter for letter; what its name `tl` means decides who
runs it. A file of kernels says

    from minimoe_kernels.kernel import tl, triton

and gets stand-ins that import everywhere: `triton.jit` keeps the function, `tl` is the simulator's language. To hand
the kernel to the real Triton, the function is copied with other globals, in which `tl` is `triton.language` and the
kernels that it calls are copied likewise. Triton reads source text and looks names up in those globals, so it sees the
file that it would have compiled anyway. Triton is imported by that step and by nothing before it.

Who runs a launch: on a CUDA tensor Triton, on a CPU tensor the simulator, inside `with running(runner)` the runner:
`interpret` (Triton's interpreter, repaired by `minimoe_kernels.interpreter`) or one that only compiles
(`minimoe_kernels.resources`). `load` runs a Triton file that was written elsewhere, `import triton` and all.

How the production version differs: an ordinary Triton file imports triton in its first line, and so cannot be imported
where no wheel of it exists: on macOS, on Windows.
"""

import builtins
import contextlib
import contextvars
import functools
import inspect
import linecache
import types

import torch

from minimoe_kernels.sim import language as tl
from minimoe_kernels.sim.dtypes import DTYPES, dtype
from minimoe_kernels.sim.grid import run as simulate

__all__ = ["Kernel", "cdiv", "load", "needs", "next_power_of_2", "rescoped", "running", "tl", "triton"]

# Words to the compiler that stand among a launch's arguments; they are not the kernel's.
OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "enable_fp_fusion")
_runner = contextvars.ContextVar("runner", default=None)


def cdiv(x: int, y: int) -> int:
    """How many pieces of size y cover x."""
    return -(-x // y)


def next_power_of_2(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


class Kernel:
    """A kernel's function: `kernel[grid](arguments)` launches it, `kernel(...)` calls it from another kernel.

    `min_arch` is the least compute capability that can compile it (see `needs`).
    """

    def __init__(self, fn):
        functools.update_wrapper(self, fn)
        self.fn, self.name, self.min_arch = fn, fn.__name__, 80
        self.parameters = inspect.signature(fn).parameters
        self.constants = {name for name, p in self.parameters.items() if "constexpr" in _name_of(p.annotation)}

    def __getitem__(self, grid):
        return functools.partial(self.launch, grid)

    def __call__(self, *args, **kwargs):
        return self.simulated(*args, **kwargs)

    def launch(self, grid, *args, **kwargs):
        """Run over a grid: what `kernel[grid](...)` does."""
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        try:
            bound = inspect.Signature(list(self.parameters.values())).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        values = dict(bound.arguments)
        runner = _runner.get() or (compiled if _on_gpu(values) else simulated)
        return runner(self, grid, values, options)

    @functools.cached_property
    def simulated(self):
        """The function with the simulator's `range`, whose counters are blocks."""
        return rescoped(self.fn, {"range": self.fn.__globals__.get("tl", tl).range})

    @functools.cached_property
    def twin(self):
        """The same function as a kernel of the installed Triton."""
        import triton

        used = self.fn.__code__.co_names
        names = {name: _translated(value) for name, value in self.fn.__globals__.items() if name in used}
        return triton.jit(rescoped(self.fn, names))


def _name_of(annotation) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def rescoped(fn, names):
    """A copy of `fn` in whose globals `names` stand for what they name."""
    scope = fn.__globals__ | names
    copy = types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, fn.__closure__)
    functools.update_wrapper(copy, fn)
    del copy.__wrapped__
    return copy


def _translated(value):
    """A global of a kernel's file as Triton needs it: its own language, its own kernels, constants marked as such."""
    import triton
    import triton.language

    if value is tl:
        return triton.language
    if isinstance(value, StandIn):
        return triton
    if isinstance(value, Kernel):
        return value.twin
    if isinstance(value, dtype):
        return real_dtype(value)
    if isinstance(value, bool | int | float):
        return triton.language.constexpr(value)
    return value


def real_dtype(value):
    """The installed Triton's type for one of the simulator's."""
    import triton.language

    names = [name for name, found in DTYPES.items() if found is value and hasattr(triton.language, name)]
    return getattr(triton.language, names[0])


def _on_gpu(values) -> bool:
    return any(isinstance(value, torch.Tensor) and value.is_cuda for value in values.values())


def simulated(kernel, grid, values, options):
    """The runner of CPU tensors."""
    return simulate(kernel.simulated, kernel.name, grid, values, kernel.constants)


def compiled(kernel, grid, values, options):
    """The runner of CUDA tensors: Triton's own launch. Raises if the GPU is older than the kernel needs."""
    device = next(value.device for value in values.values() if isinstance(value, torch.Tensor) and value.is_cuda)
    major, minor = torch.cuda.get_device_capability(device)
    arch = 10 * major + minor
    if arch < kernel.min_arch:
        raise RuntimeError(f"{kernel.name} needs compute capability {kernel.min_arch}; this GPU has {arch}")
    return real_launch(kernel, grid, values, options)


def real_launch(kernel, grid, values, options):
    """Hand a launch to the installed Triton, with types translated."""
    passed = {name: real_dtype(v) if isinstance(v, dtype) else v for name, v in values.items()}
    return kernel.twin[grid](**passed, **options)


@contextlib.contextmanager
def running(runner):
    """Within it every launch goes to `runner(kernel, grid, values, options)`."""
    token = _runner.set(runner)
    try:
        yield
    finally:
        _runner.reset(token)


class StandIn(types.SimpleNamespace):
    """What a file of kernels uses of `triton` itself."""


def jit(fn=None, **_options):
    """`@triton.jit`: keeps the function as a `Kernel`."""
    return jit if fn is None else Kernel(fn)


def needs(arch: int):
    """`@needs(89)` above `@triton.jit`: the least compute capability that has this kernel's instructions.

    80 is an A100, 89 an L4 or RTX 4090 (the first with FP8), 90 an H100, 100 a B200.
    """

    def mark(kernel):
        kernel.min_arch = arch
        return kernel

    return mark


def heuristics(values):
    """`@triton.heuristics`: constants computed from the other arguments at a launch."""

    def wrap(kernel):
        plain = kernel.launch

        def launch(grid, *args, **kwargs):
            known = dict(zip(kernel.parameters, args, strict=False)) | kwargs
            return plain(grid, *args, **kwargs, **{name: value(known) for name, value in values.items()})

        kernel.launch = launch
        return kernel

    return wrap


def autotune(configs, key=None, **_options):
    """`@triton.autotune`: there is nothing to time here, so the first configuration runs."""
    first = configs[0]
    return heuristics({name: lambda _, value=value: value for name, value in first.kwargs.items()})


def Config(kwargs, num_warps=4, num_stages=3, **_options):
    """`triton.Config`: one choice of constants."""
    return types.SimpleNamespace(kwargs=kwargs, num_warps=num_warps, num_stages=num_stages)


triton = StandIn(
    jit=jit, heuristics=heuristics, autotune=autotune, Config=Config, cdiv=cdiv, next_power_of_2=next_power_of_2,
    language=tl,
)  # fmt: skip


def load(source: str, name: str = "kernels_from_text", replace: dict | None = None) -> types.SimpleNamespace:
    """Run the text of a Python file whose `import triton` is answered by the stand-ins; gives its names.

    For kernels written elsewhere, and for deliberately wrong ones: `replace` puts other objects in place of names.
    """

    def import_(module, *rest, **named):
        if module.split(".")[0] != "triton":
            return builtins.__import__(module, *rest, **named)
        wants_leaf = bool((rest[2] if len(rest) > 2 else named.get("fromlist")) or False)
        return tl if module == "triton.language" and wants_leaf else triton

    filename = f"<{name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope = {"__name__": name, "__builtins__": vars(builtins) | {"__import__": import_}}
    exec(compile(source, filename, "exec"), scope)
    scope.update(replace or {})
    return types.SimpleNamespace(**{key: value for key, value in scope.items() if key != "__builtins__"})
