"""The reward model: Bradley-Terry by hand, learning a taste, and the rule that uses it."""

import math
import random

import pytest
import torch
from tiny_policy import CONFIG, TOKENIZER

import minimoe
from minimoe.rl.preference import Pair, RewardModel, draw_pairs, pair_accuracy, preference, train_reward_model
from minimoe.rl.rollout import Answer
from minimoe.rl.tasks import Question
from minimoe.training.reasoning import document, encode_document


class Longer:
    """A toy taste: of two replies the longer one is better."""

    name = "longer"

    def quality(self, problem, response):
        return len(response)


def reply(rng, problem):
    return "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 7)))


def fresh():
    return RewardModel(minimoe.Transformer(CONFIG, seed=3))


def pairs(count, seed):
    return draw_pairs(Longer(), [str(i % 10) for i in range(count)], reply, seed)


def test_the_better_reply_of_a_pair_comes_first_and_draws_repeat():
    found = pairs(40, 0)
    assert all(len(pair.preferred) > len(pair.rejected) for pair in found)
    assert found == pairs(40, 0) != pairs(40, 1)


def test_replies_that_are_all_equally_good_are_refused():
    with pytest.raises(ValueError, match="equally good"):
        draw_pairs(Longer(), ["1"], lambda rng, problem: "same", 0)


def test_an_untrained_model_scores_nothing_and_its_first_loss_is_log_2():
    model = fresh()
    assert train_reward_model(model, TOKENIZER, pairs(8, 0), steps=1, pairs_a_step=8)[0] == pytest.approx(math.log(2))


def test_the_loss_is_bradley_terrys_on_numbers_by_hand():
    model, pair = fresh(), Pair("1", "22", "3")
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        better, worse = (
            model([encode_document(TOKENIZER, document(pair.problem, text))]).item()
            for text in (pair.preferred, pair.rejected)
        )
    loss = train_reward_model(model, TOKENIZER, [pair], steps=1, pairs_a_step=1, lr=1e-9)[0]
    assert loss == pytest.approx(math.log(1 + math.exp(worse - better)), abs=1e-5)  # one batch pads, the other does not


def test_padding_changes_no_score():
    model, rng = fresh(), random.Random(0)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    rows = [encode_document(TOKENIZER, document("1", reply(rng, "1"))) for _ in range(5)]
    with torch.no_grad():
        together_B = model(rows)
        for i, row in enumerate(rows):
            assert model([row]).item() == pytest.approx(together_B[i].item(), abs=1e-5)


def test_it_learns_a_taste_that_holds_on_other_pairs():
    model, held_out = fresh(), pairs(60, 1)
    losses = train_reward_model(model, TOKENIZER, pairs(120, 0), steps=60, lr=3e-3)
    assert sum(losses[-5:]) / 5 < 0.3 and pair_accuracy(model, TOKENIZER, held_out) > 0.85


def test_the_rule_scores_ended_answers_of_its_task_alone():
    model, task, other = fresh(), Longer(), Longer()
    other.name = "other"
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    rule = preference(model, TOKENIZER, "longer")
    ended, cut = Answer([], [], "77", True), Answer([], [], "77", False)
    with torch.no_grad():
        score = model([encode_document(TOKENIZER, document("1", "77"))]).sigmoid().item()
    assert rule(Question(task, "1"), ended) == pytest.approx(score) == rule(Question(task, "1"), ended)
    assert rule(Question(task, "1"), cut) == 0 == rule(Question(other, "1"), ended)


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="3 pairs do not fill a step of pairs_a_step=16"):
        train_reward_model(fresh(), TOKENIZER, pairs(3, 0), steps=1)
