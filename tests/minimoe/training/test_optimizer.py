"""Which parameter gets which optimizer, and what Muon's step is."""

import dataclasses

import pytest
import torch

import minimoe
from minimoe.training.optimizer import Muon, build_optimizers, orthogonalise

CONFIG = dataclasses.replace(
    minimoe.NANO, vocab_size=50, num_hidden_layers=2, n_routed_experts=8, num_experts_per_tok=2
)


def matrices(n, rows, columns, seed=0):
    return torch.randn(n, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_is_in_exactly_one_group(kind):
    model = minimoe.Transformer(CONFIG, seed=0)
    grouped = [p for o in build_optimizers(model, kind) for group in o.param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_decay_acts_on_matrices_only(kind):
    model = minimoe.Transformer(CONFIG, seed=0)
    for optimizer in build_optimizers(model, kind, weight_decay=0.1):
        for group in optimizer.param_groups:
            assert {p.ndim for p in group["params"]} == ({2} if group["weight_decay"] else {1})


def test_muon_leaves_embedding_and_head_to_adamw():
    model = minimoe.Transformer(CONFIG, seed=0)
    adamw, muon = build_optimizers(model, "muon")
    mine = {id(p) for p in muon.param_groups[0]["params"]}
    names = [name for name, p in model.named_parameters() if p.ndim == 2 and id(p) not in mine]
    assert sorted(names) == ["lm_head.weight", "model.embed_tokens.weight"]
    assert isinstance(adamw, torch.optim.AdamW)


@pytest.mark.parametrize(
    ("kind", "table_rate", "expected"),
    [("adamw", None, 0.1), ("muon", None, 0.03), ("adamw", 1, 0.01), ("muon", 2, 0.02)],
)
def test_embedding_and_head_have_a_rate_of_their_own(kind, table_rate, expected):
    model = minimoe.Transformer(CONFIG, seed=0)
    tables = {id(model.lm_head.weight), id(model.model.embed_tokens.weight)}
    for optimizer in build_optimizers(model, kind, lr=0.01, table_rate=table_rate):
        for group in optimizer.param_groups:
            of_tables = tables & {id(p) for p in group["params"]}
            assert group["peak_lr"] == pytest.approx(expected if of_tables else 0.01)
            assert not of_tables or len(group["params"]) == 2


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'sgd' is not"):
        build_optimizers(minimoe.Transformer(CONFIG), "sgd")


@pytest.mark.parametrize(("rows", "columns"), [(6, 9), (9, 6), (7, 7)])
def test_orthogonalise_keeps_the_directions_and_levels_the_strengths(rows, columns):
    m = matrices(5, rows, columns)
    u, _, vt = torch.linalg.svd(m, full_matrices=False)
    singular = u.mT @ orthogonalise(m, steps=5) @ vt.mT
    diagonal = singular.diagonal(dim1=-2, dim2=-1)
    assert (singular - torch.diag_embed(diagonal)).abs().max() < 1e-6  # float64; eps in the norm only scales
    # the quintic's band is 0.68 to 1.13; directions weaker than 1% of the matrix's norm may not have arrived in 5 steps
    strong = torch.linalg.svdvals(m) > 0.05 * m.norm(dim=(-2, -1))[:, None]
    assert diagonal[strong].min() > 0.6 and diagonal.max() < 1.25


def test_a_zero_matrix_stays_zero():
    assert torch.equal(orthogonalise(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_batching_by_shape_equals_one_matrix_at_a_time():
    start = [matrices(1, *shape, seed=i)[0] for i, shape in enumerate([(4, 6), (6, 4), (4, 6), (4, 6)])]
    together, alone = ([torch.nn.Parameter(w.clone()) for w in start] for _ in range(2))
    optimizers = [Muon(together)], [Muon([w]) for w in alone]
    for step in range(3):
        for weights, parts in zip((together, alone), optimizers, strict=True):
            for i, w in enumerate(weights):
                w.grad = matrices(1, *w.shape, seed=10 * step + i)[0]
            for part in parts:
                part.step()
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(together, alone, strict=True))


def test_one_step_of_muon_written_out():
    start, gradient = matrices(1, 3, 5)[0], matrices(1, 3, 5, seed=1)[0]
    weight = torch.nn.Parameter(start.clone())
    weight.grad = gradient
    Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    nesterov = gradient + 0.9 * gradient
    expected = start * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 5**0.5 * orthogonalise(nesterov[None])[0]
    assert torch.allclose(weight, expected, rtol=1e-12, atol=1e-12)


def test_muon_steps_have_the_size_of_adamws():
    # root mean square of U V^T of an R x C matrix is 1/sqrt(max(R, C)); the factor makes it 0.2
    weight = torch.nn.Parameter(torch.zeros(30, 40))
    weight.grad = matrices(1, 30, 40)[0].float()
    Muon([weight], lr=1.0, weight_decay=0.0).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.15)  # the quintic's band around 1


def test_a_parameter_without_a_gradient_is_left_alone():
    still, moved = (torch.nn.Parameter(torch.ones(3, 3)) for _ in range(2))
    moved.grad = torch.eye(3)
    Muon([still, moved], lr=0.1).step()
    assert torch.equal(still, torch.ones(3, 3)) and not torch.equal(moved, torch.ones(3, 3))


def test_muon_refuses_a_vector():
    with pytest.raises(ValueError, match="shape \\(3,\\)"):
        Muon([torch.nn.Parameter(torch.ones(3))])
