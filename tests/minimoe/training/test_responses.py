"""Rows of one document each, a loss over responses only, and a score that is counted and not believed."""

from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.training import Settings, train
from minimoe.training.reasoning import Chain, byte_tokenizer, draw_documents, draw_problems, encode_document
from minimoe.training.responses import (
    ResponseLearner,
    measure,
    ordered_batches,
    padded_batches,
    response_labels,
    response_loss,
)

TOKENIZER = byte_tokenizer()
TINY = replace(
    minimoe.NANO,
    vocab_size=266,
    hidden_size=32,
    num_hidden_layers=2,
    intermediate_size=48,
    moe_intermediate_size=16,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    num_nextn_predict_layers=0,
)


def rows(count=12, seed=0, **shares):
    return [encode_document(TOKENIZER, text) for text in draw_documents(Chain(2), count, seed, **shares)]


@pytest.fixture(scope="module")
def model():
    return minimoe.Transformer(TINY, seed=0)


def test_labels_by_hand():
    ids_BT = torch.tensor([[0, 6, 65, 7, 8, 66, 9, 67, 1, 2, 2], [0, 6, 65, 66, 67, 68, 69, 7, 70, 71, 1]])
    x = -100
    expected = [[x, x, x, x, 8, 66, 9, 67, 1, x, x], [x, x, x, x, x, x, x, x, 70, 71, 1]]
    assert response_labels(ids_BT).tolist() == expected


def test_a_batch_has_whole_documents_with_padding_at_the_end():
    documents = rows(lazy=0.5)
    for batch_BT, _ in zip(padded_batches(documents, 4, seed=0), range(6), strict=False):
        assert len(batch_BT) == 4 and batch_BT.dtype == torch.int64
        for row in batch_BT.tolist():
            end = row.index(1) + 1
            assert row[:end] in documents and set(row[end:]) <= {2}


def test_an_epoch_has_every_document_once_and_the_next_another_order():
    documents = rows()
    batches = padded_batches(documents, 4, seed=0)
    epochs = [torch.cat([next(batches) for _ in range(3)]).tolist() for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(documents)] * 2
    assert epochs[0] != epochs[1]


def test_the_seed_fixes_the_batches():
    first, again, other = (next(padded_batches(rows(), 8, seed)).tolist() for seed in (1, 1, 2))
    assert first == again and first != other


def test_too_few_documents_for_a_batch_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="12 documents do not fill a batch of sequences=13"):
        next(padded_batches(rows(), 13, 0))


def test_ordered_batches_keep_the_order_of_windows_and_sort_inside_them_by_length():
    documents = [[1] * length for length in (5, 3, 9, 2, 8, 1, 4, 7, 6, 20, 30)]
    batches = [batch_BT.tolist() for batch_BT in ordered_batches(documents, 2, seed=0, window=2)]
    lengths = [sorted(row.count(1) for row in batch) for batch in batches]
    assert [sorted(lengths[:2]), sorted(lengths[2:])] == [[[2, 3], [5, 9]], [[1, 4], [7, 8]]]  # three are left over


def test_ordered_batches_refuse_less_than_a_window_with_all_numbers():
    with pytest.raises(ValueError, match="12 documents do not fill a window of 4 times sequences=4"):
        next(ordered_batches(rows(), 4, 0, window=4))


def test_the_learner_has_the_loss_of_responses_and_the_logits_of_a_transformer(model):
    learner = ResponseLearner(TINY, seed=0)
    batch_BT = next(padded_batches(rows(lazy=0.5), 6, 0))
    out, plain = learner(batch_BT, labels=batch_BT), model(batch_BT, labels=response_labels(batch_BT))
    assert torch.equal(out.logits, plain.logits) and torch.equal(out.loss, plain.loss)
    assert out.losses["next_token"] != model(batch_BT, labels=batch_BT).losses["next_token"]
    assert learner(batch_BT).loss is None


def test_a_learner_is_saved_as_a_plain_checkpoint(tmp_path):
    minimoe.save(ResponseLearner(TINY, seed=3), tmp_path)
    loaded, same = minimoe.load(tmp_path), minimoe.Transformer(TINY, seed=3)
    assert type(loaded) is minimoe.Transformer
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), same.parameters(), strict=True))


def test_the_response_loss_is_the_mean_over_response_tokens_however_they_are_batched(model):
    documents = rows(10, lazy=0.5)
    total, count = 0.0, 0
    for row in documents:
        begin = row.index(7) + 1
        logprobs_TV = model(torch.tensor([row])).logits[0].log_softmax(-1)
        total -= sum(logprobs_TV[i - 1, row[i]].item() for i in range(begin, len(row)))
        count += len(row) - begin
    for sequences in (1, 3, 64):
        # sums of float32 in another order
        assert response_loss(model, documents, sequences) == pytest.approx(total / count, rel=1e-5)


class Scripted(Chain):
    """A chain whose verifier is asked, so that the test sees what it was asked about."""

    def is_correct(self, problem, response):
        return response.startswith("<think>")


def test_a_score_counts_what_the_model_wrote(model):
    problems = draw_problems(Chain(2), 9, seed=0, held_out=True)
    score = measure(model, TOKENIZER, Chain(2), problems, max_new_tokens=5, temperature=2.0, seed=1)
    again = measure(model, TOKENIZER, Chain(2), problems, max_new_tokens=5, temperature=2.0, seed=1)
    other = measure(model, TOKENIZER, Chain(2), problems, max_new_tokens=5, temperature=2.0, seed=2)
    assert score == again and score.responses != other.responses
    assert len(score.responses) == 9 and 1 <= score.mean_tokens <= 5


def test_a_response_without_an_end_is_wrong(monkeypatch):
    """The head always writes one digit for ever: the answer would be right, but it never ends."""
    problem = next(p for p in draw_problems(Chain(2), 50, seed=0) if Chain(2).steps(p)[-1][-1] == 4)
    stuck = minimoe.Transformer(TINY, seed=0)
    with torch.no_grad():
        stuck.lm_head.weight.zero_()
    silent = measure(stuck, TOKENIZER, Scripted(2), [problem], max_new_tokens=3)
    assert silent.accuracy == 0 and silent.mean_tokens == 3 and silent.well_formed == 0


def test_without_problems_there_is_nothing_to_measure(model):
    with pytest.raises(ValueError, match=r"problems=\[\]"):
        measure(model, TOKENIZER, Chain(2), [])


def test_a_learner_learns_to_answer_and_the_score_shows_it():
    """One operation on a small model: from guessing to knowing in a few seconds."""
    task = Chain(1)
    learner = ResponseLearner(TINY, seed=0)
    documents = [encode_document(TOKENIZER, text) for text in draw_documents(task, 250, seed=0)]
    held_out = draw_problems(task, 20, seed=0, held_out=True)
    before = response_loss(learner, documents)
    train(learner, padded_batches(documents, 32, 0), Settings(steps=40, lr=2e-2), label=None)
    assert response_loss(learner, documents) < 0.3 * before
    score = measure(learner, TOKENIZER, task, held_out, max_new_tokens=12)
    assert score.well_formed > 0.9 and score.mean_tokens == pytest.approx(9, abs=0.5)
