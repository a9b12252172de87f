"""FP8 beside float32: the runs are complete and alike but for the precision, and the README says what they show."""

import importlib.util
import json
import re
import statistics
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.training import Batches, Settings, load_corpus, train
from minimoe.training.fp8 import use_fp8

FOLDER = Path(__file__).parents[2] / "data" / "fp8"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("fp8_study", FOLDER / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def receipt():
    return json.loads((FOLDER / "receipt.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def readme():
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_seed_was_run_once_in_both_precisions_and_as_control(study):
    lines = (FOLDER / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 9
    assert sorted(study.results()) == sorted(
        (seed, name) for seed in study.SEEDS for name in (*study.PRECISIONS, study.CONTROL)
    )


def test_the_runs_of_a_pair_differ_in_precision_only(study):
    sha256 = load_corpus(FOLDER.parent / "wordnet").sha256
    for record in study.results().values():
        assert record["steps"] == study.STEPS == len(record["next_token"]) == len(record["mtp"])
        assert record["tokens"] == study.STEPS * study.SEQUENCES * study.ROW_TOKENS
        assert record["settings"] == study.SETTINGS and record["corpus_sha256"] == sha256
    for seed in study.SEEDS:
        plain, rounded = (study.results()[seed, name] for name in study.PRECISIONS)
        # the same weights and the same batch: the first loss differs by the rounding of one forward pass
        assert rounded["next_token"][0] == pytest.approx(plain["next_token"][0], rel=1e-3)
        assert rounded["next_token"] != plain["next_token"]


def test_the_receipt_is_what_the_lines_give(study, receipt):
    computed = study.compare(study.results())
    assert {name: receipt[name] for name in computed} == computed


def test_the_readme_s_table_is_the_receipt_s(receipt, readme):
    columns = list(receipt["0"])[:7]
    for seed in ("0", "1", "2"):
        row = re.search(rf"^\| {seed} \|(.*)\|$", readme, re.M)[1].replace("−", "-")
        cells = [float(cell.strip().rstrip("%")) for cell in row.split("|")]
        assert cells == [receipt[seed][name] for name in columns] + receipt[seed]["cpu_s"]


def test_the_readme_s_sentences(study, receipt, readme):
    rows = [receipt[seed] for seed in ("0", "1", "2")]
    training, held_out = ([row[name] for row in rows] for name in (list(rows[0])[0], "held-out loss"))
    assert max(map(abs, training + held_out)) < 0.25
    assert all(x > 0 for x in training) and sum(x > 0 for x in held_out) == 2
    assert f"up to {max(row[list(row)[2]] for row in rows):.2f}%, means" in readme
    assert f"{receipt['seeds of float32 apart, held-out loss']}% apart" in readme
    control = max(abs(row["control: training loss, mean of the last 20 steps"]) for row in rows)
    assert min(training) > control and f"by {min(training)}% to {max(training)}%, where" in readme
    assert f"moves by at most {control}%" in readme
    apart = {"fp8": [], study.CONTROL: []}
    ten = []
    for seed in study.SEEDS:
        plain = study.results()[seed, "float32"]["next_token"]
        for name, means in apart.items():
            other = study.results()[seed, name]["next_token"]
            means.append(statistics.fmean(abs(study.percent(b, a)) for a, b in zip(plain, other, strict=True)))
        other = study.results()[seed, "fp8"]["next_token"]
        tens = [[statistics.fmean(x[i : i + 10]) for i in range(0, study.STEPS, 10)] for x in (plain, other)]
        ten += [abs(study.percent(b, a)) for a, b in zip(*tens, strict=True)]
    text = " ".join(readme.split())
    assert f"means of ten steps by up to {max(ten):.2f}%" in text
    fp8, reordered = (f"{min(x):.2f} to {max(x):.2f}%" for x in apart.values())
    assert f"FP8 differs by {fp8} on average and the control by {reordered}" in text


def test_two_steps_run_again_meet_the_recorded_loss(study):
    torch.set_num_threads(1)
    recorded = study.results()[0, "fp8"]
    batches = Batches(study.data()[1], study.SEQUENCES, study.ROW_TOKENS, 0)
    model = use_fp8(minimoe.Transformer(minimoe.NANO, seed=0))
    settings = Settings(steps=study.STEPS, **study.SETTINGS)
    history = train(model, batches, settings, on_step=lambda record: record["step"] < 2, label=None)
    # another processor adds in another order, and a number between two FP8 numbers falls to the other side
    assert history["next_token"] == pytest.approx(recorded["next_token"][:2], abs=2e-3)
