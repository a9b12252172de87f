"""Who may import whom, read from the source with `ast`, and what an import costs its reader."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"minimoe", "minimoe_kernels", "minimoe_widgets", "minimoe_course"}

# What each package may import besides the standard library and itself. None: anything.
MAY_IMPORT = {
    "minimoe": {"torch", "numpy", "safetensors", "einops"},
    "kernels/minimoe_kernels": {"minimoe", "torch", "numpy", "einops", "triton"},
    "widgets/minimoe_widgets": {
        "minimoe", "minimoe_kernels", "torch", "numpy", "einops",
        "anywidget", "comm", "ipywidgets", "IPython", "matplotlib", "plotly", "traitlets",
    },
}  # fmt: skip

# Inside minimoe a module imports only what stands on a line above its own.
LAYERS = [
    ["config"],
    ["accounting", "model", "tokenizer"],
    ["checkpoint"],
    ["inference"],
    ["training"],
    ["rl"],
    ["__init__"],
    ["cli"],
    ["__main__"],
]
# A file belongs to the first word of its name (checkpoint_write.py to checkpoint), and these to the layer they serve.
SERVES = {"presets": "config", "fp8": "checkpoint"}


def imports(tree, package):
    """Every module that the source names in an import, `from . import x` written out, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def sources(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        package = list(path.relative_to(ROOT / folder).parent.parts)
        yield path, set(imports(ast.parse(path.read_text()), [Path(folder).name, *package]))


def part_and_rank(module):
    """`minimoe.model.mla` -> ("model", 1). A name that is no module, like `minimoe.load`, stands for `__init__`."""
    words = module.split(".")
    inside = words[1] if len(words) > 1 else "__init__"
    path = ROOT / "minimoe" / inside
    if not (path.is_dir() or path.with_suffix(".py").is_file()):
        inside = "__init__"
    word = inside if inside.startswith("__") else inside.split("_")[0]
    part = SERVES.get(word, word)
    for rank, parts in enumerate(LAYERS):
        if part in parts:
            return part, rank
    raise LookupError(f"minimoe/{inside} has no place in LAYERS: say which modules it may import")


@pytest.mark.parametrize("folder", [folder for folder in MAY_IMPORT if (ROOT / folder).is_dir()])
def test_a_package_imports_only_what_it_may(folder):
    allowed = MAY_IMPORT[folder] | {Path(folder).name} | set(sys.stdlib_module_names)
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path, modules in sources(folder)
        for module in sorted(modules)
        if module.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_inside_minimoe_nothing_points_back():
    wrong = []
    for path, modules in sources("minimoe"):
        inside = path.relative_to(ROOT).with_suffix("").parts
        part, rank = part_and_rank(".".join(inside if len(inside) > 1 else ("minimoe", "__init__")))
        for module in sorted(name for name in modules if name.split(".")[0] == "minimoe"):
            other, other_rank = part_and_rank(module)
            if other != part and other_rank >= rank:
                wrong.append(f"{path.relative_to(ROOT)} ({part}) imports {module} ({other})")
    assert wrong == []


def test_the_reader_of_imports_sees_every_kind():
    source = "import torch.nn as nn\nfrom . import rope\nfrom ..config import V3\ndef f():\n from minimoe import rl"
    seen = set(imports(ast.parse(source), ["minimoe", "model"]))
    assert seen == {"torch.nn", "minimoe.model.rope", "minimoe.config.V3", "minimoe.rl"}


def test_the_layers_forbid_what_they_should():
    rank = {name: part_and_rank(f"minimoe.{name}")[1] for name in ("config", "model", "inference", "checkpoint")}
    assert rank["config"] < rank["model"] < rank["checkpoint"] < rank["inference"]
    assert part_and_rank("minimoe.load")[0] == "__init__" and part_and_rank("minimoe.cli")[0] == "cli"


def run_python(code, *flags):
    done = subprocess.run([sys.executable, *flags, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_minimoe_imports_only_its_four_dependencies():
    """Beyond what torch itself brings in: a reader with those four packages must be able to start."""
    code = "import sys, {}; print(*{{name.split('.')[0] for name in sys.modules}})"
    before = set(run_python(code.format("torch, numpy, safetensors.torch, einops")))
    after = set(run_python(code.format("minimoe")))
    assert "minimoe" in after
    assert after - before - set(sys.stdlib_module_names) <= OURS


def test_transformers_imports_from_the_repository_root():
    """transformers asks for a package called `kernels`, and from here the folder of that name is the one it finds."""
    code = "from transformers import AutoModelForCausalLM, DeepseekV3ForCausalLM; print(DeepseekV3ForCausalLM.__name__)"
    assert run_python(code)[-1] == "DeepseekV3ForCausalLM"
