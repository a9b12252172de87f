"""SpeculationExplorer without a browser: controls are set, the frame that the lanes would play is read."""

import threading
from dataclasses import replace

import pytest
import torch

import minimoe
from minimoe.tokenizer import Tokenizer
from minimoe_widgets import SpeculationExplorer


@pytest.fixture
def explorer(model, tokenizer, text):
    return SpeculationExplorer(model, tokenizer, text=text, new_tokens=12)


def lane(explorer, number):
    return explorer.stream.frame["lanes"][number]


def tokens(explorer, number):
    return [token for step in lane(explorer, number)["steps"] for token in step["tokens"]]


def test_it_opens_on_two_greedy_runs_that_say_the_same(explorer, model, tokenizer, text):
    expected = minimoe.generate(model, tokenizer.encode(text), 12, stop_tokens=[]).tokens[0]
    assert tokens(explorer, 0) == tokens(explorer, 1) == [explorer._label(token) for token in expected]
    assert "token for token" in explorer.notice.value and "Try first" in explorer.hint.value
    assert explorer.again.disabled, "at temperature 0 another draw is the same draw"


def test_the_lanes_show_the_drafts_that_speculative_decoding_made(explorer, model, tokenizer, text):
    passes = []
    minimoe.generate(model, tokenizer.encode(text), 12, stop_tokens=[], speculative=True, trace=passes.append)
    shown = [(step["draft"], step["kept"]) for step in lane(explorer, 1)["steps"]]
    made = [(p.drafts[0], p.kept[0]) for p in passes]
    assert shown == [(draft if draft is None else explorer._label(draft), kept) for draft, kept in made]
    assert all(step["draft"] is None for step in lane(explorer, 0)["steps"])


def test_temperature_draws_and_draw_again_draws_anew(explorer):
    greedy = tokens(explorer, 1)
    explorer.temperature.value = 1.0
    first = tokens(explorer, 1)
    assert first != greedy and "two draws" in explorer.notice.value.lower() and not explorer.again.disabled
    explorer.again.click()
    assert tokens(explorer, 1) != first
    assert 0 < sum(step["kept"] for step in lane(explorer, 1)["steps"])


def test_another_prompt_and_another_length_are_run(explorer):
    before = tokens(explorer, 0)
    explorer.text.value = "the mat"
    assert tokens(explorer, 0) != before
    explorer.new_tokens.value = 20
    assert len(tokens(explorer, 0)) == len(tokens(explorer, 1)) == 20


def test_an_empty_prompt_keeps_the_picture_and_says_so(explorer):
    frame = explorer.stream.frame
    explorer.text.value = " "
    assert explorer.stream.frame == frame and "type at least one word" in explorer.notice.value


def test_what_is_typed_cannot_become_markup(explorer):
    explorer.text.value = "<b>the</b>" * 90
    assert "<b>" not in explorer.notice.value and "the rest is cut" in explorer.notice.value


def test_a_model_without_a_module_is_refused_with_what_to_do(make_model, config, tokenizer, text):
    blind = make_model(replace(config, num_nextn_predict_layers=0))
    with pytest.raises(ValueError, match="no MTP module .num_nextn_predict_layers=0.*num_nextn_predict_layers=1"):
        SpeculationExplorer(blind, tokenizer, text=text)


def test_an_empty_text_and_a_context_without_room_are_refused(model, make_model, config, tokenizer):
    with pytest.raises(ValueError, match="type at least one word"):
        SpeculationExplorer(model, tokenizer, text="")
    with pytest.raises(ValueError, match="context is 3 tokens"):
        SpeculationExplorer(make_model(replace(config, max_position_embeddings=3)), tokenizer)


def test_a_short_context_is_shared_between_prompt_and_continuation(make_model, config, tokenizer, text):
    explorer = SpeculationExplorer(make_model(replace(config, max_position_embeddings=12)), tokenizer, text=text)
    assert explorer.new_tokens.value == explorer.new_tokens.max == 6
    assert "the rest is cut" in explorer.notice.value or len(tokenizer.encode(text)) <= 6


def test_without_a_tokenizer_random_tokens_are_continued(model):
    explorer = SpeculationExplorer(model, new_tokens=6)
    assert explorer.text.disabled and "random tokens" in explorer.notice.value
    assert all(token.isdigit() for token in tokens(explorer, 1))
    explorer.temperature.value = 0.5
    assert len(tokens(explorer, 1)) == 6


def test_special_tokens_have_short_labels(model, text):
    tokenizer = Tokenizer.train(text * 3, vocab_size=270)
    explorer = SpeculationExplorer(model, tokenizer, text=text, new_tokens=4)
    assert explorer._label(tokenizer.eos_id) == "⟨end⟩"


def test_the_static_twin_shows_the_live_state(explorer):
    explorer.temperature.value = 0.7
    twin = explorer.static()
    assert twin.get_suptitle() == explorer.stream.frame["title"]
    assert twin.alt == explorer.alt_text() == explorer.stream.frame["alt"] and "temperature 0.7" in twin.alt
    assert [text.get_text() for text in twin.axes[0].texts[1:]] == tokens(explorer, 0)
    assert "SpeculationExplorer" in repr(explorer)


def test_the_model_is_left_as_it_was(model, tokenizer, text):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    SpeculationExplorer(model, tokenizer, text=text, temperature=0.8, new_tokens=8)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_callbacks_on_other_threads_do_not_mix_states(explorer):
    changes = [(explorer.temperature, t) for t in (0.3, 0.6, 0.9)]
    changes += [(explorer.text, text) for text in ("the cat", "the mat")]
    threads = [threading.Thread(target=setattr, args=(control, "value", value)) for control, value in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert explorer.stream.frame["title"] == explorer.static().get_suptitle()
    assert tokens(explorer, 1) == [explorer._label(token) for token in explorer._runs[1].tokens]
