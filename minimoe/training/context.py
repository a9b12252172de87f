"""Stretching the context: a model trained on short rows is told to read long ones, and then trained a little more.

The weights stay; what changes is how fast the rotary pairs turn. A pair that never finished a turn within the trained
length meets angles beyond it that no weight has seen. YaRN slows such pairs down by the factor of the extension, so
that the longest row ends at the angles where training ended, and leaves the fast pairs alone, which tell neighbours
apart. The rest is training: DeepSeek-V3 needed two phases of 1,000 steps, at 32K and at 128K tokens, with the rate at
which its first phase ended.

`lengthen` changes nothing but the permitted length, to compare with. `practice` gives the rows that a model learns to
look things up from; `Needles` (in `inference.retrieval`) asks whether it can.

How the production version differs: V3 trains on long documents, not on made-up rows, in the same loop but with the
sequence split over GPUs; and the frequencies are switched by a config entry, as here.
"""

import copy
import random
from collections.abc import Iterator
from dataclasses import replace

import torch

from minimoe.config import ModelConfig
from minimoe.inference.retrieval import Needles
from minimoe.model.transformer import Transformer

__all__ = ["extend", "lengthen", "plain_config", "practice", "rebuild", "yarn_config"]

TOKENS_A_RECORD = 8


def yarn_config(
    config: ModelConfig, factor: float, beta_fast: float = 32, beta_slow: float = 1, mscale: float = 1.0
) -> ModelConfig:
    """The config with YaRN for rows `factor` times as long as the model was trained on.

    Pairs that turn more than `beta_fast` times within the trained length stay, those that turn less than `beta_slow`
    times are slowed down by `factor`, and the softmax is sharpened by (0.1 mscale ln(factor) + 1)^2. The defaults are
    DeepSeek-V3's, whose factor is 40.
    Raises ValueError for a config that is extended already, and for a factor of 1 or less.
    Source: arXiv 2309.00071 sections 3.2-3.4; arXiv 2412.19437 section 4.3. Chapter 06.
    """
    scaling = {
        "type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": config.max_position_embeddings,
        "beta_fast": beta_fast,
        "beta_slow": beta_slow,
        "mscale": mscale,
        "mscale_all_dim": mscale,
    }
    return replace(_longer(config, factor), rope_scaling=scaling)


def plain_config(config: ModelConfig) -> ModelConfig:
    """The config as it was before it was extended: without YaRN, at the length of the training before. Chapter 06."""
    if config.rope_scaling is None:
        return config
    original = config.rope_scaling["original_max_position_embeddings"]
    return replace(config, rope_scaling=None, max_position_embeddings=round(original))


def extend(
    model: Transformer, factor: float, beta_fast: float = 32, beta_slow: float = 1, mscale: float = 1.0
) -> Transformer:
    """The model with the same weights under `yarn_config`; the weights are copied, so `model` stays as it is.

    Raises ValueError for a model that is extended already, and for a factor of 1 or less. Chapter 06.
    """
    return rebuild(model, yarn_config(model.config, factor, beta_fast, beta_slow, mscale))


def lengthen(model: Transformer, factor: float) -> Transformer:
    """The model with the same weights, permitted to read `factor` times as far and changed in nothing: extrapolation.

    Raises as `extend` does. Chapter 06.
    """
    return rebuild(model, _longer(model.config, factor))


def _longer(config: ModelConfig, factor: float) -> ModelConfig:
    """The config with `factor` times the length."""
    if factor <= 1:
        raise ValueError(f"factor={factor} must be greater than 1: a context is stretched, not shortened")
    if config.rope_scaling is not None:
        by, from_length = (config.rope_scaling[name] for name in ("factor", "original_max_position_embeddings"))
        raise ValueError(
            f"the model is extended already, by {by} from {from_length} tokens: "
            f"extend the model that it was made from by {by * factor}"
        )
    return replace(config, max_position_embeddings=round(config.max_position_embeddings * factor))


def rebuild(model: Transformer, config: ModelConfig) -> Transformer:
    """A model of another config with copies of the weights, in their precision and place.

    Made on the meta device, where initial weights cost nothing; made anew, because attention reads its scale from the
    config when it is made. Raises RuntimeError for a config whose weights have other shapes.
    """
    with torch.device("meta"):
        made = Transformer(config)
    made.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    if config.tie_word_embeddings:
        made.lm_head.weight = made.model.embed_tokens.weight
    return made.train(model.training)


def practice(
    needles: Needles, sequences: int, row_tokens: int, seed: int = 0, records: int | None = None, questions=None
) -> Iterator[torch.Tensor]:
    """Batches for ever of rows that reward looking things up: records, questions about them with the answers, filler.

    A question follows its record anywhere in the row, and may be asked again. Every token is a target, so a good part
    of the loss cannot be learned; the answers can. `records`: how many a row has, one for 8 tokens unless given (and no
    more than there are keys); `questions`: as many as records unless given. Gives ids [sequences, row_tokens] (int64);
    a seed gives the same rows again. Raises ValueError for rows too short for what they are to hold. Chapter 06.
    """
    records = min(row_tokens // TOKENS_A_RECORD, len(needles.keys)) if records is None else records
    questions = records if questions is None else questions
    if not 1 <= records <= len(needles.keys):
        raise ValueError(f"records={records} in a row of row_tokens={row_tokens} is outside 1 to {len(needles.keys)}")
    if row_tokens < 2 * records + 3 * questions:
        raise ValueError(f"row_tokens={row_tokens} cannot hold records={records} and questions={questions}")
    draw = random.Random(f"practice {seed} {row_tokens}")
    while True:
        yield torch.tensor([_practice_row(needles, draw, row_tokens, records, questions) for _ in range(sequences)])


def _practice_row(needles: Needles, draw: random.Random, row_tokens: int, records: int, questions: int) -> list[int]:
    order = [True] * (records - 1) + [False] * questions  # True: a new record
    draw.shuffle(order)
    gaps = [0] * (records + questions + 1)
    for _ in range(row_tokens - 2 * records - 3 * questions):
        gaps[draw.randrange(len(gaps))] += 1
    keys, known = draw.sample(needles.keys, records), []
    row = draw.choices(needles.fillers, k=gaps[0])
    for is_record, gap in zip([True, *order], gaps[1:], strict=True):
        if is_record:
            known.append((keys[len(known)], draw.choice(needles.values)))
            row += known[-1]
        else:
            row += (needles.ask, *draw.choice(known))
        row += draw.choices(needles.fillers, k=gap)
    return row
