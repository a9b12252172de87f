"""The table that `minimoe count` prints: plain text, numbers aligned, nothing that is not computed from the config.

How the production version differs: model pages print one number, the stored elements, and call them parameters.
"""

from minimoe.accounting import Parameters, cache_bytes, cache_elements, flops, parameters, stored
from minimoe.config import ModelConfig

__all__ = ["report"]

LABELS = {
    "embedding": "input embedding",
    "attention": "attention",
    "indexer": "sparse-attention indexer",
    "dense": "dense feed-forward",
    "shared": "shared experts",
    "routed": "routed experts",
    "router": "router",
    "norms": "norms",
    "head": "output head",
}


def report(name: str, config: ModelConfig, seq_len: int = 4096) -> str:
    """What `minimoe.accounting` says of `config`, as text. Raises `ValueError` if `seq_len` is below 1."""
    count = parameters(config)
    blocks = [
        f"{name}: {describe(config)}",
        _parameters(count),
        _activated(count),
        _stored(config),
        _running(config, seq_len),
    ]
    return "\n\n".join(blocks)


def describe(config: ModelConfig) -> str:
    """The model's shape in a line."""
    dense = sum(not config.layer_is_moe(i) for i in range(config.num_hidden_layers))
    said = [config.model_type, f"{config.num_hidden_layers} layers, {dense} of them dense"]
    if config.is_moe:
        said.append(f"{config.n_routed_experts} routed experts of which a token uses {config.num_experts_per_tok}")
        said.append(f"{config.n_shared_experts} shared")
    if config.num_nextn_predict_layers:
        said.append(f"{config.num_nextn_predict_layers} MTP")
    return ", ".join(said)


def _parameters(count: Parameters) -> str:
    used = count.activated_parts
    rows = [("Parameters", "in all", "for one token")]
    rows += [(f"  {LABELS[part]}", _n(n), _n(used[part])) for part, n in count.parts.items() if part in LABELS]
    rows.append(("  main model", _n(count.total), _n(count.activated.with_embedding_and_head)))
    if count.mtp:
        modules = "MTP module" if len(count.mtp_layers) == 1 else f"{len(count.mtp_layers)} MTP modules"
        rows.append((f"  {modules}, beside the shared embedding and head", _n(count.mtp), ""))
    return _table(rows)


def _activated(count: Parameters) -> str:
    a = count.activated
    unit, name = (1e9, "billions") if a.with_neither >= 1e9 else (1e6, "millions")
    conventions = {
        "with embedding and head": a.with_embedding_and_head,
        "with head only (DeepSeek's figure)": a.with_head,
        "with neither (Moonlight's figure)": a.with_neither,
    }
    rows = [(f"  {said}", _n(n), f"{n / unit:.3f}") for said, n in conventions.items()]
    return _table([("Activated for one token", "", f"in {name}"), *rows])


def _stored(config: ModelConfig) -> str:
    method = (config.quantization_config or {}).get("quant_method", "fp8")
    if method != "fp8":
        return f"Stored: not counted, the checkpoint is quantised by {method!r}"
    files = stored(config)
    copies = ", MTP copies of embedding and head included" if config.num_nextn_predict_layers else ""
    rows = [("Stored" + copies, "numbers", "bytes")]
    for dtype, n in files.elements.items():
        scales = f" ({_n(files.scales)} of them scales)" if dtype == "F32" and files.scales else ""
        rows.append((f"  {dtype}{scales}", _n(n), ""))
    return _table([*rows, ("  in all", _n(files.total), _n(files.bytes))])


def _running(config: ModelConfig, seq_len: int) -> str:
    work = flops(config, seq_len)
    rows = [("Cache for one token", "elements", "bytes")]
    rows.append(("  bfloat16", _n(cache_elements(config)), _n(cache_bytes(config))))
    if config.is_mla:
        rows.append(("  FP8 in FlashMLA's layout", "", _n(cache_bytes(config, precision="fp8"))))
    rows += [
        ("", "", ""),
        (f"FLOPs for one token, sequence of {_n(seq_len)}", "forward", "training"),
        ("  weights", _gigaflops(work.linear), _gigaflops(3 * work.linear)),
        ("  attention (causal)", _gigaflops(work.attention), _gigaflops(3 * work.attention)),
    ]
    if work.indexer:
        rows.append(("  indexer", _gigaflops(work.indexer), _gigaflops(3 * work.indexer)))
    return _table([*rows, ("  in all", _gigaflops(work.forward), _gigaflops(work.training))])


def _n(number: float) -> str:
    return f"{number:,}"


def _gigaflops(operations: float) -> str:
    billions = operations / 1e9
    return f"{billions:,.2f} G" if billions >= 1 else f"{operations / 1e6:,.2f} M"


def _table(rows: list[tuple[str, str, str]]) -> str:
    lines = [f"{label:<52}{first:>18}{second:>18}".rstrip() for label, first, second in rows]
    return "\n".join(lines)
