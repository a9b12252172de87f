"""n-gram losses against sums done by hand."""

import math

import pytest
import torch

from minimoe.training.baseline import ngram_losses


def test_unigram_and_bigram_of_four_tokens_by_hand():
    # stream a b a b (0 1 0 1), vocabulary 4. Unigram: 4 tokens of 2 kinds: p = (2 + 2/4) / (4 + 2) = 5/12 for 0 and 1.
    # Bigram after 0: seen 2 times, 1 kind: p(1|0) = (2 + 1 * 5/12) / 3 = 29/36.
    losses = ngram_losses([0, 1, 0, 1], torch.tensor([[0, 1]]), vocab_size=4, longest=2)
    assert losses == pytest.approx({1: -math.log(5 / 12), 2: -math.log(29 / 36)})


def test_the_probabilities_of_all_next_tokens_sum_to_one():
    stream = [0, 1, 2, 0, 1, 1, 2, 0, 3, 0, 1]
    for n in (1, 2, 3):
        p = [math.exp(-3 * ngram_losses(stream, torch.tensor([[2, 0, 1, t]]), 6, 3)[n]) for t in range(6)]
        first_two = math.exp(-2 * ngram_losses(stream, torch.tensor([[2, 0, 1]]), 6, 3)[n])
        assert sum(p) / first_two == pytest.approx(1)


def test_an_unseen_context_falls_back_to_the_shorter_one():
    losses = ngram_losses([0, 1, 0, 1], torch.tensor([[3, 1]]), vocab_size=4, longest=2)
    assert losses[2] == pytest.approx(losses[1])


def test_at_least_one_token():
    with pytest.raises(ValueError, match="longest=0"):
        ngram_losses([0], torch.tensor([[0, 0]]), 2, 0)
