"""Saving and loading: a model in memory, a folder in the official layout, and nothing in between.

A folder with `config.json` and safetensors files *is* the model. minimoe writes what DeepSeek publishes, so
transformers and inference engines read it, and reads what DeepSeek publishes, FP8 blocks included. Two promises hold
on the way. Loading checks everything before any weight changes: each name, shape and dtype, against the configuration
and the files' sizes. And saving moves files into place only once all are written: a full disk costs the new
checkpoint, never the old one.

The two copies that an MTP module has of embedding and head are written and, on reading, compared with the originals:
the model in memory shares them, so a file in which they differ cannot be represented and is refused.

How the production version differs: every rank of a training job writes its own shards at once and asynchronously
(torch.distributed.checkpoint), and optimizer states, three times the size of the weights, travel along.
"""

import warnings
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from minimoe.checkpoint_files import Checkpoint, CheckpointError, open_checkpoint
from minimoe.checkpoint_fit import check_copies, check_counts, check_fit, depth
from minimoe.checkpoint_layout import BIAS, layer_entries, layout, shared_name
from minimoe.checkpoint_write import write_folder
from minimoe.config import ModelConfig
from minimoe.model.mtp import MTPModule
from minimoe.model.transformer import DecoderLayer, Transformer

__all__ = ["CheckpointError", "load", "load_into", "load_layer", "open_checkpoint", "save"]

DTYPE_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
FP8_CONFIG = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}


def save(
    model: Transformer, folder, dtype: torch.dtype | None = None, max_shard_bytes: float = 5e9, fp8: bool = False
) -> None:
    """Write `model` into `folder` in the official layout: config.json and one safetensors file, or shards and an index.

    `dtype=None` keeps the model's precision; the router's bias is float32 always. `fp8=True` stores the matrices of
    attention and feed-forward blocks as FP8 with a scale per 128 x 128 block. A file is closed before it would exceed
    `max_shard_bytes`. Other files in the folder (tokenizer.json) stay; an older checkpoint is replaced at the end.

    Raises `OSError` if writing fails, leaving the folder as it was; `ValueError` for a model whose parameters are not
    those of its config, a dtype that is not a float's, or (FP8) weights that are NaN or infinite.
    Source: README_WEIGHTS.md of deepseek-ai/DeepSeek-V3 @9b4e9788. Chapter 00.
    """
    config = replace(model.config, quantization_config=FP8_CONFIG if fp8 else None)
    entries = layout(config, DTYPE_NAMES[_float_dtype(dtype or model.dtype)], fp8)
    state = model.state_dict()
    wanted = {shared_name(config, name): entry.shape for name, entry in layout(config).items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items() if shared_name(config, name) == name}
    for name in wanted.keys() | found.keys():
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"parameter {name!r}: the config makes it {wanted.get(name)}, the model has {found.get(name)}"
            )
    written = config.to_dict() | {"torch_dtype": str(dtype or model.dtype).removeprefix("torch.")}
    write_folder(folder, written, entries, lambda name: state[shared_name(config, name)], max_shard_bytes)


def load(folder, dtype: torch.dtype | None = None, device="cpu") -> Transformer:
    """The model that a checkpoint folder holds.

    `dtype=None` keeps the stored precision (FP8 matrices become that of the embedding); another dtype converts. The
    router's bias is float32 always. If the config announces MTP modules and the files hold none of their tensors, as
    in folders that transformers wrote, the model is built without them and a warning says so.

    Raises `CheckpointError`, before anything of the model's size is made, for whatever is missing, unknown, mis-shaped,
    truncated or contradictory; `FileNotFoundError` if there is no checkpoint. Never unpickles. Chapter 00.
    """
    source = open_checkpoint(folder)
    config = _without_absent_mtp(source)
    dtype = _checked_dtype(source, config, dtype)
    if config.num_nextn_predict_layers != source.config.num_nextn_predict_layers:
        said = f"num_nextn_predict_layers={source.config.num_nextn_predict_layers}, but the files hold no such layer"
        warnings.warn(f"{source.folder}: {said}; loaded without MTP modules", stacklevel=2)
    with torch.device("meta"), _Hollow():
        model = Transformer(config)
    _adopt(model, "", partial(_read, source, dtype=dtype, device=device))
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def load_into(model: Transformer, folder) -> None:
    """Replace the weights of `model` by those in `folder`, in the model's own precision and place; all of them or none.

    Everything is checked and read first (so the weights are in memory twice), then copied. The tensors must be those of
    `model.config`; the folder's config.json is asked only for its FP8 block size. Optimizers keep their parameters.

    Raises what `load` raises; the model is then unchanged. Chapter 00.
    """
    source = open_checkpoint(folder)
    config = replace(model.config, quantization_config=source.config.quantization_config)
    _checked_dtype(source, config, model.dtype)
    current = model.state_dict()
    state = {
        name: source.read(shared_name(config, name), tensor.dtype).to(tensor.device) for name, tensor in current.items()
    }
    model.load_state_dict(state)


