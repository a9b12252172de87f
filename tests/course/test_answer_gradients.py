"""The dot products of answers' gradients, and the noise of a policy gradient made from them."""

import pytest
import torch

from minimoe.rl import Question
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.rollout import Answer, Group
from minimoe.training.reasoning import Chain
from minimoe_course.answer_gradients import gram, relative_noise


class Unigram(torch.nn.Module):
    """A policy of four weights: the same logits everywhere. The gradient of log pi of one token is onehot - softmax."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([0.0, 1.0, -1.0, 0.5]))

    def forward(self, ids_BT, mtp=False):
        return type("Out", (), {"logits_BTV": self.logits.expand(*ids_BT.shape, 4)})


def group_of(*answers):
    made = [Answer(tokens, [0.0] * len(tokens), "", True) for tokens in answers]
    return Group(Question(Chain(1), "1 + 1"), [0, 1], made)


def test_the_products_are_those_of_the_centred_gradients():
    model, group = Unigram(), group_of([0], [1, 1], [3, 2, 1])
    rows = Rows.of([group.prompt] * 3, [answer.tokens for answer in group.answers])
    sums_O = answer_logprobs(model, rows)[0].sum(1)
    g_O4 = torch.stack([torch.autograd.grad(s, model.logits, retain_graph=True)[0] for s in sums_O])
    g_O4 = g_O4.bfloat16().float()  # as they are kept
    g_O4 = g_O4 - g_O4.mean(0)
    torch.testing.assert_close(gram(model, group), g_O4 @ g_O4.T)


def test_relative_noise_of_a_mean_is_variance_over_draws_and_square():
    # Gradients +1 and +3 along one axis, each drawn with probability 1/2: mean 2, variance 1, so 1 / (4 K).
    G_OO = torch.tensor([[1.0, 3.0], [3.0, 9.0]])
    draw = torch.Generator().manual_seed(0)
    for size in (1, 4):
        chosen_DK = torch.randint(2, (40_000, size), generator=draw)
        noise = relative_noise(G_OO, chosen_DK, torch.ones(chosen_DK.shape))
        assert noise == pytest.approx(1 / (4 * size), rel=0.05)


def test_an_answer_drawn_twice_counts_twice():
    G_OO = torch.eye(2)
    once = relative_noise(G_OO, torch.tensor([[0, 0], [0, 1]]), torch.ones(2, 2))
    # The draws are (1, 0) and (1/2, 1/2): variance 1/4 + 1/4 over (2 - 1), squared mean 10/16 less a half of that.
    assert once == pytest.approx(0.25 / (10 / 16 - 0.125))
