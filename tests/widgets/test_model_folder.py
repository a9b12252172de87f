"""A folder becomes a model, or a sentence that names the folder and what is wrong with it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import minimoe
from minimoe import V3
from minimoe_widgets.model_folder import open_folder, shipped

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def folder(model, tokenizer, tmp_path):
    minimoe.save(model, tmp_path / "mine", dtype=torch.bfloat16)
    tokenizer.save(tmp_path / "mine")
    return tmp_path / "mine"


def test_a_folder_in_the_official_layout_opens_in_float32(folder, model):
    opened = open_folder(f" {folder} ")
    assert opened.model.dtype == torch.float32 and opened.model.config == model.config and not opened.model.training
    assert opened.tokenizer.encode("the cat") and "8 experts, 3 a token" in opened.summary


def test_without_a_tokenizer_it_opens_and_says_so(folder):
    (folder / "tokenizer.json").unlink()
    opened = open_folder(folder)
    assert opened.tokenizer is None and "No tokenizer.json" in opened.summary


def test_what_is_no_model_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="type the path of a folder"):
        open_folder("  ")
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at .*nowhere"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no model.safetensors"):
        open_folder(tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json"):
        open_folder(folder)


def test_a_broken_or_foreign_tokenizer_is_named(folder, model):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer.json"):
        open_folder(folder)
    smaller = minimoe.Transformer(replace(model.config, vocab_size=260))
    minimoe.tokenizer.Tokenizer.train("the cat sat on the mat" * 3, vocab_size=270).save(folder)
    minimoe.save(smaller, folder)
    with pytest.raises(ValueError, match="has 270 tokens, the model 260"):
        open_folder(folder)


def test_a_model_too_large_is_refused_by_its_config_alone(folder):
    replace(V3, quantization_config=None).to_json(folder / "config.json")
    with pytest.raises(ValueError, match=r"671\.\d billion parameters; the explorers run up to 0.2 billion"):
        open_folder(folder)


def test_what_loading_warns_of_is_said(folder, model):
    replace(model.config, num_nextn_predict_layers=0).to_json(folder / "config.json")
    without = minimoe.Transformer(replace(model.config, num_nextn_predict_layers=0))
    minimoe.save(without, folder)
    model.config.to_json(folder / "config.json")
    assert "loaded without MTP modules" in open_folder(folder).summary


def test_the_courses_models_are_listed_and_nano_comes_first():
    folders = shipped(DATA)
    assert list(folders)[0] == "nano" and "balance/loss_free" in folders
    assert all((folder / "config.json").exists() for folder in folders.values())