def load_layer(
    folder, layer: int, part: str | None = None, dtype: torch.dtype | None = None, device="cpu"
) -> nn.Module:
    """One decoder layer of a checkpoint, however large: only that layer's tensors are checked and read.

    Shards that hold other layers may be absent. `part` names a piece of the layer ("self_attn", "mlp.gate",
    "mlp.experts.7"): a routed layer of V3 takes 23 GB in bfloat16, its attention 0.37 GB. Layers past the last are the
    MTP modules. Gives the module that `Transformer` would hold there, or its part.

    Raises what `load` raises, about this layer; `ValueError` for a layer or part that the config does not have.
    Chapter 00.
    """
    source = open_checkpoint(folder)
    config = source.config
    layers = config.num_hidden_layers + config.num_nextn_predict_layers
    if not 0 <= layer < layers:
        raise ValueError(f"layer={layer}: the config has layers 0 to {layers - 1}, MTP modules included")
    with torch.device("meta"), _Hollow():
        module = DecoderLayer(config, layer)
        if layer >= config.num_hidden_layers:
            module = MTPModule(config, module)
    prefix = f"model.layers.{layer}."
    if part is not None:
        try:
            module = module.get_submodule(part)
        except AttributeError as error:
            raise ValueError(f"part={part!r}: layer {layer} has no such module ({error})") from None
        prefix += f"{part}."
    wanted = {name: entry for name, entry in layer_entries(config, layer).items() if name.startswith(prefix)}
    stored = check_fit(source, config, wanted, source.names(prefix), dtype is not None)
    dtype = _float_dtype(dtype or DTYPES.get(stored, torch.bfloat16))
    _adopt(module, prefix, partial(_read, source, dtype=dtype, device=device))
    return module


class _Hollow(TorchFunctionMode):
    """Modules built inside draw no initial weights: a file has them, and without memory there is nothing to fill."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        # On device "meta" these would import 800 modules, which takes a second, and compute nothing.
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _checked_dtype(source: Checkpoint, config: ModelConfig, dtype: torch.dtype | None) -> torch.dtype:
    """Check the whole folder against `config`; gives the dtype to load in."""
    if dtype is not None:
        _float_dtype(dtype)
    check_counts(source, config)
    source.check_files()
    stored = check_fit(source, config, layout(config), source.names(), converting=dtype is not None)
    check_copies(source, config)
    return dtype or DTYPES[stored]


def _float_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in DTYPE_NAMES:
        raise ValueError(f"dtype={dtype} is not one of {', '.join(map(str, DTYPE_NAMES))}")
    return dtype


def _without_absent_mtp(source: Checkpoint) -> ModelConfig:
    """The folder's config; without MTP modules if the files end with the trunk's last layer."""
    config = source.config
    announced = config.num_nextn_predict_layers
    return replace(config, num_nextn_predict_layers=0 if depth(source) == config.num_hidden_layers else announced)


def _read(source: Checkpoint, name: str, dtype: torch.dtype, device) -> torch.Tensor:
    kept = torch.float32 if name.endswith(BIAS) else dtype
    return source.read(shared_name(source.config, name), kept).to(device)


def _adopt(module: nn.Module, prefix: str, read) -> None:
    """Give a module without memory (device "meta") the tensors that `read` returns."""
    state = {name: read(prefix + name) for name in module.state_dict()}
    module.load_state_dict(state, assign=True)
