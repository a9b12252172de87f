"""GRPO and its relatives: TRL's numbers (trl_golden.py), five numbers by hand, properties, edges, errors."""

import json
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from minimoe.rl.grpo import (
    BNPO,
    CISPO,
    DAPO,
    DR_GRPO,
    GRPO,
    GSPO,
    OBJECTIVES,
    R1,
    V3_2,
    Objective,
    group_advantages,
    policy_loss,
)

GOLDEN = json.loads((Path(__file__).parent / "trl_golden.json").read_text())
PPO = Objective()
LUSPO = Objective(ratio="sequence", average="constant")  # with max_tokens=1: a sum over each response's tokens

# TRL's case -> ours. CISPO's epsilon_high is the bound itself in TRL, ours is counted from 1.
VARIANTS = {
    "grpo": PPO,
    "bnpo": BNPO,
    "dr_grpo": DR_GRPO,
    "dapo": DAPO,
    "clip_higher": replace(PPO, clip_high=0.5),
    "two_sided": replace(PPO, two_sided=1.5),
    "cispo": replace(CISPO, clip_high=0.3),
    "cispo_5": CISPO,
    "gspo": replace(GSPO, clip_low=0.02, clip_high=0.03),
    "gspo_two_sided": replace(GSPO, clip_low=0.02, clip_high=0.03, two_sided=1.05),
    "luspo": replace(LUSPO, clip_low=0.02, clip_high=0.03),
    "k3": GRPO,
    "unbiased_kl": replace(GRPO, kl="unbiased"),
    "r1": R1,
    "off_policy": replace(PPO, off_policy_limit=0.1),
    "v3_2": V3_2,
    "dapo_k3": Objective(average="token", kl_weight=0.04),
    "gspo_unbiased_kl": Objective(ratio="sequence", kl="unbiased", kl_weight=0.04),
}


def golden_tensors():
    given = {name: torch.tensor(values) for name, values in GOLDEN["inputs"].items()}
    given["mask"] = given["mask"].bool()
    return given


def loss_and_grad(objective, given, **options):
    """Loss, gradient, metrics of the given tensors (`logps`, `old`, `advantages`, `mask`, `reference`)."""
    logps = given["logps"].clone().requires_grad_()
    arguments = logps, given["old"], given["advantages"], given["mask"], given.get("reference")
    loss, metrics = policy_loss(objective, *arguments, **options)
    loss.backward()
    return loss.item(), logps.grad, metrics


def random_batch(B=5, T=6, seed=0, dtype=torch.float64, spread=0.4):
    generator = torch.Generator().manual_seed(seed)
    logps = -torch.rand(B, T, generator=generator, dtype=dtype) * 3 - 0.05
    noise = torch.randn(2, B, T, generator=generator, dtype=dtype) * spread
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    mask = torch.arange(T) < lengths[:, None]
    advantages = torch.randn(B, generator=generator, dtype=dtype)
    return {"logps": logps, "old": logps + noise[0], "reference": logps + noise[1], "mask": mask} | {
        "advantages": advantages - advantages.mean()
    }


# -- TRL ----------------------------------------------------------------------------------------------------------


