"""Log-probabilities of answers that are written already: a slow loop over tokens, padding, order, gradients."""

import pytest
import torch
from tiny_policy import policy

from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.training.responses import PAD

PROMPTS = [[0, 6, 61, 7], [0, 6, 60, 42, 65, 42, 59, 7], [0, 6, 7]]
ANSWERS = [[8, 58, 9, 58, 1], [66], [2, 2, 63, 1, 62, 67, 61]]  # the third holds the padding's own id, and no padding
LENGTHS = [5, 1, 7]


def rows():
    return Rows.of(PROMPTS, ANSWERS)


@torch.no_grad()
def one_by_one(model, prompt, answer, temperature):
    """The definition: one call for every token of the answer, on everything before it."""
    found = []
    for i, token in enumerate(answer):
        logits_V = model(torch.tensor([prompt + answer[:i]])).logits_BTV[0, -1]
        logprobs = [(value / temperature) - torch.logsumexp(logits_V / temperature, 0) for value in logits_V]
        entropy = -sum(value.exp() * value for value in logprobs)
        found.append((logprobs[token].item(), entropy.item()))
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_every_token_has_the_probability_that_a_slow_loop_gives_it(temperature):
    model, batch = policy(dtype=torch.float64), rows()
    logprobs_BS, entropy_BS = answer_logprobs(model, batch, temperature)
    for i, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        slow = torch.tensor(one_by_one(model, prompt, answer, temperature), dtype=torch.float64)
        torch.testing.assert_close(logprobs_BS[i][batch.mask_BS[i]].detach(), slow[:, 0], atol=1e-12, rtol=0)
        torch.testing.assert_close(entropy_BS[i][batch.mask_BS[i]], slow[:, 1], atol=1e-12, rtol=0)
    assert logprobs_BS[batch.mask_BS].std() > 0.3  # the tokens differ, so a wrong place would be seen


def test_outside_the_answers_stands_zero():
    batch = rows()
    for table_BS in answer_logprobs(policy(), batch):
        assert table_BS.shape == batch.mask_BS.shape and (table_BS[~batch.mask_BS] == 0).all()
        assert (table_BS[batch.mask_BS] != 0).all()


def test_the_mask_has_the_tokens_of_the_answers_and_no_others():
    batch = rows()
    assert batch.ids_BT.shape == (3, 10) and batch.mask_BS.shape == (3, 9)
    assert batch.mask_BS.sum(1).tolist() == LENGTHS
    for i, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        assert batch.ids_BT[i].tolist() == prompt + answer + [PAD] * (10 - len(prompt) - len(answer))
        assert batch.ids_BT[i, 1:][batch.mask_BS[i]].tolist() == answer


def test_the_order_of_the_rows_and_their_padding_change_nothing():
    model, order = policy(dtype=torch.float64), [2, 0, 1]
    tables = answer_logprobs(model, rows())
    shuffled = Rows.of([PROMPTS[i] for i in order], [ANSWERS[i] for i in order])
    for table_BS, other_BS in zip(tables, answer_logprobs(model, shuffled), strict=True):
        torch.testing.assert_close(table_BS[order], other_BS, atol=1e-12, rtol=0)
    wide = Rows.of([*PROMPTS, [0] * 20], [*ANSWERS, [5] * 15])
    for table_BS, other_BS in zip(tables, answer_logprobs(model, wide), strict=True):
        torch.testing.assert_close(table_BS, other_BS[:3, :9], atol=1e-12, rtol=0)
        assert (other_BS[:3, 9:] == 0).all()


def test_gradients_are_those_of_the_answers_alone():
    """One row in a padded batch has the gradient that it has by itself, whatever the rows beside it."""
    together, alone = policy(dtype=torch.float64), policy(dtype=torch.float64)
    logprobs_BS, entropy_BS = answer_logprobs(together, rows(), 0.8)
    logprobs_BS[1].sum().backward()
    ids_BT = torch.tensor([PROMPTS[1] + ANSWERS[1]])
    log_softmax_V = (alone(ids_BT, mtp=False).logits_BTV[0, -2] / 0.8).log_softmax(-1)
    log_softmax_V[ANSWERS[1][0]].backward()
    reached = 0
    for (name, mine), (_, theirs) in zip(together.named_parameters(), alone.named_parameters(), strict=True):
        if theirs.grad is None:
            assert mine.grad is None and name.startswith("model.layers.2.")  # the MTP module
            continue
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-12, rtol=0, msg=name)
        reached += mine.grad.abs().max().item() > 1e-4
    assert reached > 20 and not entropy_BS.requires_grad
    embedded_VD = together.model.embed_tokens.weight.grad
    assert set(embedded_VD.abs().sum(1).nonzero()[:, 0].tolist()) == set(PROMPTS[1])  # not PAD, not the last token


def test_nothing_that_stands_outside_the_answers_has_a_gradient():
    model, batch = policy(), rows()
    logprobs_BS, _ = answer_logprobs(model, batch)
    logprobs_BS[~batch.mask_BS].sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_numbers_are_placed_where_their_tokens_are():
    batch = rows()
    values = [[float(10 * i + j + 1) for j in range(length)] for i, length in enumerate(LENGTHS)]
    table_BS = batch.place(values)
    assert table_BS.dtype == torch.float32 and table_BS.shape == (3, 9)
    assert [row[kept].tolist() for row, kept in zip(table_BS, batch.mask_BS, strict=True)] == values
    assert table_BS[0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 0] and table_BS[1].tolist() == [0] * 7 + [11, 0]


@pytest.mark.parametrize(
    ("prompts", "answers", "words"),
    [
        ([[0, 6], []], [[1], [1]], "row 1 has 0 tokens of prompt and 1 of answer"),
        ([[0, 6, 7]], [[]], "row 0 has 3 tokens of prompt and 0 of answer"),
        ([[0, 6, 7]], [[1], [2]], "zip"),
    ],
)
def test_a_row_needs_a_prompt_and_an_answer(prompts, answers, words):
    with pytest.raises(ValueError, match=words):
        Rows.of(prompts, answers)


def test_as_many_numbers_as_tokens_are_needed():
    with pytest.raises((ValueError, RuntimeError)):
        rows().place([[1.0] * 5, [1.0], [1.0] * 6])
