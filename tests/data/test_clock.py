"""R1-Zero on a search: the stored run is what its receipt says, and the seeds are what the README says of them."""

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe.training import History
from minimoe.training.reasoning import Clock, byte_tokenizer, draw_documents, draw_problems, encode_document
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
    said = measure(model, byte_tokenizer(), command.TASK, problems, command.REINFORCE.max_new_tokens)
    assert said.responses == stated


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
    seed, documents = receipt["seed"], lambda settings: settings.steps * command.SEQUENCES
    texts = {
        "chains": draw_documents(command.CHAIN, documents(command.CHAINS), 3 * seed),
        "skill": command.searches(documents(command.SEARCHES), 3 * seed + 1, 0.0),
        "habit": draw_documents(command.TASK, documents(command.HABIT), 3 * seed + 2, command.GIVES_UP),
    }
    assert set(texts) == set(receipt["stages"])
    for name, stated in receipt["stages"].items():
        assert hashlib.sha256("".join(t + "\n" for t in texts[name]).encode()).hexdigest() == stated["sha256"], name
        assert sum(len(encode_document(byte_tokenizer(), t)) for t in texts[name]) == stated["tokens"], name


def test_a_tenth_of_the_second_corpus_is_chains(command):
    texts = command.searches(1000, 0, 0.0)
    assert 60 < sum(" ? " not in text for text in texts) < 140


def test_the_control_never_sees_a_second_attempt(command):
    assert not any("wait" in text for text in command.searches(500, 3, lazy=1.0))
    assert any("wait" in text for text in command.searches(500, 3, lazy=0.0))


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
    settings = {"chains": command.CHAINS, "skill": command.SEARCHES, "habit": command.HABIT}
    assert {name: stage["settings"]["steps"] for name, stage in receipt["stages"].items()} == {
        name: setting.steps for name, setting in settings.items()
    }
    assert receipt["machine"]["threads"] == 1


def test_the_run_learns_to_try_again_and_is_right_more_often(receipt):
    before, after = receipt["before"], receipt["after"]
    assert before["accuracy"] < 0.45 and after["accuracy"] > 0.8
    assert before["waits"] == 0 and after["waits"] > 1.5


# --- the seeds --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(command):
    return {entry["run"]: entry for entry in command.known()}


def of_kind(results, kind):
    return [entry for run, entry in results.items() if run.startswith(kind)]


def test_five_fresh_seeds_are_stored_and_at_least_four_end_above_80_percent(results, command):
    fresh = of_kind(results, "fresh")
    assert [entry["seed"] for entry in fresh] == list(command.FRESH) and command.SEED not in command.FRESH
    assert sum(entry["after"]["accuracy"] > 0.8 for entry in fresh) >= 4


def test_a_fresh_base_gives_up_and_waits_again_afterwards(results):
    for entry in of_kind(results, "fresh"):
        assert entry["before"]["accuracy"] < 0.45 and entry["before"]["waits"] < 0.3, entry["run"]
        assert entry["after"]["waits"] > 1.5 and entry["after"]["mean_tokens"] > 1.5 * entry["before"]["mean_tokens"]


def test_base_and_reinforcement_take_under_300_processor_seconds(results, receipt):
    for entry in (*of_kind(results, "fresh"), receipt):
        assert entry["cpu_seconds"]["both"] < 300, entry["seed"]


def test_the_seed_that_failed_is_the_one_that_had_not_learned_to_search(results):
    for entry in of_kind(results, "fresh"):
        skilled = entry["stages"]["skill"]["greedy"]["accuracy"] > 0.9
        assert skilled == (entry["after"]["accuracy"] > 0.8), entry["run"]


def test_the_seed_that_failed_took_its_own_value_for_the_target(results):
    """So every attempt of its full skill looked like a hit: a check "-6=0y" where the target is another digit."""
    failed = results["fresh 11"]["stages"]["skill"]["greedy"]["first responses"]
    checks = [response.split("done")[0][-5:] for response in failed]
    values = [response.split("done")[0][-6] for response in failed]
    assert checks == [f"-{value}=0y" for value in values]
    problems = draw_problems(Clock(4), len(failed), 99, held_out=True)
    assert all(problem[-1] != value for problem, value in zip(problems, values, strict=True))


def test_a_base_that_never_saw_a_second_attempt_does_not_learn_to_wait(results, command):
    control = of_kind(results, "control")
    assert [entry["seed"] for entry in control] == list(command.CONTROL)
    for entry in control:
        assert entry["before"]["waits"] == entry["after"]["waits"] == 0, entry["run"]
        assert abs(entry["after"]["accuracy"] - entry["before"]["accuracy"]) < 0.05, entry["run"]


def test_the_band_is_that_of_the_fresh_seeds(command):
    assert command.band() == json.loads((FOLDER / "band.json").read_text(encoding="utf-8"))


def test_the_readme_states_the_numbers_of_every_run(results, receipt):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for entry in (receipt, *results.values()):
        before, after = entry["before"], entry["after"]
        numbers = [entry["stages"]["skill"]["greedy"]["accuracy"]]
        numbers += [part[name] for name in ("accuracy", "waits", "mean_tokens") for part in (before, after)]
        cells = [f"{number:.1f}" if number > 3 else f"{number:.2f}" for number in numbers]
        row = f"| {entry['seed']} | " + " | ".join(cells) + f" | {entry['cpu_seconds']['both']:.0f} |"
        assert row in readme, row
