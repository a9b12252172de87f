"""A run learns, repeats with its seed, stops when told, and records what happened."""

import dataclasses
import itertools
import math

import pytest
import torch

import minimoe
from minimoe.training import History, Settings, evaluate, train
from minimoe.training.data import Batches

CONFIG = dataclasses.replace(
    minimoe.NANO,
    vocab_size=12,
    hidden_size=16,
    num_hidden_layers=2,
    intermediate_size=24,
    moe_intermediate_size=8,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=2,
    topk_group=2,
    q_lora_rank=8,
    kv_lora_rank=8,
)
COUNTING = [[(i + j) % 12 for j in range(20)] for i in range(12)]  # always the next number
HELD_OUT = torch.tensor(COUNTING[:3])


def model(seed=0, **changes):
    return minimoe.Transformer(dataclasses.replace(CONFIG, **changes), seed=seed)


def run(model, settings, **options):
    return train(model, Batches(COUNTING, 4, 10, seed=0), settings, label=None, **options)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_counting_is_learned(optimizer):
    m = model()
    history = run(m, Settings(steps=60, optimizer=optimizer, lr=2e-2), validation=HELD_OUT)
    assert history["loss"][0] > 2 and history["next_token"][-1] < 0.6  # ln 12 = 2.48 is a guess
    assert history["validation"][-1] == pytest.approx(evaluate(m, HELD_OUT))
    assert history["validation"][-1] < 0.6


def test_the_seed_fixes_every_number_of_a_run():
    first, second, other = (run(model(seed), Settings(steps=5))["loss"] for seed in (0, 0, 1))
    assert first == second and first != other


def test_a_step_by_hand_equals_one_of_the_loop():
    mine, theirs = model(), model()
    batch = Batches(COUNTING, 4, 10, seed=0).take()
    run(theirs, Settings(steps=1, optimizer="adamw", lr=0.01, table_rate=1, warmup=0, bias_gamma=0.5, clip_norm=0.05))
    out = mine(batch, labels=batch)
    out.loss.backward()
    torch.nn.utils.clip_grad_norm_(mine.parameters(), 0.05)
    vectors = [p for p in mine.parameters() if p.ndim == 1]
    tables = [p for p in mine.parameters() if p.ndim == 2]
    groups = [{"params": tables, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95)).step()
    for layer, decision in out.routing.items():
        load_E = decision.load_E.float()
        mine.routers()[layer].e_score_correction_bias += 0.5 * torch.sign(load_E.mean() - load_E)
    # fused and plain AdamW round differently: one unit in the last place of a step of 0.01
    for (name, a), b in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7), name


def test_without_gamma_the_bias_stays_zero_and_with_it_it_moves():
    still, moved = model(), model()
    run(still, Settings(steps=3, bias_gamma=0.0))
    run(moved, Settings(steps=3, bias_gamma=0.01))
    assert all(router.e_score_correction_bias.abs().max() == 0 for router in still.routers().values())
    assert all(router.e_score_correction_bias.abs().max() > 0 for router in moved.routers().values())


def test_the_bias_is_frozen_at_the_end_of_the_run():
    seen = []
    m = model()

    def look(record):
        seen.append(m.routers()[1].e_score_correction_bias.clone())

    run(m, Settings(steps=10, bias_until=0.5, bias_gamma=0.01), on_step=look)
    assert not torch.equal(seen[3], seen[4])
    assert all(torch.equal(seen[4], later) for later in seen[5:])


def test_every_step_is_recorded_and_the_rate_follows_the_schedule():
    history = run(model(), Settings(steps=8, lr=0.01, warmup=0.25, floor=0.1, evaluate_every=4), validation=HELD_OUT)
    assert history["step"] == list(range(1, 9))
    assert history["tokens"] == [40 * step for step in history["step"]]
    assert history["lr"][:3] == pytest.approx([0, 0.005, 0.01])
    assert len(history["validation"]) == 2
    for name in ("loss", "next_token", "mtp", "balance", "grad_norm", "maxvio", "cpu_s", "tokens_per_s"):
        assert len(history[name]) == 8 and all(math.isfinite(x) for x in history[name]), name


def test_the_mtp_loss_is_part_of_the_loss():
    history = run(model(mtp_loss_weight=0.3, aux_loss_alpha=0.01), Settings(steps=2))
    for record in history.records:
        total = record["next_token"] + 0.3 * record["mtp"] + 0.01 * record["balance"]
        assert record["loss"] == pytest.approx(total, rel=1e-5)


def test_a_callback_that_says_no_ends_the_run():
    history = run(model(), Settings(steps=50), on_step=lambda record: record["step"] < 3)
    assert len(history) == 3


def test_a_limit_on_cpu_time_ends_the_run():
    history = run(model(), Settings(cpu_seconds=0.2))
    assert history["cpu_s"][-1] >= 0.2 and all(cpu_s < 0.2 for cpu_s in history["cpu_s"][:-1])


def test_batches_that_run_out_end_the_run():
    history = train(model(), itertools.islice(Batches(COUNTING, 4, 10, 0), 3), Settings(steps=50), label=None)
    assert len(history) == 3


def test_a_dense_model_without_mtp_trains_too():
    history = run(model(n_routed_experts=None, num_nextn_predict_layers=0), Settings(steps=3))
    assert history["maxvio"] == [0.0] * 3
    with pytest.raises(KeyError, match="'mtp' was not recorded"):
        history["mtp"]


def test_evaluating_leaves_the_model_as_it_was():
    m = model()
    before = {name: value.clone() for name, value in m.state_dict().items()}
    evaluate(m, HELD_OUT)
    assert m.training and all(torch.equal(value, before[name]) for name, value in m.state_dict().items())


def test_evaluation_does_not_depend_on_how_rows_are_grouped():
    m = model()
    # the same sums in another order, in float32
    assert evaluate(m, HELD_OUT, sequences=1) == pytest.approx(evaluate(m, HELD_OUT, sequences=3), rel=1e-5)


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ValueError, match="steps=None and cpu_seconds=None"):
        Settings()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"cpu_seconds": -1.0}, {"lr": 0.0}, {"clip_norm": 0.0}])
def test_settings_that_cannot_work_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**{"steps": 1} | wrong)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_rate():
    m = model()
    with torch.no_grad():
        m.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="the loss is nan .* lower lr=0.003"):
        run(m, Settings(steps=2, lr=3e-3))


def test_a_history_survives_its_file(tmp_path):
    history = run(model(), Settings(steps=3), validation=HELD_OUT)
    history.save(tmp_path / "history.jsonl")
    again = History.load(tmp_path / "history.jsonl")
    assert again["loss"] == pytest.approx(history["loss"], rel=1e-5)
    assert again["step"] == history["step"] and len(again["validation"]) == 1
