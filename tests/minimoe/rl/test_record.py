"""What a run shows of its answers: pieces, log-probabilities under policy and start, rewards, advantages."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_policy import ODD, SHOWN, TOKENIZER, ask, policy

from minimoe.rl.grpo import DR_GRPO
from minimoe.rl.record import GROUPS_NAME, describe_group, read_groups
from minimoe.rl.rewards import Rewards
from minimoe.rl.rollout import rollout
from minimoe.rl.settings import RLSettings

SETTINGS = RLSettings(steps=1, answers=5, max_new_tokens=6, temperature=1.4)


def described(rewards=ODD, settings=SETTINGS, start=None):
    (group,) = rollout(policy(), TOKENIZER, ask("3 1 7"), 5, 6, settings.temperature, seed=19)
    return group, describe_group(group, rewards, start or policy(seed=1), TOKENIZER, settings)


def test_every_token_has_its_text_and_both_its_log_probabilities():
    """Tolerance: four digits are kept."""
    group, found = described()
    start = policy(seed=1)
    assert found["problem"] == "3 1 7" and len(found["answers"]) == 5
    for answer, shown in zip(group.answers, found["answers"], strict=True):
        assert shown["pieces"] == [TOKENIZER.decode([token]) for token in answer.tokens]
        assert "".join(shown["pieces"]).removesuffix("<｜end▁of▁sentence｜>") == answer.text == shown["text"]
        assert shown["logprobs"] == pytest.approx(answer.logprobs, abs=5.1e-5)
        with torch.no_grad():
            logits_TV = start(torch.tensor([group.prompt + answer.tokens]), mtp=False).logits_BTV[0]
        after = len(group.prompt) - 1
        slow = [(logits_TV[after + i] / 1.4).log_softmax(-1)[token].item() for i, token in enumerate(answer.tokens)]
        assert shown["reference"] == pytest.approx(slow, abs=6e-5)
        assert shown["ended"] == answer.ended
    assert {answer["ended"] for answer in found["answers"]} == {True, False}


def test_at_the_start_policy_and_start_agree():
    _, found = described(start=policy())
    for answer in found["answers"]:
        assert answer["reference"] == pytest.approx(answer["logprobs"], abs=2e-4) and min(answer["logprobs"]) < -1


def test_rewards_and_advantages_are_those_of_the_group():
    rules = Rewards({"odd": (2.0, ODD.rules["odd"][1]), "tokens": (0.5, lambda question, answer: len(answer.tokens))})
    group, found = described(rules)
    totals = [2 * answer["parts"]["odd"] + 0.5 * answer["parts"]["tokens"] for answer in found["answers"]]
    mean = sum(totals) / 5
    deviation = (sum((total - mean) ** 2 for total in totals) / 4) ** 0.5
    for answer, shown, total in zip(group.answers, found["answers"], totals, strict=True):
        assert shown["parts"] == rules.score(group.question, answer)
        assert shown["reward"] == pytest.approx(total, abs=5.1e-5)
        assert shown["advantage"] == pytest.approx((total - mean) / (deviation + 1e-4), abs=6e-5)
    undivided = described(rules, replace(SETTINGS, objective=DR_GRPO))[1]
    for shown, total in zip(undivided["answers"], totals, strict=True):
        assert shown["advantage"] == pytest.approx(total - mean, abs=6e-5)


def test_answers_that_are_worth_the_same_have_no_advantage():
    _, found = described(SHOWN)
    assert {answer["advantage"] for answer in found["answers"]} == {0.0}


def test_a_description_is_plain_and_leaves_no_gradient():
    start = policy(seed=1)
    _, found = described(start=start)
    assert json.loads(json.dumps(found)) == found
    assert all(parameter.grad is None for parameter in start.parameters())


def test_groups_are_read_up_to_a_step_without_an_unfinished_line(tmp_path):
    written = [{"step": step, "problem": problem} for step in (0, 2, 4) for problem in ("一", "b")]
    text = "".join(json.dumps(group) + "\n" for group in written)
    (tmp_path / GROUPS_NAME).write_text(text + '{"step": 6, "pro', encoding="utf-8")
    assert read_groups(tmp_path) == written
    assert read_groups(tmp_path, until=2) == written[:4] and read_groups(tmp_path, until=0) == written[:2]
    assert read_groups(tmp_path / "elsewhere") == []
