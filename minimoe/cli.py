"""The command `minimoe`: count a model, train a small one, let one write.

    minimoe count V3                      what the published model costs, from its config
    minimoe count path/to/checkpoint      the same for any folder or config.json
    minimoe train --out my_model          a small model from a text, in minutes
    minimoe generate my_model "a tree is" its continuation
    minimoe r1 --out my_r1                R1's stages on a small base model, in a quarter of an hour

Counting reads a config and no weights. A mistake of the caller is one line on stderr and exit status 2; a traceback
means a mistake of ours.

How the production version differs: training and serving are separate programs with their own schedulers and monitors;
here they are two subcommands of a hundred lines.
"""

import argparse
import codecs
import os
import sys
import time
import warnings
from pathlib import Path

from minimoe.config import PRESETS, ModelConfig

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command on `arguments` (those of the process by default); gives the exit status."""
    arguments = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_: print(f"minimoe: warning: {message}", file=sys.stderr)
            arguments.run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print("minimoe: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"minimoe: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def find_config(model: str) -> ModelConfig:
    """The preset of that name (any case, "V2-Lite" or "v3.2" will do), or the config in that folder or file."""
    name = model.upper().replace("-", "_").replace(".", "_")
    if name in PRESETS:
        return PRESETS[name]
    if not Path(model).exists():
        presets = ", ".join(PRESETS)
        raise FileNotFoundError(f"{model!r} is neither a preset ({presets}) nor a folder or config.json that exists")
    return ModelConfig.from_json(model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minimoe", description="Count, train and run DeepSeek-shaped models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_count(commands)
    _add_train(commands)
    _add_generate(commands)
    _add_r1(commands)
    return parser


def _add_count(commands) -> None:
    count = commands.add_parser("count", help="parameters, bytes, cache and FLOPs of a model, from its config alone")
    count.description = "Print what a model costs, from its config alone: no weights are read."
    presets = ", ".join(PRESETS)
    count.add_argument("model", metavar="MODEL", help=f"a preset ({presets}), a checkpoint folder or a config.json")
    count.add_argument("--seq-len", type=int, default=4096, metavar="N", help="length for the FLOPs (default: 4096)")
    count.set_defaults(run=_count)


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="train a model on a text and save it with its tokenizer")
    train.description = (
        "Train a model on a text and save it in the official layout, with its tokenizer. "
        "A run that was stopped or killed goes on when the same command is given again."
    )
    train.add_argument("--out", required=True, metavar="FOLDER", help="where the checkpoint goes")
    train.add_argument("--config", default="NANO", metavar="MODEL", help="a preset or config.json (default: NANO)")
    train.add_argument("--text", metavar="FILE", help="the text to learn (default: the course's WordNet definitions)")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="stop after N optimizer steps")
    length.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds of CPU time (default: 60)")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and data order (default: 0)")
    train.add_argument("--optimizer", choices=("muon", "adamw"), help="default: muon")
    train.add_argument("--lr", type=float, metavar="RATE", help="peak learning rate (default: 0.01, which suits muon)")
    train.add_argument("--balance", choices=("loss_free", "aux", "none"), help="of the experts (default: loss_free)")
    train.add_argument("--fim", type=float, default=0.0, metavar="SHARE", help="fill-in-the-middle documents (V3: 0.1)")
    train.add_argument("--save-every", type=int, metavar="N", help="steps between saved states (default: 50)")
    train.set_defaults(run=_train)


def _add_generate(commands) -> None:
    generate = commands.add_parser("generate", help="let a checkpoint continue a text")
    generate.description = "Continue a text with the model and tokenizer of a checkpoint folder."
    generate.add_argument("folder", metavar="FOLDER", help="a folder with config.json, safetensors and tokenizer.json")
    generate.add_argument("text", metavar="TEXT", help="what to continue")
    generate.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="at most so many (default: 64)")
    generate.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 (default): the best token")
    generate.add_argument("--top-k", type=int, metavar="K", help="sample among the K best tokens")
    generate.add_argument("--top-p", type=float, metavar="P", help="sample among the best tokens that hold mass P")
    generate.add_argument("--seed", type=int, metavar="N", help="of the sampling")
    generate.add_argument("--speculative", action="store_true", help="let the MTP module draft; same text, fewer steps")
    generate.set_defaults(run=_generate)


def _add_r1(commands) -> None:
    r1 = commands.add_parser("r1", help="train R1-Zero and the four stages of R1 on a small base model")
    r1.description = (
        "Train a base model and from it R1-Zero and the four stages of R1, and score each stage on held-out problems. "
        "A run that was stopped or killed goes on when the same command is given again."
    )
    r1.add_argument("--out", required=True, metavar="FOLDER", help="where the stages go, a folder each")
    r1.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, problems and sampling (default: 0)")
    r1.set_defaults(run=_r1)


def _count(arguments) -> None:
    from minimoe.cli_count import report

    config = find_config(arguments.model)
    print(report(arguments.model, config, arguments.seq_len))


def _train(arguments) -> None:
    from minimoe.cli_train import run

    run(
        find_config(arguments.config),
        arguments.out,
        text_file=arguments.text,
        seed=arguments.seed,
        fim_rate=arguments.fim,
        steps=arguments.steps,
        cpu_seconds=arguments.seconds,
        optimizer=arguments.optimizer,
        lr=arguments.lr,
        balance=arguments.balance,
        save_every=arguments.save_every,
    )


def _r1(arguments) -> None:
    from minimoe.cli_r1 import run

    run(arguments.out, arguments.seed)


def _generate(arguments) -> None:
    from minimoe.checkpoint import load
    from minimoe.inference.generate import generate
    from minimoe.tokenizer import Tokenizer

    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {arguments.folder!r}")
    tokenizer = Tokenizer.load(folder)
    model = load(folder)
    begin = [] if model.config.bos_token_id is None else [model.config.bos_token_id]
    show = _Printer(tokenizer)
    print(arguments.text, end="", flush=True)
    start_s = time.perf_counter()
    result = generate(
        model,
        [begin + tokenizer.encode(arguments.text)],
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
        speculative=arguments.speculative,
        stream=show,
    )
    show.end()
    passed_s = time.perf_counter() - start_s
    accepted = "" if result.acceptance is None else f", {100 * result.acceptance:.0f}% of drafts accepted"
    pace = f"{show.count} tokens in {passed_s:.2f} s ({show.count / passed_s:.0f} a second), {result.steps} steps"
    print(pace + accepted, file=sys.stderr)


class _Printer:
    """Prints tokens as they come. A character may be cut in half between two tokens: it waits for its second half."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.special = set(tokenizer.special_tokens.values())
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.count = 0

    def __call__(self, row: int, token: int) -> None:
        self.count += 1
        if token not in self.special:
            print(self.decoder.decode(self.tokenizer.token_bytes(token)), end="", flush=True)

    def end(self) -> None:
        print(self.decoder.decode(b"", final=True), flush=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
