"""The policy's step: REINFORCE by hand, what is left out, what is split, what a second update meets."""

import statistics
from dataclasses import replace

import pytest
import torch
from tiny_policy import TOKENIZER, ask, policy, same, weights

import minimoe.rl.learner as learner_module
from minimoe.rl.grpo import BNPO, DAPO, DR_GRPO, GRPO, R1, Objective, group_advantages, policy_loss
from minimoe.rl.learner import Learner
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.rollout import rollout
from minimoe.rl.settings import RLSettings

PPO = Objective()
QUESTIONS = ask("3 1 4", "7", "2 6 5 3 5", "8 9", "1 6 1 8")
REWARDS = [[1, 0, 0, 0.5], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 1]]
LEARNABLE = 4 + 4 + 2  # answers whose advantage is not 0
SAMPLES = {}


def settings(objective=PPO, **changes) -> RLSettings:
    """Five groups of four; a clip of the gradient's norm that never acts."""
    return RLSettings(steps=9, prompts=5, answers=4, max_new_tokens=8, objective=objective, clip_norm=1e9, **changes)


def sample(temperature=1.0):
    """Groups of a float64 policy, sampled once for all tests."""
    if temperature not in SAMPLES:
        model = policy(dtype=torch.float64)
        SAMPLES[temperature] = rollout(model, TOKENIZER, QUESTIONS, 4, 8, temperature, seed=6)
    return SAMPLES[temperature]


def advantages(scale="std"):
    return group_advantages(torch.tensor(REWARDS, dtype=torch.float64), scale)


class Watched(Learner):
    """A learner of a float64 policy that notes gradients, rows and rates instead of stepping (`real`: and steps)."""

    def __init__(self, made: RLSettings, real=False, model=None):
        model = model or policy(dtype=torch.float64)
        super().__init__(model, policy(seed=1, dtype=torch.float64), made)
        self.grads, self.rates, self.rows, self.metrics, self.steps = [], [], [], [], [] if real else None
        for optimizer in self.optimizers:
            self._watch(optimizer, real)

    def _watch(self, optimizer, real):
        step = optimizer.step

        def noted():
            grads = [p.grad for p in self.model.parameters() if p.grad is not None]
            self.grads.append([grad.clone() for grad in grads])
            self.rates.append([group["lr"] for group in optimizer.param_groups])
            if real:
                step()

        optimizer.step = noted

    def _pass(self, rows, *rest):
        self.rows.append(len(rows))
        found = super()._pass(rows, *rest)
        self.metrics.append(found)
        return found


def assert_same_gradients(mine, theirs, tolerance=1e-9):
    """Tolerance: `Rows.place` keeps what was sampled as float32, so a ratio starts within 6e-8 of 1."""
    assert len(mine) == len(theirs) > 20 and sum(grad.abs().max() > 1e-3 for grad in mine) > 20
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=1e-6)


def gradients_of(loss, model):
    return list(torch.autograd.grad(loss, [p for n, p in model.named_parameters() if ".layers.2." not in n]))


def reinforce_by_hand(model, average: str, divided: bool):
    """-(average of A log pi), token by token from the definition; A = (r - mean) / (deviation + 1e-4)."""
    answers = [answer for group in sample() for answer in group.answers]
    responses, tokens, total = len(answers), sum(len(answer.tokens) for answer in answers), 0.0
    for group, rewards in zip(sample(), REWARDS, strict=True):
        scale = statistics.stdev(rewards) + 1e-4 if divided else 1.0
        for answer, reward in zip(group.answers, rewards, strict=True):
            A = (reward - statistics.mean(rewards)) / scale
            logits_TV = model(torch.tensor([group.prompt + answer.tokens]), mtp=False).logits_BTV[0]
            chosen = [
                logits_TV[len(group.prompt) - 1 + i].log_softmax(-1)[token] for i, token in enumerate(answer.tokens)
            ]
            weight = {"response": len(answer.tokens) * responses, "token": tokens, "constant": responses * 8}[average]
            total = total - A * sum(chosen) / weight
    return gradients_of(total, model)


@pytest.mark.parametrize(
    "objective, average, divided",
    [(PPO, "response", True), (DAPO, "token", True), (DR_GRPO, "constant", False)],
    ids=["grpo", "dapo", "dr_grpo"],
)
def test_the_first_update_is_reinforce_with_the_group_for_a_baseline(objective, average, divided):
    learner = Watched(settings(objective))
    learner.learn(sample(), advantages(objective.advantage_scale), lr=0.5)
    by_hand = reinforce_by_hand(policy(dtype=torch.float64), average, divided)
    assert_same_gradients(learner.grads[0], by_hand, tolerance=1e-7)


