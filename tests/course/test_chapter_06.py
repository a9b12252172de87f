"""What chapter 06 says in words about its model and about the study of five seeds is what they show."""

import copy
from unittest.mock import patch

import pytest
import torch

import minimoe
from minimoe.inference.retrieval import Needles, retrieval
from minimoe.model.rope import rope_turns, softmax_scale
from minimoe.tokenizer import Tokenizer
from minimoe.training.context import extend
from minimoe_course.ch06 import hops, no_rope, recorded, share_of_seeds, spread
from minimoe_course.start import data_path

DEPTHS = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.fixture(scope="module")
def base():
    return minimoe.load(data_path("context") / "base", dtype=torch.float32).requires_grad_(False)


@pytest.fixture(scope="module")
def needles():
    return Needles.from_tokenizer(Tokenizer.load(data_path("context") / "base"))


def along(way):
    return [record["ways"][way]["along"] for record in recorded().values()]


@pytest.mark.parametrize("way, clear", [("yarn, betas 1", 2), ("yarn", 3)])
def test_the_dip_is_clear_in_some_seeds_and_the_median_turns_before_the_rows_of_512(way, clear):
    assert sum(seed["20"] - seed["60"] > 0.099 for seed in along(way)) == clear
    median = dict(zip(*share_of_seeds(way), strict=True))
    assert median[20] > median[60] < median[80]


def test_extrapolation_answers_at_512_in_every_seed_after_80_steps_on_rows_of_256():
    assert min(seed["80"] for seed in along("extrapolation")) >= 0.95


@pytest.mark.parametrize("way", ["yarn", "yarn, betas 1"])
def test_seed_0_is_the_worst_of_the_five_under_yarn(way):
    assert list(recorded())[0] == "0"
    first, *others = spread(way)[512]
    assert first < min(others)


def test_new_angles_without_a_crowd_cost_the_model_little(base, needles):
    def asked_from_afar(config, positions, dtype):
        return rope_turns(config, positions + 448 * (positions >= 62), dtype)

    ids, _ = needles.haystacks(1, 64, 0.5)
    plain = base(ids).logits_BTV
    with patch("minimoe.model.transformer.rope_turns", asked_from_afar):
        moved = base(ids).logits_BTV
        share = retrieval(base, needles, [64], DEPTHS, trials=24).by_length()[64]
    torch.testing.assert_close(moved[:, :62], plain[:, :62])
    assert not torch.allclose(moved[:, -1], plain[:, -1])  # the angles of the question are other ones
    # 120 questions: a share of 0.9 shows 0.8 or less with a probability of 0.1%
    assert share > 0.8


def test_both_looks_share_in_the_collapse_of_the_second(base, needles):
    """Sharpen one layer's softmax: the second look recovers in part by either, and most by both."""

    def second_look(*layers):
        model = copy.deepcopy(base)
        for layer in layers:
            model.model.layers[layer].self_attn.scale = softmax_scale(extend(base, 8).config)
        return hops(model, needles, 256)[1]

    nothing, first, second, both = second_look(), second_look(0), second_look(1), second_look(0, 1)
    assert nothing + 0.1 < min(first, second) and max(first, second) + 0.1 < both


def test_without_rotations_it_finds_more_than_a_blind_choice_among_the_four_records(base, needles):
    with patch("minimoe.model.mla.apply_rope", no_rope):
        share = retrieval(base, needles, [64], DEPTHS, trials=24).by_length()[64]
    blind = 1 / 4 + 3 / 4 * needles.chance  # the right record, or another with the same digit
    assert blind == pytest.approx(1 / 3, abs=0.01)
    assert share > blind + 0.1
