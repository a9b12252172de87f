"""The recipe on a layer, an expert and a model: which products are in FP8, which tiles, what is left alone."""

import copy
import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

import minimoe
from minimoe.model import mla
from minimoe.model.layers import MLP, RMSNorm
from minimoe.model.moe import grouped
from minimoe.model.router import Router
from minimoe.training import Settings, train
from minimoe.training.fp8 import release_fp8, use_fp8
from minimoe.training.fp8_product import BLOCKS, TILES, e5m6, limited_sum, product, quantise

ROUNDED = partial(quantise, power_of_two=True)


def tile(x):
    """What x is after a stay in FP8, in tiles."""
    return quantise(x).dequantise()


def tile_rounded(x):
    """The same with scales that are powers of two."""
    return ROUNDED(x).dequantise()


def down(x):
    """The same, in tiles along the tokens."""
    return quantise(x.t()).dequantise().t()


def down_rounded(x):
    """Along the tokens, with powers of two."""
    return ROUNDED(x.t()).dequantise().t()


def block(x):
    """The same in blocks."""
    return quantise(x, BLOCKS).dequantise()


def draws(*shapes):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=g) for shape in shapes]


class Block(nn.Module):
    """A model that has one feed-forward block, which is what `use_fp8` looks for."""

    def __init__(self, hidden, width):
        super().__init__()
        self.mlp = MLP(hidden, width)


@pytest.fixture(scope="module")
def nano():
    return minimoe.Transformer(minimoe.NANO, seed=0)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 2048, (2, 70), generator=torch.Generator().manual_seed(1))


def linear_step(linear, x, d_y):
    x = x.clone().requires_grad_()
    linear.weight.grad = None
    y = linear(x)
    y.backward(d_y)
    return y.detach(), x.grad, linear.weight.grad


def test_the_three_products_of_a_layer_bit_for_bit():
    """Forward and input gradient in tiles along features against blocks, weight gradient in tiles along tokens."""
    x, d_y = draws((150, 140), (150, 200))
    linear = use_fp8(Block(140, 200)).mlp.gate_proj
    y, d_x, d_w = linear_step(linear, x, d_y)
    weight = quantise(linear.weight.detach(), BLOCKS)
    assert torch.equal(y, product(quantise(x, TILES), weight))
    assert torch.equal(d_x, product(quantise(d_y, TILES), quantise(linear.weight.detach().t(), BLOCKS)))
    assert torch.equal(d_w, product(quantise(d_y.t()), quantise(tile(x).t())))


def test_gradients_are_autograd_s_of_the_dequantised_product():
    x, d_y = draws((150, 140), (150, 200))
    linear = use_fp8(Block(140, 200)).mlp.up_proj
    y, d_x, d_w = linear_step(linear, x, d_y)
    weight = linear.weight.detach()
    for operands, sent, ours in (
        ((tile(x), block(weight)), tile(d_y), {"y": y, "d_x": d_x}),
        ((down(tile(x)), block(weight)), down(d_y), {"d_w": d_w}),
    ):
        wide = [o.double().requires_grad_() for o in operands]
        out = wide[0] @ wide[1].t()
        out.backward(sent.double())
        theirs = {"y": out, "d_x": wide[0].grad, "d_w": wide[1].grad}
        for name, tensor in ours.items():
            # sums of at most 200 numbers in float32, of typical size 14: well under 200 * 2^-24 * 14 each
            assert torch.allclose(tensor.double(), theirs[name], rtol=1e-5, atol=1e-4), name


def test_the_projection_after_attention_keeps_its_input_in_e5m6_and_its_scales_are_powers_of_two(nano):
    model = use_fp8(copy.deepcopy(nano))
    linear = model.model.layers[0].self_attn.o_proj
    x, d_y = draws((9, 128), (9, 96))
    y, d_x, d_w = linear_step(linear, x, d_y)
    weight = linear.weight.detach()
    assert torch.equal(y, product(ROUNDED(x), quantise(weight, BLOCKS)))
    assert torch.equal(d_x, product(quantise(d_y), quantise(weight.t(), BLOCKS)))
    assert torch.equal(d_w, product(quantise(d_y.t()), ROUNDED(e5m6(x).t())))


def test_an_expert_sends_and_stores_in_fp8_and_computes_its_swiglu_twice(nano):
    expert = use_fp8(copy.deepcopy(nano)).model.layers[1].mlp.experts[3]
    x, d_y = draws((150, 96), (150, 96))
    x.requires_grad_()
    y = expert(x)
    y.backward(d_y)
    x_in = tile_rounded(x.detach())
    gate_w, up_w, down_w = (block(getattr(expert, n).weight.detach()) for n in ("gate_proj", "up_proj", "down_proj"))
    gate, up = x_in @ gate_w.t(), x_in @ up_w.t()
    # a number at the border of two FP8 numbers may fall to either side: one of 32 of itself, in a sum of 48
    near = partial(torch.allclose, rtol=0.02, atol=2e-3 * y.abs().max().item())
    assert near(y.detach(), tile(torch.nn.functional.silu(gate) * up) @ down_w.t())
    gate, up = tile(gate).requires_grad_(), tile(up).requires_grad_()
    h = torch.nn.functional.silu(gate) * up
    d_in = tile_rounded(d_y)
    h.backward(d_in @ down_w)
    for ours, theirs in (
        (expert.down_proj.weight.grad, down_rounded(d_in).t() @ down(h.detach())),
        (expert.gate_proj.weight.grad, down(gate.grad).t() @ down_rounded(x_in)),
        (expert.up_proj.weight.grad, down(up.grad).t() @ down_rounded(x_in)),
        (x.grad, tile(gate.grad) @ gate_w + tile(up.grad) @ up_w),
    ):
        error = (ours - theirs).norm() / theirs.norm()
        assert error < 2e-3, error


