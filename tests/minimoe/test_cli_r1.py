"""`minimoe r1`: a table that grows by a line a stage, and errors in one line."""

import pytest

from minimoe import cli, cli_r1
from minimoe.rl.recipe import RECIPE, STAGES
from minimoe.rl.stage_scores import COLUMNS

SCORES = {name: 0.25 for name in COLUMNS} | {"mean_tokens": 27.0}


def fake(calls):
    def run_recipe(out, recipe, on_stage):
        calls.append((out, recipe))
        entries = [{"stage": stage, "scores": SCORES, "cpu_s": 10.0, "measuring_cpu_s": 1.0} for stage in STAGES]
        for entry in entries:
            on_stage(entry)
        return entries

    return run_recipe


def test_every_stage_is_a_line_of_the_table(monkeypatch, capsys, tmp_path):
    calls = []
    monkeypatch.setattr(cli_r1, "run_recipe", fake(calls))
    assert cli.main(["r1", "--out", str(tmp_path), "--seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(STAGES)
    assert all(len(line) == len(lines[0]) for line in lines[:-1])
    assert "70 CPU-seconds" in lines[-1] and str(tmp_path) in lines[-1]
    (out, recipe), *others = calls
    assert out == str(tmp_path) and recipe.seed == 7 and RECIPE.seed == 0 and not others


def test_every_column_is_a_score():
    assert set(cli_r1.TABLE.values()) <= set(COLUMNS)
    assert max(map(len, cli_r1.TABLE)) < cli_r1.WIDTH


def test_a_folder_with_another_recipe_is_one_line_on_stderr(capsys, tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    assert cli.main(["r1", "--out", str(tmp_path)]) == 2
    assert "another recipe" in capsys.readouterr().err


def test_the_folder_must_be_given(capsys):
    with pytest.raises(SystemExit):
        cli.main(["r1"])
    assert "--out" in capsys.readouterr().err
