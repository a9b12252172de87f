"""All explorers on one page: one at a time, on the model that was picked, with words where that cannot be."""

from dataclasses import replace
from pathlib import Path

import comm
import pytest

import minimoe
from minimoe_widgets import explorers as explorers_module
from minimoe_widgets.explorers import OWN, Explorers
from minimoe_widgets.model_folder import open_folder

DATA = Path(__file__).resolve().parents[2] / "data"
OTHERS = {
    "Grouped GEMM": "GroupedExplorer", "Matmul": "KernelStepper", "Decode": "DecodeStepper", "Timings": "KernelTimings",
}  # fmt: skip


@pytest.fixture(scope="module")
def page():
    page = Explorers(DATA)
    yield page
    page.close()


@pytest.fixture(autouse=True)
def _as_it_opens(page):
    page.tab.selected_index, page.picker.value = 0, "nano"


def open_tab(page, name):
    page.tab.selected_index = page.tabs.index(name)
    return page.explorer


def test_only_the_open_tabs_explorer_exists(page):
    for name in page.tabs:
        explorer = open_tab(page, name)
        assert type(explorer).__name__ == OTHERS.get(name, f"{name}Explorer")
        assert [len(box.children) for box in page.tab.children] == [int(tab == name) for tab in page.tabs]
    about_models = ["Routing", "Compression", "Balance", "Speculation", "Context", "Rollout", "Refusal", "FP8"]
    assert page.tabs == [*about_models, *OTHERS]


def test_leaving_a_tab_ends_its_training(page):
    balance = open_tab(page, "Balance")
    balance.start.click()
    assert balance.live.running
    open_tab(page, "Routing")
    assert not balance.live.running and balance.comm is None


def test_another_model_takes_the_place_of_the_first_in_the_open_tab(page):
    before = open_tab(page, "Routing")
    page.picker.value = "balance/none"
    assert page.explorer is not before and page.explorer._sides[0].model.config.hidden_size == 64
    assert "454,080 parameters" in page.notice.value


def test_what_a_model_has_not_is_said_in_its_tab(page):
    page.picker.value = "reason"
    assert open_tab(page, "Speculation") is None
    (words,) = page.tab.children[page.tab.selected_index].children
    assert "no MTP module" in words.value
    with pytest.raises(ValueError, match="the open tab shows no explorer"):
        page.static()


def test_a_folder_of_the_readers_own(page, model, tokenizer, tmp_path):
    minimoe.save(model, tmp_path / "mine")
    tokenizer.save(tmp_path / "mine")
    page.picker.value = OWN
    assert page.path.layout.display is None
    page.path.value = str(tmp_path / "mine")
    assert page.explorer._sides[0].model.config == model.config
    page.path.value = str(tmp_path / "nowhere")
    assert "no checkpoint folder" in page.notice.value and "still the last one" in page.notice.value
    assert page.explorer._sides[0].model.config == model.config
    page.picker.value = "nano"
    assert page.path.layout.display == "none"


def test_without_a_tokenizer_some_tabs_work_and_the_others_say_why(page, model, tmp_path):
    minimoe.save(model, tmp_path / "mine")
    page.picker.value = OWN
    page.path.value = str(tmp_path / "mine")
    assert page.explorer is None and "no tokenizer.json" in page.tab.children[0].children[0].value
    assert open_tab(page, "Compression") is not None


def test_balance_opens_with_the_recording_where_it_is_of_the_same_shape(page):
    assert "recorded run" in open_tab(page, "Balance").notice.value
    page.picker.value = "reason"
    assert "press Start" in page.explorer.notice.value


def test_a_model_too_large_to_train_is_not_trained(page, config):
    big = minimoe.Transformer(replace(config, vocab_size=400_000))
    opened = replace(page._opened, model=big)
    with pytest.raises(ValueError, match="parameters; up to 20,000,000 can be trained"):
        page._balance(opened)


def test_every_tab_has_a_picture_that_needs_no_kernel(page):
    for name in page.tabs:
        twin = page.static(name)
        assert twin.png().startswith(b"\x89PNG") and len(twin.alt) > 60
    assert [len(box.children) for box in page.tab.children] == [1] + [0] * (len(page.tabs) - 1)


def test_a_picture_is_drawn_without_announcing_widgets(page, monkeypatch):
    announced = []
    monkeypatch.setattr(comm, "create_comm", lambda **what: announced.append(what))
    page.static("Compression")
    assert announced == [] and comm.create_comm is not comm.DummyComm


def test_the_refusal_tab_tunes_a_model_that_refuses_and_r1_in_place_of_one_that_does_not(page):
    page.picker.value = "r1/r1"
    assert open_tab(page, "Refusal").model is page._opened.model
    page.picker.value = "nano"
    assert page.explorer.model is not page._opened.model
    assert page.explorer.tokenizer.vocab_size == open_folder(DATA / "r1" / "r1").tokenizer.vocab_size


def test_the_fp8_tab_shows_the_models_own_weights(page):
    weight = page._opened.model.model.layers[0].self_attn.o_proj.weight
    assert open_tab(page, "FP8")._x_XZ.equal(weight[:256, :1024])


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="model='nono' is not among the models of .*: nano, "):
        Explorers(DATA, model="nono")


def test_the_rollout_tab_shows_the_models_own_run_or_the_courses(page, monkeypatch):
    shown = []
    monkeypatch.setattr(explorers_module, "RolloutExplorer", lambda folder: shown.append(folder))
    page._rollout(open_folder(DATA / "zero"))
    page._rollout(open_folder(DATA / "nano"))
    page._rollout(replace(open_folder(DATA / "nano"), folder=DATA / "elsewhere"))
    assert shown == [DATA / "zero"] * 3
    own = replace(open_folder(DATA / "zero"), folder=DATA / "zero" / ".." / "zero")
    page._rollout(own)
    assert shown[-1] == own.folder != DATA / "zero"
