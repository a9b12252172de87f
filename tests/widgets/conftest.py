"""A small model with uneven routing and a tokenizer, shared by the explorers' tests."""

from dataclasses import replace

import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.tokenizer import Tokenizer

TEXT = "the cat sat on the mat"
SHAPE = {"num_hidden_layers": 3, "first_k_dense_replace": 1, "num_nextn_predict_layers": 1, "hidden_size": 32}
SHAPE |= {
    "num_attention_heads": 4,
    "num_key_value_heads": None,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
}
SHAPE |= {"n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2}
SMALL = replace(NANO, vocab_size=270, initializer_range=0.1, **SHAPE)


@pytest.fixture(scope="session")
def config():
    return SMALL


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.train(TEXT * 3, vocab_size=SMALL.vocab_size)


@pytest.fixture(scope="session")
def text():
    return TEXT


def build(config, seed=0):
    model = Transformer(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for router in model.routers().values():
        if router.e_score_correction_bias is not None:
            router.e_score_correction_bias.normal_(std=0.2, generator=generator)
    return model


@pytest.fixture(scope="session")
def make_model():
    return build


@pytest.fixture
def model(config):
    return build(config)
