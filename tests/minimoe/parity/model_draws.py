"""Random small models for the comparison with the official ones: hypothesis draws the shape, a seed the numbers.

The numbers are chosen so that nothing hides: norm gains differ from 1, attention is not flat, scores spread over
(0, 1), biases move choices. And every routing decision is clear by a margin well above float32's rounding, because a
decision that rounding can flip says nothing about who is right.
"""

from dataclasses import dataclass, fields
from unittest import mock

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import CONSTANTS_CACHE, Constants, HypothesisProvider
from official_models import official, router_margin

import minimoe

CLEAR_MARGIN = 2e-5  # float32 moves a score by about 1e-6; twenty times that cannot flip a choice
# as released, other values, and files that give only one of the two or none
MSCALES = [
    {},
    {"mscale": 1.0, "mscale_all_dim": 1.0},
    {"mscale": 0.707, "mscale_all_dim": 0.707},
    {"mscale": 1.0, "mscale_all_dim": 0.5},
    {"mscale": 0.7},
    {"mscale_all_dim": 0.7},
]


@st.composite
def yarn(draw):
    """A rope_scaling dict, or None."""
    if draw(st.booleans()):
        return None
    scaling = {
        "type": "yarn",
        "factor": draw(st.sampled_from([1.0, 4.0, 32.0, 40.0])),
        "original_max_position_embeddings": draw(st.sampled_from([4, 16, 64, 4096])),
    }
    scaling |= draw(st.sampled_from([{}, {"beta_fast": 32, "beta_slow": 1}, {"beta_fast": 1, "beta_slow": 1}]))
    scaling |= draw(st.sampled_from(MSCALES))
    return scaling


@st.composite
def shapes(draw, even: bool):
    """What V2 and V3 have in common: attention, layers, widths, norms, positions.

    `even`: the rotary part starts at an even number. The official V2 class cannot do otherwise.
    """
    step = 2 if even else 1
    heads = draw(st.integers(1, 4))
    dense = draw(st.integers(0, 3))
    return {
        "vocab_size": draw(st.integers(11, 29)),
        "hidden_size": heads * draw(st.integers(4, 9)),
        "num_hidden_layers": max(1, dense + draw(st.integers(0, 2))),
        "first_k_dense_replace": dense,
        "intermediate_size": draw(st.integers(5, 20)),
        "num_attention_heads": heads,
        "q_lora_rank": draw(st.none() | st.integers(3, 12)),
        "kv_lora_rank": step * draw(st.integers(1, 5)),
        "qk_nope_head_dim": step * draw(st.integers(1, 4)),
        "qk_rope_head_dim": draw(st.sampled_from([2, 4, 6, 8])),
        "v_head_dim": draw(st.integers(1, 9)),
        "moe_intermediate_size": draw(st.integers(2, 9)),
        "n_shared_experts": draw(st.integers(0, 2)),
        "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        "rope_theta": draw(st.sampled_from([10000.0, 50000.0, 100.0])),
        "rope_scaling": draw(yarn()),
        "tie_word_embeddings": draw(st.booleans()),
        # the official classes hold no MTP module and add no balance loss
        "num_nextn_predict_layers": 0,
        "aux_loss_alpha": 0.0,
    }


@st.composite
def v3_configs(draw):
    """Sigmoid scores, bias, groups by the sum of their two best."""
    groups = draw(st.integers(1, 4))
    group = draw(st.integers(2, 4))
    kept = draw(st.integers(1, groups))
    return minimoe.ModelConfig(
        **draw(shapes(even=False)),
        n_routed_experts=groups * group,
        n_group=groups,
        topk_group=kept,
        num_experts_per_tok=draw(st.integers(1, kept * group)),
        norm_topk_prob=draw(st.booleans()),
        routed_scaling_factor=draw(st.sampled_from([1.0, 2.5, 2.827])),
    )