@pytest.mark.parametrize("objective", [PPO, BNPO, DR_GRPO], ids=["response", "token", "constant"])
def test_what_is_left_out_changes_neither_loss_nor_gradient(objective):
    """Beside it, the same loss over all twenty answers, by one call."""
    learner = Watched(settings(objective))
    found = learner.learn(sample(), advantages(), lr=0.5)
    assert learner.rows == [LEARNABLE]
    model = policy(dtype=torch.float64)
    answers = [answer for group in sample() for answer in group.answers]
    rows = Rows.of([group.prompt for group in sample() for _ in range(4)], [answer.tokens for answer in answers])
    logprobs_BS, _ = answer_logprobs(model, rows)
    old_BS = rows.place([answer.logprobs for answer in answers])
    loss, _ = policy_loss(objective, logprobs_BS, old_BS, advantages().flatten(), rows.mask_BS, max_tokens=8)
    assert found["loss"] == pytest.approx(loss.item(), abs=1e-7)
    assert_same_gradients(learner.grads[0], gradients_of(loss, model), tolerance=1e-7)


def test_with_a_kl_term_every_answer_takes_part():
    learner, without = Watched(settings(GRPO)), Watched(settings(PPO))
    found = learner.learn(sample(), advantages(), lr=0.5)
    without.learn(sample(), advantages(), lr=0.5)
    assert learner.rows == [20] and found["kl"] > 0.1
    pairs = zip(learner.grads[0], without.grads[0], strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) > 1e-3


@pytest.mark.parametrize("objective", [PPO, BNPO, DR_GRPO, GRPO, R1], ids=["response", "token", "constant", "kl", "r1"])
def test_passes_of_three_rows_equal_one_pass(objective, monkeypatch):
    whole = Watched(settings(objective, temperature=1.3))
    once = whole.learn(sample(1.3), advantages(), lr=0.5)
    monkeypatch.setattr(learner_module, "ROWS", 3)
    parts = Watched(settings(objective, temperature=1.3))
    thrice = parts.learn(sample(1.3), advantages(), lr=0.5)
    assert max(parts.rows) == 3 and sum(parts.rows) == whole.rows[0] and len(parts.rows) > 3
    assert thrice == pytest.approx(once, abs=1e-9, rel=1e-6) and once["entropy"] > 0.5
    assert_same_gradients(parts.grads[0], whole.grads[0])


def test_ratios_start_at_one_and_move_with_the_second_update():
    learner = Watched(settings(replace(PPO, clip_low=0.001, clip_high=0.001), updates=2), real=True)
    learner.learn(sample(), advantages(), lr=0.02)
    first, second = learner.metrics
    assert first["ratio_mean"] == pytest.approx(1, abs=1e-6) and first["clip_fraction"] == 0
    assert abs(second["ratio_mean"] - 1) > 1e-3 and 0 < second["clip_fraction"] < 1


def test_a_clip_takes_the_gradient_of_what_has_moved_too_far():
    groups = [replace(group) for group in sample()]
    moved = [replace(a, logprobs=[value - 0.5 for value in a.logprobs]) for a in groups[0].answers]  # ratio 1.65
    groups[0] = replace(groups[0], answers=moved)
    only_first = advantages().masked_fill(torch.arange(5)[:, None] > 0, 0.0)
    clipped, free = Watched(settings(PPO)), Watched(settings(replace(PPO, clip_high=10.0)))
    clipped.learn(groups, only_first.abs(), lr=0.5)
    assert clipped.metrics[0]["clip_high_fraction"] == 1
    assert all(not grad.any() for grad in clipped.grads[0])
    free.learn(groups, only_first.abs(), lr=0.5)
    assert free.metrics[0]["clip_fraction"] == 0 and any(grad.abs().max() > 1e-3 for grad in free.grads[0])


@pytest.mark.parametrize(("updates", "shares"), [(1, [20]), (2, [8, 12]), (3, [4, 8, 8]), (4, [4, 4, 4, 8])])
def test_there_are_as_many_updates_as_asked_for_and_every_group_is_in_one(updates, shares):
    learner = Watched(settings(R1, updates=updates))
    learner.learn(sample(), advantages(), lr=0.5)
    assert learner.rows == shares and len(learner.grads) == updates


