"""Cutting the latent: the cut is the best of its rank, the uncut loss is the model's, and nothing stays behind."""

from dataclasses import replace

import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.inference.cache import Cache
from minimoe.inference.latent_rank import best_rank, cached_entries, entry_parts, kept_share, loss_by_rank, spectra

SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": None, "qk_rope_head_dim": 16}
SMALL = replace(NANO, vocab_size=97, kv_lora_rank=8, initializer_range=0.1, **SHAPE)
GQA = replace(SMALL, kv_lora_rank=None, q_lora_rank=None, head_dim=12, num_key_value_heads=2)
IDS = [5, 17, 96, 0, 5, 42, 61, 3, 77, 12]


def matrix(rows=9, columns=5):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def model_loss(model):
    ids = torch.tensor([IDS])
    with torch.no_grad():
        return model(ids, labels=ids).losses["next_token"].item()


@pytest.mark.parametrize("rank", range(6))
def test_what_the_cut_loses_is_the_singular_values_it_drops(rank):
    x = matrix()
    dropped = torch.linalg.svdvals(x)[rank:].square().sum()
    lost = (x - best_rank(x, rank)).square().sum()
    torch.testing.assert_close(lost, dropped, rtol=1e-4, atol=1e-8)  # float32 SVD
    assert torch.linalg.matrix_rank(best_rank(x, rank), rtol=1e-4) == rank


def test_no_matrix_of_that_rank_is_closer():
    x = matrix()
    generator = torch.Generator().manual_seed(1)
    error = (x - best_rank(x, 2)).norm()
    for _ in range(20):
        basis = torch.linalg.qr(torch.randn(5, 2, generator=generator)).Q
        assert (x - x @ basis @ basis.T).norm() > error


def test_a_negative_rank_is_refused():
    with pytest.raises(ValueError, match="rank=-1"):
        best_rank(matrix(), -1)


def test_kept_share_runs_from_nothing_to_all():
    values = torch.tensor([2.0, 1.0, 1.0])
    assert [kept_share(values, r) for r in range(4)] == pytest.approx([0, 4 / 6, 5 / 6, 1])
    assert kept_share(torch.zeros(3), 1) == 1


@pytest.mark.parametrize("config", [SMALL, GQA], ids=["MLA", "GQA"])
def test_entries_are_what_the_cache_holds(config):
    model = Transformer(config, seed=0)
    cache = Cache(config, 1, len(IDS))
    with torch.no_grad():
        model(torch.tensor([IDS]), cache=cache)
    entries = cached_entries(model, IDS)
    assert list(entries) == [0, 1]
    for layer, entry in entries.items():
        # masked and causal attention may round differently in the layer below
        torch.testing.assert_close(entry, cache.entries[layer][0], rtol=1e-5, atol=1e-6)
        assert entry.shape[1] == sum(entry_parts(config).values())


def test_spectra_are_split_where_the_entry_is():
    model = Transformer(SMALL, seed=0)
    entry, parts = cached_entries(model, IDS)[1], spectra(model, IDS)[1]
    assert {name: len(s) for name, s in parts.items()} == {"latent": 8, "rotary key": 10}  # ten tokens, 16 numbers
    assert parts["latent"].square().sum() == pytest.approx(entry[:, :8].square().sum().item(), rel=1e-5)
    assert parts["rotary key"].square().sum() == pytest.approx(entry[:, 8:].square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("config", [SMALL, GQA], ids=["MLA", "GQA"])
def test_the_uncut_loss_is_the_model_s(config):
    model = Transformer(config, seed=0)
    width = config.kv_lora_rank or 48
    assert loss_by_rank(model, IDS, [width]) == pytest.approx([model_loss(model)], rel=1e-5)  # SVD and back, float32


def test_rank_zero_is_a_model_without_latents():
    model = Transformer(SMALL, seed=0)
    cut = loss_by_rank(model, IDS, [0])
    for layer in model.model.layers[:2]:
        layer.self_attn.kv_a_layernorm.weight.data.zero_()
    assert cut == pytest.approx([model_loss(model)], rel=1e-6)


def test_the_loss_moves_as_directions_are_taken_away():
    losses = loss_by_rank(Transformer(SMALL, seed=0), IDS, range(9))
    assert len({round(loss, 4) for loss in losses}) > 5
    assert abs(losses[7] - losses[8]) < abs(losses[0] - losses[8])


def test_a_single_token_has_no_loss():
    with pytest.raises(ValueError, match="at least 2 tokens, the text has 1"):
        loss_by_rank(Transformer(SMALL, seed=0), [5], [1])


def test_no_hook_stays_behind_even_after_an_error():
    model = Transformer(SMALL, seed=0)
    loss = model_loss(model)
    loss_by_rank(model, IDS, [0])
    with pytest.raises(ValueError, match="97"):
        loss_by_rank(model, [5, 97], [1])
    assert all(not layer.self_attn._forward_pre_hooks for layer in model.model.layers)
    assert model_loss(model) == loss
