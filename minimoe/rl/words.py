"""Word problems in two languages: one family of problems, two ways to say them and to think about them.

    Tom has 3 apples. He buys 4. He loses 2. How many apples?
    <think>Has three, buys four is seven, loses two is five.</think>5 apples.
    小明有3个苹果。他买4个。他丢2个。有几个苹果？
    <think>先有三，买四是七，丢二是五。</think>5个苹果。

A verifier looks at the answer and never at the thought, so that a Chinese problem may be thought through in English, or
in both: each part of a thought can be in either language. That is how language mixing comes about. Web text holds far
more English mathematics than Chinese; a base model that has read it is surer of itself in English, and reinforcement
learning on accuracy alone takes whichever language scores. A thought has its numbers in words, so that adding is a
skill of its own in each language, learned from as many examples as the corpus has of it.

Every running value is one digit, and each operation keeps it one. Sentences and steps are made for rotary attention: in
both languages a sentence is five tokens and so is a step of thought, with operand and result at the same places
(`minimoe.rl.vocabulary`), so that what a step needs is always equally far away.

How the production version differs: R1's mathematics has no such parallel text, and nobody decided how much of it is in
which language; DeepSeek-V3's base model had read mostly English and Chinese, and mixed them.
"""

import random
import re
from dataclasses import dataclass

from minimoe.training.reasoning import END_THINK, THINK, split_response

__all__ = ["LANGUAGES", "WordProblems", "language_of", "language_share"]

