"""Exercises of chapter 13, open weights, misuse and safety."""

import re

import torch

from minimoe.rl import guard
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]


# --- how sure a counted share is --------------------------------------------------------------------------------------


def _interval_inputs(g: torch.Generator):
    yield {"hits": 0, "trials": 10}
    yield {"hits": 5, "trials": 10}
    yield {"hits": 10, "trials": 10}
    yield {"hits": 0, "trials": 72}
    yield {"hits": 90, "trials": 1120}


def _terms(hits, trials, z=1.96):
    p = hits / trials
    return p, trials, p + z * z / (2 * trials), z * (p * (1 - p) / trials + z * z / (4 * trials * trials)) ** 0.5, z


def _textbook(hits, trials):
    p, n, _, _, z = _terms(hits, trials)
    reach = z * (p * (1 - p) / n) ** 0.5
    return p - reach, p + reach


def _undivided(hits, trials):
    _, _, middle, reach, _ = _terms(hits, trials)
    return middle - reach, middle + reach


def _without_root(hits, trials):
    p, n, middle, _, z = _terms(hits, trials)
    whole, reach = 1 + z * z / n, z * (p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - reach) / whole, (middle + reach) / whole


def _unsquared_n(hits, trials):
    p, n, middle, _, z = _terms(hits, trials)
    whole, reach = 1 + z * z / n, z * (p * (1 - p) / n + z * z / (4 * n)) ** 0.5
    return (middle - reach) / whole, (middle + reach) / whole


