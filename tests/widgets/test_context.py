"""ContextExplorer without a browser: controls are set, buttons pressed, the figure's data are read."""

import math
from dataclasses import replace

import pytest

from minimoe import V3
from minimoe.inference.retrieval import RetrievalMap
from minimoe.model.rope import softmax_scale
from minimoe.training.context import extend
from minimoe_widgets import ContextExplorer
from minimoe_widgets.context import DEPTHS, LIVE

MAPS = {
    "before": RetrievalMap((32, 64, 128), (0.0, 1.0), ((9, 10), (10, 10), (0, 1)), 10),
    "after": RetrievalMap((32, 64, 128), (0.0, 1.0), ((9, 10), (10, 10), (8, 9)), 10),
}


@pytest.fixture
def short(make_model, config):
    return make_model(replace(config, max_position_embeddings=64, rope_theta=100.0))


@pytest.fixture
def explorer(short):
    return ContextExplorer(short, recorded=MAPS)


def test_it_opens_on_the_angles_stretched_eightfold(explorer):
    plain, now, trained, read, ramp = explorer.figure.data
    assert "5 of 8 pairs finish a turn within the 64 tokens" in explorer.title.value
    assert now.y[-1] == pytest.approx(8 * plain.y[-1]) and now.y[0] == pytest.approx(plain.y[0])
    assert (trained.y[0], read.y[0]) == (64, 512) and list(ramp.y)[5:] == [1, 1, 1]


def test_factor_one_is_the_plain_model(explorer):
    explorer.factor.value = 1
    plain, now, _, read, _ = explorer.figure.data
    assert list(plain.y) == pytest.approx(list(now.y)) and not read.visible
    assert "3 never do" in explorer.title.value


def test_betas_move_the_ramp_and_a_falling_ramp_is_not_drawn(explorer):
    before = list(explorer.figure.data[4].y)
    explorer.fast.value = 3
    after = list(explorer.figure.data[4].y)
    assert after[1] < before[1]
    explorer.slow.value = 4
    assert list(explorer.figure.data[4].y) == after and "4 turns are more than 3" in explorer.notice.value


def test_mscale_sharpens_the_measured_model_and_moves_no_pair(explorer, short):
    before = list(explorer.figure.data[1].y)
    for mscale, sharper in ((0, 1.0), (1, (0.1 * math.log(8) + 1) ** 2), (2, (0.2 * math.log(8) + 1) ** 2)):
        explorer.sharp.value = mscale
        config = explorer.stretched(short.config)
        assert softmax_scale(config) == pytest.approx(softmax_scale(short.config) * sharper)
    assert list(explorer.figure.data[1].y) == before


def test_v3s_pairs_can_be_looked_at_beside_this_model_s(explorer):
    explorer.base.value, explorer.factor.value = V3, 40
    assert "23 of 32 pairs finish a turn within the 4K tokens" in explorer.title.value
    assert explorer.figure.data[3].y[0] == 163840


def test_an_extended_model_opens_at_its_own_factor(short):
    explorer = ContextExplorer(extend(short, 5, beta_fast=16))
    assert (explorer.factor.value, explorer.fast.value, explorer.trained) == (5, 16, 64)
    explorer.fast.value = 1
    assert "YaRN keeps 5, slows 3 down by the whole factor<" in explorer.title.value  # and none by a part
    explorer.factor.value = 1
    assert explorer.stretched(explorer.model.config) == short.config


def test_recorded_maps_are_shown_by_name(explorer):
    explorer.view.value = "retrieval"
    assert [list(row) for row in explorer.figure.data[0].z] == MAPS["before"].accuracy
    assert "before: at least 90%" not in explorer.title.value  # 32 tokens: 19 of 20
    assert "before: at least 95% of the answers right up to 64 tokens, 5% at 128" in explorer.title.value
    explorer.shown.value = "after"
    assert "85% at 128" in explorer.title.value and list(explorer.figure.data[1].y) == [1.5, 1.5]


def test_a_press_measures_this_model_with_the_sliders_and_leaves_it_alone(explorer, short):
    explorer.view.value, explorer.factor.value = "retrieval", 2
    explorer.lengths = [32, 64]
    explorer.button.click()
    explorer.wait(60)
    assert explorer.shown.value == LIVE and explorer.button.description == "Measure"
    assert "YaRN x2, mscale 1, not trained further" in explorer.title.value
    shown = explorer.figure.data[0].z
    assert [len(row) for row in shown] == [len(DEPTHS)] * 2 and all(0 <= share <= 1 for row in shown for share in row)
    assert explorer.model is short and short.config.rope_scaling is None


def test_a_second_press_stops(explorer):
    explorer.view.value = "retrieval"
    explorer.lengths = [64] * 40
    explorer.button.click()
    assert explorer.measuring and explorer.button.description == "Stop"
    explorer.button.click()
    explorer.wait(60)
    assert not explorer.measuring and "of 200 cells measured" in explorer.title.value
    with pytest.raises(ValueError, match="no map to draw"):
        explorer.static()


def test_a_failing_measurement_says_why(explorer, monkeypatch):
    def fails(*_args, **_kwargs):
        raise RuntimeError("no memory")

    monkeypatch.setattr("minimoe_widgets.context.rebuild", fails)
    explorer.view.value = "retrieval"
    explorer.button.click()
    explorer.wait(10)
    assert "The measurement failed: no memory" in explorer.notice.value


def test_the_static_twin_states_the_live_title(explorer):
    for view in ("angles", "retrieval"):
        explorer.view.value = view
        twin = explorer.static()
        assert twin.get_suptitle() in explorer.title.value and twin.alt == explorer.alt_text()


def test_without_recorded_maps_it_asks_for_a_press(short, tokenizer):
    explorer = ContextExplorer(short, view="retrieval")
    assert "press Measure" in explorer.title.value
    assert ContextExplorer(short, tokenizer)._needles.ask == tokenizer.encode("?")[0]


def test_bad_starts_are_refused(make_model, config, short):
    with pytest.raises(ValueError, match="view='map' is not one of angles, retrieval"):
        ContextExplorer(short, view="map")
    with pytest.raises(ValueError, match="vocab_size=40 is less than"):
        ContextExplorer(make_model(replace(config, vocab_size=40)))


def test_lengths_stay_within_what_a_laptop_can_read(make_model, config):
    long = ContextExplorer(make_model(replace(config, max_position_embeddings=4096)))
    assert long.lengths == [2048]
