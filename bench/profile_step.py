"""Where the time of a step goes, by torch's profiler: every operator's own time, sorted into a few kinds."""

import time
from collections import defaultdict

from torch.profiler import ProfilerActivity, profile

# The first kind whose words occur in the operator's name takes it.
KINDS = {
    "optimizer": ("_fused_adamw", "_foreach", "Optimizer.step", "zero_grad"),
    "batched products (attention)": ("aten::bmm", "aten::baddbmm", "scaled_dot_product"),
    "matrix products": ("aten::mm", "aten::addmm", "grouped_mm", "aten::matmul", "mkldnn"),
    "gather, scatter, sort": (
        "index", "gather", "scatter", "embedding", "sort", "topk", "bincount", "cumsum", "histc", "one_hot", "nonzero",
    ),
    "copies and memory": ("copy_", "cat", "contiguous", "clone", "fill_", "zero_", "zeros", "empty", "resize"),
    "norm, softmax, loss": (
        "norm", "softmax", "nll_loss", "cross_entropy", "rsqrt", "mean", "pow", "exp", "amax", "log",
    ),
    "elementwise": (
        "mul", "add", "sub", "div", "silu", "sigmoid", "neg", "sum", "vecdot", "where", "masked", "polar", "max", "min",
    ),
}  # fmt: skip


def kind_of(name: str) -> str:
    """The kind of an operator's name; what is in no list (views, Python's autograd nodes) is overhead."""
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return "overhead"


def shares(step, repeats: int = 3) -> dict:
    """Percent of the step's time by kind. "overhead" is views, dispatch and the time outside any operator (Python).

    The profiler itself costs some microseconds an operator, which swells overhead and the small kinds.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        start_s = time.perf_counter()
        for _ in range(repeats):
            step()
        total_us = (time.perf_counter() - start_s) * 1e6
    time_us, calls = defaultdict(float), 0
    for event in recorded.key_averages():
        time_us[kind_of(event.key)] += event.self_cpu_time_total
        calls += event.count if event.key.startswith("aten::") else 0
    inside_us = sum(time_us.values())
    time_us["overhead"] += max(total_us - inside_us, 0.0)
    ordered = sorted(time_us.items(), key=lambda item: -item[1])
    percent = {kind: round(100 * t / max(total_us, inside_us), 1) for kind, t in ordered}
    return {"percent": percent, "operators": calls // repeats, "profiled_ms": round(total_us / repeats / 1e3, 2)}
