"""A small model with uneven routing and a tokenizer, shared by the explorers' tests."""

from dataclasses import replace

import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.tokenizer import Tokenizer

TEXT = "the cat sat on the mat"
SMALL = replace(
    NANO,
    hidden_size=32,
    num_hidden_layers=3,
    n_routed_experts=8,
    num_experts_per_tok=3,
    vocab_size=270,
    initializer_range=0.1,
)


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