def products_of(model, ids):
    """How often each pair of block shapes was multiplied in a step, and the sizes."""
    seen = []

    def counting(a, b):
        seen.append((a.block, b.block, len(a.fp8_XZ), len(b.fp8_XZ), a.fp8_XZ.shape[1]))
        return product(a, b)

    use_fp8(model, counting)
    model(ids, labels=ids).loss.backward()
    return seen


def test_every_matrix_of_attention_and_feed_forward_has_its_three_products(nano, ids):
    model = copy.deepcopy(nano)
    seen = products_of(model, ids)
    names = [
        n
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and n.split(".")[-1] not in ("lm_head", "eh_proj")
    ]
    against_blocks = [s for s in seen if s[:2] == (TILES, BLOCKS)]
    along_tokens = [s for s in seen if s[:2] == (TILES, TILES)]
    assert len(against_blocks) == 2 * len(names) and len(along_tokens) == len(names) and len(seen) == 3 * len(names)
    assert sorted(s[2:4] for s in along_tokens) == sorted(tuple(model.get_submodule(n).weight.shape) for n in names)


def test_what_stays_in_high_precision_is_bitwise_what_it_was(nano, ids, monkeypatch):
    """Embedding, head, router, norms, eh_proj and the attention core, each fed again with what it was fed."""
    model, calls, attended = use_fp8(copy.deepcopy(nano)), [], []
    kept = [
        m
        for n, m in model.named_modules()
        if isinstance(m, nn.Embedding | RMSNorm | Router) or n.endswith(("lm_head", "eh_proj"))
    ]
    hooks = [m.register_forward_hook(lambda m, x, y: calls.append((m, x, y))) for m in kept]
    plain = mla.attend
    monkeypatch.setattr(mla, "attend", lambda *x: attended.append((x, plain(*x))) or attended[-1][1])
    model(ids, labels=ids).loss.backward()
    for hook in hooks:
        hook.remove()
    release_fp8(model)
    assert {type(m) for m, _, _ in calls} == {nn.Embedding, RMSNorm, Router, nn.Linear} and len(attended) == 4
    for module, x, y in calls:
        again = module(*x)
        if isinstance(module, Router):
            again, y = again.gates_MK, y.gates_MK
        assert torch.equal(again, y) and y.dtype == torch.float32
    for x, y in attended:
        assert torch.equal(plain(*x), y) and x[0].dtype == torch.float32


def test_a_model_in_fp8_is_near_the_model_in_float32_and_not_it(nano, ids):
    plain, rounded = copy.deepcopy(nano), use_fp8(copy.deepcopy(nano))
    losses = []
    for model in (plain, rounded):
        out = model(ids, labels=ids)
        out.loss.backward()
        losses.append(out.loss.item())
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=1e-3)
    named = dict(rounded.named_parameters())
    for name in (
        "model.embed_tokens.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
    ):
        a, b = plain.get_parameter(name).grad.flatten(), named[name].grad.flatten()
        assert torch.nn.functional.cosine_similarity(a, b, 0) > 0.98, name


def test_released_the_model_is_bitwise_what_it_was(nano, ids):
    model = copy.deepcopy(nano)
    before = model(ids).logits
    names = list(model.state_dict())
    use_fp8(use_fp8(model))
    assert list(model.state_dict()) == names and not torch.equal(model(ids).logits, before)
    release_fp8(model)
    assert torch.equal(model(ids).logits, before)
    assert all(layer.mlp.dispatch is grouped for layer in model.model.layers[1:])


def test_another_product_can_be_handed_over():
    (x,) = draws((9, 140))
    limited = partial(product, inner=limited_sum)
    linear = use_fp8(Block(140, 30), limited).mlp.gate_proj
    operands = quantise(x), quantise(linear.weight.detach(), BLOCKS)
    assert torch.equal(linear(x), limited(*operands)) and not torch.equal(linear(x), product(*operands))


def test_a_model_learns_and_its_weights_stay_float32(ids):
    few = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    config = dataclasses.replace(minimoe.NANO, num_hidden_layers=2, num_nextn_predict_layers=0, **few)
    model = use_fp8(minimoe.Transformer(config, seed=0))
    history = train(model, [ids] * 10, Settings(steps=10), label=None)
    assert history["next_token"][-1] < history["next_token"][0] - 0.5
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_what_is_refused(nano):
    with pytest.raises(ValueError, match="Linear has no attention and no feed-forward block"):
        use_fp8(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="weights in torch.bfloat16: FP8 training keeps master weights"):
        use_fp8(copy.deepcopy(nano).bfloat16())
    mlp = use_fp8(Block(5, 6)).mlp
    with pytest.raises(ValueError, match="1 of 10 numbers are NaN or infinite"):
        mlp(torch.tensor([[1.0, 2, 3, 4, float("inf")]] * 2).index_fill(0, torch.tensor([1]), 1.0))