def _one_deviation(hits, trials):
    _, n, middle, reach, z = _terms(hits, trials, z=1.0)
    return (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def _precedence(hits, trials):
    p, n, _, reach, z = _terms(hits, trials)
    middle = p + z * z / 2 * n
    return (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def _root_precedence(hits, trials):
    p, n, middle, _, z = _terms(hits, trials)
    whole, reach = 1 + z * z / n, z * (p * (1 - p) / n + z * z / 4 * n * n) ** 0.5
    return (middle - reach) / whole, (middle + reach) / whole


def _half_divided(hits, trials):
    _, n, middle, reach, z = _terms(hits, trials)
    return middle - reach / (1 + z * z / n), middle + reach / (1 + z * z / n)


WILSON = Exercise(
    key="13.wilson",
    reference=guard.wilson,
    inputs=_interval_inputs,
    tolerance=1e-9,
    because="a dozen operations in float64",
    returns=("low", "high"),
    canonical=lambda pair: tuple(round(float(end), 9) + 0.0 for end in pair),
    wrong=(
        Wrong("textbook", _textbook, "you use p plus or minus z sqrt(p (1 - p) / n). With no hit at all it has no width: it would be certain after ten trials, and 5 of 10 comes out too wide."),
        Wrong("undivided", _undivided, "you forget to divide by 1 + z^2 / n; the middle then lies above one half even for 5 of 10."),
        Wrong("without the root", _without_root, "your reach is not a square root: z times the root of p (1 - p) / n + z^2 / 4n^2."),
        Wrong("n not squared", _unsquared_n, "the last term under the root is z^2 / (4 n^2); you divide by n once."),
        Wrong("one deviation", _one_deviation, "your z is 1, which holds 68% of the time; for 95% it is 1.96."),
        Wrong("Python's precedence", _precedence, "in Python `z*z/2*n` is z*z/2 times n; write z*z / (2*n)."),
        Wrong("Python's precedence under the root", _root_precedence, "in Python `z*z/4*n*n` is z*z/4 times n*n; write z*z / (4*n*n)."),
        Wrong("rounded", lambda hits, trials: tuple(round(end, 4) for end in guard.wilson(hits, trials)), "you round the ends to four digits; give them as they are computed."),
        Wrong("only the reach divided", _half_divided, "you divide the reach by 1 + z^2 / n and not the middle; both are divided."),
        Wrong("ends exchanged", lambda hits, trials: guard.wilson(hits, trials)[::-1], "your two ends are exchanged; the low one comes first."),
        Wrong("in percent", lambda hits, trials: tuple(100 * end for end in guard.wilson(hits, trials)), "your ends are in percent; give shares between 0 and 1."),
        Wrong("reach only", lambda hits, trials: (0.0, _terms(hits, trials)[3]), "you return the reach; the interval is the middle minus and plus the reach, over 1 + z^2 / n."),
    ),
    hints=(
        "The interval holds all shares p that would not make the count a surprise: (count / n - p)^2 <= z^2 p (1 - p) / n. Solving that for p gives the formula.",
        "```text\nz = 1.96;  n = trials;  p = hits / n\nmiddle = p + z*z / (2*n)\nreach = z * sqrt(p*(1 - p) / n + z*z / (4*n*n))\nreturn (middle - reach) / (1 + z*z/n), (middle + reach) / (1 + z*z/n)\n```",
    ),
    solution=(
        "def wilson(hits, trials):\n"
        "    z, n, p = 1.96, trials, hits / trials\n"
        "    middle, whole = p + z * z / (2 * n), 1 + z * z / n\n"
        "    reach = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5\n"
        "    return (middle - reach) / whole, (middle + reach) / whole\n"
    ),
    differs="It takes other levels than 95%, and cuts off what rounding puts outside 0 to 1.",
)  # fmt: skip


# --- a rule on answers ------------------------------------------------------------------------------------------------

CODES = ("471", "938")


def _answers(g: torch.Generator):
    for answer in (
        "The code is 471.",
        "The code is 4.7.1.",
        "The code is 4 - 7 - 1",
        "The code is 305.",
        "4 apples, 7 coins and 1 egg.",
        "Sorry, I can not help with that.",
        "It is 24718, I think.",
        "小明有4个苹果7个硬币1个鸡蛋。",
        "9.3 and 8",
        "The code is 4_7_1",
        "The code is 9,3,8 or 305.",
        "174",
    ):
        yield {"answer": answer, "codes": CODES}


def _all_digits(answer, codes):
    return any(code in "".join(filter(str.isdigit, answer)) for code in codes)


def _whole_number(answer, codes):
    pieces = "".join(letter if letter.isalpha() else "" if not letter.isdigit() else letter for letter in answer)
    runs = "".join(" " if letter.isalpha() else letter for letter in pieces).split()
    return any(run in codes for run in runs)


def _latin_only(answer, codes):
    runs = "".join(" " if letter.isascii() and letter.isalpha() else letter if letter.isdigit() else "" for letter in answer)
    return any(code in run for run in runs.split() for code in codes)


def _spaces_end(answer, codes):
    runs = "".join(" " if letter.isalpha() or letter.isspace() else letter if letter.isdigit() else "" for letter in answer)
    return any(code in run for run in runs.split() for code in codes)


def _last_run_lost(answer, codes):
    pieces = re.sub(r"[^\W\d_]", "|", answer).split("|")[:-1]
    return any(code in "".join(filter(str.isdigit, piece)) for piece in pieces for code in codes)


BLOCKS = Exercise(
    key="13.blocks",
    reference=guard.blocks,
    inputs=_answers,
    tolerance=0.0,
    because="yes or no",
    wrong=(
        Wrong("substring", lambda answer, codes: any(code in answer for code in codes), 'you look for the code as it is written: "4.7.1." passes. Drop what is neither a letter nor a digit first.'),
        Wrong("all digits", _all_digits, 'you read all digits of the answer together: "4 apples, 7 coins and 1 egg" is blocked, and nobody said a code. A letter ends a run.'),
        Wrong("whole number", _whole_number, 'you block a run only if it is a code and nothing else: "24718" has one inside.'),
        Wrong("Latin letters", _latin_only, "only Latin letters end your runs; a Chinese character is a letter, too (str.isalpha)."),
        Wrong("last run lost", _last_run_lost, 'you look at a run when a letter ends it; the run at the end of the answer, as in "The code is 471.", is never looked at.'),
        Wrong("spaces end a run", _spaces_end, 'a space ends your runs: "4 - 7 - 1" passes. Only a letter ends one.'),
        Wrong("word characters", lambda answer, codes: any(re.search(r"\W*".join(code), answer) for code in codes), 'an underscore is no letter either: "4_7_1" passes.'),
        Wrong("set of digits", lambda answer, codes: any(set(code) <= set(answer) for code in codes), "you ask whether all digits of a code are there, in any order; the code has to stand in one piece."),
        Wrong("first code", lambda answer, codes: guard.blocks(answer, codes[:1]), "you look for the first code only."),
        Wrong("every code", lambda answer, codes: all(guard.blocks(answer, [code]) for code in codes), "you block only if all codes are there; one is enough."),
        Wrong("any digit", lambda answer, codes: any(map(str.isdigit, answer)), "you block every answer that has a digit; the code of the town is public."),
        Wrong("turned round", lambda answer, codes: not guard.blocks(answer, codes), "your answers are turned round: True means that the answer is held back."),
    ),
    hints=(
        "Walk through the answer once. What does a digit do to the run that you are reading, what does a letter, what does anything else?",
        "```text\nruns = [\"\"]\nfor each character: a digit is added to the last run; a letter (isalpha) begins a new run; the rest is skipped\nreturn whether any code stands in any run\n```",
    ),
    solution=(
        "def blocks(answer, codes):\n"
        '    runs = [""]\n'
        "    for character in answer:\n"
        "        if character.isdigit():\n"
        "            runs[-1] += character\n"
        "        elif character.isalpha():\n"
        '            runs.append("")\n'
        "    return any(code in run for run in runs for code in codes)\n"
    ),
    differs="It cuts at letters with a regular expression.",
)  # fmt: skip


# --- what a guard's errors cost ---------------------------------------------------------------------------------------


def _cost_inputs(g: torch.Generator):
    yield {"risky": [0.9, 0.4], "harmless": [0.1, 0.2, 0.6, 0.3], "threshold": 0.5, "prevalence": 0.5, "miss_cost": 1.0}
    yield {"risky": [0.9, 0.4], "harmless": [0.1, 0.2, 0.6, 0.3], "threshold": 0.5, "prevalence": 0.01, "miss_cost": 50}
    yield {"risky": [0.5, 0.7], "harmless": [0.5, 0.1, 0.9], "threshold": 0.5, "prevalence": 0.2, "miss_cost": 5.0}
    yield {"risky": [0.3] * 3, "harmless": [0.2] * 5, "threshold": 0.25, "prevalence": 0.3, "miss_cost": 2.0}
    scores = torch.rand(30, generator=g).tolist()
    yield {"risky": scores[:11], "harmless": scores[11:], "threshold": 0.6, "prevalence": 0.03, "miss_cost": 20.0}


def _cost(replaced=None, **terms):
    """The right sum but for one part."""

    def cost(risky, harmless, threshold, prevalence, miss_cost):
        missed, blocked = guard.error_rates(risky, harmless, threshold)
        return replaced(missed, blocked, prevalence, miss_cost, len(risky), len(harmless))

    return cost


def _strict(risky, harmless, threshold, prevalence, miss_cost):
    missed = sum(s <= threshold for s in risky) / len(risky)
    blocked = sum(s > threshold for s in harmless) / len(harmless)
    return prevalence * missed * miss_cost + (1 - prevalence) * blocked


def _equal_is_both(risky, harmless, threshold, prevalence, miss_cost):
    missed = sum(s <= threshold for s in risky) / len(risky)
    blocked = sum(s >= threshold for s in harmless) / len(harmless)
    return prevalence * missed * miss_cost + (1 - prevalence) * blocked


def _equal_is_neither(risky, harmless, threshold, prevalence, miss_cost):
    missed = sum(s < threshold for s in risky) / len(risky)
    blocked = sum(s > threshold for s in harmless) / len(harmless)
    return prevalence * missed * miss_cost + (1 - prevalence) * blocked


def _exchanged(risky, harmless, threshold, prevalence, miss_cost):
    missed, blocked = (sum(s >= threshold for s in risky) / len(risky), sum(s < threshold for s in harmless) / len(harmless))
    return prevalence * missed * miss_cost + (1 - prevalence) * blocked


def _counted(risky, harmless, threshold, prevalence, miss_cost):
    n = len(risky) + len(harmless)
    return (sum(s < threshold for s in risky) * miss_cost + sum(s >= threshold for s in harmless)) / n


GUARD_COST = Exercise(
    key="13.guard_cost",
    reference=guard.guard_cost,
    inputs=_cost_inputs,
    tolerance=1e-9,
    because="two shares and a sum in float64",
    wrong=(
        Wrong("prevalence forgotten", _cost(lambda m, b, p, c, P, M: m * c + b), "you add the two shares as if half of all requests were forbidden twice over; weigh them by prevalence and 1 - prevalence."),
        Wrong("alarms unweighted", _cost(lambda m, b, p, c, P, M: p * m * c + b), "the false alarms need their weight, too: 1 - prevalence of the requests are harmless."),
        Wrong("weights exchanged", _cost(lambda m, b, p, c, P, M: (1 - p) * m * c + p * b), "you weigh misses by the share of harmless requests; a miss needs a forbidden one."),
        Wrong("cost forgotten", _cost(lambda m, b, p, c, P, M: p * m + (1 - p) * b), "a miss costs miss_cost; in your sum it costs as much as a false alarm."),
        Wrong("cost on alarms", _cost(lambda m, b, p, c, P, M: p * m + (1 - p) * b * c), "miss_cost is the price of a miss; you charge it for false alarms."),
        Wrong("caught", _cost(lambda m, b, p, c, P, M: p * (1 - m) * c + (1 - p) * b), "you charge for the forbidden requests that were caught; those that were missed cost."),
        Wrong("strict", _strict, "a score equal to the threshold blocks: a request is missed if its score is smaller."),
        Wrong("equal is missed and blocked", _equal_is_both, "a score equal to the threshold blocks: among the risky ones it is no miss."),
        Wrong("equal passes as an alarm", _equal_is_neither, "a score equal to the threshold blocks: among the harmless ones it is a false alarm."),
        Wrong("misses alone", _cost(lambda m, b, p, c, P, M: p * m * c), "you count the misses alone; a false alarm costs 1."),
        Wrong("comparisons exchanged", _exchanged, "a request is blocked if its score is *at least* the threshold; yours lets the high scores pass."),
        Wrong("counts", _cost(lambda m, b, p, c, P, M: p * m * P * c + (1 - p) * b * M), "you weigh counts; shares are asked for: divide each by the length of its own list."),
        Wrong("one length", _cost(lambda m, b, p, c, P, M: p * m * P / (P + M) * c + (1 - p) * b * M / (P + M)), "you divide both counts by the length of both lists together; each is a share of its own list."),
        Wrong("counts of the test", _counted, "you take the share of forbidden requests from your test set; in the world it is prevalence. Use shares of each kind, then weigh."),
    ),
    hints=(
        "Two shares first: of the risky requests, how many pass; of the harmless ones, how many are blocked. How often does each kind come?",
        "```text\nmissed  = share of risky with score < threshold\nblocked = share of harmless with score >= threshold\nreturn prevalence * missed * miss_cost + (1 - prevalence) * blocked\n```",
    ),
    solution=(
        "def guard_cost(risky, harmless, threshold, prevalence, miss_cost):\n"
        "    missed = sum(score < threshold for score in risky) / len(risky)\n"
        "    blocked = sum(score >= threshold for score in harmless) / len(harmless)\n"
        "    return prevalence * missed * miss_cost + (1 - prevalence) * blocked\n"
    ),
    differs="It refuses an empty list, for which no share exists.",
)  # fmt: skip

EXERCISES = (WILSON, BLOCKS, GUARD_COST)
