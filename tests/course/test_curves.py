"""Bands and paired differences of the study: by hand on planted records."""

import json

import pytest

from minimoe_course import curves

T4 = 2.776445  # Student's t, 97.5%, 4 degrees of freedom


def record(variant, seed, validation, vio):
    column = {"step": [10, 20], "cpu_s": [1.0, 2.0], "next_token": [5.0, 4.0], "maxvio": vio}
    return {"variant": variant, "seed": seed, "validation": validation, "cpu_s": 2.0, "curves": column}


@pytest.fixture
def planted(tmp_path, monkeypatch):
    lines = [record("a", s, 3.0 + d, [1.0, 0.5]) for s, d in enumerate([0.1, 0.2, 0.3, 0.4, 0.5])]
    lines += [record("b", s, 3.0, [2.0, 1.0]) for s in range(5)] + [record("one", 0, 1.0, [0.0, 0.0])]
    folder = tmp_path / "curves"
    folder.mkdir()
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("MINIMOE_DATA", str(tmp_path))


@pytest.mark.usefixtures("planted")
def test_differences_within_seeds_by_hand():
    result = curves.paired("a", "b")
    assert result.differences == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    error = (0.025 / 5) ** 0.5  # the variance of the five differences is 0.025
    assert (result.low, result.high) == pytest.approx((0.3 - T4 * error, 0.3 + T4 * error), rel=1e-3)
    assert result.clear and "lower in 0 of 5 seeds" in str(result)


@pytest.mark.usefixtures("planted")
def test_the_end_of_a_curve_counts_as_a_number():
    assert curves.value(curves.runs("a")[0], "maxvio") == pytest.approx(0.75)  # there are only two points
    assert curves.paired("a", "b", "maxvio").mean == pytest.approx(-0.75)


@pytest.mark.usefixtures("planted")
def test_one_seed_has_no_spread_and_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="share 1 seeds"):
        curves.paired("one", "a")
    with pytest.raises(ValueError, match="'c' in .*; there are a, b, one"):
        curves.runs("c")


@pytest.mark.usefixtures("planted")
def test_a_band_reaches_from_the_lowest_to_the_highest_run():
    series = {"x": [([1, 2], [1, 5]), ([1, 2], [3, 4])]}
    figure = curves.band_figure(series, "title", "x", "y", single={"you": ([1], [2])})
    axes = figure.axes[0]
    low, high = axes.collections[0].get_datalim(axes.transData).intervaly
    assert (low, high) == (1, 5)
    assert axes.lines[0].get_ydata().tolist() == [2, 4.5]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["x", "you"]
    assert curves.band({"A": "a"}, "maxvio", "t", "MaxVio", x="cpu_s").axes[0].get_xlabel() == "CPU-seconds"


@pytest.mark.usefixtures("planted")
def test_the_table_shows_median_range_and_difference():
    shown = curves.table({"first": "a", "second": "b"}, {"loss": "validation"}, reference="b")
    assert shown.columns == ("", "loss", "loss, difference")
    assert shown.rows[0][:2] == ("first", "3.300 (3.100 to 3.500)") and shown.rows[0][2].startswith("+0.300 [+0.104")
    assert shown.rows[1][2] == ""
