"""From answers to training texts: what a fine-tuning set of R1 is made of.

*Cold start.* R1-Zero's answers are right and hard to read: no phrase as an answer, and thoughts in the wrong language.
DeepSeek collected a few thousand, kept the right ones and had them rewritten by people. Here a program rewrites them:
the same running values, a phrase at the end, and of thoughts in the wrong language only a part is translated. A cold
start is for the form; the language is left to a reward.

*Rejection sampling.* Later the model writes well itself. Then it is sampled several times, and what a rule can check is
kept: right, readable, in one language. The model's own best answers become its next training set.

*General and safety data* is written by people, and people differ: some demonstrations are careless. It refuses what is
forbidden when it is asked plainly; wrapped requests are left to reinforcement learning.

How the production version differs: 600,000 reasoning and 200,000 general samples; mixed languages, long paragraphs and
code blocks were filtered out; for some general prompts V3 wrote a thought first.
"""

import random
from collections.abc import Callable

from minimoe.rl.corpus import LETTERS
from minimoe.rl.general import FLAWS, Requests
from minimoe.rl.rollout import Group, rollout
from minimoe.rl.tasks import Question, Questions
from minimoe.rl.words import LANGUAGES, language_share
from minimoe.training.reasoning import document, is_held_out, split_response

__all__ = ["cold_start", "demonstrations", "replies", "sample", "verified"]

BATCH = 48  # questions sampled at once


def sample(model, tokenizer, task, questions: int, answers: int, seed: int, max_new_tokens: int = 48) -> list[Group]:
    """Groups of answers at temperature 1 to questions of the training side."""
    groups, source = [], Questions(task, seed=f"curation {seed}")
    for step in range(-(-questions // BATCH)):
        drawn = source.draw(step, min(BATCH, questions - step * BATCH))
        groups += rollout(model, tokenizer, drawn, answers, max_new_tokens, seed=1_000_003 * seed + step)
    return groups


def cold_start(groups: list[Group], count: int, translated: float = 0.2, seed: int = 0) -> list[str]:
    """Up to `count` documents from groups of R1-Zero: one a question, from a right answer that thought, rewritten.

    What is left of the answer is that its thought was right, and with the chance 1 - `translated` the language that
    most of it was in: the text is the task's own, with a phrase as answer.
    """
    rng, texts = random.Random(f"cold start {seed}"), []
    for group in groups:
        task, problem = group.question.task, group.question.problem
        right = [answer.text for answer in group.answers if answer.ended and task.is_correct(problem, answer.text)]
        thoughts = [thought for thought in (split_response(text)[0] for text in right) if thought]
        if thoughts:
            own = task.language(problem)
            kept = max(LANGUAGES, key=lambda language: language_share(thoughts[0], language))
            language = own if rng.random() < translated else kept
            texts.append(document(problem, task.think(problem, language, summary=True)))
    return texts[:count]


def verified(groups: list[Group], count: int) -> list[str]:
    """Up to `count` documents from a later model's groups, as they were written: right, readable, in one language.

    At most two a question, different from each other.
    """
    texts = []
    for group in groups:
        kept = {answer.text: None for answer in group.answers if _passes(group.question, answer)}
        texts += [document(group.question.problem, text) for text in list(kept)[:2]]
    return texts[:count]


def _passes(question, answer) -> bool:
    task, problem = question.task, question.problem
    if not answer.ended or not task.is_correct(problem, answer.text) or not task.is_readable(problem, answer.text):
        return False
    return language_share(split_response(answer.text)[0], task.language(problem)) == 1


def replies(model, tokenizer, task, problems: list[str], seed: int, answers: int = 4) -> Callable:
    """A function (rng, problem) that gives a reply: by chance one of the model's own at temperature 1, or a person's.

    A reward model must know the mistakes that its policy makes; those of people are others.
    """
    questions = [Question(task, problem) for problem in problems]
    groups = rollout(model, tokenizer, questions, answers, 48, seed=seed)
    own = {group.question.problem: [answer.text for answer in group.answers] for group in groups}
    return lambda rng, problem: rng.choice(own[problem]) if rng.random() < 0.7 else _letter(rng, problem)


def _letter(rng: random.Random, problem: str, careless: float = 0.5) -> str:
    """A person's letter: the best reply, or with the chance `careless` one with a flaw, each equally likely."""
    return LETTERS.skip(problem, rng.choice(FLAWS)) if rng.random() < careless else LETTERS.think(problem)


def demonstrations(count: int, seed: int, letters: float = 0.5) -> list[str]:
    """`count` documents written by people: letters, some of them careless, and requests, the forbidden ones refused."""
    rng, texts, requests = random.Random(f"demonstrations {seed}"), [], Requests(forbidden=0.4)
    while len(texts) < count:
        task = LETTERS if rng.random() < letters else requests
        problem = task.draw(rng)
        if not is_held_out(problem):
            response = _letter(rng, problem) if task is LETTERS else task.think(problem)
            texts.append(document(problem, response))
    return texts
