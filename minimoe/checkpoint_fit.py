"""Does a checkpoint fit a model? Every disagreement between files and configuration, found before a weight is touched.

A checkpoint that almost fits is worse than none: a model with one expert left at its random start still writes fluent
text. So everything that is not exactly right is an error that names the tensor, what was found and what was expected.
One exception: some published files carry `rotary_emb.inv_freq`, a table that every program computes for itself.

How the production version differs: transformers warns about missing and unexpected names and goes on.
"""

import re
from dataclasses import replace

import torch

from minimoe.checkpoint_files import Checkpoint, CheckpointError
from minimoe.checkpoint_layout import BIAS, LEFTOVER, SCALE, Entry, layout, shared_name
from minimoe.config import ModelConfig

__all__ = ["check_copies", "check_counts", "check_fit", "depth"]

FLOATS = ("F32", "BF16", "F16", "F64")
SHOWN = 6  # problems listed in one message


def depth(source: Checkpoint) -> int:
    """How many layers the files hold, MTP modules included: one more than the highest layer number in a name."""
    return 1 + max(
        (int(m[1]) for name in source.names() if (m := re.match(r"model\.layers\.(\d{1,9})\.", name))), default=-1
    )


def check_counts(source: Checkpoint, config: ModelConfig) -> None:
    """The files' layers and experts are as many as the config's: one sentence instead of a thousand missing names."""
    found, expected = depth(source), config.num_hidden_layers + config.num_nextn_predict_layers
    if found != expected:
        told = (
            f"num_hidden_layers={config.num_hidden_layers}, num_nextn_predict_layers={config.num_nextn_predict_layers}"
        )
        raise CheckpointError(f"{source.folder}: the files hold {found} layers, expected {expected} ({told})")
    experts = [int(m[1]) for name in source.names() if (m := re.search(r"\.mlp\.experts\.(\d{1,9})\.", name))]
    expected = config.n_routed_experts if config.layer_is_moe(found - 1) else 0
    found = max(experts, default=-1) + 1
    if found != expected:
        raise CheckpointError(f"{source.folder}: the files hold {found} routed experts, n_routed_experts={expected}")


def check_fit(
    source: Checkpoint, config: ModelConfig, wanted: dict[str, Entry], names: list[str], converting: bool
) -> str | None:
    """Compare the stored tensors `names` with the `wanted` ones; gives the precision they are stored in ("BF16", ...).

    Unless `converting`, all tensors must share one precision, apart from FP8 weights, their scales and the router's
    bias. None if there are only such. Raises `CheckpointError` listing what does not fit.
    """
    problems = [
        f"tensor {name!r} is missing, expected {list(e.shape)}" for name, e in wanted.items() if name not in source
    ]
    wanted = wanted | {name: entry for name, entry in _heads_of_tied(config).items() if name in names}
    problems += [problem for name in names if (problem := _unknown(source, wanted, name))]
    dtypes = {name: source.entry(name).dtype for name in wanted if name in source}
    problems += [problem for name in dtypes if (problem := _misfit(source, name, wanted[name]))]
    problems += _fp8_unlike_config(config, [dtypes[name] for name in dtypes if wanted[name].may_be_fp8])
    floats = [name for name, dtype in dtypes.items() if dtype in FLOATS and not name.endswith(BIAS)]
    common = dtypes[floats[0]] if floats else None
    for name in floats:
        if dtypes[name] != common and not converting:
            expected = f"{common} like {floats[0]!r}; load(..., dtype=) converts"
            problems.append(_found(source, name, f"dtype {dtypes[name]}", expected))
    _raise(source, problems)
    return common


def _misfit(source: Checkpoint, name: str, entry: Entry) -> str | None:
    """What is wrong with the shape or dtype of one stored tensor, or None."""
    stored = source.entry(name)
    if stored.shape != entry.shape:
        return _found(source, name, f"shape {list(stored.shape)}", f"{list(entry.shape)}")
    if stored.dtype != "F8_E4M3":
        fits = stored.dtype in FLOATS
        return None if fits else _found(source, name, f"dtype {stored.dtype}", f"one of {', '.join(FLOATS)}")
    if not entry.may_be_fp8:
        return _found(source, name, "dtype F8_E4M3", "high precision: only attention and feed-forward matrices are FP8")
    try:
        source.scale_of(name)
    except CheckpointError as error:
        return str(error)
    return None


def _fp8_unlike_config(config: ModelConfig, dtypes: list[str]) -> list[str]:
    """Do `dtypes`, of the matrices that FP8 is for, agree with the config's `quantization_config`?"""
    announced, found = config.quantization_config, dtypes.count("F8_E4M3")
    if not announced:
        return [f"config.json has no quantization_config, but {found} weights are F8_E4M3"] if found else []
    method, kind = announced.get("quant_method"), announced.get("fmt", "e4m3")
    if (method, kind) != ("fp8", "e4m3"):
        return [f"quantization_config has quant_method={method!r}, fmt={kind!r}; minimoe reads 'fp8', 'e4m3'"]
    if dtypes and not found:
        return [f"quantization_config announces FP8, but of {len(dtypes)} weights that could be none is F8_E4M3"]
    return []


def _heads_of_tied(config: ModelConfig) -> dict[str, Entry]:
    """With tied embeddings the head need not be stored, and some files store it all the same."""
    if not config.tie_word_embeddings:
        return {}
    tied, untied = layout(config), layout(replace(config, tie_word_embeddings=False))
    return {name: entry for name, entry in untied.items() if name not in tied}


def _unknown(source: Checkpoint, wanted: dict[str, Entry], name: str) -> str | None:
    """What is wrong with a stored tensor that the model may not have, or None."""
    if name in wanted or LEFTOVER.fullmatch(name):
        return None
    weight = name.removesuffix(SCALE)
    if weight == name or weight not in wanted or weight not in source:
        return f"tensor {name!r} in {source.entry(name).file} is unknown to the model that config.json describes"
    dtype = source.entry(weight).dtype
    return None if dtype == "F8_E4M3" else f"tensor {name!r} holds FP8 scales, but {weight!r} is {dtype}"


def _found(source: Checkpoint, name: str, found: str, expected: str) -> str:
    return f"tensor {name!r} in {source.entry(name).file}: found {found}, expected {expected}"


def check_copies(source: Checkpoint, config: ModelConfig) -> None:
    """The files' copies of embedding and head (in MTP modules; tied heads) hold the same bytes as the originals."""
    problems = []
    for name in layout(config) | _heads_of_tied(config):
        original = shared_name(config, name)
        if original == name or name not in source:
            continue
        a, b = source.read(name), source.read(original)
        if a.dtype != b.dtype or not torch.equal(a.view(torch.uint8), b.view(torch.uint8)):
            count = int((a != b).sum())
            said = f"tensor {name!r} differs from {original!r} in {count} of {a.numel()} numbers"
            problems.append(f"{said}; in this model they are one tensor")
    _raise(source, problems)


def _raise(source: Checkpoint, problems: list[str]) -> None:
    if not problems:
        return
    more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    lines = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise CheckpointError(f"{source.folder} cannot be loaded, {count}:{lines}{more}")