LANGUAGES = ("en", "zh")
NUMBERS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "zh": tuple("零一二三四五六七八九"),
}
NAMES = {
    "en": {"Tom": "He", "Ben": "He", "Sam": "He", "Mia": "She", "Amy": "She", "Eve": "She"},
    "zh": {"小明": "他", "小刚": "他", "小军": "他", "小红": "她", "小丽": "她", "小芳": "她"},
}
THINGS = {
    "en": ("apples", "coins", "books", "eggs", "balls", "stones"),
    "zh": ("苹果", "硬币", "书本", "鸡蛋", "皮球", "石头"),
}
# The same verb in both languages, and what it does to the running value.
VERBS = {
    "+": {"en": ("buys", "finds", "gets"), "zh": ("买", "捡", "收")},
    "-": {"en": ("sells", "loses", "gives"), "zh": ("卖", "丢", "送")},
    "*": {"en": ("times",), "zh": ("变",)},
}
WEIGHTS = {"+": 3, "-": 3, "*": 2}
STORY = {
    "en": re.compile(r"(?P<name>[A-Z][a-z]+) has (?P<first>\d) (?P<thing>[a-z]+)\.(?P<steps>.+) How many (?P=thing)\?"),
    "zh": re.compile(r"(?P<name>小.)有(?P<first>\d)个(?P<thing>..)。(?P<steps>.+)有几个(?P=thing)？"),
}
STEP = {
    "en": re.compile(r" (?:He|She|All) (?P<verb>[a-z]+) (?P<operand>\d)\."),
    "zh": re.compile(r"(?:他|她|全)(?P<verb>.)(?P<operand>\d)[个倍]。"),
}
CHINESE = re.compile("[\u4e00-\u9fff]")
WORDS = re.compile("[A-Za-z]+|[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Step:
    """One sentence of a problem: what is done, with which number, and the value after it; `verb` counts in `VERBS`."""

    sign: str
    verb: int
    operand: int
    value: int


@dataclass(frozen=True)
class Story:
    """A problem as it was read: its language, the thing that is counted, the first value and the steps."""

    language: str
    thing: str
    first: int
    steps: list[Step]

    @property
    def answer(self) -> int:
        """The value after the last step."""
        return self.steps[-1].value


@dataclass(frozen=True)
class WordProblems:
    """Stories of `steps` sentences about how many things someone has; `chinese` is the share of Chinese ones.

    A problem is its text; the answer is a digit, alone or with what it counts ("5", "5 apples.", "5个苹果。"; in
    either language, and only the right digit matters).
    Raises ValueError for fewer than one step, or a share outside 0 to 1.
    """

    steps: int = 4
    chinese: float = 0.5
    name = "words"

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: a story has at least 1")
        if not 0 <= self.chinese <= 1:
            raise ValueError(f"chinese={self.chinese} is no share of a whole")

    def draw(self, rng: random.Random) -> str:
        """A problem: names, things and verbs are equally likely, operands are those that keep the value one digit."""
        language = "zh" if rng.random() < self.chinese else "en"
        name, thing = rng.choice(list(NAMES[language])), rng.choice(THINGS[language])
        first = value = rng.randrange(10)
        steps = []
        for _ in range(self.steps):
            steps.append(_draw_step(rng, value))
            value = steps[-1].value
        return _tell(language, name, thing, first, steps)

    def read(self, problem: str) -> Story:
        """What a problem says. Raises ValueError for a text that is no such story."""
        language = language_of(problem)
        whole = STORY[language].fullmatch(problem)
        matches = list(STEP[language].finditer(whole["steps"])) if whole else []
        if not matches or "".join(match[0] for match in matches) != whole["steps"]:
            raise ValueError(f"{problem!r} is not a story like 'Tom has 3 apples. He buys 4. How many apples?'")
        value, steps = int(whole["first"]), []
        for match in matches:
            sign, verb = _find_verb(language, match["verb"], problem)
            value = _apply(value, sign, int(match["operand"]))
            steps.append(Step(sign, verb, int(match["operand"]), value))
        return Story(language, whole["thing"], int(whole["first"]), steps)

    def language(self, problem: str) -> str:
        """The language that the problem is in, "en" or "zh"."""
        return language_of(problem)

    def think(self, problem: str, language=None, summary: bool = False) -> str:
        """The full response: every running value, in words, then the answer.

        `language`: of the thought, "en" or "zh"; the problem's own by default; or one for each part of the thought,
        which has `steps` + 1: a thought that switches. `summary`: the answer is a phrase in the problem's language
        instead of a digit. Raises ValueError for other languages or another number of them.
        """
        story = self.read(problem)
        parts = _languages(language or story.language, 1 + len(story.steps))
        thought = _begin(parts[0], story.first)
        thought += "".join(map(_step_of_thought, parts[1:], story.steps))
        end = "." if parts[-1] == "en" else "。"
        return f"{THINK}{thought[:-1]}{end}{END_THINK}{_answer(story, summary)}"

    def skip(self, problem: str, summary: bool = False) -> str:
        """The lazy response: no thought, and the answer at once."""
        return f"{THINK}{END_THINK}{_answer(self.read(problem), summary)}"

    def is_correct(self, problem: str, response: str) -> bool:
        """Whether the response's answer is the right number; what was thought does not count."""
        story, answer = self.read(problem), split_response(response)[1]
        return answer in {str(story.answer)} | {_phrase(language, story) for language in LANGUAGES}

    def is_readable(self, problem: str, response: str) -> bool:
        """Whether there is a thought, and the answer is a phrase in the problem's language, right or wrong."""
        story = self.read(problem)
        thought, answer = split_response(response)
        return bool(thought) and answer[:1].isdigit() and answer[1:] == _phrase(story.language, story)[1:]


def language_of(text: str) -> str:
    """The language of a text: "zh" if it has a Chinese character, else "en"."""
    return "zh" if CHINESE.search(text) else "en"


def language_share(text: str, language: str) -> float:
    """The share of `text`'s words that are in `language`: runs of Latin letters are English, a Chinese character is a
    word. Digits and marks belong to neither. A text without words has none in the language: 0.

    Source: arXiv 2501.12948 section 2.3.2, the language consistency reward.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language={language!r} is not one of {', '.join(LANGUAGES)}")
    words = WORDS.findall(text)
    return sum(language_of(word) == language for word in words) / len(words) if words else 0.0


def _draw_step(rng: random.Random, value: int) -> Step:
    possible = {"+": range(1, 10 - value), "-": range(1, value + 1), "*": [k for k in (2, 3) if 0 < value * k < 10]}
    signs = [sign for sign in WEIGHTS if possible[sign]]
    sign = rng.choices(signs, [WEIGHTS[sign] for sign in signs])[0]
    operand = rng.choice(possible[sign])
    return Step(sign, rng.randrange(len(VERBS[sign]["en"])), operand, _apply(value, sign, operand))


def _apply(value: int, sign: str, operand: int) -> int:
    return {"+": value + operand, "-": value - operand, "*": value * operand}[sign]


def _find_verb(language: str, word: str, problem: str) -> tuple[str, int]:
    for sign, verbs in VERBS.items():
        if word in verbs[language]:
            return sign, verbs[language].index(word)
    raise ValueError(f"{problem!r} has the verb {word!r}, which no story has")


def _tell(language: str, name: str, thing: str, first: int, steps: list[Step]) -> str:
    """The problem's text."""
    who, sentences = NAMES[language][name], []
    for step in steps:
        verb, all_of_them = VERBS[step.sign][language][step.verb], step.sign == "*"
        if language == "en":
            sentences.append(f" {'All' if all_of_them else who} {verb} {step.operand}.")
        else:
            sentences.append(f"{'全' if all_of_them else who}{verb}{step.operand}{'倍' if all_of_them else '个'}。")
    if language == "en":
        return f"{name} has {first} {thing}.{''.join(sentences)} How many {thing}?"
    return f"{name}有{first}个{thing}。{''.join(sentences)}有几个{thing}？"


def _languages(language, parts: int) -> list[str]:
    languages = [language] * parts if isinstance(language, str) else list(language)
    if len(languages) != parts or not set(languages) <= set(LANGUAGES):
        raise ValueError(f"language={language!r}: expected en or zh, or {parts} of them, one for each part")
    return languages


def _begin(language: str, first: int) -> str:
    number = NUMBERS[language][first]
    return f"Has {number}," if language == "en" else f"先有{number}，"


def _step_of_thought(language: str, step: Step) -> str:
    verb = VERBS[step.sign][language][step.verb]
    operand, value = NUMBERS[language][step.operand], NUMBERS[language][step.value]
    return f" {verb} {operand} is {value}," if language == "en" else f"{verb}{operand}是{value}，"


def _phrase(language: str, story: Story) -> str:
    thing = THINGS[language][THINGS[story.language].index(story.thing)]
    return f"{story.answer} {thing}." if language == "en" else f"{story.answer}个{thing}。"


def _answer(story: Story, summary: bool) -> str:
    return _phrase(story.language, story) if summary else str(story.answer)
