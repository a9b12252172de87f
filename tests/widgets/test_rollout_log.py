"""A recorded run is read back whole, and files that are missing, broken or at odds are named with what is wrong."""

import json
import math
import runpy
from pathlib import Path

import pytest

from minimoe_widgets.rollout_log import Band, Stage, load_stages, read_lines

RECORDING = runpy.run_path(str(Path(__file__).with_name("rollout_recording.py")))
DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def folder(tmp_path):
    return RECORDING["write"](tmp_path / "zero")


def edit(path, change):
    """Rewrite a file of JSON lines: `change` takes the list of its records and alters it."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_recording_is_read_back(folder):
    (stage,) = load_stages(folder)
    assert stage.name == "r1_zero" and len(stage.records) == 40 and len(stage.problems) == 3 and stage.last_step == 40
    problem = stage.problems[1]
    assert stage.steps(problem) == list(range(0, 41, 4))
    assert stage.group(problem, 8) == RECORDING["make_group"](problem, 8, "r1_zero")
    assert stage.band.seeds == 5 and stage.notes == []


def test_a_column_is_found_where_it_was_recorded():
    before = {"accuracy": 0.1}
    records = [{"step": 1, "kl": 0.5, "evaluation_before": before}, {"step": 2, "kl": None, "skipped": True}]
    records += [{"step": 3, "kl": math.nan, "evaluation": {"accuracy": 0.7}}, {"step": 4, "kl": 1}]
    stage = Stage("one", records)
    assert stage.column("kl") == ([1, 4], [0.5, 1.0])
    assert stage.column("skipped") == ([], []), "a truth value is no number to draw"
    assert stage.column("evaluation.accuracy") == ([0, 3], [0.1, 0.7])
    assert stage.column("entropy") == ([], [])


def test_a_group_that_is_recorded_again_replaces_the_first():
    make = RECORDING["make_group"]
    stage = Stage("one", groups=[make("1 + 1", 4, "one", seed=1), make("1 + 1", 4, "one", seed=2)])
    assert stage.steps("1 + 1") == [4] and stage.group("1 + 1", 4) == make("1 + 1", 4, "one", seed=2)


def test_a_log_of_several_stages_gives_them_in_their_order(folder):
    def rename(lines):
        for line in lines:
            line["stage"] = "second" if line["step"] > 20 else "first"

    edit(folder / "log.jsonl", rename)
    edit(folder / "groups.jsonl", rename)
    first, second = load_stages(folder, "a name that fits one stage")
    assert (first.name, second.name) == ("first", "second")
    assert first.steps(first.problems[0]) == list(range(0, 21, 4)) and second.records[0]["step"] == 21
    assert first.band is None and "does not say which of the stages" in first.notes[0]


def test_a_stage_of_fine_tuning_has_records_and_no_groups(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"step": 1, "next_token": 2.0}\n')
    (stage,) = load_stages(tmp_path, "cold start")
    assert (stage.name, stage.problems, stage.column("next_token")) == ("cold start", [], ([1], [2.0]))


def test_half_a_line_at_the_end_is_left_out_and_said(folder):
    path = folder / "groups.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    (stage,) = load_stages(folder)
    assert stage.notes == ["The last line of groups.jsonl is not finished and is left out."]
    assert stage.steps(stage.problems[-1])[-1] == 36
    (folder / "log.jsonl").write_bytes(b'{"step": 1}\n' + "“".encode()[:1])  # a line may end within a character
    assert read_lines(folder / "log.jsonl") == ([{"step": 1}], True)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        load_stages(tmp_path / "nowhere")
    (folder / "groups.jsonl").rename(tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match=r"groups.jsonl is missing: no prompt was watched"):
        load_stages(folder)
    (folder / "log.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"log.jsonl is missing"):
        load_stages(folder)


def test_what_is_empty_or_broken_is_named(folder):
    log, groups = folder / "log.jsonl", folder / "groups.jsonl"
    kept = log.read_text()
    for text, said in [
        ("", "log.jsonl holds no steps"),
        ('{"step": 1}\nnonsense\n', "log.jsonl, line 2 is not JSON"),
        ("[1]\n", "line 1 is no JSON object"),
        ('{"loss": 1}\n', "a record without 'step'"),
    ]:
        log.write_text(text)
        with pytest.raises(ValueError, match=said):
            load_stages(folder)
    log.write_text(kept)
    groups.write_text("")
    with pytest.raises(ValueError, match="groups.jsonl holds no groups"):
        load_stages(folder)


def test_files_of_different_runs_are_refused(folder):
    log, groups = folder / "log.jsonl", folder / "groups.jsonl"
    edit(log, lambda lines: lines.__delitem__(slice(30, None)))
    with pytest.raises(ValueError, match="groups.jsonl has step 32, log.jsonl ends at step 30"):
        load_stages(folder)
    edit(groups, lambda lines: lines[0].update(stage="dev2"))
    with pytest.raises(ValueError, match="groups.jsonl has stage 'dev2', log.jsonl has r1_zero"):
        load_stages(folder)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda answer: answer["logprobs"].pop(), r"answer 2: \d+ pieces, \d+ logprobs, \d+ of the reference"),
        (lambda answer: answer.pop("advantage"), "answer 2 has no advantage"),
        (lambda answer: answer.update(reward=math.inf), "answer 2 has a value that is no finite number"),
        (lambda answer: answer["reference"].__setitem__(0, None), "answer 2 has a value that is no finite number"),
    ],
)
def test_a_group_that_cannot_be_drawn_is_named_with_its_step_and_answer(folder, change, said):
    edit(folder / "groups.jsonl", lambda lines: change(lines[3]["answers"][1]))
    with pytest.raises(ValueError, match=rf"groups.jsonl, step 4, '.*', {said}"):
        load_stages(folder)


def test_a_group_without_its_prompt_is_refused():
    with pytest.raises(ValueError, match="one: a group has no problem; its keys are step, answers"):
        Stage("one", groups=[{"step": 0, "answers": []}])


def test_what_was_not_recorded_is_answered_with_what_was(folder):
    (stage,) = load_stages(folder)
    with pytest.raises(ValueError, match=r"prompt '2 \+ 2' was not watched in stage r1_zero; watched: '8 \+ 1"):
        stage.group("2 + 2", 0)
    with pytest.raises(ValueError, match=r"step 3 of .* was not recorded; recorded: \[0, 4, 8,"):
        stage.group(stage.problems[0], 3)


def test_a_band_is_checked(tmp_path):
    with pytest.raises(ValueError, match="the band, column kl: 2 of step, 1 of lowest, 2 of highest"):
        Band.load({"columns": {"kl": {"step": [1, 2], "lowest": [0.1], "highest": [0.2, 0.3]}}})
    path = tmp_path / "band.json"
    with pytest.raises(FileNotFoundError, match="band.json is missing"):
        Band.load(path)
    path.write_text('{"bands": {}}')
    with pytest.raises(ValueError, match="band.json holds no bands of curves: it needs 'columns'"):
        Band.load(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="band.json is not JSON"):
        Band.load(path)
