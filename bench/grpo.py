"""One GRPO step beside TRL's: sample groups of answers, score them, learn from them.

Both sides have the same weights, the same prompts, groups of the same size, answers of the same length, the same loss
(PPO's clip, group-normalised advantages, no KL term), AdamW with the same settings, and rewards that cost nothing and
differ in every group. Each runs as it is used, logs nothing and computes entropies: minimoe's `GRPOTrainer.step`, and
TRL's `GRPOTrainer.train` in a thread that is let go on for one step at a time.
"""

import tempfile
import threading
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import torch
from pair import CONFIG, EXPERTS, fused_experts
from rounds import compare, interleave, summary

from minimoe import Transformer
from minimoe.checkpoint import load
from minimoe.rl.grpo import Objective, policy_loss
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.rewards import Rewards
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Questions
from minimoe.rl.trainer import GRPOTrainer
from minimoe.tokenizer import SPECIAL_TOKENS, Tokenizer
from minimoe.training.reasoning import Chain, document

REASON = Path(__file__).parents[1] / "data" / "reason"
NEVER = 3  # <fim_hole>, which no model here says: with it for an end mark, every answer has its full length
ADAMW = {"lr": 1e-6, "weight_decay": 0.0, "betas": (0.9, 0.95), "eps": 1e-8}
CLIP_NORM = 1.0
TASK = Chain(6)
MISSING = "TRL is not installed: pip install 'minimoe[bench]' (or the versions that pyproject.toml names there)"


@dataclass(frozen=True)
class Case:
    """What is stepped: `prompts` x `answers` answers of `tokens` tokens.

    `rows`: what TRL takes through the model at once; minimoe has a number of its own, which is also 64. Of 32, 64, 96
    and 192, none made TRL more than a tenth faster.
    """

    name: str
    prompts: int
    answers: int
    tokens: int
    rows: int = 64


# 28 tokens: as many as a chain takes to be thought through
CASES = (Case("reason", 16, 12, 28), Case("small", 8, 8, 32))


def reason() -> Transformer:
    """The trained model of data/reason, from which R1-Zero starts: 564,864 parameters."""
    return load(REASON, dtype=torch.float32)


def small() -> Transformer:
    """The model of the other measurements with a vocabulary of bytes (6.4 million parameters), which never ends.

    One coordinate of every embedding is raised, and the end mark's row of the head points away from it.
    """
    model = Transformer(replace(CONFIG, vocab_size=266), seed=1)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 0.1
        model.lm_head.weight[NEVER] = 0
        model.lm_head.weight[NEVER, 0] = -10
    return model


MODELS = {"reason": reason, "small": small}


class NeverEnding:
    """data/reason's tokenizer with the end mark that never comes."""

    eos_id = NEVER

    def __init__(self):
        self.tokenizer = Tokenizer.load(REASON)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def minimoe_trainer(case: Case, steps: int, seed: int, **settings) -> GRPOTrainer:
    """minimoe's side."""
    marks = cycle((0.0, 1.0))
    made = RLSettings(
        steps, case.prompts, case.answers, case.tokens, objective=Objective(), lr=ADAMW["lr"],
        weight_decay=ADAMW["weight_decay"], clip_norm=CLIP_NORM, evaluate_every=0, save_every=0, seed=seed, **settings,
    )  # fmt: skip
    rewards = Rewards({"mark": (1.0, lambda _question, _answer: next(marks))})
    return GRPOTrainer(MODELS[case.name](), NeverEnding(), Questions(TASK, seed), rewards, made)


