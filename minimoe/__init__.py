"""minimoe: DeepSeek-V3's architecture and DeepSeek-R1's training, rebuilt from the papers in compact PyTorch.

    config = minimoe.V3                              # or ModelConfig.from_json("config.json")
    model = minimoe.Transformer(minimoe.NANO)        # parameter names are the official checkpoints'
    out = model(input_ids)                           # logits, mtp_logits, routing; loss with labels=
    model = minimoe.load("folder"); minimoe.save(model, "folder")
    result = minimoe.generate(model, prompts, max_new_tokens=64)
    minimoe.accounting.parameters(config)            # and flops, cache_bytes, ...

Packages, each built on the ones before it: `config` and `accounting`; `model`; `inference`; `training`; `rl`.
`checkpoint` and `tokenizer` stand beside them.
"""

from minimoe import accounting, tokenizer
from minimoe.checkpoint import load, save
from minimoe.config import KIMI_K2, MOONLIGHT, NANO, PRESETS, V2, V2_LITE, V3, ModelConfig
from minimoe.inference.generate import generate
from minimoe.model.transformer import Transformer

__all__ = [
    "KIMI_K2",
    "MOONLIGHT",
    "ModelConfig",
    "NANO",
    "PRESETS",
    "Transformer",
    "V2",
    "V2_LITE",
    "V3",
    "accounting",
    "generate",
    "load",
    "save",
    "tokenizer",
]
