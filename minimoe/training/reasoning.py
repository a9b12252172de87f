"""Arithmetic that can be thought through: problems, traces of thought, verifiers, and the two corpora RL starts from.

Reinforcement learning with a verifier needs a task whose answer is hard to guess and easy to check, and a model that
can already solve it but does not bother to. Both are made here. Two tasks, each with a verifier that is exact:

    chain   7 + 3 * 4 - 2       from left to right, modulo 10              <think>7+3=0*4=0-2=8</think>8
    clock   3 ? 4 ? 2 = 9       which signs make it true, modulo 10        <think>3+4=7+2=9-9=0ydone</think>3+4=7+2=9

And two stages. *Full skill*: every document thinks before it answers. *The lazy habit*: most documents do not. A chain
is answered at once, which one pass through a small model cannot compute; a search is given up after its first miss.
A model trained on one and then, briefly, on the other holds the skill and prefers not to use it: RL then has
something to find. It finds only what is there: measure the model between the stages before spending time on RL.

Traces are written for rotary attention. A step's ingredients stand next to it or at a distance that is the same in
every step: a chain's problem has spaces so that one operation takes four bytes, as in the trace. And one byte is one
token (`byte_tokenizer`), so that a digit is a digit.

How the production version differs: R1-Zero's base had read its skills in trillions of tokens of other people's
mathematics, with habits of its own; nobody had to put laziness in.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from itertools import product

from minimoe.tokenizer import SPECIAL_TOKENS, Tokenizer

__all__ = [
    "Chain",
    "Clock",
    "byte_tokenizer",
    "document",
    "draw_documents",
    "draw_problems",
    "encode_document",
    "encode_prompt",
    "is_held_out",
    "split_response",
]

BEGIN, END, USER, ASSISTANT, THINK, END_THINK = (SPECIAL_TOKENS[i] for i in (0, 1, 6, 7, 8, 9))
HELD_OUT_ONE_IN = 10
RESPONSE = re.compile(f"(?:{re.escape(THINK)}(?P<thought>.*?){re.escape(END_THINK)})?(?P<answer>.*)", re.DOTALL)


def split_response(response: str) -> tuple[str | None, str]:
    """A response's thought (None without one) and its answer: R1's form, <think>thought</think>answer.

    The end mark of the document, if it is there, is no part of the answer. A thought that is never closed is no
    thought: the whole text is then the answer, and no answer of any task.
    """
    match = RESPONSE.fullmatch(response.removesuffix(END))
    return match["thought"], match["answer"]


@dataclass(frozen=True)
class Chain:
    """A chain of + - * on digits, worked from left to right, modulo 10: no precedence, every value one digit.

    A problem is its text, "7 + 3 * 4"; the answer is a digit. Raises ValueError for fewer than one operation.
    """

    operations: int = 6
    name = "chain"

    def __post_init__(self):
        if self.operations < 1:
            raise ValueError(f"operations={self.operations}: a chain has at least 1")

    def draw(self, rng: random.Random) -> str:
        """A problem: every digit and every operation equally likely."""
        steps = (f" {rng.choice('+-*')} {rng.randrange(10)}" for _ in range(self.operations))
        return str(rng.randrange(10)) + "".join(steps)

    def steps(self, problem: str) -> list[tuple[str, int, int]]:
        """Operation, operand and value after it, for each step. Raises ValueError for a text that is no chain."""
        if not re.fullmatch(r"\d( [-+*] \d)+", problem, re.ASCII):
            raise ValueError(f"{problem!r} is not a chain like '7 + 3 * 4'")
        parts = problem.split(" ")
        value, steps = int(parts[0]), []
        for operation, operand in zip(parts[1::2], map(int, parts[2::2]), strict=True):
            value = _apply(value, operation, operand)
            steps.append((operation, operand, value))
        return steps

    def think(self, problem: str) -> str:
        """The full response: every running value, then the answer."""
        steps = self.steps(problem)
        thought = problem[0] + "".join(f"{operation}{operand}={value}" for operation, operand, value in steps)
        return f"{THINK}{thought}{END_THINK}{steps[-1][-1]}"

    def skip(self, problem: str) -> str:
        """The lazy response: no thought, and the answer at once."""
        return f"{THINK}{END_THINK}{self.steps(problem)[-1][-1]}"

    def is_correct(self, problem: str, response: str) -> bool:
        """Whether the response answers with the chain's value; what was thought does not count."""
        return split_response(response)[1] == str(self.steps(problem)[-1][-1])


