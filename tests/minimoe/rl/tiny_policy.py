"""A tiny policy, a task with one digit for an answer, and a run of both: what the tests of the RL loop share.

The weights are drawn wide, so that what a token is depends on all the tokens before it: a policy close to uniform would
hide a cache that holds the wrong prompt. Sizes differ pairwise, for the axis rule.
"""

import dataclasses
import random
from dataclasses import dataclass

import torch

import minimoe
from minimoe.rl.rewards import Rewards
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Question, Questions
from minimoe.rl.trainer import GRPOTrainer
from minimoe.training.reasoning import byte_tokenizer, split_response

VOCABULARY = 68  # the ids of a byte tokenizer up to "9"
CONFIG = dataclasses.replace(
    minimoe.NANO,
    vocab_size=VOCABULARY,
    hidden_size=24,
    num_hidden_layers=2,
    intermediate_size=40,
    moe_intermediate_size=10,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    q_lora_rank=14,
    kv_lora_rank=18,
    max_position_embeddings=80,
    initializer_range=0.3,
)
TOKENIZER = byte_tokenizer()


@dataclass(frozen=True)
class Digit:
    """Up to `numbers` digits, "3 1 7"; the answer is the last one."""

    numbers: int = 5
    name = "digit"

    def draw(self, rng: random.Random) -> str:
        return " ".join(str(rng.randrange(10)) for _ in range(rng.randrange(1, self.numbers + 1)))

    def think(self, problem: str) -> str:
        return f"<think>{problem}</think>{problem[-1]}"

    def skip(self, problem: str) -> str:
        return f"<think></think>{problem[-1]}"

    def is_correct(self, problem: str, response: str) -> bool:
        return split_response(response)[1] == problem[-1]


def odd(question, answer) -> float:
    """The share of odd tokens: a rule that tells any two answers apart, whatever the policy."""
    return sum(token % 2 for token in answer.tokens) / len(answer.tokens)


def shown(question, answer) -> float:
    """1 if the answer begins with the digit that the problem ends with."""
    return float(answer.text[:1] == question.problem[-1])


ODD = Rewards({"odd": (1.0, odd)})
SHOWN = Rewards({"shown": (1.0, shown)})


def policy(seed=0, dtype=torch.float32, **changes):
    return minimoe.Transformer(dataclasses.replace(CONFIG, **changes), seed=seed).to(dtype)


def ask(*problems) -> list[Question]:
    return [Question(Digit(), problem) for problem in problems]


def parts(steps=6, rewards=ODD, model=None, questions=None, **settings) -> tuple:
    """What a `GRPOTrainer` takes, for a run of a few hundredths of a second a step."""
    settings = {"prompts": 3, "answers": 4, "max_new_tokens": 5, "lr": 1e-3, "save_every": 2} | settings
    model, questions = model or policy(), questions or Questions(Digit(), seed=5)
    return model, TOKENIZER, questions, rewards, RLSettings(steps=steps, **settings)


def trainer(folder=None, watch=(), evaluation=None, **options) -> GRPOTrainer:
    return GRPOTrainer(*parts(**options), folder=folder, watch=watch, evaluation=evaluation)


def weights(model) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values() if tensor is not None]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def timeless(records: list[dict]) -> list[dict]:
    """Records without the numbers that a clock gave."""
    return [{name: value for name, value in record.items() if name not in ("cpu_s", "wall_s")} for record in records]
