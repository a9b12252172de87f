"""What chapter 17 measures: errors of scales, sums of a tensor core, the recipe's modules, and short training runs.

`@launched` above a kernel makes it a function of (x_MD, tile), as `first_kernels.launched` does for its two kernels:
the FP8 numbers come back as float32, with a scale for each tile.

How the production version differs: it quantises inside the kernels before and after, and nobody looks at a rounding
error again once the loss curves agree.
"""

import json
import math

import torch
from torch import nn

import minimoe
from minimoe.model.moe import MoE
from minimoe.model.router import choose
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, Trainer, load_corpus
from minimoe.training.data import encode_documents, pack
from minimoe.training.fp8 import release_fp8, use_fp8
from minimoe.training.fp8_product import BLOCKS, limited_sum, quantise
from minimoe_course.first_kernels import Launched
from minimoe_course.start import data_path
from minimoe_course.tables import Table
from minimoe_kernels import sim
from minimoe_kernels.kernel import Kernel, cdiv
from minimoe_kernels.sim.rounding import FP8

__all__ = ["as_fp8", "documents", "gradients", "held_out", "launched", "layer_gradient", "layer_matrices", "masters"]
__all__ += ["one_scale", "recipe", "router_choices", "row_errors", "step_error", "study", "sum_errors"]

SETTINGS = {"optimizer": "muon", "lr": 1e-2, "warmup": 0.03, "floor": 0.02, "bias_gamma": 0.01}  # data/fp8's
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "e4m3": torch.float8_e4m3fn}


# --- one number, one tensor -------------------------------------------------------------------------------------------


def step_error(form: FP8) -> tuple[list[float], list[float]]:
    """How far the worst number between two neighbours is from the nearer one, in percent of itself.

    Gives (the lower neighbour over the largest number, percent), for all positive neighbours of the format.
    """
    values = sorted({v for v in form.table().tolist() if 0 < v < math.inf})
    pairs = list(zip(values, values[1:], strict=False))
    return [a / values[-1] for a, _ in pairs], [100 * (b - a) / (a + b) for a, b in pairs]


def one_scale(x: torch.Tensor, form: str) -> torch.Tensor:
    """`x` after a stay in "int8", "e4m3" or "e5m2", one scale for all: its largest magnitude fits exactly."""
    if form == "int8":
        scale = x.abs().max() / 127
        return (x / scale).round() * scale
    dtype = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}[form]
    scale = x.abs().max() / torch.finfo(dtype).max
    return (x / scale).to(dtype).float() * scale


def as_fp8(x_XZ: torch.Tensor) -> torch.Tensor:
    """`x_XZ` after a stay in e4m3, with a scale for each 128 numbers of a row."""
    return quantise(x_XZ).dequantise()


def row_errors(rounded_MD: torch.Tensor, exact_MD: torch.Tensor) -> torch.Tensor:
    """The length of each row's error over the row's length, in percent; rows of zeros are left out."""
    size_M = exact_MD.norm(dim=1)
    return 100 * ((rounded_MD - exact_MD).norm(dim=1) / size_M)[size_M > 0]


def _launch(kernel, x_MD, tile):
    M, D = x_MD.shape
    fp8_MD, scale_MJ = sim.empty(M, D, dtype=torch.float8_e4m3fn), sim.empty(M, cdiv(D, tile))
    kernel[(M, cdiv(D, tile))](x_MD, fp8_MD, scale_MJ, D, TILE=tile)
    return fp8_MD.float(), scale_MJ


def launched(kernel: Kernel) -> Launched:
    """`@launched` above `@triton.jit`: the kernel called `quantise` as a function of (x_MD, tile)."""
    if not isinstance(kernel, Kernel) or kernel.name != "quantise":
        raise TypeError(f"@launched stands above @triton.jit and knows quantise, not {getattr(kernel, 'name', kernel)}")
    return Launched(kernel, _launch)


# --- products ---------------------------------------------------------------------------------------------------------


def sum_errors(draw, widths, rows: int = 64, seed: int = 0) -> dict[str, list[float]]:
    """Largest error of a b^T, in percent of the outputs' root mean square, for each width K of the summed axis.

    `draw` is torch.randn or torch.rand. "one level": a tensor core sums all K; "two levels": it sums 128, and these
    sums are added in float32.
    """
    g, K = torch.Generator().manual_seed(seed), max(widths)
    drawn = draw((rows, K), generator=g), draw((rows, K), generator=g)
    a_MK, b_FK = ((x / x.abs().max() * 448).to(torch.float8_e4m3fn) for x in drawn)
    out = {"one level": [], "two levels": []}
    for width in widths:
        a, b = a_MK[:, :width], b_FK[:, :width]
        exact = a.double() @ b.double().t()
        parts = [limited_sum(a[:, z : z + 128], b[:, z : z + 128]) for z in range(0, width, 128)]
        for name, found in (("one level", limited_sum(a, b)), ("two levels", sum(parts))):
            out[name].append(100 * ((found.double() - exact).abs().max() / exact.square().mean().sqrt()).item())
    return out


# --- the model --------------------------------------------------------------------------------------------------------


def documents() -> list:
    """The training documents of data/wordnet as ids."""
    return encode_documents(Tokenizer.load(data_path("nano")), load_corpus(data_path("wordnet")).train)


def held_out(rows: int) -> torch.Tensor:
    """Rows of 128 tokens of held-out text."""
    ids = encode_documents(Tokenizer.load(data_path("nano")), load_corpus(data_path("wordnet")).validation[: 8 * rows])
    return pack(ids, 128)[:rows]