def test_every_case_of_the_golden_file_has_its_objective():
    assert set(VARIANTS) == set(GOLDEN["cases"])


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_gradient_are_trls(name):
    # float32 on both sides, sums of 26 numbers near 1: 1e-6 is about ten roundings; measured: 6e-8 or less.
    case = GOLDEN["cases"][name]
    max_tokens = 1 if name == "luspo" else GOLDEN["max_tokens"]
    loss, grad, _ = loss_and_grad(VARIANTS[name], golden_tensors(), max_tokens=max_tokens)
    assert abs(loss - case["loss"]) <= 1e-6
    torch.testing.assert_close(grad, torch.tensor(case["grad"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in VARIANTS if VARIANTS[name].ratio == "token"])
def test_metrics_are_trls(name):
    # TRL's clip shares of sequence ratios are means over responses, ours are always over tokens
    trl = GOLDEN["cases"][name]["metrics"]
    _, _, metrics = loss_and_grad(VARIANTS[name], golden_tensors(), max_tokens=GOLDEN["max_tokens"])
    names = {
        "kl": "kl",
        "clip_ratio/low_mean": "clip_low_fraction",
        "clip_ratio/high_mean": "clip_high_fraction",
        "clip_ratio/region_mean": "clip_fraction",
        "cispo_clip_ratio": "clip_high_fraction",
    }
    shared = {theirs: ours for theirs, ours in names.items() if theirs in trl}
    assert shared
    if VARIANTS[name].two_sided is not None:  # TRL counts after the cut; a cut ratio is still above the clip
        assert trl["clip_ratio/high_mean"] > 0
    for theirs, ours in shared.items():
        assert metrics[ours] == pytest.approx(trl[theirs], abs=1e-6), theirs


def test_the_golden_file_tells_the_variants_apart():
    # a tensor set on which two variants agree would let one pass for the other
    cases = GOLDEN["cases"].values()
    assert len({case["loss"] for case in cases}) == len({str(case["grad"]) for case in cases}) == len(cases)


@pytest.mark.parametrize("ours, theirs", [("std", "group"), ("batch", "batch"), ("none", "none")])
def test_advantages_are_trls(ours, theirs):
    # rewards up to 100: one float32 rounding of a centred reward is 4e-6
    advantages = group_advantages(torch.tensor(GOLDEN["rewards"]), ours)
    torch.testing.assert_close(advantages.flatten(), torch.tensor(GOLDEN["advantages"][theirs]), atol=4e-6, rtol=1e-6)


# -- by hand ------------------------------------------------------------------------------------------------------


def test_advantages_of_five_answers_by_hand():
    # two of five are right: mean 0.4, squares 2 * 0.36 + 3 * 0.16 = 1.2, std = sqrt(1.2 / 4) = 0.5477
    rewards = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0]])
    expected = [0.6 / 0.547823, -0.4 / 0.547823, 0.6 / 0.547823, -0.4 / 0.547823, -0.4 / 0.547823]
    assert group_advantages(rewards)[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert group_advantages(rewards, "none")[0].tolist() == pytest.approx([0.6, -0.4, 0.6, -0.4, -0.4], abs=1e-6)


FIVE = {
    "logps": torch.tensor([[0.5, 0.5, 0.6], [0.2, 0.3, 0.9]]).log(),
    "old": torch.tensor([[0.4, 0.5, 0.5], [0.4, 0.2, 0.9]]).log(),
    "reference": torch.tensor([[0.5, 0.25, 0.6], [0.2, 0.3, 0.9]]).log(),
    "mask": torch.tensor([[True, True, True], [True, True, False]]),
    "advantages": torch.tensor([1.0, -1.0]),
}
"""Five tokens: ratios 1.25, 1, 1.2 of a good answer, 0.5, 1.5 of a bad one; the reference differs on the second."""


@pytest.mark.parametrize(
    "objective, expected",
    [
        # good: min(1.25, 1.2) + 1 + 1.2 = 3.4; bad: min(-0.5, -0.8) + min(-1.5, -1.2) = -2.3
        (PPO, -(3.4 / 3 - 2.3 / 2) / 2),
        (BNPO, -(3.4 - 2.3) / 5),
        (DR_GRPO, -(3.4 - 2.3) / (2 * 8)),
        (replace(PPO, clip_high=0.28), -(3.45 / 3 - 2.3 / 2) / 2),
        (replace(PPO, two_sided=1.3), -(3.4 / 3 - 2.1 / 2) / 2),
        # k3 at x = 1/2: 1/2 + ln 2 - 1 = 0.19315, and the ratio there is 1
        (replace(PPO, kl_weight=1.0), -(3.4 / 3 - 2.3 / 2) / 2 + 0.193147 / 3 / 2),
        (replace(PPO, kl_weight=1.0, kl="unbiased"), -(3.4 / 3 - 2.3 / 2) / 2 + 0.193147 / 3 / 2),
        # bad answer: mean of log(pi_old / pi) = (ln 2 - ln 1.5) / 2 = 0.1438
        (replace(PPO, off_policy_limit=0.14), -3.4 / 3 / 2),
        (replace(PPO, off_policy_limit=0.15), -(3.4 / 3 - 2.3 / 2) / 2),
        # (1.25 * 1.2) ** (1/3) = 1.144714 -> 1.1; (0.5 * 1.5) ** (1/2) = 0.866025 -> 0.9
        (Objective(ratio="sequence", clip_low=0.1, clip_high=0.1), -(1.1 - 0.9) / 2),
        # 1.25 ln .5 + ln .5 + 1.2 ln .6 = -2.172572; .5 ln .2 + 1.4 ln .3 = -2.490281
        (replace(CISPO, clip_high=0.4), -(-2.172572 + 2.490281) / 5),
    ],
)
def test_five_tokens_by_hand(objective, expected):
    loss, _, _ = loss_and_grad(objective, FIVE, max_tokens=8)
    assert loss == pytest.approx(expected, abs=1e-6)


def test_metrics_of_five_tokens_by_hand():
    _, _, metrics = loss_and_grad(replace(PPO, off_policy_limit=0.14), FIVE)
    assert metrics == pytest.approx(
        {
            "kl": 0.193147 / 5,
            "clip_fraction": 2 / 5,
            "clip_low_fraction": 1 / 5,
            "clip_high_fraction": 1 / 5,
            "ratio_mean": (1.25 + 1 + 1.2 + 0.5 + 1.5) / 5,
            "masked_fraction": 2 / 5,
        },
        abs=1e-6,
    )


def test_the_gradient_vanishes_where_the_clip_holds():
    # 1.25 > 1.2 and A > 0; 0.5 < 0.8 and A < 0. The ratio 1.5 with A < 0 is not clipped: it must come down.
    _, grad, _ = loss_and_grad(PPO, FIVE)
    assert grad[0, 0] == 0 and grad[1, 0] == 0
    assert grad[1, 1].item() == pytest.approx(1.5 / 2 / 2, abs=1e-6)
    assert grad[0, 1].item() == pytest.approx(-1 / 3 / 2, abs=1e-6)


def test_cispo_keeps_the_gradient_where_the_clip_holds():
    _, grad, _ = loss_and_grad(replace(CISPO, clip_high=0.2), FIVE)
    assert grad[0, 0].item() == pytest.approx(-1.2 / 5, abs=1e-6)
    assert grad[1, 0].item() == pytest.approx(0.5 / 5, abs=1e-6)


# -- presets ------------------------------------------------------------------------------------------------------


def test_presets_are_what_the_papers_say():
    assert (R1.clip_low, R1.clip_high, R1.kl_weight, R1.kl) == (10, 10, 0.001, "k3")
    assert (GRPO.kl_weight, GRPO.average, GRPO.ratio, GRPO.advantage_scale) == (0.04, "response", "token", "std")
    assert (DR_GRPO.average, DR_GRPO.advantage_scale, DR_GRPO.kl_weight) == ("constant", "none", 0)
    assert (DAPO.average, DAPO.clip_low, DAPO.clip_high, DAPO.kl_weight) == ("token", 0.2, 0.28, 0)
    assert (GSPO.ratio, GSPO.clip_low, GSPO.clip_high) == ("sequence", 3e-4, 4e-4)
    assert (V3_2.kl, V3_2.advantage_scale, V3_2.average, V3_2.ratio) == ("unbiased", "none", "response", "token")
    assert V3_2.off_policy_limit is not None
    assert set(OBJECTIVES) == {"grpo", "r1", "dr_grpo", "dapo", "bnpo", "gspo", "cispo", "v3_2"}
    assert OBJECTIVES["dapo"] is DAPO


# -- properties ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_at_ratio_one_the_gradient_is_reinforce_with_a_baseline(name):
    objective = replace(OBJECTIVES[name], kl_weight=0.0)
    batch = random_batch()
    batch["old"] = batch["logps"].clone()
    _, grad, metrics = loss_and_grad(objective, batch, max_tokens=9)
    mask, B = batch["mask"], len(batch["mask"])
    share = {
        "response": 1 / mask.double().sum(1, keepdim=True) / B,
        "token": 1 / mask.sum().item(),
        "constant": 1 / (B * 9),
    }[objective.average]
    torch.testing.assert_close(grad, -batch["advantages"][:, None] * share * mask, atol=1e-12, rtol=0)
    assert metrics["ratio_mean"] == pytest.approx(1) and metrics["clip_fraction"] == 0


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gspo", "v3_2"])
def test_the_loss_starts_at_zero_with_centred_advantages_and_equal_lengths(name):
    batch = random_batch()
    batch |= {"old": batch["logps"], "reference": batch["logps"], "mask": torch.ones_like(batch["mask"])}
    loss, grad, _ = loss_and_grad(OBJECTIVES[name], batch, max_tokens=6)
    assert abs(loss) < 1e-12
    assert grad.abs().max() > 1e-3  # and yet there is something to learn


@given(st.integers(0, 10**6), st.sampled_from(sorted(OBJECTIVES)))
def test_losses_and_gradients_of_parts_add_up(seed, name):
    objective, batch = OBJECTIVES[name], random_batch(seed=seed)
    whole, grad, _ = loss_and_grad(objective, batch, max_tokens=6)
    parts = [{key: value[rows] for key, value in batch.items()} for rows in (slice(0, 2), slice(2, 5))]
    sizes = {"responses": 5, "tokens": int(batch["mask"].sum()), "max_tokens": 6}
    losses, grads, _ = zip(*[loss_and_grad(objective, part, **sizes) for part in parts], strict=True)
    assert sum(losses) == pytest.approx(whole, abs=1e-12)
    torch.testing.assert_close(torch.cat(grads), grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["dr_grpo", "dapo", "gspo", "cispo"])
def test_rows_without_advantage_can_be_left_out(name):
    batch = random_batch()
    batch["advantages"][[1, 3]] = 0
    whole, grad, _ = loss_and_grad(OBJECTIVES[name], batch, max_tokens=6)
    kept = {key: value[[0, 2, 4]] for key, value in batch.items()}
    sizes = {"responses": 5, "tokens": int(batch["mask"].sum()), "max_tokens": 6}
    part, part_grad, _ = loss_and_grad(OBJECTIVES[name], kept, **sizes)
    assert part == pytest.approx(whole, abs=1e-12)
    torch.testing.assert_close(part_grad, grad[[0, 2, 4]], atol=1e-12, rtol=0)
    assert grad[[1, 3]].abs().max() == 0


# CISPO's gradient is not its value's
@pytest.mark.parametrize("name", [*sorted(OBJECTIVES.keys() - {"cispo"}), "two_sided"])
def test_gradients_are_those_of_finite_differences(name):
    objective = OBJECTIVES.get(name, replace(PPO, two_sided=1.5))
    batch = random_batch(seed=3)
    logps = batch["logps"].clone().requires_grad_()
    rest = batch["old"], batch["advantages"], batch["mask"], batch["reference"]
    assert torch.autograd.gradcheck(lambda x: policy_loss(objective, x, *rest, max_tokens=6)[0], (logps,))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("padding", [-torch.inf, torch.inf, 1e30, 0.0])
def test_what_stands_outside_the_mask_does_not_matter(name, padding):
    batch = random_batch()
    assert not batch["mask"].all()
    expected, grad, metrics = loss_and_grad(OBJECTIVES[name], batch, max_tokens=6)
    filled = {k: v.masked_fill(~batch["mask"], padding) if v.ndim == 2 and k != "mask" else v for k, v in batch.items()}
    loss, filled_grad, filled_metrics = loss_and_grad(OBJECTIVES[name], filled, max_tokens=6)
    assert loss == expected and filled_metrics == metrics
    assert torch.equal(filled_grad, grad) and grad[~batch["mask"]].abs().max() == 0


def test_no_gradient_flows_into_old_and_reference():
    batch = random_batch()
    logps = batch["logps"].requires_grad_()
    old, reference = 0.9 * logps, 0.8 * logps
    attached = policy_loss(GRPO, logps, old, batch["advantages"], batch["mask"], reference)[0]
    (grad,) = torch.autograd.grad(attached, logps, retain_graph=True)
    detached = policy_loss(GRPO, logps, old.detach(), batch["advantages"], batch["mask"], reference.detach())[0]
    assert torch.equal(grad, torch.autograd.grad(detached, logps)[0]) and grad.abs().max() > 0


def test_the_unbiased_kl_has_the_gradient_of_the_kl_divergence():
    """Expectation over all tokens, sampled from an old policy: the true KL's gradient, which k3 alone misses."""
    generator = torch.Generator().manual_seed(1)
    logits, old, reference = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    logp, old, reference = logits.log_softmax(-1), old.log_softmax(-1), reference.log_softmax(-1)
    (true,) = torch.autograd.grad((logp.exp() * (logp - reference)).sum(), logits, retain_graph=True)

    def estimated(kl):
        total = 0
        for token in range(7):  # a response of one token each, weighted by the chance that the old policy says it
            row = [x[token].view(1, 1) for x in (logp, old, reference)]
            objective = Objective(kl=kl, kl_weight=1.0)
            loss, _ = policy_loss(objective, row[0], row[1], torch.zeros(1), torch.ones(1, 1).bool(), row[2])
            total = total + old[token].exp() * loss
        return torch.autograd.grad(total, logits, retain_graph=True)[0]

    torch.testing.assert_close(estimated("unbiased"), true, atol=1e-12, rtol=0)
    assert (estimated("k3") - true).abs().max() > 0.01


# -- equal rewards, groups of one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["std", "none", "batch"])
@given(st.floats(-1000, 1000, width=32), st.integers(2, 17))
def test_equal_rewards_give_exactly_zero(scale, reward, answers):
    advantages = group_advantages(torch.full((3, answers), reward), scale)
    assert torch.equal(advantages, torch.zeros(3, answers))


def test_a_group_of_equal_rewards_beside_another_is_zero_too():
    # the mean of three float32 0.1 is not 0.1
    advantages = group_advantages(torch.tensor([[0.1, 0.1, 0.1], [1.0, 0.0, 0.0]]))
    assert advantages[0].tolist() == [0, 0, 0] and advantages[1, 0] > 1


@pytest.mark.parametrize("scale", ["std", "none", "batch"])
def test_a_group_of_one_is_an_error_that_says_so(scale):
    with pytest.raises(ValueError, match=r"\(4, 1\).*group of one"):
        group_advantages(torch.ones(4, 1), scale)


@given(st.lists(st.lists(st.floats(-5, 5, width=16), min_size=4, max_size=4), min_size=1, max_size=3))
def test_advantages_of_a_group_add_up_to_zero_and_do_not_see_other_groups(rewards):
    rewards_PO = torch.tensor(rewards, dtype=torch.float64)
    for scale in ("std", "none"):
        advantages = group_advantages(rewards_PO, scale)
        assert advantages.sum(1).abs().max() < 1e-9
        alone = torch.cat([group_advantages(row[None], scale) for row in rewards_PO])
        torch.testing.assert_close(advantages, alone, atol=1e-12, rtol=0)


def test_rewards_may_be_whole_numbers():
    assert group_advantages(torch.tensor([[1, 0, 0]]), "none")[0].tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3])


