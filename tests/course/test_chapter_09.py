"""What chapter 09 says in words is what its stored runs, its model and its formulas say."""

import copy
import json
import math
import random
from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.rl import rollout
from minimoe.rl.grpo import DR_GRPO, GRPO, R1, V3_2, policy_loss
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.rewards import accuracy
from minimoe.rl.tasks import Question
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import Chain, draw_problems
from minimoe_course import data_path
from minimoe_course.ch09 import token_weights

TASK = Chain(operations=6)


@pytest.fixture(scope="module")
def runs():
    lines = (data_path("terms") / "results.jsonl").read_text(encoding="utf-8").splitlines()
    found = {}
    for record in map(json.loads, lines):
        found.setdefault(record["variant"], {})[record["seed"]] = record
    return found


@pytest.fixture(scope="module")
def base():
    folder = data_path("reason")
    return minimoe.load(folder, dtype=torch.float32), Tokenizer.load(folder)


def right(runs, variant):
    return [run["after"]["accuracy"] for _, run in sorted(runs[variant].items())]


def test_every_variant_was_run_with_the_same_three_seeds(runs):
    assert len(runs) == 15
    single = {name for name, seeds in runs.items() if sorted(seeds) != [0, 1, 2]}
    assert single == {name for name in runs if name.startswith("4 rollouts")}


def test_without_a_baseline_nothing_is_learned_and_answers_get_shorter(runs):
    for name in ("no baseline", "no baseline, all rewards + 1"):
        for run in runs[name].values():
            assert run["after"]["accuracy"] < run["before"]["accuracy"] + 0.05
            assert run["curves"]["mean_tokens"][-1] < run["curves"]["mean_tokens"][0]


def test_the_other_terms_make_no_difference_here(runs):
    for name in (
        "reference",
        "no baseline, all rewards - 1",
        "no std",
        "no KL",
        "per token",
        "constant",
        "groups of 2",
    ):
        assert min(right(runs, name)) > 0.97, name


def test_per_token_the_same_missing_baseline_makes_answers_longer_and_the_model_learns(runs):
    for run in runs["no baseline, all rewards + 1, per token"].values():
        assert run["after"]["accuracy"] > 0.9
        assert run["curves"]["mean_tokens"][-1] > 2 * run["curves"]["mean_tokens"][0]


def test_when_every_answer_gets_the_same_nothing_is_learned_and_noise_moves_the_policy_by_ten_points(runs):
    ends = right(runs, "all rewards 1, per token")
    assert [round(100 * share) for share in ends] == [32, 23, 38]
    assert max(ends) < 0.5 < 0.9 < min(right(runs, "no baseline, all rewards + 1, per token"))
    assert max(abs(share - 0.26) for share in ends) > 0.1


def test_on_one_rollout_the_small_clip_holds_the_policy_back_and_the_large_one_does_not(runs):
    name = "1 rollout of 8 x 16, 16 updates, clip "
    assert min(right(runs, name + "10")) > 0.9 > 0.6 > max(right(runs, name + "0.2"))


def test_over_four_rollouts_both_arrive_in_the_few_seeds_that_were_run(runs):
    clipped, free = (right(runs, f"4 rollouts, 8 updates each, {name}") for name in ("clip 0.2", "no clip"))
    assert (len(clipped), len(free)) == (1, 2)
    assert clipped[0] > max(free) > min(free) > 0.9


def test_a_guess_is_rarely_right_and_a_thought_nearly_always(base):
    model, tokenizer = base
    questions = [Question(TASK, problem) for problem in draw_problems(TASK, 48, 99, held_out=True)]
    thoughts, guesses = [], []
    for group in rollout(model, tokenizer, questions, 8, 48, seed=0):
        for answer in group.answers:
            (thoughts if len(answer.tokens) > 20 else guesses).append(accuracy(group.question, answer))
    assert sum(guesses) / len(guesses) < 0.2
    assert sum(thoughts) / len(thoughts) > 0.8


def test_the_loss_at_ratio_one_is_zero_for_the_mean_over_responses_alone():
    advantages_B, lengths_B = torch.tensor([-0.5, -0.5, -0.5, 1.5]), torch.tensor([4, 2, 4, 29])
    mask_BT = torch.arange(29) < lengths_B[:, None]
    logprobs_BT = -torch.rand(4, 29)
    losses = {
        average: policy_loss(
            replace(R1, average=average, kl_weight=0.0), logprobs_BT, logprobs_BT, advantages_B, mask_BT, max_tokens=48
        )[0].item()
        for average in ("response", "token", "constant")
    }
    assert losses["response"] == pytest.approx(0.0, abs=1e-6)
    assert losses["token"] == pytest.approx(-38.5 / 39)
    assert losses["constant"] == pytest.approx(-38.5 / (4 * 48))


def test_a_clip_of_ten_has_no_lower_bound_and_v3_2_falls_silent_below_its_limit():
    assert 1 - R1.clip_low < 0 and 1 + R1.clip_high == 11
    assert math.exp(-V3_2.off_policy_limit) == pytest.approx(0.905, abs=5e-4)
    assert V3_2.advantage_scale == DR_GRPO.advantage_scale == "none" and GRPO.advantage_scale == "std"


def test_a_wrong_answer_of_29_tokens_is_punished_seven_times_less_a_token_than_one_of_4():
    short, long = token_weights(torch.tensor([4, 29]), torch.tensor([-1.0, -1.0]), "response", 48).tolist()
    assert short / long == pytest.approx(29 / 4) and 7 < short / long < 7.5


def test_with_one_update_a_rollout_the_width_of_the_clip_changes_nothing(base):
    model, tokenizer = base
    question = Question(TASK, draw_problems(TASK, 1, 3)[0])
    (group,) = rollout(model, tokenizer, [question], 4, 48, seed=1)
    rows = Rows.of([group.prompt] * 4, [answer.tokens for answer in group.answers])
    old_BT = rows.place([answer.logprobs for answer in group.answers])
    advantages_B, gradients = torch.tensor([1.0, -1.0, 0.5, -0.5]), []
    for clip in (0.2, 0.28, 10.0):
        policy = copy.deepcopy(model)
        logprobs_BT, _ = answer_logprobs(policy, rows)
        objective = replace(GRPO, clip_low=0.2, clip_high=clip, kl_weight=0.0)
        loss, _ = policy_loss(objective, logprobs_BT, old_BT, advantages_B, rows.mask_BS)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]))
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])


def test_the_noise_that_a_group_adds_falls_like_one_over_its_size_less_one():
    # Rewards of 1 with probability p, gradients of length 1 with random directions (no signal): c is 1.
    rng, p, draws = random.Random(0), 0.3, 20_000
    for size in (4, 16):
        perfect = group = 0.0
        for _ in range(draws):
            r = [float(rng.random() < p) for _ in range(size)]
            mean = sum(r) / size
            perfect += sum((x - p) ** 2 for x in r) / size**2
            group += sum((x - mean) ** 2 for x in r) / size**2 / (1 - 1 / size) ** 2
        assert group / perfect - 1 == pytest.approx(1 / (size - 1), rel=0.15)
