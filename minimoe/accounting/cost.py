"""How long a training run takes and what it costs, from quantities that close on one another.

DeepSeek published the GPU-hours of V3 and, a year later, the tokens a day and the utilisation. The figures were
printed apart and meet: 2.664 million hours for 14.8 trillion tokens are 1,543 tokens a second and GPU; 250 GFLOPs a
token make that 386 TFLOPS, 39% of what the chip can do; the later paper says 1,542 and 38.9%. The famous 5.576 million
dollars are these hours at a rent of two dollars. They are the final run: no research, no failed runs, no data, no
salaries, no purchase.

How the production version differs: a run is billed from allocation to release, restarts and idle nodes included.
"""

from minimoe.accounting.compute import flops
from minimoe.config import ModelConfig

__all__ = [
    "H800_BF16_FLOPS",
    "V3_TRAINING_GPU_HOURS",
    "days",
    "dollars",
    "gpu_hours",
    "mfu",
    "price_reduction",
    "tokens_per_second_per_gpu",
]

# H800 hours, arXiv 2412.19437 table 1.
V3_TRAINING_GPU_HOURS = {"pre-training": 2_664_000, "context extension": 119_000, "post-training": 5_000}
H800_BF16_FLOPS = 989e12  # dense BF16 operations a second of one GPU; implied by arXiv 2505.09343 table 4


def dollars(hours: float, per_hour: float = 2.0) -> float:
    """GPU-hours times rent. Source: arXiv 2412.19437 table 1 assumes $2 an H800-hour. Chapter 00."""
    return hours * per_hour


def days(hours: float, gpus: int) -> float:
    """Wall-clock days of `hours` GPU-hours on `gpus` GPUs. Raises `ValueError` without a GPU. Chapter 00."""
    _positive(gpus=gpus)
    return hours / gpus / 24


def tokens_per_second_per_gpu(tokens: float, hours: float) -> float:
    """Throughput that `hours` GPU-hours for `tokens` tokens imply. Raises `ValueError` for no time. Chapter 00."""
    _positive(hours=hours)
    return tokens / hours / 3600


def mfu(flops_per_token: float, tokens_per_second: float, peak_flops: float = H800_BF16_FLOPS) -> float:
    """Model FLOPs utilisation: the share of a GPU's peak that goes into the operations counted by `flops`.

    Raises `ValueError` for a peak of 0 or less. Source: arXiv 2505.09343 table 4. Chapter 00.
    """
    _positive(peak_flops=peak_flops)
    return flops_per_token * tokens_per_second / peak_flops


def gpu_hours(
    config: ModelConfig, tokens: float, seq_len: int, utilisation: float = 0.39, peak_flops: float = H800_BF16_FLOPS
) -> float:
    """GPU-hours to train `config` on `tokens` tokens at a given utilisation: FLOPs / (peak * utilisation).

    Raises `ValueError` for a utilisation outside (0, 1] or a peak of 0 or less. Chapter 00.
    """
    _positive(peak_flops=peak_flops, utilisation=utilisation)
    if utilisation > 1:
        raise ValueError(f"utilisation={utilisation} must be at most 1")
    return flops(config, seq_len).training * tokens / (peak_flops * utilisation) / 3600


def price_reduction(price: float, reference: float) -> float:
    """By what fraction `price` is below `reference`: a ratio of list prices, not of costs. Chapter 00."""
    _positive(reference=reference)
    return 1 - price / reference


def _positive(**values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name}={value} must be greater than 0")
