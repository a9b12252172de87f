"""The command `minimoe`: what it prints, and that a user's mistake is one line and exit status 2."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import minimoe
from minimoe.checkpoint import load, save
from minimoe.cli import find_config, main
from minimoe.config import NANO, PRESETS, V2_LITE, V3, V3_2
from minimoe.tokenizer import Tokenizer

TEXT = "a tree is a tall plant with a trunk. a shrub is a low plant without one. a bird sits in the tree. " * 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder as `train` leaves it: a tiny untrained model and a tokenizer that fits it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = Tokenizer.train(TEXT, 300)
    config = replace(NANO, vocab_size=300, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    save(minimoe.Transformer(config, seed=3), folder)
    tokenizer.save(folder)
    return folder


def fails_in_one_line(capsys, *arguments) -> str:
    assert main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("minimoe: error: ") and printed.err.count("\n") == 1, printed.err
    return printed.err


# --- count


def test_counting_a_folder_and_its_config_file_gives_the_same_table(checkpoint, capsys):
    main(["count", str(checkpoint)])
    folder = capsys.readouterr().out.splitlines()[2:]
    main(["count", str(checkpoint / "config.json")])
    assert capsys.readouterr().out.splitlines()[2:] == folder


def test_presets_are_found_in_any_spelling():
    assert [find_config(name) for name in ("v3", "V2-Lite", "v2_lite", "v3.2", "nano")] == [
        V3,
        V2_LITE,
        V2_LITE,
        V3_2,
        NANO,
    ]


def test_an_unknown_name_lists_the_presets(capsys):
    said = fails_in_one_line(capsys, "count", "V9")
    assert "'V9'" in said and all(name in said for name in PRESETS)


def test_a_folder_without_a_config_is_named(tmp_path, capsys):
    assert str(tmp_path / "config.json") in fails_in_one_line(capsys, "count", str(tmp_path))


def test_a_contradictory_config_is_one_line_with_both_numbers(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(NANO.to_dict() | {"n_routed_experts": 10}))
    assert "n_routed_experts=10 is not a multiple of n_group=4" in fails_in_one_line(capsys, "count", str(tmp_path))


def test_unknown_keys_are_a_warning_on_one_line_of_stderr(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(NANO.to_dict() | {"warp": 9}))
    assert main(["count", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("minimoe: warning: ") and "warp" in printed.err and printed.err.count("\n") == 1


def test_a_sequence_length_of_zero_is_refused(capsys):
    assert "seq_len=0" in fails_in_one_line(capsys, "count", "V3", "--seq-len", "0")


# --- generate


def test_a_text_is_continued_on_stdout_and_the_pace_goes_to_stderr(checkpoint, capsys):
    assert main(["generate", str(checkpoint), "a tree is", "--max-new-tokens", "8"]) == 0
    printed = capsys.readouterr()
    model, tokenizer = load(checkpoint), Tokenizer.load(checkpoint)
    expected = minimoe.generate(model, [[0] + tokenizer.encode("a tree is")], max_new_tokens=8).tokens[0]
    assert printed.out == "a tree is" + tokenizer.decode(expected, skip_special=True) + "\n"
    assert f"{len(expected)} tokens in" in printed.err


def test_sampling_repeats_with_the_seed_and_speculation_changes_nothing_greedy(checkpoint, capsys):
    def printed(*options):
        assert main(["generate", str(checkpoint), "a bird", "--max-new-tokens", "12", *options]) == 0
        return capsys.readouterr().out

    sampled = ("--temperature", "1.0", "--top-k", "50", "--top-p", "0.9", "--seed")
    assert printed(*sampled, "1") == printed(*sampled, "1") != printed(*sampled, "2")
    assert printed() == printed("--speculative")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-new-tokens", "0"], "max_new_tokens=0"),
        (["--max-new-tokens", "1000"], "max_position_embeddings=512"),
        (["--temperature", "-1"], "temperature=-1.0"),
        (["--top-k", "0"], "top_k=0"),
        (["--top-p", "1.5"], "top_p=1.5"),
    ],
)
def test_a_wrong_option_of_generate_is_one_line(options, words, checkpoint, capsys):
    assert words in fails_in_one_line(capsys, "generate", str(checkpoint), "a bird", *options)


def test_generating_without_a_folder_tokenizer_or_weights_names_what_is_missing(checkpoint, tmp_path, capsys):
    assert "nowhere" in fails_in_one_line(capsys, "generate", str(tmp_path / "nowhere"), "x")
    assert "tokenizer.json" in fails_in_one_line(capsys, "generate", str(tmp_path), "x")
    (tmp_path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    assert str(tmp_path) in fails_in_one_line(capsys, "generate", str(tmp_path), "x")


# --- the command itself


@pytest.mark.parametrize("command", [[], ["count"], ["train"], ["generate"]])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert "usage: minimoe" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["cuont", "V3"], ["count"], ["count", "V3", "--fast"], ["train"]])
def test_a_wrong_command_line_is_status_2_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: minimoe" in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_hidden_as_a_mistake_of_the_user(monkeypatch):
    monkeypatch.setattr("minimoe.cli_count.report", lambda *_: {}["a bug"])
    with pytest.raises(KeyError):
        main(["count", "V3"])


def test_the_module_runs_as_a_program():
    run = [sys.executable, "-m", "minimoe", "count"]
    whole = subprocess.run([*run, "V3"], capture_output=True, text=True)
    assert whole.returncode == 0 and "671,026,419,200" in whole.stdout
    wrong = subprocess.run([*run, "V9"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr


def test_a_reader_that_leaves_early_is_not_an_error():
    """As in `minimoe count V3 | head -1`, taken to the extreme: nobody reads."""
    command = [sys.executable, "-m", "minimoe", "count", "V3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr.read() == ""
