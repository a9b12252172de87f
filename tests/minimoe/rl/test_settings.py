"""The settings of a run: what they mean, and what they refuse."""

import dataclasses

import pytest

from minimoe.rl.grpo import R1
from minimoe.rl.settings import RLSettings


def test_the_defaults_are_those_of_r1_zero_in_kind():
    settings = RLSettings(steps=3)
    assert settings.objective == R1 and settings.temperature == 1.0 and settings.stage == "r1_zero"
    assert settings.updates == 1 and settings.reference_every is None


def test_the_rate_rises_in_a_straight_line_and_stays():
    settings = RLSettings(steps=9, lr=0.8, warmup=4)
    assert [settings.rate(step) for step in range(1, 7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert RLSettings(steps=9, lr=0.8).rate(1) == 0.8


def test_settings_are_frozen_and_comparable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RLSettings(steps=3).lr = 1.0
    assert RLSettings(steps=3) == RLSettings(steps=3) != RLSettings(steps=3, seed=1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"answers": 1}, "answers=1: an advantage compares"),
        ({"answers": 0}, "answers=0"),
        ({"steps": 0}, "steps=0 must be greater than 0"),
        ({"prompts": 0}, "prompts=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0"),
        ({"updates": 0}, "updates=0"),
        ({"warmup": -1}, "warmup=-1 must not be negative"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"evaluate_every": -1}, "evaluate_every=-1"),
        ({"save_every": -2}, "save_every=-2"),
        ({"prompts": 3, "updates": 4}, "updates=4 is more than the prompts=3"),
        ({"reference_every": 0}, "reference_every=0 must be None or at least 1"),
    ],
)
def test_a_setting_that_cannot_work_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        RLSettings(**{"steps": 5} | wrong)


def test_the_least_that_works_works():
    least = RLSettings(steps=1, prompts=1, answers=2, max_new_tokens=1, evaluate_every=0, save_every=0)
    assert dataclasses.replace(least, temperature=1e-3, reference_every=1).rate(1) == least.lr
