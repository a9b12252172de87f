"""R1 in four stages, after R1-Zero: functions from checkpoint folder to checkpoint folder.

    base -- RL, accuracy and format alone --------------------------------> r1_zero    right, in whatever language
    base -- SFT on R1-Zero's right answers, rewritten (cold start) -------> dev1       readable, in whatever language
    dev1 -- RL on reasoning, with the language reward --------------------> dev2       in one language
    base -- SFT on dev2's verified answers and people's demonstrations ---> dev3       letters and refusals too
    dev3 -- RL on everything; the reward model in the last part alone ----> r1

and `dev2_control`, which is dev2 without the language reward. The third stage starts from the base again: what it
learns from is better than what the first had, and the base has not forgotten anything yet.

A stage is finished when its `scores.json` is there: then it is left alone, so that a run which was killed goes on where
it was. Within reinforcement learning that is the last saved step.

How the production version differs: by sizes. R1-Zero's run took 101,000 GPU-hours, the stages of R1 41,000 and the
making of the fine-tuning data 5,000 (Nature 645, 633, supplement); the base is V3's, and took 2.8 million.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import minimoe.rl.curation as curation
from minimoe.checkpoint import load, save
from minimoe.config import NANO
from minimoe.model.transformer import Transformer
from minimoe.rl.corpus import CHINESE, ENGLISH, HABIT, LETTERS, SKILL, draw_corpus
from minimoe.rl.general import Requests
from minimoe.rl.preference import RewardModel, draw_pairs, pair_accuracy, preference, train_reward_model
from minimoe.rl.rewards import Rewards, accuracy, language_consistency, only, safety, well_formed
from minimoe.rl.settings import RLSettings
from minimoe.rl.stage_scores import SEED, language_scores, naming, skill, stage_scores
from minimoe.rl.tasks import Question, Questions
from minimoe.rl.trainer import reinforce
from minimoe.rl.vocabulary import words_tokenizer
from minimoe.rl.words import WordProblems
from minimoe.tokenizer import Tokenizer
from minimoe.training import History, Settings, train
from minimoe.training.reasoning import draw_problems, encode_document
from minimoe.training.responses import ResponseLearner, padded_batches
from minimoe.training.snapshot import STATE_NAME

__all__ = ["RECIPE", "STAGES", "Recipe", "run_recipe"]

SCORES_NAME = "scores.json"
CONFIG = replace(
    NANO,
    q_lora_rank=None,
    n_routed_experts=8,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    moe_intermediate_size=64,
    num_nextn_predict_layers=0,
    max_position_embeddings=256,
    aux_loss_alpha=0.0,
)
WORDS = WordProblems()
REASONING = {"words"}


def _rl(steps: int, **changes) -> RLSettings:
    return RLSettings(**({"steps": steps, "max_new_tokens": 48} | changes))


@dataclass(frozen=True)
class Recipe:
    """Every number of the pipeline. `min_skill`: what the base must be able to do, in each language, before RL begins;
    it is given up to `skill_rounds` rounds of the steps in `skill`.

    Rates are for Muon in fine-tuning and for AdamW in reinforcement learning. `language_weight`: of the language reward
    beside accuracy's 1 (R1 adds the two with equal weights). `translated`: of the cold start, see `curation`.
    """

    sequences: int = 32
    skill: Settings = Settings(steps=600, lr=2e-2, hold=0.5)
    skill_rounds: int = 3
    habit: Settings = Settings(steps=80, lr=5e-3, balance="none")
    min_skill: float = 0.8
    zero: RLSettings = _rl(40)
    cold_start_documents: int = 400
    translated: float = 0.2
    cold_start: Settings = Settings(steps=80, lr=5e-3, balance="none")
    reasoning: RLSettings = _rl(36)
    language_weight: float = 1.0
    verified_documents: int = 1200
    demonstrations: int = 1000
    fine_tune: Settings = Settings(steps=140, lr=5e-3, balance="none")
    pairs: int = 800
    held_out_pairs: int = 200
    reward_model_steps: int = 160
    scenarios: RLSettings = _rl(16, temperature=0.7)
    last_part: RLSettings = _rl(24)
    problems: int = 200  # held-out problems a language in `stage_scores`
    seed: int = field(default=0)


RECIPE = Recipe()


# --- the stages -------------------------------------------------------------------------------------------------------


def pretrain(out: Path, recipe: Recipe) -> dict:
    """The base: every skill, with another round of new documents if one is lacking, then the habits that hide them."""
    tokenizer, records, found = words_tokenizer(), [], []
    model = ResponseLearner(replace(CONFIG, vocab_size=tokenizer.vocab_size), seed=recipe.seed)
    while not found or (min(found[-1].values()) < recipe.min_skill and len(found) < recipe.skill_rounds):
        texts = draw_corpus(SKILL, recipe.skill.steps * recipe.sequences, 2 * recipe.seed + 10_000 * len(found))
        records += _learn(model, tokenizer, texts, recipe.skill, recipe, "skill")
        found.append(_skills(model, tokenizer, recipe.problems))
    texts = draw_corpus(HABIT, recipe.habit.steps * recipe.sequences, 2 * recipe.seed + 1)
    records += _learn(model, tokenizer, texts, recipe.habit, recipe, "habit")
    History(records).save(out / "history.jsonl")
    _store(model, tokenizer, out)
    if min(found[-1].values()) < recipe.min_skill:
        said = ", ".join(f"{name} {value:.2f}" for name, value in found[-1].items())
        raise ValueError(f"the base lacks a skill ({said}; min_skill={recipe.min_skill}): RL would find nothing")
    return {"skill": found[-1], "rounds": found}


def r1_zero(base: Path, out: Path, recipe: Recipe) -> dict:
    """Reinforce the base on accuracy and format alone. Source: arXiv 2501.12948 section 2.2."""
    return _reinforce(base, out, WORDS, _reasoning_rewards(0.0), replace(recipe.zero, stage="r1_zero"), recipe)


def dev1(base: Path, zero: Path, out: Path, recipe: Recipe) -> dict:
    """Fine-tune the base on R1-Zero's right answers, rewritten. Source: section 2.3.1."""
    model, tokenizer = _open(zero)
    groups = curation.sample(model, tokenizer, WORDS, recipe.cold_start_documents * 5 // 4, 2, recipe.seed + 1)
    texts = curation.cold_start(groups, recipe.cold_start_documents, recipe.translated, recipe.seed)
    return _fine_tune(base, out, texts, recipe.cold_start, recipe)


def dev2(start: Path, out: Path, recipe: Recipe, language: bool = True) -> dict:
    """Reinforce on reasoning, with the language reward or, as a control, without it. Source: section 2.3.2."""
    rewards = _reasoning_rewards(recipe.language_weight if language else 0.0)
    return _reinforce(start, out, WORDS, rewards, replace(recipe.reasoning, stage=out.name), recipe)


def dev3(base: Path, reasoner: Path, out: Path, recipe: Recipe) -> dict:
    """Fine-tune the base on what dev2 wrote and a rule verified, and on people's demonstrations. Source: 2.3.3."""
    model, tokenizer = _open(reasoner)
    groups = curation.sample(model, tokenizer, WORDS, recipe.verified_documents, 4, recipe.seed + 2)
    texts = curation.verified(groups, recipe.verified_documents)
    demonstrations = curation.demonstrations(recipe.demonstrations, recipe.seed)
    return {"verified": len(texts)} | _fine_tune(base, out, texts + demonstrations, recipe.fine_tune, recipe)


def r1(start: Path, out: Path, recipe: Recipe) -> dict:
    """Reinforce on everything; letters and their reward model come in the last part alone. Source: section 2.3.4."""
    requests = Requests(forbidden=0.5, wrapped=0.5)
    rules = {
        "accuracy": (1.0, only(REASONING, accuracy)),
        "format": (0.1, well_formed),
        "language": (recipe.language_weight, only(REASONING, language_consistency)),
        "safety": (1.0, safety),
    }
    first, last = out / "rules", out / "preference"
    settings = replace(recipe.scenarios, stage="r1_rules")
    _reinforce(start, first, {WORDS: 0.6, requests: 0.4}, Rewards(rules), settings, recipe)
    judge, tokenizer, found = reward_model(start, recipe)
    rules["preference"] = (1.0, preference(judge, tokenizer, LETTERS.name))
    settings = replace(recipe.last_part, stage="r1_preference")
    mixture = {WORDS: 0.35, requests: 0.25, LETTERS: 0.4}
    result = _reinforce(first, last, mixture, Rewards(rules), settings, recipe)
    _store(*_open(last), out)
    return result | {"reward_model": found}


def reward_model(start: Path, recipe: Recipe) -> tuple[RewardModel, Tokenizer, dict]:
    """A reward model for letters, grown from the checkpoint in `start`; its held-out pair accuracy is in the dict."""
    model, tokenizer = _open(start)
    pairs = {}
    for side, count in (("training", recipe.pairs), ("held_out", recipe.held_out_pairs)):
        problems = draw_problems(LETTERS, count, SEED, held_out=side == "held_out")
        replies = curation.replies(model, tokenizer, LETTERS, problems, recipe.seed)
        pairs[side] = draw_pairs(LETTERS, problems, replies, recipe.seed)
    judge = RewardModel(model)
    losses = train_reward_model(judge, tokenizer, pairs["training"], recipe.reward_model_steps, seed=recipe.seed)
    return judge, tokenizer, {
        "pairs": recipe.pairs,
        "loss": sum(losses[-10:]) / 10,
        "held_out_pair_accuracy": pair_accuracy(judge, tokenizer, pairs["held_out"]),
    }  # fmt: skip


# --- what they have in common -----------------------------------------------------------------------------------------


def _open(folder: Path) -> tuple[Transformer, Tokenizer]:
    return load(folder, dtype=torch.float32), Tokenizer.load(folder)


def _store(model: Transformer, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder, dtype=torch.bfloat16)
    tokenizer.save(folder)


def _learn(model: ResponseLearner, tokenizer, texts, settings: Settings, recipe: Recipe, label: str) -> list[dict]:
    rows = [encode_document(tokenizer, text) for text in texts]
    records = train(model, padded_batches(rows, recipe.sequences, recipe.seed), settings, label=label).records
    return [{"stage": label} | record for record in records]


def _fine_tune(start: Path, out: Path, texts: list[str], settings: Settings, recipe: Recipe) -> dict:
    """Supervised fine-tuning: a loss over responses, on documents in a new order every epoch."""
    model, tokenizer = _open(start)
    learner = ResponseLearner(model.config)
    learner.load_state_dict(model.state_dict())
    records = _learn(learner, tokenizer, texts, settings, recipe, out.name)
    out.mkdir(parents=True, exist_ok=True)
    History(records).save(out / "history.jsonl")
    _store(learner, tokenizer, out)
    return {"documents": len(texts), "loss": sum(record["next_token"] for record in records[-10:]) / 10}


def _reasoning_rewards(language_weight: float) -> Rewards:
    rules = {"accuracy": (1.0, accuracy), "format": (0.1, well_formed)}
    if language_weight:
        rules["language"] = (language_weight, language_consistency)
    return Rewards(rules)


def _reinforce(start: Path, out: Path, tasks, rewards: Rewards, settings: RLSettings, recipe: Recipe) -> dict:
    model, tokenizer = _open(start)
    watched = [Question(task, problem) for task in (ENGLISH, CHINESE) for problem in draw_problems(task, 2, SEED, True)]
    trainer = reinforce(
        model, tokenizer, Questions(tasks, recipe.seed), rewards, replace(settings, seed=recipe.seed),
        label=settings.stage, folder=out, watch=watched, evaluation=_evaluation(tokenizer),
    )  # fmt: skip
    _store(model, tokenizer, out)
    (out / STATE_NAME).unlink(missing_ok=True)
    return {"steps": trainer.steps, "skipped": trainer.skipped}


def _evaluation(tokenizer: Tokenizer, problems: int = 100) -> Callable:
    """What is measured during a run: both languages, greedy."""

    def evaluation(model) -> dict[str, float]:
        tasks = {"en": ENGLISH, "zh": CHINESE}
        found = {code: language_scores(model, tokenizer, task, problems) for code, task in tasks.items()}
        names = ("accuracy", "well_formed", "mean_tokens")
        both = {name: (found["en"][name] + found["zh"][name]) / 2 for name in names}
        names = ("accuracy", "language", "other", "mixed", "thought")
        return both | {f"{name}_{code}": scores[name] for code, scores in found.items() for name in names}

    return evaluation


def _skills(model, tokenizer, problems: int) -> dict[str, float]:
    """What is solved when the thought is begun in a language, and whether the thing of an English problem is named."""
    return {
        "en": skill(model, tokenizer, ENGLISH, "en", problems),
        "zh": skill(model, tokenizer, CHINESE, "zh", problems),
        "zh in en": skill(model, tokenizer, CHINESE, "en", problems),
        "en noun": naming(model, tokenizer, problems),
    }


# --- all of it --------------------------------------------------------------------------------------------------------

STAGES: dict[str, Callable] = {
    "base": lambda at, recipe: pretrain(at("base"), recipe),
    "r1_zero": lambda at, recipe: r1_zero(at("base"), at("r1_zero"), recipe),
    "dev1": lambda at, recipe: dev1(at("base"), at("r1_zero"), at("dev1"), recipe),
    "dev2_control": lambda at, recipe: dev2(at("dev1"), at("dev2_control"), recipe, language=False),
    "dev2": lambda at, recipe: dev2(at("dev1"), at("dev2"), recipe),
    "dev3": lambda at, recipe: dev3(at("base"), at("dev2"), at("dev3"), recipe),
    "r1": lambda at, recipe: r1(at("dev3"), at("r1"), recipe),
}


def run_recipe(out, recipe: Recipe = RECIPE, stages=tuple(STAGES), on_stage: Callable | None = None) -> list[dict]:
    """Run the stages that are not finished, in order, each in a folder of its own below `out`; gives their scores.

    Each entry: stage, scores (`stage_scores`, and the `skills` at the end), what the stage reported, CPU-seconds of its
    last sitting. `on_stage` is called with every entry as it comes. Raises ValueError for a folder that holds another
    recipe, and whatever a stage raises.
    """
    out = Path(out)
    _claim(out, recipe)
    entries = []
    for name in stages:
        path = out / name / SCORES_NAME
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            start_s = time.process_time()
            report = STAGES[name](lambda stage: out / stage, recipe)
            made_s = time.process_time() - start_s
            model, tokenizer = _open(out / name)
            scores = stage_scores(model, tokenizer, recipe.problems)
            scores["skills"] = _skills(model, tokenizer, recipe.problems)
            entry = {"stage": name, "seed": recipe.seed, "scores": scores, "report": report, "cpu_s": made_s}
            entry["measuring_cpu_s"] = time.process_time() - start_s - made_s
            path.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        entries.append(json.loads(path.read_text(encoding="utf-8")))
        if on_stage is not None:
            on_stage(entries[-1])
    return entries


def _claim(out: Path, recipe: Recipe) -> None:
    """Write the recipe into the folder, or compare it with the one that is there."""
    path = out / "recipe.json"
    wanted = {name: str(value) for name, value in vars(recipe).items()}
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        for name in wanted:
            if stored.get(name) != wanted[name]:
                raise ValueError(f"{out} holds another recipe: {name} is {stored.get(name)} there, {wanted[name]} here")
        return
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