# -- wrong answers (pitfall 16) --------------------------------------------------------------------------------------

WRONG_ADVANTAGES = {
    "std of the whole batch": lambda r: (r - r.mean(1, keepdim=True)) / (r.std() + 1e-4),
    "std with ddof 0": lambda r: (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True, correction=0) + 1e-4),
    "no epsilon": lambda r: (r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True),
    "mean of the whole batch": lambda r: (r - r.mean()) / (r.std(1, keepdim=True) + 1e-4),
    "across the answers": lambda r: (r - r.mean(0)) / (r.std(0) + 1e-4),
    "no division": lambda r: r - r.mean(1, keepdim=True),
}


@pytest.mark.parametrize("mistake", WRONG_ADVANTAGES)
def test_the_golden_advantages_reject_what_really_shipped(mistake):
    wrong = WRONG_ADVANTAGES[mistake](torch.tensor(GOLDEN["rewards"])).flatten()
    right = torch.tensor(GOLDEN["advantages"]["group"])
    assert not torch.allclose(wrong, right, atol=4e-6, rtol=1e-6)


WRONG_LOSSES = {
    "the larger of the two": lambda ratio, clipped, A, logps: torch.maximum(ratio * A, clipped * A),
    "clip without min": lambda ratio, clipped, A, logps: clipped * A,
    "no clip": lambda ratio, clipped, A, logps: ratio * A,
    "REINFORCE without the ratio": lambda ratio, clipped, A, logps: A * logps,
    "min before the advantage": lambda ratio, clipped, A, logps: torch.minimum(ratio, clipped) * A,
    "the ratio upside down": lambda ratio, clipped, A, logps: torch.minimum(A / ratio, (1 / ratio).clamp(0.8, 1.2) * A),
}


