"""Writes trl_golden.json: what TRL's GRPOTrainer makes of fixed tensors. The tests do not install TRL; run this in an
environment of its own:

    python -m venv trl && trl/bin/pip install torch==2.13.0
    trl/bin/pip install transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 trl==1.16.0
    OMP_NUM_THREADS=1 trl/bin/python tests/minimoe/rl/trl_golden.py

Nothing of TRL is reimplemented: a real `GRPOTrainer` computes its own `_compute_loss`, only the log-probabilities come
from here and not from its (tiny, untrained) model. Advantages come from `_generate_and_score_completions`, with a
reward function that says what it is told to say. Left out are "sapo" (a sigmoid in the clip's place) and "vespo" (gamma
weights of the sequence ratio): formulas of their own, which no knob of `Objective` turns the others into.
"""

import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

B, T, MAX_TOKENS, O = 6, 7, 16, 3  # noqa: E741
LENGTHS = (7, 3, 5, 1, 6, 4)

# name -> what GRPOConfig is given beyond beta=0, epsilon=.2, loss_type="grpo"
CASES = {
    "grpo": {},
    "bnpo": {"loss_type": "bnpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "clip_higher": {"epsilon_high": 0.5},
    "two_sided": {"delta": 1.5},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.3},
    "cispo_5": {"loss_type": "cispo", "epsilon_high": 5.0},
    "gspo": {"importance_sampling_level": "sequence", "epsilon": 0.02, "epsilon_high": 0.03},
    "gspo_two_sided": {"importance_sampling_level": "sequence", "epsilon": 0.02, "epsilon_high": 0.03, "delta": 1.05},
    "luspo": {
        "loss_type": "luspo",
        "importance_sampling_level": "sequence",
        "epsilon": 0.02,
        "epsilon_high": 0.03,
    },
    "k3": {"beta": 0.04, "use_bias_correction_kl": False},
    "unbiased_kl": {"beta": 0.04, "use_bias_correction_kl": True},
    "r1": {"beta": 0.001, "epsilon": 10.0, "use_bias_correction_kl": False},
    "off_policy": {"off_policy_mask_threshold": 0.1},
    "v3_2": {"beta": 0.001, "use_bias_correction_kl": True, "off_policy_mask_threshold": 0.1},
    "dapo_k3": {"loss_type": "dapo", "beta": 0.04, "use_bias_correction_kl": False},
    "gspo_unbiased_kl": {"importance_sampling_level": "sequence", "beta": 0.04, "use_bias_correction_kl": True},
}
# right and wrong, graded, all equal (0.1 is no binary fraction), a spread unlike the others'
REWARDS = [[1.0, 0.0, 0.0], [0.9, 0.35, -0.2], [0.1, 0.1, 0.1], [100.0, 0.0, 40.0]]


class Fixed(GRPOTrainer):
    """A GRPOTrainer to which the log-probabilities are handed."""

    given = None

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        if self.given is None:
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return self.given, torch.zeros_like(self.given.detach()), None


def tensors() -> dict:
    """Log-probabilities of a policy, of the one that sampled (ratios from 0.3 to 4), and of a reference."""
    generator = torch.Generator().manual_seed(0)
    logps = -torch.rand(B, T, generator=generator) * 3 - 0.05
    old = logps - 0.6 * torch.randn(B, T, generator=generator)
    old[[2, 3]] += 0.4  # a bad and a good response far from what sampled them: the off-policy mask takes the bad one
    old[0, 1] = logps[0, 1] - 0.22  # a ratio of 1.25: between DAPO's upper clip and everyone else's
    reference = logps - 0.3 * torch.randn(B, T, generator=generator)
    mask = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    advantages = torch.tensor([1.2, -0.7, -0.5, 0.9, -1.1, 0.2])
    return {"logps": logps, "old": old, "reference": reference, "mask": mask.int(), "advantages": advantages}


def tiny(folder: str) -> tuple[str, PreTrainedTokenizerFast]:
    """A model of some thousand parameters on disk, and a tokenizer of single characters."""
    words = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefgh"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), pad_token_id=0, eos_token_id=1, **shape)).save_pretrained(
        folder
    )
    return folder, tokenizer


def trainer(folder, tokenizer, rewards=None, generations=O, **options) -> Fixed:
    """A real trainer on the tiny model; `rewards`: what its reward function answers."""
    batch = B if rewards is None else sum(map(len, rewards))
    settings = {"beta": 0.0, "epsilon": 0.2, "loss_type": "grpo", "max_completion_length": MAX_TOKENS} | options
    config = GRPOConfig(
        output_dir=f"{folder}/out",
        use_cpu=True,
        report_to="none",
        per_device_train_batch_size=batch,
        num_generations=generations,
        **settings,
    )
    flat = [] if rewards is None else [reward for group in rewards for reward in group]
    return Fixed(
        model=LlamaForCausalLM.from_pretrained(folder),
        reward_funcs=lambda completions, **_: flat or [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["abc"] * 8}),
        processing_class=tokenizer,
    )


def measured(folder, tokenizer, given: dict, options: dict) -> dict:
    """Loss, gradient with respect to the log-probabilities, and what TRL reports."""
    made = trainer(folder, tokenizer, **options)
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    made.given = given["logps"].clone().requires_grad_()
    inputs = {
        "prompt_ids": torch.full((B, 2), 3),
        "prompt_mask": torch.ones(B, 2, dtype=torch.long),
        "completion_ids": torch.full((B, T), 4),
        "completion_mask": given["mask"],
        "advantages": given["advantages"],
        "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"],
        "num_items_in_batch": given["mask"].sum().float(),
    }
    loss = made._compute_loss(made.model, inputs)
    loss.backward()
    metrics = {name: values[-1] for name, values in made._metrics["train"].items() if name != "entropy"}
    metrics = {name: value for name, value in metrics.items() if not name.endswith(("_min", "_max"))}
    return {"options": options, "loss": loss.item(), "grad": made.given.grad.tolist(), "metrics": metrics}


def advantages(folder, tokenizer, scale: str) -> list[float]:
    """TRL's advantages of REWARDS."""
    made = trainer(folder, tokenizer, REWARDS, scale_rewards=scale, max_completion_length=2)
    made.model.train()
    inputs = [{"prompt": "abc"[: 1 + group % 3]} for group in range(len(REWARDS)) for _ in range(O)]
    return made._generate_and_score_completions(inputs)["advantages"].tolist()


def main() -> None:
    given = tensors()
    with tempfile.TemporaryDirectory() as folder:
        folder, tokenizer = tiny(folder)
        cases = {name: measured(folder, tokenizer, given, options) for name, options in CASES.items()}
        scaled = {scale: advantages(folder, tokenizer, scale) for scale in ("group", "batch", "none")}
    golden = {
        "made_by": "tests/minimoe/rl/trl_golden.py with trl 1.16.0, torch 2.13.0",
        "max_tokens": MAX_TOKENS,
        "inputs": {name: tensor.tolist() for name, tensor in given.items()},
        "cases": cases,
        "rewards": REWARDS,
        "advantages": scaled,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
