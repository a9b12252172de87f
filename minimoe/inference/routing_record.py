"""Which experts served every token of many documents, and what each token's prediction lost.

Questions about specialisation are questions about tables: one row a token, and in it the token's id, its document, its
place there, its experts in every layer, and the loss of the prediction made from it. `record_routing` fills them.

Documents are read side by side in padded batches. Attention is causal and the padding stands behind the text, so no
real token sees it; but the routers do route it, and its choices have no meaning. Its rows are thrown away before
anything is counted. Counting them is a mistake that has been made in public, and it is hard to notice: the padding
token is one more class with experts of its own.

How the production version differs: engines can return the expert ids of each token, and the analysis runs offline on
billions of them.
"""

from dataclasses import dataclass

import torch

from minimoe.model.layers import at_least_float32
from minimoe.model.transformer import Transformer

__all__ = ["RoutingRecord", "record_routing"]


@dataclass(frozen=True)
class RoutingRecord:
    """The routing of M tokens, documents one after the other.

    `ids_M`: token ids. `document_M`: number of the document, 0, 1, 2, ... in rising order. `position_M`: place in it.
    `loss_M`: nats lost in predicting the *next* token; NaN at a document's last token, which predicts nothing.
    `chosen`: layer number -> expert ids `chosen_MK` (int64), best first.
    """

    ids_M: torch.Tensor
    document_M: torch.Tensor
    position_M: torch.Tensor
    loss_M: torch.Tensor
    chosen: dict[int, torch.Tensor]

    @property
    def loss(self) -> float:
        """The mean loss over all tokens that predict something, in nats."""
        return self.loss_M.nanmean().item()


@torch.no_grad()
def record_routing(model: Transformer, documents, batch_tokens: int = 2048) -> RoutingRecord:
    """Route `documents` (lists of token ids), each from its own beginning; MTP modules are left out.

    `batch_tokens`: how many positions, padding included, are computed at once; it bounds the memory and changes the
    numbers by rounding at most.
    Raises `ValueError` for no documents, for an empty one, and for ids outside the vocabulary. Chapter 08.
    """
    documents = [list(document) for document in documents]
    if not documents:
        raise ValueError("there are 0 documents to route; at least 1 is needed")
    if empty := [i for i, document in enumerate(documents) if not document]:
        raise ValueError(f"document {empty[0]} of {len(documents)} has 0 tokens")
    was_training = model.training
    model.eval()
    try:
        parts = [_record(model, batch) for batch in _batches(documents, batch_tokens)]
    finally:
        model.train(was_training)
    lengths = torch.tensor([len(document) for document in documents])
    return RoutingRecord(
        ids_M=torch.tensor([token for document in documents for token in document]),
        document_M=torch.arange(len(documents)).repeat_interleave(lengths),
        position_M=torch.cat([torch.arange(length) for length in lengths.tolist()]),
        loss_M=torch.cat([loss for loss, _ in parts]),
        chosen={layer: torch.cat([chosen[layer] for _, chosen in parts]) for layer in parts[0][1]},
    )


def _batches(documents, batch_tokens: int):
    """Neighbouring documents, as many as fit when all are padded to the longest of them."""
    batch, longest = [], 0
    for document in documents:
        longest = max(longest, len(document))
        if batch and longest * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, longest = [], len(document)
        batch.append(document)
    yield batch


def _record(model, documents):
    """Losses and choices of one batch, rows of padding left out."""
    T = max(map(len, documents))
    ids_BT = torch.tensor([document + [0] * (T - len(document)) for document in documents], device=model.device)
    lengths = torch.tensor([len(document) for document in documents], device=model.device)[:, None]
    real_BT = torch.arange(T, device=model.device) < lengths
    out = model(ids_BT, mtp=False)
    loss_BT = torch.full(ids_BT.shape, float("nan"), device=model.device)
    logp = at_least_float32(out.logits_BTV[:, :-1]).log_softmax(-1)
    loss_BT[:, :-1] = -logp.gather(2, ids_BT[:, 1:, None])[:, :, 0]
    loss_BT[:, :-1].masked_fill_(~real_BT[:, 1:], float("nan"))
    chosen = {layer: routing.chosen_MK[real_BT.flatten()].cpu() for layer, routing in sorted(out.routing.items())}
    return loss_BT[real_BT].cpu(), chosen