@pytest.mark.parametrize("mistake", WRONG_LOSSES)
def test_the_golden_loss_rejects_plausible_mistakes(mistake):
    batch = golden_tensors()
    logps, mask, A = batch["logps"].requires_grad_(), batch["mask"], batch["advantages"][:, None]
    ratio = (logps - batch["old"]).exp()
    wrong = -WRONG_LOSSES[mistake](ratio, ratio.clamp(0.8, 1.2), A, logps)
    loss = ((wrong * mask).sum(1) / mask.sum(1)).mean()
    (grad,) = torch.autograd.grad(loss, logps)
    expected = torch.tensor(GOLDEN["cases"]["grpo"]["grad"])
    assert abs(loss.item() - GOLDEN["cases"]["grpo"]["loss"]) > 1e-3
    assert (grad - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name, other", [("grpo", "bnpo"), ("bnpo", "grpo"), ("dr_grpo", "bnpo"), ("gspo", "grpo")])
def test_the_golden_loss_rejects_the_wrong_average_and_the_wrong_ratio(name, other):
    loss, _, _ = loss_and_grad(VARIANTS[other], golden_tensors(), max_tokens=GOLDEN["max_tokens"])
    assert abs(loss - GOLDEN["cases"][name]["loss"]) > 1e-3


# -- edges and errors ----------------------------------------------------------------------------------------------


def test_a_response_without_tokens_counts_as_a_response_and_nothing_else():
    batch = random_batch()
    batch["mask"][2] = False
    loss, grad, _ = loss_and_grad(PPO, batch)
    kept = {key: value[[0, 1, 3, 4]] for key, value in batch.items()}
    assert loss == pytest.approx(loss_and_grad(PPO, kept)[0] * 4 / 5, abs=1e-12)
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_tokens_at_all_give_zero(name):
    batch = random_batch()
    batch["mask"][:] = False
    loss, grad, metrics = loss_and_grad(OBJECTIVES[name], batch, max_tokens=6)
    assert loss == 0 and grad.abs().max() == 0 and set(metrics.values()) == {0.0}


def test_a_reference_is_measured_even_where_it_has_no_weight():
    batch = random_batch()
    assert loss_and_grad(PPO, batch)[2]["kl"] > 0
    with_reference = loss_and_grad(PPO, batch)[0]
    assert loss_and_grad(PPO, batch | {"reference": None})[0] == with_reference


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"ratio": "word"}, "ratio='word' is not one of token, sequence"),
        ({"surrogate": "ppo"}, "surrogate='ppo'"),
        ({"average": "mean"}, "average='mean'"),
        ({"kl": "k2"}, "kl='k2'"),
        ({"advantage_scale": "group"}, "advantage_scale='group'"),
        ({"clip_low": -0.1}, "clip_low=-0.1 is negative"),
        ({"clip_high": float("nan")}, "clip_high=nan"),
        ({"kl_weight": -1.0}, "kl_weight=-1.0"),
        ({"two_sided": 1.1}, "two_sided=1.1 is not above 1 .* clip_high=1.2"),
        ({"two_sided": 5.0, "surrogate": "cispo"}, "two_sided=5.0 belongs to surrogate='clip'"),
        ({"off_policy_limit": -1.0}, "off_policy_limit=-1.0"),
    ],
)
def test_an_objective_that_contradicts_itself_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        Objective(**knobs)


def test_a_scale_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="scale='group' is not one of std, none, batch"):
        group_advantages(torch.ones(2, 3), "group")


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"old": torch.zeros(5, 4)}, {}, r"old has shape \(5, 4\).* \(5, 6\)"),
        ({"reference": torch.zeros(4, 6)}, {}, r"reference has shape \(4, 6\).* \(5, 6\)"),
        ({"mask": torch.ones(5, 6)}, {}, "mask has dtype torch.float32; torch.bool"),
        ({"advantages": torch.zeros(4)}, {}, r"advantages have shape \(4,\), 5 responses"),
        ({"logps": torch.zeros(5)}, {}, r"log-probabilities of shape \(5,\)"),
        ({"reference": None}, {}, "kl_weight=0.04 needs reference"),
        ({}, {"responses": 4}, "responses=4 of the whole batch, but this part of it alone has 5"),
        ({}, {"tokens": 2}, "tokens=2 of the whole batch, but this part"),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(change, options, message):
    with pytest.raises(ValueError, match=message):
        loss_and_grad(GRPO, random_batch() | change, **options)


def test_the_constant_average_asks_for_its_constant():
    with pytest.raises(ValueError, match="max_tokens, which is None"):
        loss_and_grad(DR_GRPO, random_batch())
