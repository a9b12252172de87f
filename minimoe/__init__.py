"""minimoe: DeepSeek-V3's architecture and DeepSeek-R1's training, rebuilt from the papers in compact PyTorch."""

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
    "generate",
]
