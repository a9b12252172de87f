"""The stretched model has the same weights and other angles; practice rows ask only what they have told."""

import itertools
from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.inference.retrieval import Needles
from minimoe.model.rope import softmax_scale
from minimoe.training import Settings, train
from minimoe.training.context import extend, lengthen, plain_config, practice, rebuild, yarn_config

CONFIG = replace(
    minimoe.NANO,
    vocab_size=60,
    hidden_size=16,
    num_hidden_layers=2,
    intermediate_size=16,
    moe_intermediate_size=8,
    qk_rope_head_dim=16,
    rope_theta=100.0,
    max_position_embeddings=64,
)
NEEDLES = Needles.from_vocabulary(60)


@pytest.fixture
def model():
    return minimoe.Transformer(CONFIG, seed=0)


def logits(model, tokens=24, seed=1):
    ids_BT = torch.randint(0, 60, (2, tokens), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(ids_BT, mtp=False).logits_BTV


def test_the_extended_config_is_yarn_over_the_trained_length(model):
    config = extend(model, 8).config
    assert config.max_position_embeddings == 512
    assert config.rope_scaling == {
        "type": "yarn", "factor": 8, "original_max_position_embeddings": 64,
        "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    }  # fmt: skip
    assert replace(config, rope_scaling=None, max_position_embeddings=64) == CONFIG


def test_v3s_own_extension_comes_out_of_its_factor():
    before = plain_config(minimoe.V3)
    assert (before.rope_scaling, before.max_position_embeddings) == (None, 4096)
    assert yarn_config(before, 40) == minimoe.V3
    assert plain_config(before) == before


def test_an_extension_can_be_taken_back(model):
    back = rebuild(extend(model, 8), plain_config(extend(model, 8).config))
    assert back.config == CONFIG and torch.equal(logits(back), logits(model))


@pytest.mark.parametrize("stretch", [extend, lengthen])
def test_weights_are_equal_and_not_shared(model, stretch):
    longer = stretch(model, 4)
    for (name, ours), theirs in zip(longer.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr(), name
    assert all(parameter.requires_grad for parameter in longer.parameters())
    before = logits(model)
    train(longer, practice(NEEDLES, 2, 32), Settings(steps=2, lr=1e-3), label=None)
    assert torch.equal(logits(model), before)


def test_an_extended_model_computes_as_one_built_with_that_config(model):
    longer = extend(model, 8)
    built = minimoe.Transformer(longer.config, seed=0)
    built.load_state_dict(model.state_dict())
    assert torch.equal(logits(longer), logits(built))
    assert not torch.equal(logits(longer), logits(model))
    assert longer.model.layers[0].self_attn.scale == softmax_scale(longer.config) > softmax_scale(CONFIG)


def test_an_extended_model_is_saved_and_read_back(model, tmp_path):
    longer = extend(model, 8)
    minimoe.save(longer, tmp_path)
    assert torch.equal(logits(minimoe.load(tmp_path)), logits(longer))


def test_lengthening_changes_no_number(model):
    longer = lengthen(model, 8)
    assert longer.config.max_position_embeddings == 512 and torch.equal(logits(longer), logits(model))


def test_precision_and_ties_survive(model):
    half = extend(minimoe.Transformer(CONFIG, seed=0).to(torch.bfloat16), 2)
    assert half.dtype == torch.bfloat16
    tied = extend(minimoe.Transformer(replace(CONFIG, tie_word_embeddings=True), seed=0), 2)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight


@pytest.mark.parametrize("stretch", [extend, lengthen])
@pytest.mark.parametrize("factor", [1, 0.5, -2])
def test_a_factor_that_stretches_nothing_is_refused(model, stretch, factor):
    with pytest.raises(ValueError, match=f"factor={factor} must be greater than 1"):
        stretch(model, factor)


def test_extending_twice_is_refused_with_the_factor_that_was_meant(model):
    with pytest.raises(ValueError, match=r"extended already, by 4 from 64 tokens.*by 8"):
        extend(extend(model, 4), 2)


def test_every_question_has_been_told_and_is_answered_as_told():
    asked = 0
    for row in next(practice(NEEDLES, 12, 64)).tolist():
        told = {}
        assert len(row) == 64
        for place, token in enumerate(row):
            if token in NEEDLES.keys:
                if row[place - 1] == NEEDLES.ask and place:
                    assert told[token] == row[place + 1]
                    asked += 1
                else:
                    assert told.setdefault(token, row[place + 1]) == row[place + 1]
        assert len(told) == 8
    assert asked == 12 * 8


def test_practice_rows_follow_the_seed_and_the_counts():
    first, again, other = (next(practice(NEEDLES, 2, 32, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    rows = next(practice(NEEDLES, 3, 32, records=2, questions=5))
    assert [(row == NEEDLES.ask).sum().item() for row in rows] == [5, 5, 5]


@pytest.mark.parametrize(
    ("tokens", "changes", "message"),
    [
        (4, {}, "records=0 in a row of row_tokens=4"),
        (32, {"records": 13}, "records=13 in a row of row_tokens=32 is outside 1 to 12"),
        (20, {"records": 4, "questions": 5}, "row_tokens=20 cannot hold records=4 and questions=5"),
    ],
)
def test_rows_that_cannot_be_made_are_refused(tokens, changes, message):
    with pytest.raises(ValueError, match=message):
        next(practice(NEEDLES, 1, tokens, **changes))


def test_a_second_phase_lowers_the_loss_on_long_rows(model):
    longer = extend(model, 4)
    rows = torch.cat(list(itertools.islice(practice(NEEDLES, 4, 128, seed=9), 2)))
    settings = Settings(steps=12, lr=3e-3)
    history = train(longer, practice(NEEDLES, 4, 128), settings, validation=rows, label=None)
    assert history["next_token"][-1] < history["next_token"][0] - 0.1
