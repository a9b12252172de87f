"""The official models as an oracle: transformers' DeepSeek classes with our weights, in float32 or truly in float64.

transformers computes its norms, rotary angles, router and softmax in float32 whatever the model's dtype, so a plain
`.double()` of it still rounds at 1e-7 and cannot tell a small mistake from rounding. `AllInFloat64` turns every float32
that its code asks for into float64; the difference to us then falls to the last bits, and any that remains is an error.
"""

import warnings
from contextlib import nullcontext

import torch
import transformers
from torch.overrides import TorchFunctionMode

import minimoe

transformers.logging.set_verbosity_error()  # it warns of every YaRN factor that no released model has

CLASSES = {
    "deepseek_v2": (transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM),
    "deepseek_v3": (transformers.DeepseekV3Config, transformers.DeepseekV3ForCausalLM),
}


class AllInFloat64(TorchFunctionMode):
    """Inside it, code that asks for float32 gets float64: `.float()`, `.to(torch.float32)`, `softmax(dtype=)`, ...

    `promoted` counts the requests by function name, so that a test can show that there was something to promote.
    """

    def __init__(self):
        super().__init__()
        self.promoted = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if func is torch.Tensor.float:
            func, asked = torch.Tensor.double, True
        else:
            asked = any(a is torch.float32 for a in (*args, *kwargs.values()))
        if asked:
            self.promoted[name] = self.promoted.get(name, 0) + 1
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()}
        return func(*args, **kwargs)


def exactly(dtype: torch.dtype):
    """The context in which an official model of this dtype computes in this dtype throughout."""
    return AllInFloat64() if dtype == torch.float64 else nullcontext()


def official(model: minimoe.Transformer, attention: str = "eager", experts: str = "eager"):
    """The official model with the weights and the dtype of `model`; call it inside `exactly(model.dtype)`.

    Its attention and expert code is the one that reads like the formulas, unless another is named. Loading is strict:
    a parameter that only one side has is an error.
    """
    config_class, model_class = CLASSES[model.config.model_type]
    values = model.config.to_dict()
    del values["architectures"]
    with exactly(model.dtype):
        config = config_class(**values, attn_implementation=attention, experts_implementation=experts)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # no shared experts
            theirs = model_class(config).to(model.dtype)  # the rotary frequencies are computed here
    state = fuse_experts(model.state_dict(), model.config)
    for name, tensor in theirs.state_dict().items():
        if tensor.numel() == 0:  # no shared experts: they hold matrices of no rows, we hold none
            state[name] = tensor
    theirs.load_state_dict(state, strict=True)
    used = (theirs.config._attn_implementation, theirs.config._experts_implementation)
    assert used == (attention, experts), f"transformers chose {used}"
    return theirs.eval()


def fuse_experts(state: dict, config: minimoe.ModelConfig) -> dict:
    """Checkpoint names (one matrix an expert) -> transformers' names in memory (gate over up, experts stacked).

    MTP modules are left out: the official classes have none.
    """
    kept = {k: v for k, v in state.items() if ".mlp.experts." not in k and not is_mtp(k, config)}
    for layer in range(config.first_k_dense_replace, config.num_hidden_layers):
        experts = f"model.layers.{layer}.mlp.experts"
        every = [f"{experts}.{e}" for e in range(config.n_routed_experts)]
        up = [torch.cat([state[f"{e}.gate_proj.weight"], state[f"{e}.up_proj.weight"]]) for e in every]
        kept[f"{experts}.gate_up_proj"] = torch.stack(up)
        kept[f"{experts}.down_proj"] = torch.stack([state[f"{e}.down_proj.weight"] for e in every])
    return kept


def is_mtp(name: str, config: minimoe.ModelConfig) -> bool:
    """Whether a parameter belongs to the MTP modules, which follow the last layer."""
    parts = name.split(".")
    return parts[:2] == ["model", "layers"] and int(parts[2]) >= config.num_hidden_layers


def official_gradients(theirs) -> dict[str, torch.Tensor]:
    """The gradients of an official model under checkpoint names, one an expert matrix; zeros where there is none."""
    split = {}
    for name, parameter in theirs.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if name.endswith("experts.gate_up_proj"):
            prefix = name.removesuffix(".gate_up_proj")
            for e, (gate, up) in enumerate(g.chunk(2) for g in gradient):
                split[f"{prefix}.{e}.gate_proj.weight"], split[f"{prefix}.{e}.up_proj.weight"] = gate, up
        elif name.endswith("experts.down_proj"):
            prefix = name.removesuffix(".down_proj")
            split |= {f"{prefix}.{e}.down_proj.weight": g for e, g in enumerate(gradient)}
        elif parameter.numel():
            split[name] = gradient
    return split


def router_margin(theirs, ids_BT: torch.Tensor) -> float:
    """How far the closest decision of any router was from falling the other way, in units of the biased score.

    For every token: the gap between the worst chosen and the best rejected expert, and between the worst kept and the
    best dropped group. Rounding that moves a score by less than half of it changes no choice. Written from the paper's
    formulas on the official model's own router logits, so that it shares nothing with the code under test.
    """
    logits, hooks = [], []
    for name, module in theirs.named_modules():
        if name.endswith("mlp.gate"):
            hooks.append(module.register_forward_hook(lambda gate, _, out: logits.append((gate, out[0].double()))))
    with torch.no_grad(), exactly(theirs.dtype):
        theirs(ids_BT, use_cache=False)
    for hook in hooks:
        hook.remove()
    return min((_margin_of(theirs.config, gate, z_ME) for gate, z_ME in logits), default=float("inf"))


def _margin_of(config, gate, z_ME) -> float:
    if config.model_type == "deepseek_v3":
        scores_ME, best = z_ME.sigmoid() + gate.e_score_correction_bias.double(), 2
        groups = config.n_group
    else:
        scores_ME, best = z_ME.softmax(-1), 1
        groups = config.n_group if config.topk_method == "group_limited_greedy" else 1
    by_group = scores_ME.unflatten(1, (groups, -1))
    totals = by_group.topk(best, -1).values.sum(-1)
    margin = _gap(totals, config.topk_group if groups > 1 else 1)
    if groups > 1:
        dropped = totals < totals.topk(config.topk_group, -1).values[:, -1:]
        scores_ME = by_group.masked_fill(dropped[..., None], -torch.inf).flatten(1)
    return min(margin, _gap(scores_ME, config.num_experts_per_tok))


def _gap(scores, kept: int) -> float:
    if kept == scores.shape[1]:
        return float("inf")
    ordered = scores.sort(-1, descending=True).values
    return (ordered[:, kept - 1] - ordered[:, kept]).min().item()
