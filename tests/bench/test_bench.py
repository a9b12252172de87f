"""bench/: what turns rounds into ratios, products into a floor, and operators into shares."""

import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_the_path(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in set(sys.modules) - before:  # its modules have everyday names: train, decode, report
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(BENCH)):
            del sys.modules[name]


def test_the_ratio_is_taken_against_the_fastest_other_side_and_round_by_round():
    from rounds import compare

    times = {
        "minimoe": {"cpu_ms": [10.0, 20.0, 10.0]},
        "slow": {"cpu_ms": [50.0, 60.0, 55.0]},
        "quick": {"cpu_ms": [30.0, 50.0, 20.0]},
    }
    found = compare(times)
    assert found["fastest_other"] == "quick" and found["ratio"] == 3.0
    assert found["paired"]["median"] == 2.5  # of 3, 2.5 and 2
    assert found["all"] == {"minimoe": 1.0, "slow": 5.5, "quick": 3.0}


def test_cases_take_turns_and_the_first_round_is_not_counted():
    from rounds import interleave

    order = []
    times = interleave({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    assert order == ["c", "a", "b", "a", "b", "c", "b", "c", "a"]
    assert all(len(t["cpu_ms"]) == len(t["wall_ms"]) == 2 for t in times.values())


def test_the_recorder_sees_every_matrix_product_with_its_layout_forward_and_backward():
    from products import Recorder, flops

    x, w = torch.randn(3, 5, requires_grad=True), torch.randn(7, 5, requires_grad=True)
    with Recorder() as recorder:
        (x @ w.t()).sum().backward()
    assert len(recorder.calls) == 3, "the product, and one for each gradient"
    assert [flops(call) for call in recorder.calls] == [2 * 3 * 5 * 7] * 3
    assert recorder.calls[0] == (((3, 5), (5, 1)), ((5, 7), (1, 5)))


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::addmm_", "matrix products"),
        ("aten::bmm", "batched products (attention)"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::index_select", "gather, scatter, sort"),
        ("aten::_softmax_backward_data", "norm, softmax, loss"),
        ("aten::silu_backward", "elementwise"),
        ("aten::view", "overhead"),
    ],
)
def test_operators_are_sorted_into_their_kinds(operator, kind):
    from profile_step import kind_of

    assert kind_of(operator) == kind


def test_speculation_is_measured_beside_its_prices_and_written_as_a_table():
    from report import speculation as page
    from speculation import run

    result = run(rounds=1, seed=0, layers=(3, 4), batches=(2,))
    shape = [(r["layers"], r["batch"], r["temperature"]) for r in result["results"]]
    assert shape == [(3, 2, 0), (4, 2, 0), (3, 2, 0.8)]
    nano, deeper, _ = result["results"]
    assert nano["acceptance"] == deeper["acceptance"] and nano["calls"] == deeper["calls"]
    for r in result["results"]:
        assert r["predicted"] == pytest.approx((1 + r["acceptance"]) / (r["check"] + r["draft"]), rel=0.01)
    assert page({"runs": [result]}).count("| 2 |") == 3


def test_both_models_of_the_grpo_step_answer_to_the_full_length_and_learn_from_every_group():
    from grpo import CASES, Case, minimoe_trainer

    for case in CASES:
        trainer = minimoe_trainer(Case(case.name, prompts=3, answers=4, tokens=case.tokens), steps=1, seed=0)
        before = trainer.model.lm_head.weight.clone()
        record = trainer.step()
        assert (record["mean_tokens"], record["learnable"], record["ended"]) == (case.tokens, 3, 0)
        assert not torch.equal(trainer.model.lm_head.weight, before)


def test_without_trl_the_grpo_step_says_what_to_install(monkeypatch):
    from grpo import CASES, Stepped

    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(SystemExit, match=r"TRL is not installed: pip install 'minimoe\[bench\]'"):
        Stepped(CASES[0], "eager", 1, 0, "nowhere")


def test_the_table_of_the_grpo_step_is_that_of_its_rounds():
    import json

    from report import table
    from rounds import compare

    result = json.loads((BENCH / "results" / "grpo.json").read_text())
    assert table("grpo", result) == (BENCH / "results" / "grpo.md").read_text()
    for case in result["runs"][0]["cases"]:
        assert case["cpu_ratio"] == compare(case["rounds"], clock="cpu_ms")
        assert case["agreement"]["TRL"]["loss"] == pytest.approx(case["agreement"]["minimoe"]["loss"], abs=1e-5)


def test_the_config_has_the_size_that_the_results_speak_of():
    from pair import CONFIG, fused_experts

    import minimoe

    model = minimoe.Transformer(CONFIG, seed=0)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 8.3
    fused = fused_experts(CONFIG, model.state_dict())
    assert fused["model.layers.1.mlp.experts.gate_up_proj"].shape == (16, 256, 256)
    assert sum(v.numel() for v in fused.values()) == sum(v.numel() for v in model.state_dict().values())
