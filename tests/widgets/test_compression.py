"""CompressionExplorer without a browser: controls are set, the figure's data are read."""

import threading
from dataclasses import replace

import pytest

from minimoe import V3
from minimoe_widgets import CompressionExplorer
from minimoe_widgets.compression import VIEWS

LATENT_BAR = 3


@pytest.fixture
def explorer(model, tokenizer, text):
    return CompressionExplorer(model, tokenizer, text=text)


def bars(explorer):
    return list(explorer.figure.data[0].x)


def test_it_opens_on_the_bill_of_v3_at_its_full_context(explorer):
    assert bars(explorer)[LATENT_BAR] == 70272 * 131072 == bars(explorer)[LATENT_BAR + 1]
    assert "9.211 GB" in explorer.title.value and "Try first" in explorer.hint.value


@pytest.mark.parametrize(
    ("control", "value", "factor"),
    [
        ("batch", 4, 4),
        ("context", 2**12, 1 / 32),
        ("latent", 1024, 1088 / 576),
        ("heads", 16, 1),
        ("precision", "fp32", 2),
    ],
)
def test_each_control_moves_the_latent_s_bar_as_it_should(explorer, control, value, factor):
    before = bars(explorer)[LATENT_BAR]
    getattr(explorer, control).value = value
    assert bars(explorer)[LATENT_BAR] == pytest.approx(before * factor, rel=1e-12)


def test_heads_move_mha_alone(explorer):
    before = bars(explorer)
    explorer.heads.value = 64
    assert bars(explorer)[0] == before[0] / 2 and bars(explorer)[1:] == before[1:]


def test_the_sizes_can_be_this_model_s(explorer, model):
    explorer.base.value = model.config
    assert (explorer.heads.value, explorer.latent.value) == (
        model.config.num_attention_heads,
        model.config.kv_lora_rank,
    )
    assert bars(explorer)[LATENT_BAR] == (32 + 16) * 3 * 2 * explorer.context.value
    explorer.base.value = V3
    assert bars(explorer)[LATENT_BAR] == 70272 * 131072


def test_the_attention_view_opens_on_the_sharpest_head_and_follows_the_sliders(explorer):
    explorer.view.value = "attention"
    assert (explorer.layer.value, explorer.head.value) == explorer._reading.sharpest_head()
    before = explorer.figure.data[0].z.copy()
    explorer.head.value = (explorer.head.value + 1) % 4
    assert f"head {explorer.head.value}" in explorer.title.value
    assert (explorer.figure.data[0].z[1:, 0] != before[1:, 0]).any()


def test_the_rank_view_opens_where_most_of_the_latent_is_kept_and_follows_the_slider(explorer):
    explorer.view.value = "rank"
    reading, rank = explorer._reading, explorer.rank.value
    below = reading.ranks[reading.ranks.index(rank) - 1]
    assert reading.share(2, below) < 0.9 <= reading.share(2, rank)
    explorer.rank.value = 0
    assert list(explorer.figure.data[-1].y) == [reading.losses[0]]
    assert explorer.title.value.count("0 of 32 directions keep 0%") == 1


def test_each_view_brings_its_own_controls(explorer):
    shown = {}
    for view in VIEWS.values():
        explorer.view.value = view
        shown[view] = explorer.panel.children
    assert explorer.latent in shown["bill"] and explorer.head in shown["attention"] and explorer.rank in shown["rank"]


def test_a_new_text_gives_a_new_map(explorer):
    explorer.view.value = "attention"
    explorer.text.value = "the mat"
    assert explorer.figure.data[0].z.shape == (len(explorer._reading.ids),) * 2


@pytest.mark.parametrize("short", ["", "t"])
def test_too_short_a_text_keeps_the_picture_and_says_so(explorer, short):
    explorer.view.value = "attention"
    before = explorer.figure.data[0].z
    explorer.text.value = short
    assert explorer.figure.data[0].z is before or (explorer.figure.data[0].z == before).sum() > 0
    assert "The picture still shows the last text" in explorer.notice.value


def test_without_a_tokenizer_it_says_that_the_tokens_are_random(model):
    explorer = CompressionExplorer(model, view="attention")
    assert "random tokens" in explorer.notice.value and explorer.text.disabled


def test_a_model_without_latents_is_shown_by_its_keys(make_model, config, tokenizer, text):
    plain = make_model(replace(config, kv_lora_rank=None, q_lora_rank=None, head_dim=16, num_key_value_heads=2))
    explorer = CompressionExplorer(plain, tokenizer, text=text, view="rank")
    assert "keys" in explorer.title.value
    explorer.view.value = "bill"
    explorer.base.value = plain.config
    assert bars(explorer)[0] == 2 * 4 * 16 * 3 * 2 * explorer.context.value


def test_bad_starts_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="view='map' is not one of bill, attention, rank"):
        CompressionExplorer(model, tokenizer, view="map")
    with pytest.raises(ValueError, match="type at least one word"):
        CompressionExplorer(model, tokenizer, text="")


@pytest.mark.parametrize("view", VIEWS.values())
def test_the_static_twin_states_the_live_title(explorer, view):
    explorer.view.value = view
    twin = explorer.static()
    assert twin.get_suptitle() in explorer.title.value.replace("&#x27;", "'")
    assert twin.alt == explorer.alt_text()


def test_a_twin_of_another_view_leaves_the_live_one_alone(explorer):
    title = explorer.title.value
    assert "Layer" in explorer.static("attention").get_suptitle()
    assert explorer.title.value == title and explorer.view.value == "bill"
    with pytest.raises(ValueError, match="view='map'"):
        explorer.static("map")


def test_callbacks_on_other_threads_end_in_one_state(explorer):
    threads = [threading.Thread(target=setattr, args=(explorer.latent, "value", 2 ** (4 + i % 8))) for i in range(16)]
    threads += [threading.Thread(target=setattr, args=(explorer.batch, "value", 2 ** (i % 6))) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bars(explorer) == [line.cache_bytes for line in explorer._lines()]
