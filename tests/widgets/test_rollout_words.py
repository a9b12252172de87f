"""The sentences say what the numbers are."""

import math

from minimoe_widgets.rollout_log import Band, Stage
from minimoe_widgets.rollout_words import curves_alt, group_alt, title


def answer(accuracy=1.0, advantage=0.5, policy=0.5, reference=0.5, ended=True, tokens=2):
    parts = {} if accuracy is None else {"accuracy": accuracy}
    return {
        "pieces": ["a"] * tokens, "logprobs": [math.log(policy)] * tokens, "reference": [math.log(reference)] * tokens,
        "text": "", "ended": ended, "parts": parts, "reward": 0.25, "advantage": advantage,
    }  # fmt: skip


def group(*answers, step=4):
    return {"step": step, "problem": "1 + 1", "answers": list(answers)}


def test_the_title_counts_the_right_answers():
    two = group(answer(), answer(accuracy=0.0, tokens=5, ended=False), answer())
    assert title(two) == "Step 4, “1 + 1”: 2 of 3 answers are right, 3.0 tokens on average, 1 cut off"
    one = title(group(answer(), answer(accuracy=0.0), step=0))
    assert one.startswith("Before training, “1 + 1”: 1 of 2 answers is right")
    assert "no answer was sampled" in title(group())


def test_a_group_without_advantages_teaches_nothing_and_the_title_says_so():
    assert title(group(answer(advantage=0.0), answer(advantage=0.0))).endswith(
        "All rewards are equal: no answer has an advantage, and the group teaches nothing"
    )
    assert "equal" not in title(group(answer(advantage=0.1), answer(advantage=-0.1)))


def test_where_nothing_is_verified_the_reward_speaks():
    assert "mean reward 0.25" in title(group(answer(accuracy=None), answer(accuracy=None)))


def test_the_alt_text_names_the_token_that_changed_most():
    more = group_alt(group(answer(), answer(policy=0.8, reference=0.1)))
    assert "“a”, 8.0 times more likely (+2.08)" in more
    less = group_alt(group(answer(policy=0.0001, reference=0.5)))
    assert "“a”, 5000 times less likely (-8.52)" in less
    assert "No token's chance differs" in group_alt(group(answer()))


def test_the_curves_are_told_from_end_to_end():
    stage = Stage("R1-Zero", [{"step": 1, "kl": 0.0}, {"step": 9, "kl": 0.04}])
    assert curves_alt(stage) == "R1-Zero. KL to the reference (nats a token), KL: 0 to 0.04 over steps 1 to 9."
    stage.band = Band({"kl": {"step": [1], "lowest": [0], "highest": [1]}}, seeds=5)
    assert curves_alt(stage).endswith("Behind them the band from the lowest to the highest of 5 seeds.")
    assert curves_alt(Stage("R1-Zero")) == "R1-Zero: no curve has been recorded yet."
