"""RoutingExplorer without a browser: controls are set, the frame that the canvas would draw is read."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from minimoe.inference.routing_trace import trace_routing
from minimoe_widgets import RoutingExplorer


@pytest.fixture
def explorer(model, tokenizer, text):
    return RoutingExplorer(model, tokenizer, text=text)


def frame(explorer, side=0):
    return explorer._sides[side].canvas.frame


def test_it_opens_on_the_trunk_layer_that_the_bias_changes_most(explorer, model, tokenizer, text):
    ids = tokenizer.encode(text)
    on, off = trace_routing(model, ids), trace_routing(model, ids, use_bias=False)
    changed = {n: int((on[n].chosen_ME & ~off[n].chosen_ME).sum()) for n in on}
    assert changed[explorer.layer.value] == max(changed[n] for n in (1, 2)) > 0  # layer 3 is the MTP module's


def test_it_says_what_to_try_first(explorer):
    assert "Try first" in explorer.hint.value


def test_the_layer_slider_reaches_every_routing_layer_and_changes_the_picture(explorer, model):
    assert [number for _, number in explorer.layer.options] == sorted(model.routers())
    pictures = set()
    for _, number in explorer.layer.options:
        explorer.layer.value = number
        pictures.add(frame(explorer)["gates"])
    assert len(pictures) == len(model.routers())


def test_the_mtp_layer_is_named_and_shows_two_tokens_at_each_place(explorer, model):
    explorer.layer.value = model.config.num_hidden_layers
    assert explorer.layer.label == f"MTP layer {model.config.num_hidden_layers}"
    shown = frame(explorer)
    assert len(shown["tokens"]) == len(shown["hover"]) == len(explorer._sides[0].tokens) - 1
    assert shown["hover"][0] == " … ".join(explorer._sides[0].tokens[:2])


def test_the_bias_switch_shows_the_routing_without_bias_and_leaves_the_model_alone(explorer, model, tokenizer, text):
    before = {n: router.e_score_correction_bias.clone() for n, router in model.routers().items()}
    explorer.bias.value = False
    layer = explorer.layer.value
    expected = trace_routing(model, tokenizer.encode(text), use_bias=False)[layer]
    assert frame(explorer)["gates"] == expected.gates_ME.astype("<f4").tobytes()
    assert "selection bias off" in frame(explorer)["title"]
    assert all(torch.equal(before[n], router.e_score_correction_bias) for n, router in model.routers().items())


def test_the_notice_counts_the_choices_that_the_bias_decides(explorer):
    assert "the bias decides" in explorer.notice.value and "MaxVio" in explorer.notice.value


def test_a_new_text_is_routed(explorer):
    explorer.text.value = "the mat"
    assert "".join(frame(explorer)["tokens"]) == "the␣mat"


def test_an_empty_text_keeps_the_picture_and_says_so(explorer):
    shown = frame(explorer)
    explorer.text.value = "  "
    assert frame(explorer) == shown and "type at least one word" in explorer.notice.value


def test_what_is_typed_cannot_become_markup(explorer):
    explorer.text.value = "<b>cat"
    assert "<b>cat" not in explorer.notice.value
    assert "".join(frame(explorer)["tokens"]) == "<b>cat"


def test_the_colour_can_show_scores(explorer):
    explorer.colour.value = "score with bias"
    assert frame(explorer)["shade_name"] == "score with bias"
    assert (np.frombuffer(frame(explorer)["shade"], np.uint8) > 0).all()


def test_two_models_stand_side_by_side_under_their_names(model, make_model, config, tokenizer, text):
    other = make_model(config, seed=5)
    explorer = RoutingExplorer(model, tokenizer, text=text, other=(other, tokenizer), names=("before", "after"))
    assert frame(explorer, 0)["title"].startswith("before, ") and frame(explorer, 1)["title"].startswith("after, ")
    assert frame(explorer, 0)["scores"] != frame(explorer, 1)["scores"]


def test_a_layer_that_only_one_model_has_hides_the_other(model, make_model, config, tokenizer, text):
    deeper = make_model(replace(config, num_hidden_layers=5))
    explorer = RoutingExplorer(model, tokenizer, text=text, other=(deeper, tokenizer), layer=4)
    assert explorer._sides[0].canvas.layout.visibility == "hidden"
    assert "no routing in layer 4" in explorer.notice.value
    assert explorer.static().alt == explorer.alt_text()


def test_a_long_text_is_cut_to_the_context_with_a_notice(make_model, config, tokenizer, text):
    explorer = RoutingExplorer(make_model(replace(config, max_position_embeddings=4)), tokenizer, text=text)
    assert len(explorer._sides[0].tokens) == 4 and "context is 4" in explorer.notice.value


def test_a_model_without_experts_is_refused_by_name(make_model, config, tokenizer, text):
    dense = make_model(replace(config, n_routed_experts=None, num_nextn_predict_layers=0))
    with pytest.raises(ValueError, match="no MoE layer .n_routed_experts=None"):
        RoutingExplorer(dense, tokenizer, text=text)


def test_a_layer_that_does_not_route_is_refused_with_those_that_do(model, tokenizer, text):
    with pytest.raises(ValueError, match=r"layer=0 does not route; the layers that do are \[1, 2, 3\]"):
        RoutingExplorer(model, tokenizer, text=text, layer=0)


def test_an_empty_text_is_refused_at_the_start(model, tokenizer):
    with pytest.raises(ValueError, match="type at least one word"):
        RoutingExplorer(model, tokenizer, text="")


def test_a_router_without_bias_says_so(make_model, config, tokenizer, text):
    softmax = {
        "scoring_func": "softmax",
        "topk_method": "greedy",
        "norm_topk_prob": False,
        "num_nextn_predict_layers": 0,
    }
    explorer = RoutingExplorer(make_model(replace(config, **softmax)), tokenizer, text=text)
    assert "no selection bias" in explorer.notice.value


def test_the_static_twin_shows_the_live_state(explorer):
    explorer.bias.value = False
    twin = explorer.static()
    assert twin.axes[0].get_title(loc="left") == frame(explorer)["title"]
    assert twin.alt == explorer.alt_text() == frame(explorer)["alt"]
    assert "selection bias off" not in explorer.static(use_bias=True).alt
    assert explorer.bias.value is False


def test_callbacks_on_other_threads_do_not_mix_states(explorer):
    numbers = [number for _, number in explorer.layer.options]
    threads = [
        threading.Thread(target=setattr, args=(explorer.layer, "value", numbers[i % len(numbers)])) for i in range(24)
    ]
    threads += [
        threading.Thread(target=setattr, args=(explorer.text, "value", text)) for text in ("the cat", "the mat sat")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown, trace = frame(explorer), explorer._sides[0].traces[True][explorer.layer.value]
    assert shown["gates"] == trace.gates_ME.astype("<f4").tobytes()