@st.composite
def v2_configs(draw):
    """Softmax scores, no bias, groups by their best expert or none. The official class never normalises the gates."""
    groups, group = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kept = draw(st.integers(1, groups))
    method = draw(st.sampled_from(["greedy", "group_limited_greedy"]))
    reachable = groups * group if method == "greedy" else kept * group
    return minimoe.ModelConfig(
        **draw(shapes(even=True)),
        scoring_func="softmax",
        topk_method=method,
        n_routed_experts=groups * group,
        n_group=groups,
        topk_group=kept,
        num_experts_per_tok=draw(st.integers(1, reachable)),
        norm_topk_prob=False,
        routed_scaling_factor=draw(st.sampled_from([1.0, 16.0])),
    )


APART, EXAMPLES = 9, 600


@dataclass(frozen=True)
class Draw:
    """One configuration, with the seed of its numbers, how far its biases are shifted, and a batch's shape."""

    config: minimoe.ModelConfig
    seed: int
    bias_shift: float
    batch: int
    length: int


def fields_apart(one: minimoe.ModelConfig, other: minimoe.ModelConfig) -> int:
    """In how many fields two configurations differ."""
    return sum(getattr(one, f.name) != getattr(other, f.name) for f in fields(one))


def draws(configs, count: int) -> list[Draw]:
    """`count` draws of hypothesis, the same in every run, any two of them different in at least `APART` fields.

    Left alone, hypothesis returns again and again to an example with one thing changed, which is right for hunting down
    a failure and wrong for a sample. It also mixes in numbers that it finds in the source of whatever is imported; with
    these the draws would change with every edit of the library, so they are taken away.
    """
    shifts, rows, lengths = st.sampled_from([0.0, -1.5]), st.integers(1, 3), st.integers(2, 11)
    cases = st.builds(Draw, configs, st.integers(0, 10**6), shifts, rows, lengths)
    found = []
    profile = {"derandomize": True, "phases": [Phase.generate], "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=EXAMPLES, **profile)
    @given(cases)
    def collect(case):
        if len(found) < count and all(fields_apart(case.config, other.config) >= APART for other in found):
            found.append(case)

    with mock.patch.object(HypothesisProvider, "_local_constants", Constants()):
        CONSTANTS_CACHE.cache.clear()
        collect()
    CONSTANTS_CACHE.cache.clear()
    assert len(found) == count, f"hypothesis drew {len(found)} different configurations instead of {count}"
    return found


def sample() -> dict[str, Draw]:
    """The configurations on which the two models are compared, by name."""
    named = {f"v3-{i}": case for i, case in enumerate(draws(v3_configs(), 40))}
    return named | {f"v2-{i}": case for i, case in enumerate(draws(v2_configs(), 30))}


def randomise(model: minimoe.Transformer, seed: int, bias_shift: float = 0.0) -> None:
    """Fill every parameter and buffer from `seed`; every part of the result matters to the output."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, std):
        return torch.randn(tensor.shape, generator=generator) * std

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" in name:
                tensor.copy_(1 + normal(tensor, 0.3))
            elif "embed_tokens" in name:
                tensor.copy_(normal(tensor, 1.0))
            else:
                tensor.copy_(normal(tensor, tensor.shape[1] ** -0.5))
        for router in model.routers().values():
            if router.e_score_correction_bias is not None:
                router.e_score_correction_bias.copy_(bias_shift + normal(router.e_score_correction_bias, 0.3))


def clear_pair(config, seed: int, ids_BT, bias_shift: float = 0.0):
    """Our model in float32 and float64 (the same numbers), drawn anew until every routing decision is clear."""
    for attempt in range(100):
        ours = minimoe.Transformer(config)
        randomise(ours, 1000 * seed + attempt, bias_shift)
        exact = minimoe.Transformer(config).double()
        exact.load_state_dict(ours.state_dict())
        if router_margin(official(exact), ids_BT) > CLEAR_MARGIN:
            return ours, exact
    raise AssertionError(f"no weights with routing margins above {CLEAR_MARGIN} in 100 draws of {config}")
