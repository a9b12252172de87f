"""From a folder that the reader names to a model that explorers can run, or to a sentence that says why not.

Any folder in the official layout will do: one of the course's, one that `minimoe.save` or transformers wrote, one that
was downloaded. The size is read from `config.json` before any weight is touched, because a folder of 671 billion
parameters must be refused and not attempted.

How the production version differs: a serving engine asks for the folder at start and dies with a stack trace.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from minimoe import Transformer, load
from minimoe.accounting import parameters
from minimoe.checkpoint import open_checkpoint
from minimoe.tokenizer import Tokenizer

__all__ = ["MOST_PARAMETERS", "ModelFolder", "open_folder", "shipped"]

MOST_PARAMETERS = 200_000_000  # 0.8 GB in float32


@dataclass(frozen=True)
class ModelFolder:
    """A model in float32, its tokenizer (None if the folder has none), what to know of both, and where they lie."""

    model: Transformer
    tokenizer: Tokenizer | None
    summary: str
    folder: Path


def shipped(data) -> dict[str, Path]:
    """The model folders below `data`, by name; nano, which the chapters use most, comes first."""
    data = Path(data)
    folders = [path.parent for path in data.rglob("config.json") if list(path.parent.glob("*.safetensors"))]
    ordered = sorted(folders, key=lambda folder: (folder.name != "nano", folder))
    return {folder.relative_to(data).as_posix(): folder for folder in ordered}


def open_folder(folder) -> ModelFolder:
    """Load the checkpoint in `folder`, and its tokenizer if it has one.

    Raises `FileNotFoundError` for a missing folder or file, and `ValueError` (`CheckpointError` among them) for an
    empty path, a broken checkpoint or tokenizer, and a model above `MOST_PARAMETERS`; each message names the folder or
    file.
    """
    if not str(folder).strip():
        raise ValueError("no folder is named: type the path of a folder with config.json and *.safetensors")
    folder = Path(str(folder).strip()).expanduser()
    config = open_checkpoint(folder).config
    total = parameters(config).total
    if total > MOST_PARAMETERS:
        raise ValueError(
            f"{folder} holds a model of {total / 1e9:,.1f} billion parameters; the explorers run up to "
            f"{MOST_PARAMETERS / 1e9:.1f} billion"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load(folder, dtype=torch.float32)
    tokenizer = Tokenizer.load(folder) if (folder / "tokenizer.json").exists() else None
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        file = folder / "tokenizer.json"
        raise ValueError(f"{file} has {tokenizer.vocab_size} tokens, the model {config.vocab_size}")
    notes = [f"{warning.message}." for warning in caught]
    notes += [] if tokenizer else ["No tokenizer.json: texts become random tokens, and some tabs stay empty."]
    return ModelFolder(model.eval(), tokenizer, " ".join([_summary(model), *notes]), folder)


def _summary(model) -> str:
    config, count = model.config, sum(parameter.numel() for parameter in model.parameters())
    experts, chosen = config.n_routed_experts, config.num_experts_per_tok
    routed = f"{experts} experts, {chosen} a token" if config.is_moe else "no experts"
    return (
        f"{count:,} parameters in {config.num_hidden_layers} layers, {routed}, "
        f"context {config.max_position_embeddings}."
    )
