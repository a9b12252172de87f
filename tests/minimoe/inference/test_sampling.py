"""minimoe.inference.sampling: the distribution, the draw, and whose noise it is."""

import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from minimoe.inference.sampling import Noise, draw, likeliest, logprob_of, probabilities, row_seeds

FOUR = torch.tensor([[0.15, 0.5, 0.05, 0.3]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.15, 0.5, 0.05, 0.3]),
        ({"top_k": 2}, [0, 0.625, 0, 0.375]),
        ({"top_k": 4}, [0.15, 0.5, 0.05, 0.3]),
        ({"top_p": 0.5}, [0, 1, 0, 0]),  # the first token reaches 0.5 exactly
        ({"top_p": 0.51}, [0, 0.625, 0, 0.375]),
        ({"top_p": 0.9}, [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
        ({"top_p": 1.0}, [0.15, 0.5, 0.05, 0.3]),
        ({"top_k": 3, "top_p": 0.8}, [0, 0.625, 0, 0.375]),  # top-p of the three: 0.526 + 0.316 already hold 0.8
    ],
)
def test_top_k_and_top_p_give_the_numbers_worked_out_by_hand(options, expected):
    probs = probabilities(FOUR, 1.0, **options)
    torch.testing.assert_close(probs, torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-12)


def test_temperature_sharpens_by_powers_and_zero_takes_the_likeliest():
    halved = probabilities(FOUR, 0.5)
    squares = torch.tensor([[0.15, 0.5, 0.05, 0.3]], dtype=torch.float64).square()
    torch.testing.assert_close(halved, squares / squares.sum(), rtol=1e-12, atol=0)
    assert probabilities(FOUR, 0.0).tolist() == [[0, 1, 0, 0]]


def test_among_equals_the_lower_id_is_kept():
    assert probabilities(torch.zeros(1, 5), 1.0, top_k=2).tolist() == [[0.5, 0.5, 0, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_the_distribution_is_that_of_the_warpers_of_transformers(seed):
    logits = torch.randn(7, 61, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(20), TopPLogitsWarper(0.8)])
    expected = warpers(None, logits).softmax(-1)
    torch.testing.assert_close(probabilities(logits, 0.7, 20, 0.8), expected, rtol=1e-12, atol=1e-15)


def test_draw_takes_the_token_in_whose_stretch_the_number_falls():
    weights = torch.tensor([[0.0, 2.0, 0.0, 6.0, 0.0]], dtype=torch.float64).expand(5, -1)
    last = 1 - 2**-53
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.9, last], dtype=torch.float64)
    assert draw(weights, uniform).tolist() == [1, 1, 3, 3, 3]


def test_a_token_without_weight_is_never_drawn_at_either_end():
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(1000, 9, dtype=torch.float64, generator=generator)
    weights[:, [0, 8]] = 0
    for u in (0.0, 1 - 2**-53):
        drawn = draw(weights, torch.full((1000,), u, dtype=torch.float64))
        assert set(drawn.tolist()) == ({1} if u == 0 else {7})


@pytest.mark.parametrize("width", [1, 61, 64, 192, 4096])
def test_likeliest_is_argmax_also_among_equals(width):
    logits = torch.randint(-3, 4, (50, width), generator=torch.Generator().manual_seed(width)).float()
    assert torch.equal(likeliest(logits), logits.argmax(-1))
    assert likeliest(torch.full((2, width), -torch.inf)).tolist() == [0, 0]


def test_logprob_is_the_log_softmax_of_the_token():
    torch.testing.assert_close(logprob_of(FOUR, torch.tensor([3])).exp(), torch.tensor([0.3], dtype=torch.float64))


def test_a_rows_noise_follows_from_its_own_seed_alone():
    three, one = Noise([5, 6, 7], tokens=4), Noise([6], tokens=9)
    for kind in Noise.KINDS:
        of_three = three.of(kind, [1, 1, 1], [0, 2, 3])
        assert torch.equal(of_three, one.of(kind, [0, 0, 0], [0, 2, 3]))
    kinds = torch.stack([three.of(kind, [0], [0]) for kind in Noise.KINDS])
    assert len(kinds.unique()) == 3, "the draws to draft, to accept and to sample must not repeat each other"


def test_row_seeds_do_not_depend_on_how_many_rows_follow():
    assert row_seeds(3, 2) == row_seeds(3, 5)[:2]
    assert len(set(row_seeds(3, 50)) | set(row_seeds(4, 50))) == 100
    torch.manual_seed(0)
    first = row_seeds(None, 2)
    assert row_seeds(None, 2) != first
    torch.manual_seed(0)
    assert row_seeds(None, 2) == first
