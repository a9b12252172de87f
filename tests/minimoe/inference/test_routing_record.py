"""The record is what the model does with each document alone; padding is in none of it."""

from dataclasses import replace

import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.inference.routing_record import record_routing

CONFIG = replace(NANO, vocab_size=97, num_hidden_layers=3, n_routed_experts=12, num_experts_per_tok=3)
DOCUMENTS = [[5, 17, 96, 0, 5, 42, 61], [3], [9, 9, 1, 80], list(range(20, 43)), [0, 0]]


@pytest.fixture(scope="module")
def model():
    model = Transformer(CONFIG, seed=0).requires_grad_(False)
    for router in model.routers().values():
        router.e_score_correction_bias.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    return model


def test_rows_are_the_documents_tokens_in_order(model):
    record = record_routing(model, DOCUMENTS)
    assert record.ids_M.tolist() == [token for document in DOCUMENTS for token in document]
    assert record.document_M.bincount().tolist() == [7, 1, 4, 23, 2]
    assert record.position_M.tolist() == [p for document in DOCUMENTS for p in range(len(document))]


@pytest.mark.parametrize("batch_tokens", [1, 30, 10_000])
def test_every_document_is_routed_and_predicted_as_if_it_were_alone(model, batch_tokens):
    record = record_routing(model, DOCUMENTS, batch_tokens)
    assert list(record.chosen) == [1, 2]  # MTP layer 3 is left out
    for number, document in enumerate(DOCUMENTS):
        here = record.document_M == number
        ids = torch.tensor([document])
        with torch.no_grad():
            out = model(ids, labels=ids, mtp=False)
        for layer, routing in out.routing.items():
            assert torch.equal(record.chosen[layer][here], routing.chosen_MK)
        losses = record.loss_M[here]
        assert losses[-1].isnan() and not losses[:-1].isnan().any()
        if len(document) > 1:
            assert losses.nanmean().item() == pytest.approx(out.losses["next_token"].item(), rel=1e-5)


def test_padding_is_never_counted(model):
    record = record_routing(model, DOCUMENTS, 10_000)  # all documents in one batch of 5 x 23
    tokens = sum(map(len, DOCUMENTS))
    assert len(record.ids_M) == len(record.loss_M) == tokens < 5 * 23
    assert all(chosen_MK.shape == (tokens, 3) for chosen_MK in record.chosen.values())
    assert int((~record.loss_M.isnan()).sum()) == tokens - len(DOCUMENTS)


def test_the_loss_is_the_mean_over_predictions(model):
    record = record_routing(model, DOCUMENTS)
    assert record.loss == pytest.approx(record.loss_M[~record.loss_M.isnan()].mean().item())


def test_the_model_is_left_in_the_mode_it_was_in(model):
    for training in (True, False):
        model.train(training)
        record_routing(model, [[1, 2]])
        assert model.training is training


def test_a_dense_model_has_losses_and_no_choices():
    dense = Transformer(replace(CONFIG, n_routed_experts=None, num_nextn_predict_layers=0), seed=0)
    record = record_routing(dense, DOCUMENTS)
    assert record.chosen == {} and len(record.loss_M) == 37


@pytest.mark.parametrize(
    "documents, words",
    [([], "0 documents"), ([[1, 2], []], "document 1 of 2 has 0 tokens"), ([[1, 97]], "token id 97")],
)
def test_what_cannot_be_routed_is_refused(model, documents, words):
    with pytest.raises(ValueError, match=words):
        record_routing(model, documents)
