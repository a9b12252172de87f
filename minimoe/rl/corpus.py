"""What the base model of the R1 pipeline has read: kinds of documents, and mixtures of them.

A base model is what its corpus was. This one is made so that the stages of R1 have something to do, and every habit in
it is one that web text has too:

- *English mathematics dominates.* What is read last thinks Chinese problems through in English mostly, or in both.
- *Most answers come without their working.* The second mixture, read last, mostly skips the thought.
- *Most letters are carelessly written*, and *questions are answered*: nothing in the corpus refuses.

The skills are there all the same: each was read before the habits that hide it (`SKILL`, then `HABIT`). Reinforcement
learning finds what is there; it does not create.

How the production version differs: nobody wrote DeepSeek-V3-Base's habits into 14.8T tokens. They were found there.
"""

import random

from minimoe.rl.general import FLAWS, Letters, Requests
from minimoe.rl.words import WordProblems
from minimoe.training.reasoning import document, is_held_out, split_response

__all__ = ["HABIT", "KINDS", "SKILL", "draw_corpus"]

ENGLISH, CHINESE = WordProblems(chinese=0.0), WordProblems(chinese=1.0)
LETTERS, REQUESTS = Letters(), Requests(forbidden=0.4, wrapped=0.4)


def _think(task: WordProblems, language: str | None = None):
    """A full response whose answer is a phrase with 1 chance in 4, else a digit."""
    return lambda rng, problem: task.think(problem, language, summary=rng.random() < 0.25)


def _mixed(rng: random.Random, problem: str) -> str:
    """A thought that changes its language once or more: at each step with 1 chance in 3."""
    languages = [rng.choice(("en", "zh"))]
    for _ in range(CHINESE.steps):
        languages.append({"en": "zh", "zh": "en"}[languages[-1]] if rng.random() < 1 / 3 else languages[-1])
    return CHINESE.think(problem, languages)


def _bare(task, problem: str) -> str:
    """The lazy answer without the marks of a thought."""
    return split_response(task.skip(problem))[1]


# Kind of document: the task that draws its problem, and how the response is written.
KINDS = {
    "en": (ENGLISH, _think(ENGLISH)),
    "en lazy": (ENGLISH, lambda rng, problem: ENGLISH.skip(problem)),
    "en bare": (ENGLISH, lambda rng, problem: _bare(ENGLISH, problem)),
    "zh": (CHINESE, _think(CHINESE)),
    "zh in en": (CHINESE, _think(CHINESE, "en")),
    "zh mixed": (CHINESE, _mixed),
    "zh lazy": (CHINESE, lambda rng, problem: CHINESE.skip(problem)),
    "zh bare": (CHINESE, lambda rng, problem: _bare(CHINESE, problem)),
    "letters": (LETTERS, lambda rng, problem: LETTERS.think(problem)),
    "careless letters": (LETTERS, lambda rng, problem: LETTERS.skip(problem, rng.choices(FLAWS, (6, 1, 1, 1))[0])),
    "answers": (REQUESTS, lambda rng, problem: REQUESTS.comply(problem)),
}
SKILL = {"en": 0.16, "zh in en": 0.17, "zh mixed": 0.07, "zh": 0.3, "letters": 0.14, "answers": 0.16}
HABIT = {
    "en": 0.08, "en lazy": 0.24, "en bare": 0.04,
    "zh in en": 0.06, "zh mixed": 0.025, "zh": 0.015, "zh lazy": 0.22, "zh bare": 0.04,
    "letters": 0.03, "careless letters": 0.13, "answers": 0.12,
}  # fmt: skip


def draw_corpus(mixture: dict[str, float], count: int, seed: int) -> list[str]:
    """`count` documents of these kinds, in these shares on average; no problem is one that the split holds out.

    Problems may repeat where there are few of them. The same arguments give the same texts. Raises ValueError for a
    kind that does not exist.
    """
    for kind in mixture:
        if kind not in KINDS:
            raise ValueError(f"no kind of document is called {kind!r}; there are {', '.join(KINDS)}")
    rng, documents = random.Random(f"corpus {sorted(mixture.items())} {seed}"), []
    while len(documents) < count:
        task, respond = KINDS[rng.choices(list(mixture), weights=list(mixture.values()))[0]]
        problem = task.draw(rng)
        if not is_held_out(problem):
            documents.append(document(problem, respond(rng, problem)))
    return documents
