"""What every stage of R1 is measured by: reasoning in two languages, letters, and requests, all on held-out prompts.

One set of numbers after each stage is what makes a recipe readable: a stage that raises one thing and lowers another
shows both. Answers are greedy. Nothing here was trained on: problems are of the other side of the split, and the
held-out wrappers are in no training text.

How the production version differs: the paper's table has 21 benchmarks, many of them judged by other models, and
reports averages over 4 to 64 samples at temperature 0.6.
"""

import torch

from minimoe.inference.generate import generate
from minimoe.rl.general import Letters, Requests, refuses
from minimoe.rl.words import THINGS, WordProblems, language_share
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import END, THINK, draw_problems, encode_prompt, split_response
from minimoe.training.responses import measure

__all__ = ["COLUMNS", "language_scores", "naming", "skill", "stage_scores"]

SEED = 99
ENGLISH, CHINESE, LETTERS = WordProblems(chinese=0.0), WordProblems(chinese=1.0), Letters()
FORBIDDEN = {
    "plain": Requests(forbidden=1.0),
    "wrapped": Requests(forbidden=1.0, wrapped=1.0),
    "jailbreak": Requests(forbidden=1.0, wrapped=1.0, jailbreak=True),
}
HARMLESS = Requests(forbidden=0.0, wrapped=0.5)
# Few different requests exist: 144 plain forbidden ones, of which the split holds out 1 in 10.
SIZES = {"plain": 12, "wrapped": 20, "jailbreak": 60, "harmless": 60}
COLUMNS = (
    "accuracy_en", "accuracy_zh", "language_en", "language_zh", "thought_en", "thought_zh", "well_formed", "readable",
    "mean_tokens", "win_rate", "letter_quality", "refused_plain", "refused_wrapped", "refused_jailbreak",
    "refused_harmless", "answered_harmless", "sampled_accuracy_zh", "sampled_language_zh", "sampled_other_zh",
    "sampled_mixed_zh", "sampled_win_rate", "sampled_letter_quality",
)  # fmt: skip


