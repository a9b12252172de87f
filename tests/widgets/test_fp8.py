"""FP8Explorer without a browser: controls are set, pictures, words and twins are read."""

import re

import numpy as np
import pytest
import torch

from minimoe_widgets import FP8Explorer
from minimoe_widgets.fp8_canvas import FLUSHED, shade
from minimoe_widgets.fp8_words import number, percent


@pytest.fixture
def explorer():
    return FP8Explorer()


def strip(explorer, index):
    return np.frombuffer(explorer.canvas.frame["strips"][index]["shade"], np.uint8).reshape(16, 384)


def test_it_opens_without_arguments_where_an_outlier_can_be_seen(explorer):
    assert explorer.view.value == "scales" and "Try first" in explorer.hint.value
    title = explorer.canvas.frame["title"]
    assert title == "e4m3, one value times 1,024: RMS error 32.8%, in blocks 18.7%, in tiles 5.0%"
    words = [part["words"] for part in explorer.canvas.frame["strips"]]
    assert words[0].startswith("One scale for the tensor: 8.2% became zero, 69.4% subnormal")
    assert words[1].startswith("Blocks of 128 x 128 (3 blocks): 2.5%")
    assert words[2].startswith("Tiles of 1 x 128 (48 tiles): 0.13%")


def test_the_numbers_said_are_those_of_the_matrix(explorer):
    """Again from torch alone: one scale for the tensor."""
    x = explorer.scales_picture.choices[0].exact_XZ
    scale = x.abs().max() / 448
    stored = (x / scale).to(torch.float8_e4m3fn).float()
    zero = float((stored == 0).float().mean())
    rms = float(((stored * scale - x) / x).double().square().mean().sqrt())
    words = explorer.canvas.frame["strips"][0]["words"]
    assert f"{zero:.1%} became zero" in words and f"error {rms:.1%}" in words


