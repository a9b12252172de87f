"""`minimoe train`: a text becomes a folder that everything else reads; what cannot work is refused before training."""

import json
from dataclasses import replace

import pytest

from minimoe.checkpoint import load
from minimoe.cli import main
from minimoe.config import NANO
from minimoe.tokenizer import Tokenizer
from minimoe.training import History

TINY = replace(
    NANO, vocab_size=300, hidden_size=32, num_hidden_layers=2, intermediate_size=48, max_position_embeddings=32
)
WORDS = "tree bird shrub trunk branch leaf root seed".split()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A config.json and a text of 300 short documents."""
    folder = tmp_path_factory.mktemp("inputs")
    TINY.to_json(folder)
    lines = [f"a {a} has a {b}, number {n}" for n in range(5) for a in WORDS for b in WORDS]
    (folder / "text.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return folder


def train(inputs, out, *options):
    arguments = ["train", "--config", str(inputs), "--text", str(inputs / "text.txt"), "--out", str(out)]
    return main([*arguments, *options])


def test_a_text_becomes_a_checkpoint_with_its_tokenizer_and_history(inputs, tmp_path, capsys):
    out = tmp_path / "new" / "model"
    assert train(inputs, out, "--steps", "6") == 0
    assert "6 steps" in capsys.readouterr().out
    model, tokenizer, history = load(out), Tokenizer.load(out), History.load(out / "history.jsonl")
    assert model.config.vocab_size == tokenizer.vocab_size == 300
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert len(history) == 6 and history["loss"][-1] < history["loss"][0]
    assert history["validation"][-1] > 0
    assert main(["generate", str(out), "a tree has", "--max-new-tokens", "4"]) == 0
    assert main(["count", str(out)]) == 0


def test_a_run_that_was_stopped_goes_on_with_the_same_command(inputs, tmp_path, capsys, monkeypatch):
    import minimoe.training.loop

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(inputs, whole, "--steps", "8", "--save-every", "2") == 0
    learn = minimoe.training.loop.Trainer._learn

    def learn_until_killed(self, batch):
        if self.steps == 5:
            raise KeyboardInterrupt  # inside a step: the batch is taken, nothing is learned from it
        return learn(self, batch)

    monkeypatch.setattr(minimoe.training.loop.Trainer, "_learn", learn_until_killed)
    assert train(inputs, stopped, "--steps", "8", "--save-every", "2") == 130
    assert (stopped / "state.pt").exists()
    monkeypatch.undo()
    capsys.readouterr()
    assert train(inputs, stopped, "--steps", "8", "--save-every", "2") == 0
    assert "going on from step 4" in capsys.readouterr().out
    first, second = (History.load(folder / "history.jsonl")["loss"] for folder in (whole, stopped))
    assert first == second
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in stopped.iterdir())
    assert not (stopped / "state.pt").exists()


def test_the_recipe_can_be_chosen(inputs, tmp_path):
    options = ["--steps", "3", "--optimizer", "adamw", "--lr", "0.002", "--balance", "none", "--fim", "0.5"]
    assert train(inputs, tmp_path, *options) == 0
    model, history = load(tmp_path), History.load(tmp_path / "history.jsonl")
    assert 0.001 < max(history["lr"]) <= 0.002  # three steps meet the cosine at 0, 1/3 and 2/3
    assert all(router.e_score_correction_bias.abs().max() == 0 for router in model.routers().values())


def test_the_same_seed_gives_the_same_model_and_another_seed_another(inputs, tmp_path):
    def weights(folder, seed):
        assert train(inputs, tmp_path / folder, "--steps", "2", "--seed", seed) == 0
        return load(tmp_path / folder).state_dict()["lm_head.weight"]

    first, again, other = weights("a", "1"), weights("b", "1"), weights("c", "2")
    assert first.equal(again) and not first.equal(other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "0"], "steps=0"),
        (["--seconds", "-1"], "cpu_seconds=-1"),
        (["--lr", "0"], "lr=0"),
        (["--config", "V3"], "682,636,487,424 parameters"),
        (["--config", "V9"], "'V9'"),
        (["--text", "nowhere.txt"], "nowhere.txt: No such file"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_no_folder(options, words, inputs, tmp_path, capsys):
    assert train(inputs, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe\x00", "not text in UTF-8"), (b"one line\n\n", "has 1 lines"), (b"one\ntwo\n", "merges")],
)
def test_a_text_that_is_none_or_too_short_is_refused(content, words, inputs, tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(content)
    assert train(inputs, tmp_path / "out", "--text", str(tmp_path / "text.txt"), "--steps", "1") == 2
    assert words in capsys.readouterr().err


def test_steps_and_seconds_together_are_a_wrong_command_line(inputs, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train(inputs, tmp_path / "out", "--steps", "1", "--seconds", "1")
    assert stopped.value.code == 2 and "not allowed with" in capsys.readouterr().err
