"""What `minimoe train` does: a text in, a folder in the official layout out.

The tokenizer is learned from the same text, with as many tokens as the config's vocabulary; one line is one document,
and one line in a hundred is held out to measure the loss on. Everything that can be refused is refused before the
first step.

How the production version differs: tokenizer, data and model are made by separate jobs on separate machines.
"""

import os
from pathlib import Path

import torch

from minimoe.accounting import parameters
from minimoe.checkpoint import save
from minimoe.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.tokenizer import Tokenizer
from minimoe.training import Settings, load_corpus, train
from minimoe.training.data import Batches, encode_documents, pack
from minimoe.training.fim import fill_in_the_middle
from minimoe.training.loop import LOG_NAME
from minimoe.training.snapshot import STATE_NAME, read_state

__all__ = ["run"]

COURSE_TEXT = Path(__file__).resolve().parents[1] / "data" / "wordnet"
ROW_TOKENS, SEQUENCES = 128, 8
HELD_OUT_EVERY, VALIDATION_ROWS = 100, 64
TRAINING_BYTES = 16  # a parameter in float32, its gradient, and two numbers of the optimizer


def run(config: ModelConfig, out, text_file=None, seed: int = 0, fim_rate: float = 0.0, **settings) -> None:
    """Train `config` on the text and write model, tokenizer and history into the folder `out`.

    While it runs, the folder holds the run's state and log; the same call goes on from them after a kill. `settings`
    are those of `Settings`; without `steps` and `cpu_seconds` it stops after 60 seconds of CPU time. `fim_rate`: the
    share of documents that are rearranged for filling in the middle. Raises `ValueError` or `OSError`, before training,
    for a text that is missing or too short, a model that the memory cannot hold, a folder that cannot be made or holds
    another run.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    if not {"steps", "cpu_seconds"} & settings.keys():
        settings["cpu_seconds"] = 60.0
    settings = Settings(**settings)
    _check_memory(config)
    training, validation = _documents(text_file)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"text: {len(training):,} documents, {len(validation):,} held out", flush=True)
    tokenizer = Tokenizer.train(training, config.vocab_size)
    row_tokens = min(ROW_TOKENS, config.max_position_embeddings)
    held_out = pack(encode_documents(tokenizer, validation), row_tokens)[:VALIDATION_ROWS]
    documents = encode_documents(tokenizer, training)
    if fim_rate:
        documents = fill_in_the_middle(documents, tokenizer, fim_rate, seed)
    model = Transformer(config, seed=seed)
    print(f"model: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    before = read_state(out)
    if before is not None:
        print(f"going on from step {before['steps']} of the run in {out}", flush=True)
    history = train(model, Batches(documents, SEQUENCES, row_tokens, seed), settings, held_out, folder=out)
    save(model, out, dtype=torch.bfloat16)
    tokenizer.save(out)
    history.save(out / "history.jsonl")
    for name in (STATE_NAME, LOG_NAME):  # the run is over: what is left is the model and its history
        (out / name).unlink()
    last = history.records[-1]
    print(
        f"{out}: {len(history)} steps, {last['tokens']:,} tokens, {last['cpu_s']:.0f} s of CPU time, "
        f"held-out loss {last['validation']:.3f} nats a token"
    )


def _documents(text_file) -> tuple[list[str], list[str]]:
    """Documents to train on, and documents to measure on."""
    if text_file is None:
        if not COURSE_TEXT.is_dir():
            raise FileNotFoundError(f"the course's text is not at {COURSE_TEXT}; name another with --text FILE")
        corpus = load_corpus(COURSE_TEXT)
        return corpus.train, corpus.validation
    try:
        lines = Path(text_file).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{text_file} is not text in UTF-8: {error}") from None
    documents = [line for line in lines if line.strip()]
    if len(documents) < 2:
        raise ValueError(f"{text_file} has {len(documents)} lines of text; one document a line, and at least 2")
    held_out = documents[::HELD_OUT_EVERY]
    return [d for i, d in enumerate(documents) if i % HELD_OUT_EVERY], held_out


def _check_memory(config: ModelConfig) -> None:
    count = parameters(config)
    needed = TRAINING_BYTES * (count.total + count.mtp)
    try:
        present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    if needed > present:
        raise ValueError(
            f"training {count.total + count.mtp:,} parameters takes about {needed / 1e9:,.0f} GB, "
            f"this machine has {present / 1e9:,.0f} GB"
        )
