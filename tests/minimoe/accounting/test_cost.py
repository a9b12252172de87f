"""GPU-hours, dollars, days and utilisation: V3's table 1 closes on ISCA's table 4."""

import pytest

from minimoe.accounting import (
    V3_TRAINING_GPU_HOURS,
    days,
    dollars,
    flops,
    gpu_hours,
    mfu,
    price_reduction,
    tokens_per_second_per_gpu,
)
from minimoe.config import NANO, V3

PRETRAINING = V3_TRAINING_GPU_HOURS["pre-training"]


def test_the_hours_add_up_to_2788_thousand_and_5_576_million_dollars():
    assert sum(V3_TRAINING_GPU_HOURS.values()) == 2_788_000
    assert dollars(sum(V3_TRAINING_GPU_HOURS.values())) == 5_576_000
    assert [dollars(hours) for hours in V3_TRAINING_GPU_HOURS.values()] == [5_328_000, 238_000, 10_000]


def test_a_trillion_tokens_take_180_thousand_hours_or_3_66_days():
    per_trillion = PRETRAINING / 14.8
    assert round(per_trillion / 1e3, 1) == 180.0
    assert round(days(per_trillion, 2048), 2) == 3.66


def test_the_hours_imply_a_throughput_that_the_later_paper_confirms():
    implied = tokens_per_second_per_gpu(14.8e12, PRETRAINING)
    assert round(implied, 1) == 1543.2
    measured = 272.80e9 / 86400 / 2048  # ISCA table 4: tokens a day on the same cluster
    assert round(measured, 1) == 1541.7


def test_the_whole_run_used_39_percent_of_the_hardware():
    implied = tokens_per_second_per_gpu(14.8e12, PRETRAINING)
    assert round(100 * mfu(flops(V3, 4096).training, implied), 1) == 39.1
    assert round(100 * mfu(flops(V3, 4096).training, 1541.7), 1) == 39.0, "the paper measures 38.94"
    assert round(100 * mfu(flops(V3, 4096, causal=False).training, 1541.7), 1) == 43.8, "the paper measures 43.73"


def test_gpu_hours_invert_utilisation():
    utilisation = mfu(flops(V3, 4096).training, tokens_per_second_per_gpu(14.8e12, PRETRAINING))
    assert gpu_hours(V3, 14.8e12, 4096, utilisation) == pytest.approx(PRETRAINING, rel=1e-12)


def test_the_price_gap_of_the_headlines_is_a_ratio_of_list_prices():
    assert round(100 * price_reduction(2.19, 60), 2) == 96.35
    assert round(100 * price_reduction(0.55, 15), 2) == 96.33


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: days(100, 0), "gpus=0"),
        (lambda: tokens_per_second_per_gpu(1e12, 0), "hours=0"),
        (lambda: mfu(1e9, 1e3, 0), "peak_flops=0"),
        (lambda: gpu_hours(NANO, 1e6, 128, 1.5), "utilisation=1.5"),
        (lambda: gpu_hours(NANO, 1e6, 128, 0), "utilisation=0"),
        (lambda: price_reduction(1, 0), "reference=0"),
    ],
)
def test_nothing_is_divided_by_zero(call, words):
    with pytest.raises(ValueError, match=words):
        call()
