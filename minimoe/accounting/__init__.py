"""What a model costs, from its config alone: parameters, bytes, FLOPs, cache, GPU-hours, dollars. No weights, no torch.

The headline numbers of DeepSeek-V3 are sums of products that fit on a page, and every one of them can be recomputed:
671 billion parameters of which 37 billion work on a token, 70 kB of cache a token, 250 GFLOPs to train on a token,
5.576 million dollars. Recomputing them teaches what the words mean. "37 billion" leaves the input embedding out;
"685B" on the model's page counts the embedding and the head twice and adds 41 million scales; the "250" counts half an
attention matrix.

Four files, one question each: `weights` (how many numbers, stored in how many bytes), `compute` (how much arithmetic),
`caching` (how much memory a token leaves behind), `cost` (how long and how much money).

DeepSeek-V4 is another architecture (hyper-connections, compressed sparse attention, FP4 experts) and is not counted
here.

How the production version differs: nobody in production counts by hand; profilers count what ran, including what was
computed twice. The hand count is the yardstick against which such a profile is read.
"""

from minimoe.accounting.caching import (
    cache_bytes,
    cache_elements,
    gqa_elements,
    mha_elements,
    mla_elements,
    mqa_elements,
)
from minimoe.accounting.compute import Flops, absorb_pays_below, decode_flops, flops
from minimoe.accounting.cost import (
    H800_BF16_FLOPS,
    V3_TRAINING_GPU_HOURS,
    days,
    dollars,
    gpu_hours,
    mfu,
    price_reduction,
    tokens_per_second_per_gpu,
)
from minimoe.accounting.speculation import break_even_acceptance, speculation_speedup, tokens_a_call
from minimoe.accounting.weights import Activated, Layer, Parameters, Stored, experts_touched, parameters, stored

__all__ = [
    "H800_BF16_FLOPS",
    "V3_TRAINING_GPU_HOURS",
    "Activated",
    "Flops",
    "Layer",
    "Parameters",
    "Stored",
    "absorb_pays_below",
    "break_even_acceptance",
    "cache_bytes",
    "cache_elements",
    "days",
    "decode_flops",
    "dollars",
    "experts_touched",
    "flops",
    "gpu_hours",
    "gqa_elements",
    "mfu",
    "mha_elements",
    "mla_elements",
    "mqa_elements",
    "parameters",
    "price_reduction",
    "speculation_speedup",
    "stored",
    "tokens_a_call",
    "tokens_per_second_per_gpu",
]