def test_the_maps_show_errors_and_what_became_zero(explorer):
    for index, choice in enumerate(explorer.scales_picture.choices):
        shown = strip(explorer, index)
        assert np.array_equal(shown == FLUSHED, choice.flushed_XZ.numpy()) and shown.min() >= 1
    blocks = [part["block"] for part in explorer.canvas.frame["strips"]]
    assert blocks == [[16, 384], [128, 128], [1, 128]]
    before = strip(explorer, 2).copy()
    explorer.factor.value = 2**20
    row, column = explorer.canvas.frame["outlier"]
    changed = np.argwhere(strip(explorer, 2) != before)
    assert len(changed) and set(changed[:, 0]) == {row} and set(changed[:, 1] // 128) == {column // 128}
    assert (strip(explorer, 0) == FLUSHED).mean() > 0.99


def test_shades_are_logarithmic_from_a_thousandth_to_one():
    error = np.array([[0.0, 1e-3, 1e-2, 0.1, 1.0, 1.0, 5.0, np.nan]])
    flushed = np.array([[False] * 5 + [True, False, False]])
    assert shade(error, flushed).tolist() == [[1, 1, 85, 170, 254, 255, 254, 0]]


def test_an_element_is_taken_apart(explorer):
    explorer.canvas.at = [3, 4]
    x = explorer.scales_picture.choices[2].exact_XZ
    scale = x[3, :128].abs().max() / 448
    stored = (x[3, 4] / scale).to(torch.float8_e4m3fn)
    bits = f"{int(stored.view(torch.uint8)):08b}"
    card = explorer.bits.value.split("<b>Tiles of 1 x 128: normal</b>")[1]
    assert re.findall(r">([01]+)</span>", card) == [bits[0], bits[1:5], bits[5:]]
    assert f"scale {float(scale):.4g} = {float(x[3, 4] / scale):.4g}, between -16 and -18" in card
    assert "= -16<" in card and "Row 3, column 4" in explorer.bits.value
    assert "448, a number of e4m3<" in FP8Explorer(torch.full((1, 1), 3.0)).bits.value
    bfloat = float(x[3, 4].to(torch.bfloat16))
    assert f"In bfloat16, without a scale: {bfloat:.4g}" in explorer.bits.value
    explorer.format.value = "e5m2"
    card = explorer.bits.value.split("<b>Tiles of 1 x 128: normal</b>")[1]
    assert [len(bits) for bits in re.findall(r">([01]+)</span>", card)] == [1, 5, 2]
    assert explorer.canvas.frame["title"].startswith("e5m2")


def test_it_opens_on_an_element_that_only_tiles_protect(explorer):
    tensor, blocks, tiles = explorer.scales_picture.patterns
    assert (tensor.kind, blocks.kind, tiles.kind) == ("subnormal", "subnormal", "normal")
    assert tiles.error < blocks.error


def test_what_the_browser_sends_is_an_element_or_is_not_taken(explorer):
    explorer.canvas.at = [2, 3]
    for wrong in ([16, 0], [0, 384], [-1, 0], [1], [1, 2, 3], ["a", 0], [1.5, 2]):
        explorer.canvas.at = wrong
        assert explorer.canvas.at == [2, 3] and "Row 2, column 3" in explorer.bits.value


def test_a_stale_scale_clamps_the_outlier_and_powers_of_two_round_up(explorer):
    explorer.scales.value = "float32, stale"
    assert all("1 clamped at 448" in part["words"] for part in explorer.canvas.frame["strips"])
    explorer.canvas.at = list(explorer.canvas.frame["outlier"])
    assert explorer.bits.value.count(": clamped at 448</b>") == 3 == explorer.bits.value.count(", beyond 448<")
    assert "before the outlier grew" in explorer.notice.value
    explorer.scales.value = "powers of two"
    scale = explorer.scales_picture.patterns[0].scale
    assert torch.frexp(torch.tensor(scale))[0] == 0.5
    assert not any("clamped" in part["words"] for part in explorer.canvas.frame["strips"])


def test_sums_are_reached_by_the_view_and_follow_every_control(explorer):
    explorer.view.value = "sums"
    seen = {explorer.curve.value}
    assert "K = 4,096, promoted every 128: off by up to 0.043%; in one piece up to 0.78%" in explorer.title.value
    assert "nearly 2% at K = 4,096" in explorer.notice.value and "V3: 128" in explorer.curve.value
    for control, value in (("length", 1024), ("interval", 32), ("aligned", False), ("draw", "all positive")):
        getattr(explorer, control).value = value
        assert explorer.curve.value not in seen
        seen.add(explorer.curve.value)
    assert explorer.curve.value.count("<polyline") == 6 and explorer.curve.value.count("<circle") == 1
    explorer.interval.value = 2048
    assert "K = 1,024 in one piece" in explorer.title.value
    explorer.view.value = "scales"
    assert explorer.stage.children[0] is explorer.canvas


def test_a_matrix_of_the_reader_is_shown_and_a_wrong_one_refused():
    x = torch.linspace(-3, 4, 3 * 200).view(3, 200)
    own = FP8Explorer(x.numpy(), factor=1)
    assert own.canvas.frame["rows"] == 3 and own.canvas.frame["outlier"] == [2, 199]
    assert "(2 blocks)" in own.canvas.frame["strips"][1]["words"]
    for shape in ((1, 1), (1, 128), (256, 1)):
        assert "0% became zero" in FP8Explorer(torch.ones(shape)).canvas.frame["strips"][2]["words"]
    assert "error 0%, in blocks 0%, in tiles 0%" in FP8Explorer(torch.zeros(2, 5)).canvas.frame["title"]
    for wrong in (torch.ones(3), torch.ones(2, 2).double(), torch.full((2, 2), float("inf")), "x"):
        with pytest.raises(ValueError):
            FP8Explorer(wrong)


def test_settings_that_do_not_exist_are_refused():
    wrong = {"factor": 3, "format": "e3m4", "scales": "int8", "length": 100, "interval": 48, "view": "bits"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name}={value!r}: one of"):
            FP8Explorer(**{name: value})
    with pytest.raises(ValueError, match="view='bits'"):
        FP8Explorer().static("bits")


def test_the_twins_show_the_same_state_and_say_it(explorer):
    explorer.factor.value = 2**14
    for view in ("scales", "sums"):
        twin = explorer.static(view)
        assert twin.png().startswith(b"\x89PNG") and len(twin.png()) < 300_000
        assert twin.alt == explorer.alt_text(view)
    maps = [ax for ax in explorer.static().axes if ax.images]
    assert len(maps) == 3
    for index, ax in enumerate(maps):
        assert np.array_equal(np.asarray(ax.images[0].get_array()), strip(explorer, index))
        assert ax.get_title(loc="left") == explorer.canvas.frame["strips"][index]["words"]
    drawn = [line.get_xydata() for line in explorer.static("sums").axes[0].lines]
    whole = explorer.sums_picture.line(4096)
    assert any(line.shape == (len(whole), 2) and np.allclose(line, whole) for line in drawn)


def test_the_words_name_what_is_seen(explorer):
    alt = explorer.alt_text()
    assert "16 x 384 numbers" in alt and "row 14, column 166" in alt and "subnormal" in alt
    assert "18.3 times as much" in explorer.alt_text("sums") and "at K = 128" in explorer.alt_text("sums")
    assert repr(explorer).startswith("FP8Explorer (live")


def test_percentages_and_numbers_are_short_and_never_say_none_for_some():
    said = {0: "0%", 1: "100%", 0.5: "50.0%", 0.05: "5.0%", 4.3e-5: "0.0043%", 0.9999: "over 99.9%", 0.0996: "10.0%"}
    assert {share: percent(share) for share in said} == said
    assert [number(x) for x in (0.66543, -448, 57344, 1.5e12)] == ["0.6654", "-448", "57,344", "1.5e+12"]