def gradients(model: nn.Module, batch_BT: torch.Tensor, *names: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{name: (its input x_MD, the gradient of its output d_y_MF)} of these linear layers, for the next-token loss."""
    kept, hooks = {}, []

    def keep(name):
        def hook(module, inputs, output):
            kept[name] = [inputs[0].detach().flatten(0, -2), None]
            output.register_hook(lambda d_y: kept[name].__setitem__(1, d_y.detach().flatten(0, -2)))

        return hook

    for name in names:
        hooks.append(model.get_submodule(name).register_forward_hook(keep(name)))
    model.requires_grad_(True).train()
    model(batch_BT, labels=batch_BT).losses["next_token"].backward()
    model.zero_grad(set_to_none=True)
    for hook in hooks:
        hook.remove()
    return {name: tuple(pair) for name, pair in kept.items()}


def layer_gradient(model: nn.Module, batch_BT: torch.Tensor) -> torch.Tensor:
    """The next-token loss's gradient for all matrices of the layers, as one long vector."""
    matrices = layer_matrices(model)
    model.requires_grad_(True).train()
    model(batch_BT, labels=batch_BT).losses["next_token"].backward()
    parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in matrices]
    model.zero_grad(set_to_none=True)
    return torch.cat([part.flatten() for part in parts])


def layer_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights of all linear layers but the head."""
    return [m.weight for name, m in model.named_modules() if isinstance(m, nn.Linear) and name != "lm_head"]


@torch.no_grad()
def router_choices(model: nn.Module, batch_BT: torch.Tensor) -> Table:
    """How many tokens get another set of experts if a router's input and matrix go through fewer bits."""
    inputs = {}
    routers = {i: layer.mlp.gate for i, layer in enumerate(model.model.layers) if isinstance(layer.mlp, MoE)}
    hooks = [
        gate.register_forward_hook(lambda _, given, __, i=i: inputs.__setitem__(i, given[0].flatten(0, -2)))
        for i, gate in routers.items()
    ]
    model.eval()(batch_BT)
    for hook in hooks:
        hook.remove()

    def chosen(i, x_MD, weight_ED):
        scores_ME = (x_MD @ weight_ED.t()).sigmoid()
        return choose(scores_ME, routers[i].e_score_correction_bias, model.config)[0].sort(1).values

    rows = []
    for i, x_MD in inputs.items():
        weight_ED = routers[i].weight
        before = chosen(i, x_MD, weight_ED)
        fewer = {
            "bfloat16": (x_MD.bfloat16().float(), weight_ED.bfloat16().float()),
            "e4m3": (as_fp8(x_MD), quantise(weight_ED, BLOCKS).dequantise()),
        }
        moved = [(chosen(i, *pair) != before).any(1).float().mean().item() for pair in fewer.values()]
        rows.append((f"layer {i}", len(x_MD), *(f"{share:.1%}" for share in moved)))
    return Table(("", "tokens", "other experts in bfloat16", "other experts in FP8"), rows)


def recipe(model: nn.Module) -> Table:
    """Which of the model's matrices `use_fp8` multiplies in FP8, asked of the model, and how many numbers that is."""
    use_fp8(model)
    parts, total = {}, 0
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False)]
        if not own:
            continue
        parents = [model.get_submodule(name.rsplit(".", n)[0]) for n in range(1, name.count(".") + 1)]
        fp8 = any("forward" in m.__dict__ for m in (module, *parents))
        kind = type(module).__name__ if not isinstance(module, nn.Linear) else name.rsplit(".")[-1]
        count = sum(p.numel() for p in own)
        key = ("FP8" if fp8 else "as it was"), kind
        parts[key] = parts.get(key, 0) + count
        total += count
    release_fp8(model)
    rows = [(*key, count, f"{count / total:.1%}") for key, count in parts.items()]
    rows.sort(key=lambda row: (row[0] != "FP8", -row[2]))
    return Table(("products", "matrix or module", "numbers", "share"), rows)


# --- runs -------------------------------------------------------------------------------------------------------------


def masters(form: str, ids: list, seed: int, steps: int = 20, lr: float = 3e-4) -> dict:
    """Train NANO with AdamW, everything in float32, but keep the layers' matrices in `form` between the steps.

    `form`: "float32", "bfloat16", or "e4m3" with scales of 2^n for blocks of 128 x 128. Gives {"loss": of each step,
    "moved": the share of these numbers that each step changed}.
    """
    model = minimoe.Transformer(minimoe.NANO, seed=seed)
    settings = Settings(steps=steps, **{**SETTINGS, "optimizer": "adamw", "lr": lr})
    trainer = Trainer(model, Batches(ids, 2, 128, seed), settings)
    kept = [weight.data for weight in layer_matrices(model)]

    def store():
        for weight in kept:
            if form == "e4m3":
                weight.copy_(quantise(weight, BLOCKS, power_of_two=True).dequantise())
            else:
                weight.copy_(weight.to(FORMATS[form]).float())

    store()
    out = {"loss": [], "moved": []}
    while not trainer.done:
        before = [weight.clone() for weight in kept]
        out["loss"].append(trainer.step()["next_token"])
        store()
        changed = sum((a != b).sum().item() for a, b in zip(before, kept, strict=True))
        out["moved"].append(changed / sum(weight.numel() for weight in kept))
    return out


def study() -> dict[tuple[int, str], dict]:
    """The shipped runs of data/fp8: {(seed, "float32", "fp8" or "float32_reordered"): record}."""
    text = (data_path("fp8") / "results.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    return {(record["seed"], record["precision"]): record for record in records}