def test_a_share_without_anything_to_learn_from_makes_no_update():
    learner = Watched(settings(PPO, updates=5))
    found = learner.learn(sample(), advantages(), lr=0.5)
    assert learner.rows == [4, 4, 2] and len(learner.grads) == 3
    alone = Watched(settings(PPO, updates=5), real=False)
    alone.learn(sample(), advantages().masked_fill(torch.arange(5)[:, None] > 0, 0.0), lr=0.5)
    assert_same_gradients(alone.grads[0], learner.grads[0])
    assert found["entropy"] == pytest.approx(statistics.mean(part["entropy"] for part in learner.metrics))


def test_nothing_to_learn_from_changes_nothing():
    learner = Watched(settings(PPO), real=True)
    before = weights(learner.model)
    assert learner.learn(sample(), torch.zeros(5, 4), lr=0.5, measure_kl=False) == {}
    assert same(weights(learner.model), before) and learner.grads == []


def test_the_divergence_is_measured_where_it_is_asked_for_or_in_the_loss():
    def keys(objective, measure_kl):
        return set(Watched(settings(objective)).learn(sample(), advantages(), lr=0.5, measure_kl=measure_kl))

    assert "kl" in keys(PPO, True) and "kl" not in keys(PPO, False) and "kl" in keys(R1, False)
    rest = {"loss", "grad_norm", "entropy", "clip_fraction", "clip_low_fraction", "clip_high_fraction", "ratio_mean"}
    assert keys(PPO, False) == rest | {"masked_fraction"}


def test_the_divergence_is_that_from_the_reference():
    learner = Watched(settings(PPO))
    found = learner.learn(sample(), advantages(), lr=0.5)
    total, tokens = 0.0, 0
    for group, row in zip(sample(), advantages().tolist(), strict=True):
        for answer, advantage in zip(group.answers, row, strict=True):
            if not advantage:
                continue
            ids = torch.tensor([group.prompt + answer.tokens])
            with torch.no_grad():
                policy_TV = learner.model(ids, mtp=False).logits_BTV[0].log_softmax(-1)
                reference_TV = learner.reference(ids, mtp=False).logits_BTV[0].log_softmax(-1)
            for i, token in enumerate(answer.tokens, start=len(group.prompt) - 1):
                x = (reference_TV[i, token] - policy_TV[i, token]).item()
                total, tokens = total + 2.718281828459045**x - x - 1, tokens + 1
    assert found["kl"] == pytest.approx(total / tokens, rel=1e-9)
    assert all(p.grad is None for p in learner.reference.parameters())


def test_the_step_is_adamw_at_the_given_rate_on_a_clipped_gradient():
    made = replace(settings(PPO), clip_norm=0.01)
    learner, other = Watched(made, real=True), policy(dtype=torch.float64)
    norm = learner.learn(sample(), advantages(), lr=0.003)["grad_norm"]
    assert learner.rates == [[0.003, 0.003, 0.003]] and norm > 0.1  # before the clip
    clipped = sum(grad.square().sum() for grad in learner.grads[0]).sqrt()
    assert clipped.item() == pytest.approx(0.01, rel=1e-3)
    step = torch.optim.AdamW([p for n, p in other.named_parameters() if ".layers.2." not in n], 0.003, (0.9, 0.95))
    for group in step.param_groups:
        group["weight_decay"] = 0.0
    for parameter, grad in zip(step.param_groups[0]["params"], learner.grads[0], strict=True):
        parameter.grad = grad
    step.step()
    for mine, theirs in zip(weights(learner.model), weights(other), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)
    assert not same(weights(learner.model), weights(policy(dtype=torch.float64)))
    assert all(parameter.grad is None for parameter in learner.model.parameters()) and not learner.model.training


def test_a_gradient_that_is_no_number_stops_the_run_and_leaves_the_weights():
    learner = Watched(settings(PPO), real=True)
    before = weights(learner.model)
    with pytest.raises(ValueError, match="the gradient's norm is nan: lower lr=0.0003"):
        learner.learn(sample(), advantages().masked_fill(torch.arange(4) > 2, float("nan")), lr=0.5)
    assert same(weights(learner.model), before) and learner.grads == []
    learner.learn(sample(), advantages(), lr=0.5)  # what was left of the broken pass is not in the next one
    fresh = Watched(settings(PPO))
    fresh.learn(sample(), advantages(), lr=0.5)
    assert_same_gradients(learner.grads[0], fresh.grads[0])
