"""Measure how far our model is from the official ones, and write the table PARITY.md beside this file.

    python tests/minimoe/parity/table.py

The configurations, weights and tokens are those of test_official_parity.py: drawn, but the same in every run.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import torch
import transformers
from comparison import PARTS, measure
from model_draws import Draw, sample

TABLE = Path(__file__).with_name("PARITY.md")
INTRODUCTION = """# Distance between minimoe and the official models

Written by `python tests/minimoe/parity/table.py`: torch {torch} on a CPU, one thread; transformers {transformers}.

Each row is one configuration drawn by hypothesis (derandomised: the same in every run), with weights, norm gains and
biases from the row's seed. A number is the largest difference from `transformers`' `{v3}` or
`{v2}` over the largest magnitude of the same tensor; for gradients it is that of the worst of all
parameters (a parameter whose gradient is a thousand times below the model's largest is measured on that scale), for
decoding the worse of our two paths, `expand` and `absorb`.

**float64**: the official code's own casts to float32 are promoted to float64, so that nothing but the order of
additions differs. **float32**: both sides round. **official rounding**: how far the official model in float32 is from
the official model in float64, that is, how much of the second column any implementation must expect.
"""


def heading() -> str:
    """What the numbers are."""
    names = {"v3": "DeepseekV3ForCausalLM", "v2": "DeepseekV2ForCausalLM"}
    return INTRODUCTION.format(torch=torch.__version__, transformers=transformers.__version__, **names)


def described(case: Draw) -> str:
    """A configuration in a few words."""
    c = case.config
    words = [
        f"seed {case.seed}",
        f"{case.batch} x {case.length} tokens",
        f"{c.num_hidden_layers} layers ({c.first_k_dense_replace} dense)",
    ]
    words.append(f"{c.num_attention_heads} heads of {c.qk_nope_head_dim}+{c.qk_rope_head_dim}/{c.v_head_dim}")
    words.append("no q_lora" if c.q_lora_rank is None else f"q_lora {c.q_lora_rank}")
    if c.is_moe:
        groups = f" in {c.topk_group} of {c.n_group} groups" if c.n_group > 1 else ""
        words.append(f"{c.num_experts_per_tok} of {c.n_routed_experts} experts{groups} + {c.n_shared_experts}")
        words.append(c.topk_method + (", normalised" if c.norm_topk_prob else ""))
        words += ["biases near -1.5"] if c.uses_bias and case.bias_shift else []
    words += [f"YaRN x{c.rope_scaling['factor']:g}"] if c.rope_scaling else []
    words += ["tied"] if c.tie_word_embeddings else []
    return ", ".join(words)


def rows(measured: dict) -> list[str]:
    """The table's lines, the largest of each generation first."""
    kinds = ("float64", "float32", "noise")
    columns = [f"{part} {kind}".replace("noise", "official rounding") for kind in kinds for part in PARTS]
    lines = ["| " + " | ".join(["", "configuration", *columns]) + " |", "|---" * (2 + len(columns)) + "|"]

    def line(name, words, values):
        numbers = [f"{values[kind][part]:.1e}" for kind in kinds for part in PARTS]
        return "| " + " | ".join([name, words, *numbers]) + " |"

    for generation in ("v3", "v2"):
        of_it = [apart for name, (_, apart) in measured.items() if name.startswith(generation)]
        worst = {kind: {part: max(apart[kind][part] for apart in of_it) for part in PARTS} for kind in kinds}
        lines.append(line(f"**{generation}**", f"**largest of {len(of_it)}**", worst))
    return lines + [line(name, described(case), apart) for name, (case, apart) in measured.items()]


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    measured = {name: (case, measure(case)) for name, case in sample().items()}
    lines = rows(measured)
    print("\n".join(lines[:4]))
    TABLE.write_text(heading() + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(measured)} configurations; the whole table is in {TABLE.name}")


if __name__ == "__main__":
    main()
