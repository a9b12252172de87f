"""R1-Zero on a search is what its receipt says: the base, the run, and what it cost."""

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.training import History
from minimoe.training.reasoning import byte_tokenizer, draw_documents, draw_problems, encode_document
from minimoe.training.responses import measure

FOLDER = Path(__file__).parents[2] / "data" / "clock"
FOLDERS = {"before": FOLDER / "base", "after": FOLDER}
WHEN = pytest.mark.parametrize("when", FOLDERS)


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("clock_train", FOLDER / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def receipt():
    return json.loads((FOLDER / "receipt.json").read_text(encoding="utf-8"))


@WHEN
def test_each_folder_is_small_bfloat16_and_of_data_reasons_shape(when, command):
    assert (FOLDERS[when] / "model.safetensors").stat().st_size <= 1.2e6
    model = minimoe.load(FOLDERS[when])
    assert model.dtype == torch.bfloat16 and model.config == command.zero.reason.CONFIG


@WHEN
def test_the_stated_answers_are_what_the_model_says(when, receipt, command):
    stated = receipt[when]["first responses"]
    model = minimoe.load(FOLDERS[when], dtype=torch.float32)
    problems = draw_problems(command.TASK, len(stated), command.HELD_OUT_SEED, held_out=True)
    assert measure(model, byte_tokenizer(), command.TASK, problems, 192).responses == stated


@WHEN
def test_the_accuracy_in_the_log_is_measured_again(when, command):
    """On the problems that the run itself evaluated. bfloat16 storage and rounding may move a few answers of 128."""
    records = History.load(FOLDER / "log.jsonl").records
    stated = records[0]["evaluation_before"] if when == "before" else records[-1]["evaluation"]
    model = minimoe.load(FOLDERS[when], dtype=torch.float32)
    problems = draw_problems(command.TASK, command.SAMPLED, command.HELD_OUT_SEED, held_out=True)
    score = measure(model, byte_tokenizer(), command.TASK, problems, command.REINFORCE.max_new_tokens)
    assert score.accuracy == pytest.approx(stated["accuracy"], abs=0.04)
    assert score.waits == pytest.approx(stated["waits"], abs=0.1)


def test_the_corpora_have_the_stated_sums_and_sizes(receipt, command):
    seed = receipt["seed"]
    texts = {
        "skill": command.curriculum(command.SKILL.steps, 2 * seed),
        "habit": draw_documents(command.TASK, command.HABIT.steps * command.SEQUENCES, 2 * seed + 1, command.GIVES_UP),
    }
    for name, stated in receipt["stages"].items():
        assert hashlib.sha256("".join(t + "\n" for t in texts[name]).encode()).hexdigest() == stated["sha256"], name
        assert sum(len(encode_document(byte_tokenizer(), t)) for t in texts[name]) == stated["tokens"], name


def test_the_corpus_of_the_skill_begins_with_chains_and_ends_with_searches(command):
    texts = command.curriculum(command.SKILL.steps, 0)
    chains = [" ? " not in text for text in texts]
    tenth = len(texts) // 10
    assert sum(chains[:tenth]) > 0.8 * tenth > 0.3 * tenth > sum(chains[-tenth:])


def test_the_control_never_sees_a_second_attempt(command):
    assert not any("wait" in text for text in command.curriculum(16, 3, lazy=1.0))
    assert any("wait" in text for text in command.curriculum(16, 3))


def test_log_and_groups_have_every_step_that_the_receipt_implies(receipt, command):
    records = History.load(FOLDER / "log.jsonl").records
    assert [record["step"] for record in records] == list(range(1, command.REINFORCE.steps + 1))
    groups = [json.loads(line) for line in (FOLDER / "groups.jsonl").read_text(encoding="utf-8").splitlines()]
    every = command.REINFORCE.evaluate_every
    assert sorted({group["step"] for group in groups}) == sorted({0, command.REINFORCE.steps}
        | set(range(every, command.REINFORCE.steps + 1, every)))  # fmt: skip
    assert all(len(group["answers"]) == command.REINFORCE.answers for group in groups)


def test_the_run_has_the_configuration_of_the_command(receipt, command):
    stated = {key: receipt[key] for key in command.configuration()}
    assert stated == json.loads(json.dumps(command.configuration()))
    assert receipt["stages"]["skill"]["settings"]["steps"] == command.SKILL.steps
    assert receipt["stages"]["habit"]["settings"]["steps"] == command.HABIT.steps
    assert receipt["machine"]["threads"] == 1


def test_the_run_learns_to_try_again_and_is_right_more_often(receipt):
    before, after = receipt["before"], receipt["after"]
    assert before["accuracy"] < 0.45 and after["accuracy"] > 0.8
    assert before["waits"] == 0 and after["waits"] > 1.5
    assert receipt["cpu_seconds"]["both"] < 300


def test_the_readme_states_the_runs_numbers(receipt):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    numbers = [receipt["stages"]["skill"]["greedy"]["accuracy"], receipt["before"]["accuracy"]]
    numbers += [receipt["after"]["accuracy"], receipt["after"]["waits"]]
    row = " | ".join(f"{number:.2f}" for number in numbers) + f" | {receipt['cpu_seconds']['both']:.0f} |"
    assert row in readme, row