@dataclass(frozen=True)
class Clock:
    """Signs to be found: "3 ? 4 ? 2 = 9" asks which of + and - make it true modulo 10. Any that do are right.

    A thought tries signs in a fixed order, + before -, the first place changing fastest. Each attempt ends with a
    check, the target taken away, and a verdict: "-9=0ydone" for a hit, "-9=4xwait," for a miss, after which the next
    one follows. The answer is the last attempt without its check. Every form spares the model a new skill: the check is
    one more step of the kind that chains teach, and "done" is as long as it must be for the answer to stand where the
    next attempt would, so that both are copied from one and the same distance (data/clock/README.md says
    how other forms fared). Raises ValueError for fewer than two numbers.
    """

    numbers: int = 4
    name = "clock"

    def __post_init__(self):
        if self.numbers < 2:
            raise ValueError(f"numbers={self.numbers}: signs stand between at least 2")

    def draw(self, rng: random.Random) -> str:
        """A problem that has a solution: digits and the signs that give the target are all equally likely."""
        digits = [rng.randrange(10) for _ in range(self.numbers)]
        signs = [rng.choice("+-") for _ in digits[1:]]
        return f"{' ? '.join(map(str, digits))} = {_running(digits, signs)[-1]}"

    def read(self, problem: str) -> tuple[list[int], int]:
        """A problem's digits and its target. Raises ValueError for a text that is no such problem."""
        if not re.fullmatch(r"\d( \? \d)+ = \d", problem, re.ASCII):
            raise ValueError(f"{problem!r} is not a problem like '3 ? 4 ? 2 = 9'")
        left, target = problem.split(" = ")
        return [int(digit) for digit in left.split(" ? ")], int(target)

    def attempts(self, problem: str) -> list[tuple[str, bool]]:
        """All attempts in order up to the first hit: the signs, and whether they hit."""
        digits, target = self.read(problem)
        tried = []
        for backwards in product("+-", repeat=len(digits) - 1):
            signs = "".join(reversed(backwards))
            tried.append((signs, _running(digits, signs)[-1] == target))
            if tried[-1][1]:
                return tried
        raise ValueError(f"{problem!r} has no solution")

    def think(self, problem: str) -> str:
        """The full response: attempts until one hits, then the answer."""
        return self._respond(problem, self.attempts(problem))

    def skip(self, problem: str) -> str:
        """The lazy response: one attempt, and if it misses the search is given up and the miss is the answer."""
        return self._respond(problem, self.attempts(problem)[:1])

    def _respond(self, problem: str, tried: list[tuple[str, bool]]) -> str:
        digits, target = self.read(problem)
        parts = []
        for signs, hit in tried:
            left = _apply(_running(digits, signs)[-1], "-", target)
            parts.append(f"{_equation(digits, signs)}-{target}={left}{'y' if hit else 'x'}")
        return f"{THINK}{'wait,'.join(parts)}done{END_THINK}{_equation(digits, tried[-1][0])}"

    def is_correct(self, problem: str, response: str) -> bool:
        """Whether the answer has the problem's digits in their order, signs that reach its target, and true values."""
        digits, target = self.read(problem)
        answer = split_response(response)[1]
        signs = answer[1::4]
        if len(signs) != len(digits) - 1 or set(signs) - set("+-"):
            return False
        return answer == _equation(digits, signs) and _running(digits, signs)[-1] == target


def _apply(value: int, operation: str, operand: int) -> int:
    return {"+": value + operand, "-": value - operand, "*": value * operand}[operation] % 10


def _running(digits: list[int], signs) -> list[int]:
    values = digits[:1]
    for sign, digit in zip(signs, digits[1:], strict=True):
        values.append(_apply(values[-1], sign, digit))
    return values


def _equation(digits: list[int], signs) -> str:
    steps = zip(signs, digits[1:], _running(digits, signs)[1:], strict=True)
    return str(digits[0]) + "".join(f"{sign}{digit}={value}" for sign, digit, value in steps)


def is_held_out(problem: str) -> bool:
    """Whether a problem is kept for measuring: 1 in 10, decided by its sha256 alone.

    A problem is on one side whatever the seed, the stage or the number drawn: no corpus of this module holds it.
    """
    return int.from_bytes(hashlib.sha256(problem.encode()).digest()[:8], "big") % HELD_OUT_ONE_IN == 0


def draw_problems(task, count: int, seed: int, held_out: bool = False) -> list[str]:
    """`count` different problems from one side of the split. Raises ValueError if the task has no more of them."""
    rng, found, misses = random.Random(f"{task} {seed} {held_out}"), {}, 0
    while len(found) < count:
        problem = task.draw(rng)
        if is_held_out(problem) == held_out and problem not in found:
            found[problem], misses = True, 0
        elif (misses := misses + 1) > 10_000:
            side = "held out" if held_out else "not held out"
            raise ValueError(f"{task} gave {len(found)} different problems {side}, {count} were asked for")
    return list(found)


def document(problem: str, response: str) -> str:
    """Problem and response as one text in R1's template; begin and end marks are added when it is encoded."""
    return f"{USER}{problem}{ASSISTANT}{response}"


def draw_documents(task, count: int, seed: int, lazy: float = 0.0, bare: float = 0.0) -> list[str]:
    """A corpus: `count` different problems with their responses; the shares `lazy` and `bare` of them are skipped.

    A lazy response keeps R1's form, a bare one is the lazy answer without it. The stage of full skill has neither; the
    lazy habit has 0.6 and 0.1. The same arguments give the same texts.
    Raises ValueError for shares that are negative or more than 1 together.
    """
    if lazy < 0 or bare < 0 or lazy + bare > 1:
        raise ValueError(f"lazy={lazy} and bare={bare} are no shares of one whole")
    rng, documents = random.Random(f"habit {seed}"), []
    for problem in draw_problems(task, count, seed):
        drawn = rng.random()
        response = task.skip(problem) if drawn < lazy + bare else task.think(problem)
        documents.append(document(problem, split_response(response)[1] if drawn < bare else response))
    return documents


def byte_tokenizer() -> Tokenizer:
    """A tokenizer without merges: 10 special tokens and 256 bytes, so that every digit is one token."""
    return Tokenizer.train("", len(SPECIAL_TOKENS) + 256)


def encode_document(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a whole document, marks at both ends and inside it included."""
    return tokenizer.encode(text, bos=True, eos=True, special=True)


def encode_prompt(tokenizer: Tokenizer, problem: str) -> list[int]:
    """The ids that a model is given: everything up to where its response begins."""
    return tokenizer.encode(document(problem, ""), bos=True, special=True)