def transformers_model(case: Case, experts: str):
    """The same weights in transformers' model, with the named implementation of the experts."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    ours = MODELS[case.name]()
    values = ours.config.to_dict() | {"eos_token_id": NEVER, "pad_token_id": 2, "bos_token_id": 0}
    values.pop("architectures", None)
    settings = DeepseekV3Config(**values, attn_implementation="sdpa", experts_implementation=experts)
    model = DeepseekV3ForCausalLM(settings)
    model.load_state_dict(fused_experts(ours.config, ours.state_dict()))
    return model


class Stepped:
    """TRL's trainer, stopped at the end of every step until it is called again."""

    def __init__(self, case: Case, experts: str, steps: int, seed: int, folder: str):
        try:
            from trl import GRPOConfig
            from trl import GRPOTrainer as TRLTrainer
        except ImportError as error:
            raise SystemExit(f"{MISSING} ({error})") from None
        marks, size = cycle((0.0, 1.0)), case.prompts * case.answers
        questions = [q for step in range(1, steps + 1) for q in Questions(TASK, seed).draw(step, case.prompts)]
        config = GRPOConfig(
            output_dir=folder, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
            logging_strategy="no", per_device_train_batch_size=min(case.rows, size),
            gradient_accumulation_steps=-(-size // case.rows), num_generations=case.answers, max_steps=steps,
            max_completion_length=case.tokens, temperature=1.0, top_k=0, shuffle_dataset=False, beta=0.0, epsilon=0.2,
            loss_type="grpo", learning_rate=ADAMW["lr"], weight_decay=ADAMW["weight_decay"],
            adam_beta1=ADAMW["betas"][0], adam_beta2=ADAMW["betas"][1], adam_epsilon=ADAMW["eps"],
            optim="adamw_torch_fused", lr_scheduler_type="constant", max_grad_norm=CLIP_NORM,
            activation_checkpointing=False, bf16=False, seed=seed,
        )  # fmt: skip
        self.trainer = TRLTrainer(
            model=transformers_model(case, experts),
            reward_funcs=lambda completions, **_: [next(marks) for _ in completions],
            args=config,
            train_dataset=_dataset([SPECIAL_TOKENS[0] + document(q.problem, "") for q in questions]),
            processing_class=_hf_tokenizer(),
            callbacks=[_pause(self)],
        )
        assert not self.trainer.model.is_gradient_checkpointing
        self.go, self.done, self.failed = threading.Event(), threading.Event(), None
        self.thread = threading.Thread(target=self._train, daemon=True)

    def _train(self) -> None:
        self.go.wait()
        try:
            self.trainer.train()
        except BaseException as error:  # said where the step was asked for
            self.failed = error
        self.done.set()

    def pause(self) -> None:
        """At the end of a step: hand over, and wait for the next call."""
        self.go.clear()
        self.done.set()
        self.go.wait()

    def __call__(self) -> None:
        """One step."""
        if self.thread.ident is None:
            self.thread.start()
        self.done.clear()
        self.go.set()
        self.done.wait()
        if self.failed is not None:
            raise self.failed

    def check(self, tokens: int) -> None:
        """That all answers so far had this length, and every group something to learn."""
        metrics = self.trainer._metrics["train"]
        assert set(metrics["completions/min_length"]) == {tokens}, metrics["completions/min_length"]
        assert set(metrics["frac_reward_zero_std"]) == {0.0}, metrics["frac_reward_zero_std"]


def _pause(stepped):
    from transformers import TrainerCallback

    class Pause(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step < args.max_steps:
                stepped.pause()

    return Pause()


def _dataset(prompts: list[str]):
    from datasets import Dataset

    return Dataset.from_dict({"prompt": prompts})


def _hf_tokenizer():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(REASON)
    tokenizer.eos_token = SPECIAL_TOKENS[NEVER]
    assert tokenizer.eos_token_id == NEVER
    return tokenizer


def agree(case: Case, ours: GRPOTrainer, theirs: Stepped) -> dict:
    """Loss and gradient norm of both sides on one rollout of ours; asserts that they are equal to rounding."""
    groups = ours.sample(ours.questions.draw(1, case.prompts), 1)
    pairs = [(group.prompt, answer) for group in groups for answer in group.answers]
    assert all(len(answer.tokens) == case.tokens for _, answer in pairs), "an answer ended early"
    rows = Rows.of([prompt for prompt, _ in pairs], [answer.tokens for _, answer in pairs])
    advantages = torch.tensor([0.9, -0.9]).repeat(len(pairs) // 2)
    old = torch.tensor([answer.logprobs for _, answer in pairs]) + 0.05 * torch.randn(
        len(pairs), case.tokens, generator=torch.Generator().manual_seed(0)
    )
    logprobs_BS, _ = answer_logprobs(ours.model, rows)
    loss, _ = policy_loss(Objective(), logprobs_BS, rows.place(old.tolist()), advantages, rows.mask_BS)
    loss.backward()
    found = {"minimoe": {"loss": loss.item(), "gradient_norm": _norm(ours.model)}}
    prompts = torch.tensor([prompt for prompt, _ in pairs])
    answers = torch.tensor([answer.tokens for _, answer in pairs])
    trainer = theirs.trainer
    trainer.current_gradient_accumulation_steps = 1
    inputs = {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": answers,
        "completion_mask": torch.ones_like(answers),
        "advantages": advantages,
        "old_per_token_logps": old,
    }
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    found["TRL"] = {"loss": loss.item(), "gradient_norm": _norm(trainer.model)}
    mine, other = found["minimoe"], found["TRL"]
    # the loss is a difference of numbers near 1: 1e-5 is some hundred roundings; the norm sums squares, no differences
    assert abs(mine["loss"] - other["loss"]) <= 1e-5, found
    assert abs(mine["gradient_norm"] - other["gradient_norm"]) <= 1e-4 * mine["gradient_norm"] > 1e-6, found
    return found


def _norm(model) -> float:
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return torch.stack(squares).sum().sqrt().item()


def measure(case: Case, rounds: int, seed: int) -> dict:
    """One case: times of all sides, and of ours with recorded routing."""
    steps = rounds + 2
    with tempfile.TemporaryDirectory() as folder:
        sides = {f"TRL, {e} experts": Stepped(case, e, steps, seed, folder) for e in EXPERTS}
        trainer = minimoe_trainer(case, steps, seed)
        agreement = agree(case, trainer, next(iter(sides.values())))
        recorded = minimoe_trainer(case, steps, seed, keep_routing=True)
        steppers = {"minimoe": trainer.step, "minimoe, routing kept": recorded.step, **sides}
        times = interleave(steppers, rounds)
        for record in trainer.records + recorded.records:
            assert (record["mean_tokens"], record["learnable"]) == (case.tokens, case.prompts), record
        for side in sides.values():
            side.check(case.tokens)
    samples = case.prompts * case.answers
    return {
        "case": case.name,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "prompts": case.prompts,
        "answers": case.answers,
        "prompt_tokens": len(trainer.sample(trainer.questions.draw(1, 1), 1)[0].prompt),
        "tokens": case.tokens,
        "agreement": agreement,
        "samples_per_cpu_second": {
            name: round(samples / summary(t["cpu_ms"])["median"] * 1e3, 1) for name, t in times.items()
        },
        "cpu_ms": {name: summary(t["cpu_ms"]) for name, t in times.items()},
        "wall_ms": {name: summary(t["wall_ms"]) for name, t in times.items()},
        "cpu_ratio": compare(times, clock="cpu_ms"),
        "wall_ratio": compare(times, clock="wall_ms"),
        "rounds": times,
    }


def run(rounds: int, seed: int) -> dict:
    """Measure all cases with the threads torch has now. Raises SystemExit where TRL is missing."""
    return {
        "what": f"GRPO step; torch.optim.AdamW({ADAMW}), gradients clipped to {CLIP_NORM}, on both sides",
        "threads": torch.get_num_threads(),
        "cases": [measure(case, rounds, seed) for case in CASES],
    }
