"""minimoe.inference.stepper: the pieces together are the model's forward."""

from dataclasses import replace

import pytest
import torch
from model_draws import randomise

import minimoe
from minimoe.inference.cache import Cache
from minimoe.inference.stepper import Stepper

CONFIG = replace(minimoe.NANO, vocab_size=37, num_hidden_layers=2, n_routed_experts=12)


@pytest.mark.parametrize("mtp_hidden", ["post_norm", "pre_norm"])
def test_trunk_head_and_mtp_module_step_by_step_give_the_logits_of_one_whole_forward(mtp_hidden):
    model = minimoe.Transformer(replace(CONFIG, mtp_hidden=mtp_hidden)).double()
    randomise(model, seed=3)
    ids_BT = torch.randint(0, 37, (2, 11), generator=torch.Generator().manual_seed(0))
    whole = model(ids_BT, mtp=True)
    steps = Stepper(model, Cache(model.config, batch=2, capacity=11, dtype=torch.float64))
    logits, drafts = [], []
    for start, end in ((0, 5), (5, 6), (6, 8), (8, 10)):
        normed_BTD, read_BTD = steps.trunk(ids_BT[:, start:end])
        logits.append(steps.head(normed_BTD.flatten(0, 1)).view(2, end - start, -1))
        further_BTD = steps.draft(read_BTD, ids_BT[:, start + 1 : end + 1])
        drafts.append(steps.head(further_BTD.flatten(0, 1)).view(2, end - start, -1))
        steps.advance(end - start)
    # float64: some hundred additions of numbers around 1
    torch.testing.assert_close(torch.cat(logits, 1), whole.logits[:, :10], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat(drafts, 1), whole.mtp_logits[0], rtol=1e-10, atol=1e-10)
