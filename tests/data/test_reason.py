"""The reasoning base model is what its receipt says: its two stages, their accuracies, and the band of five seeds."""

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.tokenizer import Tokenizer
from minimoe.training import History
from minimoe.training.reasoning import (
    byte_tokenizer,
    document,
    draw_documents,
    draw_problems,
    encode_document,
    encode_prompt,
    split_response,
)
from minimoe.training.responses import measure, response_loss

FOLDER = Path(__file__).parents[2] / "data" / "reason"
FOLDERS = {"skill": FOLDER / "skill", "habit": FOLDER}
STAGE = pytest.mark.parametrize("stage", FOLDERS)


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("reason_train", FOLDER / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def receipt():
    return json.loads((FOLDER / "receipt.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def band():
    return json.loads((FOLDER / "band.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models():
    return {stage: minimoe.load(folder, dtype=torch.float32) for stage, folder in FOLDERS.items()}


@pytest.fixture(scope="module")
def held_out(receipt):
    stated = receipt["held_out"]
    return lambda task: draw_problems(task, stated["problems"], stated["seed"], held_out=True)


@STAGE
def test_each_folder_is_small_bfloat16_and_of_the_stated_shape(stage, models, receipt, command):
    assert (FOLDERS[stage] / "model.safetensors").stat().st_size <= 1.2e6
    assert minimoe.load(FOLDERS[stage]).dtype == torch.bfloat16
    assert models[stage].config == command.CONFIG
    assert sum(p.numel() for p in models[stage].parameters()) == receipt["parameters"]


@STAGE
def test_the_tokenizer_has_bytes_and_no_merges(stage):
    tokenizer = Tokenizer.load(FOLDERS[stage])
    text = document("1 + 2", "<think>1+2=3</think>3")
    assert tokenizer.merges == [] and tokenizer.vocab_size == 266
    assert encode_document(tokenizer, text) == encode_document(byte_tokenizer(), text)


def test_the_run_kept_to_its_budget_and_to_one_thread(receipt):
    assert receipt["cpu_seconds"] <= 120
    assert receipt["machine"]["threads"] == 1


def test_the_corpora_have_the_stated_sums_and_sizes(receipt, command):
    for i, (name, stage) in enumerate(receipt["stages"].items()):
        stated = stage["corpus"]
        shares = {key: stated[key] for key in ("lazy", "bare") if key in stated}
        texts = draw_documents(command.TASK, stated["documents"], seed=2 * receipt["seed"] + i, **shares)
        assert hashlib.sha256("".join(text + "\n" for text in texts).encode()).hexdigest() == stated["sha256"], name
        assert sum(len(encode_document(byte_tokenizer(), text)) for text in texts) == stated["tokens"], name


@STAGE
def test_the_stated_responses_are_what_the_model_writes(stage, models, receipt, command, held_out):
    """Greedy and through the same code: the first answers again. bfloat16 weights leave rounding little room."""
    stated = receipt["stages"][stage]["held_out"]["greedy"]["first responses"]
    problems = held_out(command.TASK)[: len(stated)]
    assert measure(models[stage], byte_tokenizer(), command.TASK, problems).responses == stated


@STAGE
def test_the_stated_accuracy_is_measured_again(stage, models, receipt, command, held_out):
    stated = receipt["stages"][stage]["held_out"]["greedy"]
    score = measure(models[stage], byte_tokenizer(), command.TASK, held_out(command.TASK))
    # a tie that rounding decides otherwise on another machine may move a few answers of 512
    assert score.accuracy == pytest.approx(stated["accuracy"], abs=0.02)
    assert score.mean_tokens == pytest.approx(stated["mean_tokens"], abs=0.5)


@STAGE
def test_the_stated_loss_is_measured_again(stage, models, receipt, command, held_out):
    texts = [document(problem, command.TASK.think(problem)) for problem in held_out(command.TASK)]
    rows = [encode_document(byte_tokenizer(), text) for text in texts]
    stated = receipt["stages"][stage]["held_out"]["held-out loss on full responses"]
    assert response_loss(models[stage], rows) == pytest.approx(stated, rel=0.02, abs=1e-4)


def test_the_base_model_holds_the_skill_and_does_not_use_it(models, command, held_out):
    """It answers at once; made to begin a thought, it thinks to the end, and is right."""
    task, tokenizer, problems = command.TASK, byte_tokenizer(), held_out(command.TASK)[:64]
    lazy = measure(models["habit"], tokenizer, task, problems)
    prompts = [encode_prompt(tokenizer, p) + tokenizer.encode(f"<think>{p[0]}", special=True) for p in problems]
    begun = minimoe.generate(models["habit"], prompts, 40, stop_tokens=[tokenizer.eos_id])
    responses = [f"<think>{p[0]}{tokenizer.decode(t)}" for p, t in zip(problems, begun.tokens, strict=True)]
    right = sum(task.is_correct(p, response) for p, response in zip(problems, responses, strict=True)) / len(problems)
    assert lazy.accuracy < 0.4 and right > 0.8


def test_at_temperature_1_it_sometimes_thinks_and_then_it_is_right(models, command, held_out):
    problems = held_out(command.TASK)[:128]
    score = measure(models["habit"], byte_tokenizer(), command.TASK, problems, temperature=1.0, seed=5)
    long = [len(split_response(response)[0] or "") > 20 for response in score.responses]
    right = [command.TASK.is_correct(p, r) for p, r in zip(problems, score.responses, strict=True)]
    assert 0.05 < sum(long) / len(long) < 0.5
    thinking = [r for r, yes in zip(right, long, strict=True) if yes]
    hasty = [r for r, yes in zip(right, long, strict=True) if not yes]
    assert sum(thinking) / len(thinking) > 0.5 > sum(hasty) / len(hasty)


def test_the_history_has_every_step_of_both_stages_and_the_receipts_losses(receipt):
    history = History.load(FOLDER / "history.jsonl")
    for name, stage in receipt["stages"].items():
        losses = [record["next_token"] for record in history.records if record["stage"] == name]
        assert len(losses) == stage["settings"]["steps"]
        stated = stage["loss_nats_per_response_token"]["mean of the last 20 steps"]
        assert sum(losses[-20:]) / 20 == pytest.approx(stated, rel=1e-3)


def test_five_seeds_pass_the_rule_that_rl_needs(band):
    """Reinforcement learning elicits what is there: full skill first, and a base that still leaves room."""
    assert [run["seed"] for run in band["runs"]] == [0, 1, 2, 3, 4]
    for run in band["runs"]:
        assert run["skill_accuracy"] >= 0.8 and 0.1 <= run["base_accuracy"] <= 0.3, run
        assert run["cpu_seconds"] <= 120


def test_the_bands_are_those_of_the_runs(band):
    for name, limits in band["bands"].items():
        values = [run[name] for run in band["runs"] if run[name] is not None]
        assert limits == {"lowest": min(values), "highest": max(values)}, name


def test_the_shipped_run_lies_inside_the_band(receipt, band):
    skill, habit = receipt["stages"]["skill"], receipt["stages"]["habit"]
    found = {
        "skill_loss": skill["loss_nats_per_response_token"]["mean of the last 20 steps"],
        "habit_loss": habit["loss_nats_per_response_token"]["mean of the last 20 steps"],
        "skill_accuracy": skill["held_out"]["greedy"]["accuracy"],
        "base_accuracy": habit["held_out"]["greedy"]["accuracy"],
    }
    for name, value in found.items():
        assert band["bands"][name]["lowest"] <= value <= band["bands"][name]["highest"], name


def test_the_readme_states_the_receipts_and_the_bands_numbers(receipt, band):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    numbers = [f"{receipt['parameters']:,}", str(receipt["cpu_seconds"]), receipt["versions"]["torch"]]
    for stage in receipt["stages"].values():
        numbers += [f"{stage['corpus']['documents']:,}", f"{stage['settings']['steps']} steps"]
    for run in band["runs"]:
        numbers += [f"{run['skill_accuracy']:.3f}", f"{run['base_accuracy']:.3f}", f"{run['base_tokens']:.1f}"]
    assert [number for number in numbers if number not in readme] == []