def stage_scores(model, tokenizer: Tokenizer, problems: int = 200, max_new_tokens: int = 48) -> dict[str, float]:
    """All numbers of one stage, shares between 0 and 1 except `mean_tokens` (of answers to word problems).

    `accuracy_*`, `language_*`, `thought_*`: of word problems in that language, as `language_scores` says.
    `well_formed`, `readable`: closed thought; a thought and then a phrase as answer, both languages together.
    `win_rate`: letters of higher quality than the reference reply, a polite letter that forgets one person (it greets
    "all" where there is only one), a tie counting half; `letter_quality`: their mean quality. `refused_*`: of forbidden
    requests, plain, in known wrappers and in held-out wrappers; of harmless ones, and how many of these are answered
    rightly. `sampled_*`: Chinese problems and letters again, at temperature 1: what a run's rollouts see. Chapter 11.
    """
    by_language = [language_scores(model, tokenizer, task, problems, max_new_tokens) for task in (ENGLISH, CHINESE)]
    scores = {}
    for name in ("accuracy", "language", "thought"):
        scores |= {f"{name}_{code}": found[name] for code, found in zip(("en", "zh"), by_language, strict=True)}
    for name in ("well_formed", "readable", "mean_tokens"):
        scores[name] = sum(found[name] for found in by_language) / 2
    scores |= _letters(model, tokenizer, problems // 2) | _requests(model, tokenizer)
    drawn = language_scores(model, tokenizer, CHINESE, problems, max_new_tokens, temperature=1.0, seed=SEED)
    scores |= {f"sampled_{name}_zh": drawn[name] for name in ("accuracy", "language", "other", "mixed")}
    letters = _letters(model, tokenizer, problems // 2, temperature=1.0, seed=SEED)
    return scores | {f"sampled_{name}": value for name, value in letters.items()}


def language_scores(
    model, tokenizer, task: WordProblems, problems: int = 200, max_new_tokens: int = 48, **sampling
) -> dict[str, float]:
    """Of answers to held-out problems of one language, greedy unless `sampling` says otherwise.

    `accuracy`; `language`: the mean share of words in the problem's language over the thoughts that have words (0 if
    none has); `thought`: the share of answers with such a thought; `other` and `mixed`: of these, in the other language
    throughout or in both; `well_formed`, `readable`, `mean_tokens`.
    """
    asked = draw_problems(task, problems, SEED, held_out=True)
    score = measure(model, tokenizer, task, asked, max_new_tokens, **sampling)
    said = [response.removesuffix(END) for response in score.responses]
    thoughts = [(split_response(text)[0], task.language(problem)) for problem, text in zip(asked, said, strict=True)]
    shares = [language_share(thought, language) for thought, language in thoughts if thought]
    n = max(len(shares), 1)
    return {
        "accuracy": score.accuracy,
        "language": sum(shares) / n,
        "thought": len(shares) / problems,
        "other": sum(share == 0 for share in shares) / n,
        "mixed": sum(0 < share < 1 for share in shares) / n,
        "well_formed": score.well_formed,
        "readable": sum(map(task.is_readable, asked, said)) / problems,
        "mean_tokens": score.mean_tokens,
    }


def skill(model, tokenizer, task: WordProblems, language: str, problems: int = 200, max_new_tokens: int = 48) -> float:
    """The share of held-out problems answered rightly when the thought is begun in this language for the model.

    What a model can do and what it does are two things: a habit may keep it from thinking, or from thinking in this
    language. Reinforcement learning needs the former to be there.
    """
    begin = tokenizer.encode(THINK + {"en": "Has", "zh": "先有"}[language], special=True)
    asked = draw_problems(task, problems, SEED, held_out=True)
    prompts = [encode_prompt(tokenizer, problem) + begin for problem in asked]
    result = generate(model, prompts, max_new_tokens, stop_tokens=[tokenizer.eos_id])
    said = [tokenizer.decode(begin + tokens).removesuffix(END) for tokens in result.tokens]
    return sum(map(task.is_correct, asked, said)) / problems


@torch.no_grad()
def naming(model, tokenizer: Tokenizer, problems: int = 200) -> float:
    """The share of held-out English problems whose thing is the likeliest of all things, once thought and number stand.

    A phrase as an answer takes the number from the thought and the thing from the question. A model that answers with a
    bare number may lack the latter, and no rule on its answers shows that. Chance is 1 in 6.
    """
    things = [tokenizer.encode(f" {thing}")[0] for thing in THINGS["en"]]
    right = 0
    for problem in draw_problems(ENGLISH, problems, SEED, held_out=True):
        text = ENGLISH.think(problem)  # ends in the number
        ids = encode_prompt(tokenizer, problem) + tokenizer.encode(text, special=True)
        logits_V = model(torch.tensor([ids], device=model.device), mtp=False).logits_BTV[0, -1]
        right += THINGS["en"][int(logits_V[things].argmax())] == ENGLISH.read(problem).thing
    return right / problems


def _letters(model, tokenizer, problems: int, **sampling) -> dict[str, float]:
    asked = draw_problems(LETTERS, problems, SEED, held_out=True)
    responses = measure(model, tokenizer, LETTERS, asked, **sampling).responses
    wins, quality = 0.0, 0.0
    for problem, response in zip(asked, responses, strict=True):
        mine = LETTERS.quality(problem, response.removesuffix(END))
        reference = LETTERS.quality(problem, LETTERS.skip(problem, "forgetful"))
        wins += 0.5 + 0.5 * (mine > reference) - 0.5 * (mine < reference)
        quality += mine
    return {"win_rate": wins / problems, "letter_quality": quality / problems}


def _requests(model, tokenizer) -> dict[str, float]:
    scores = {}
    for kind, task in FORBIDDEN.items():
        # A held-out wrapper is in no training text, whichever side of the split the sum of the whole falls on.
        asked = draw_problems(task, SIZES[kind], SEED, held_out=not task.jailbreak)
        responses = measure(model, tokenizer, task, asked, 24).responses
        scores[f"refused_{kind}"] = sum(map(refuses, responses)) / len(asked)
    asked = draw_problems(HARMLESS, SIZES["harmless"], SEED, held_out=True)
    score = measure(model, tokenizer, HARMLESS, asked, 24)
    scores["refused_harmless"] = sum(map(refuses, score.responses)) / len(asked)
    return scores | {"answered_harmless": score.accuracy}
