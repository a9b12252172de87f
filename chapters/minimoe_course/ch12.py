"""Exercises of chapter 12, Distillation."""

import math
from itertools import pairwise

import torch

from minimoe.rl import distill
from minimoe.rl.rollout import Answer, Group
from minimoe.rl.tasks import Question
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]

WORKED, OTHER, GUESS, WRONG = (
    "<think>7+3=0*4=0</think>0",
    "<think>7+3=0</think>0",
    "<think></think>0",
    "<think></think>4",
)


def _keep_inputs(g: torch.Generator):
    yield {"groups": [("7 + 3 * 4", [(WRONG, False), (WORKED, True), (WORKED, True), (GUESS, True)])], "limit": 2}
    yield {"groups": [("7 + 3 * 4", [(WORKED, True)] * 3 + [(GUESS, True)])], "limit": 2}
    yield {"groups": [("7 + 3 * 4", [(WORKED, True), (OTHER, True), (GUESS, True)])], "limit": 1}
    yield {"groups": [("7 + 3 * 4", [(WORKED, True), (GUESS, True), (WORKED, True)])], "limit": 3}
    yield {
        "groups": [
            ("7 + 3 * 4", [(GUESS, True), (WORKED, True)]),
            ("5 - 5", [(WRONG, False), (GUESS, True)]),
            ("2 * 2", [(GUESS, False)]),
            ("1 + 9 * 6", [(WORKED, False), (OTHER, True), (GUESS, True), (OTHER, True)]),
        ],
        "limit": 2,
    }


def keep_verified(groups, limit):
    """`minimoe.rl.distill.keep_verified` on answers whose verdicts are given: (problem, text) of what is kept."""
    made = [
        Group(Question(None, problem), [], [Answer([int(right)], [], text, True) for text, right in answers])
        for problem, answers in groups
    ]
    kept = distill.keep_verified(made, limit, rule=lambda question, answer: answer.tokens[0]).samples
    return [(sample.problem, sample.response) for sample in kept]


def _keep(right=True, once="problem", first=None, last=None, order=list):
    """A filter with one thing wrong: who may pass, what counts as repeated, where the limit is applied."""

    def keep(groups, limit):
        kept, seen = [], set()
        for problem, answers in groups:
            answers = answers[:limit] if first == "asked" else answers
            answers = list(dict(answers).items())[:limit] if first == "different" else answers
            texts = [text for text, verdict in answers if verdict or not right]
            texts = texts[:limit] if first == "right" else texts
            if once == "neighbours":
                texts = [text for before, text in pairwise([None, *texts]) if text != before]
            elif once:
                texts = list(dict.fromkeys(texts))
            if once == "everywhere":
                texts = [text for text in texts if text not in seen]
                seen.update(texts)
            texts = order(texts)
            kept += [(problem, text) for text in (texts if last == "whole" else texts[:limit])]
        return kept[:limit] if last == "whole" else kept

    return keep


KEEP_VERIFIED = Exercise(
    key="12.keep_verified",
    reference=keep_verified,
    source=distill.keep_verified,
    inputs=_keep_inputs,
    tolerance=0.0,
    because="texts are equal or they are not",
    wrong=(
        Wrong("not verified", _keep(right=False), "you keep answers that are wrong: the student would learn them, too."),
        Wrong("repeated", _keep(once=None), "you keep the same answer to a problem twice. A teacher that is sure repeats itself, and the problems that it is sure of would fill the corpus."),
        Wrong("once everywhere", _keep(once="everywhere"), "you drop an answer because another *problem* had the same text; it is a new lesson there."),
        Wrong("neighbours", _keep(once="neighbours"), "you compare a text with the one before it only; the same text may come back later."),
        Wrong("limit before the verdict, repeats gone", _keep(first="different"), "you look at the first `limit` different texts only; a right one may come later."),
        Wrong("texts alone", lambda groups, limit: [text for _, text in keep_verified(groups, limit)], "you give the texts without their problems; the student learns pairs, (problem, text)."),
        Wrong("limit before the verdict", _keep(first="asked"), "you look at the first `limit` answers only; a right one may come later."),
        Wrong("limit before repeats", _keep(first="right"), "you count repeats towards the limit: cut after they are gone."),
        Wrong("limit for all", _keep(last="whole"), "your limit holds for all problems together; it is one for each problem."),
        Wrong("sorted", _keep(order=sorted), "you change the order; keep the answers as they came (a `set` loses the order as well)."),
        Wrong("the last", _keep(order=lambda texts: texts[::-1]), "you keep the last ones, or they are in another order than they came in (a `set` loses the order); keep the first, as they came."),
    ),
    hints=(
        "Three sieves, one after the other, and afresh for each problem: verdict, repeats, limit. A dict keeps keys once and in order.",
        "```text\nfor each problem and its answers:\n    good = texts whose verdict is True\n    different = keys of a dict made from good\n    add (problem, text) for the first `limit` of different\n```",
    ),
    solution=(
        "def keep_verified(groups, limit):\n"
        "    kept = []\n"
        "    for problem, answers in groups:\n"
        "        different = dict.fromkeys(text for text, right in answers if right)\n"
        "        kept += [(problem, text) for text in list(different)[:limit]]\n"
        "    return kept\n"
    ),
    differs="The library asks the verifier itself, and counts what it drops.",
)  # fmt: skip


def _losses_inputs(g: torch.Generator):
    student = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    teacher = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]]).log()
    yield {
        "student_MV": student, "teacher_MV": teacher, "tokens_M": torch.tensor([0, 1, 0]),
        "response_M": torch.tensor([False, True, True]),
    }  # fmt: skip
    yield {
        "student_MV": torch.randn(6, 5, generator=g), "teacher_MV": torch.randn(6, 5, generator=g),
        "tokens_M": torch.randint(0, 5, (6,), generator=g),
        "response_M": torch.tensor([False, False, True, True, True, True]),
    }  # fmt: skip


def imitation_losses(student_MV, teacher_MV, tokens_M, response_M):
    """Fine-tuning, KL(teacher || student) and KL(student || teacher), each over the tokens of the response."""
    student_AV, teacher_AV = student_MV[response_M], teacher_MV[response_M]
    sft = torch.nn.functional.cross_entropy(student_AV, tokens_M[response_M])
    return sft, distill.divergence(student_AV, teacher_AV), distill.divergence(student_AV, teacher_AV, reverse=True)


def _losses(
    masked=True,
    divide="response",
    swap=False,
    entropy=True,
    said="student",
    reduce="sum",
    raw=False,
    logits=False,
    flip=False,
    one=False,
):
    def losses(student_MV, teacher_MV, tokens_M, response_M):
        rows = ~response_M if flip else response_M if masked else torch.ones_like(response_M)
        p, q = teacher_MV[rows].log_softmax(-1), student_MV[rows].log_softmax(-1)
        chosen = (student_MV[rows].softmax(-1) if raw else q) if said == "student" else p
        count = len(response_M) if divide == "all" else 1 if divide == "none" else len(p)
        sft = -chosen.gather(1, tokens_M[rows][:, None]).sum() / count
        p, q = (teacher_MV[rows], student_MV[rows]) if logits else (p, q)
        forward = p.exp() * ((p if entropy else 0) - q)
        reverse = q.exp() * ((q if entropy else 0) - p)
        if one:
            forward, reverse = (x.gather(1, tokens_M[rows][:, None]) for x in (forward, reverse))
        wide = p.shape[1] if reduce == "mean" else 1
        forward, reverse = forward.sum() / count / wide, reverse.sum() / count / wide
        return (sft, reverse, forward) if swap else (sft, forward, reverse)

    return losses


IMITATION_LOSSES = Exercise(
    key="12.imitation_losses",
    reference=imitation_losses,
    source=distill.divergence,
    inputs=_losses_inputs,
    returns=("sft", "forward", "reverse"),
    tolerance=1e-5,
    because="logarithms and sums in float32, in another order",
    wrong=(
        Wrong("directions", _losses(swap=True), "your two divergences are exchanged: the forward one weighs by the teacher's probabilities, the reverse one by the student's."),
        Wrong("prompt too", _losses(masked=False), "you count the tokens of the problem as well; only those of the response are to be learned."),
        Wrong("all in the mean", _losses(divide="all"), "you sum over the response and divide by all tokens: a long problem would make the loss small."),
        Wrong("a sum", _losses(divide="none"), "you add up over the tokens; take the mean, so that long responses weigh no more than short ones in a batch."),
        Wrong("cross-entropy", _losses(entropy=False), "your divergences are cross-entropies: two equal models would have a distance above 0. Subtract the first distribution's entropy."),
        Wrong("the teacher's", _losses(said="teacher"), "your fine-tuning loss asks how likely the *teacher* finds its own token; the student is the one to learn."),
        Wrong("mean over the vocabulary", _losses(reduce="mean"), "you divide by the vocabulary, too (the default of kl_div does): sum over V, mean over the tokens."),
        Wrong("no logarithm", _losses(raw=True), "your fine-tuning loss is minus a probability; take the logarithm."),
        Wrong("no softmax", _losses(logits=True), "your divergences take logits for logarithms of probabilities; apply log_softmax first."),
        Wrong("the other rows", _losses(flip=True), "you learn the problem and leave the response out: `response_M` is True where a token is to be learned."),
        Wrong("one token", _losses(one=True), "your divergences look at the token that came; they are sums over the whole vocabulary."),
    ),
    hints=(
        "Select the response's rows first; then everything is a mean over rows. Fine-tuning looks at one token of each row, the divergences at all V.",
        "```text\np = log-probabilities of the teacher, q = of the student (log_softmax), response rows only\nsft = -mean of q at the tokens\nforward = mean over rows of sum over V of exp(p) * (p - q)\nreverse = the same with p and q exchanged\n```",
    ),
    solution=(
        "def imitation_losses(student_MV, teacher_MV, tokens_M, response_M):\n"
        "    q_MV = student_MV[response_M].log_softmax(-1)\n"
        "    p_MV = teacher_MV[response_M].log_softmax(-1)\n"
        "    sft = -q_MV.gather(1, tokens_M[response_M][:, None]).mean()\n"
        "    forward = (p_MV.exp() * (p_MV - q_MV)).sum(-1).mean()\n"
        "    reverse = (q_MV.exp() * (q_MV - p_MV)).sum(-1).mean()\n"
        "    return sft, forward, reverse\n"
    ),
    differs="The library has one function for both directions, and fine-tuning is the training loop's own loss.",
)  # fmt: skip


def _pay_inputs(g: torch.Generator):
    yield {"once_s": 100.0, "each_s": 5.0, "alone_s": 30.0}
    yield {"once_s": 99.0, "each_s": 5.0, "alone_s": 30.0}
    yield {"once_s": 51.0, "each_s": 5.0, "alone_s": 30.0}
    yield {"once_s": 110.0, "each_s": 4.0, "alone_s": 30.0}
    yield {"once_s": 100.0, "each_s": 30.0, "alone_s": 30.0}
    yield {"once_s": 100.0, "each_s": 31.0, "alone_s": 30.0}


def _never(count):
    return lambda once, each, alone: count(once, alone - each) if alone > each else math.inf


STUDENTS_TO_PAY = Exercise(
    key="12.students_to_pay",
    reference=distill.students_to_pay,
    inputs=_pay_inputs,
    tolerance=0.0,
    because="a whole number, or infinity",
    wrong=(
        Wrong("a tie", _never(lambda once, saved: math.ceil(once / saved)), "at a tie you say that the teacher pays; it has to be strictly cheaper."),
        Wrong("rounded", _never(lambda once, saved: round(once / saved)), "you round to the nearest; a fraction of a student is not enough, take the next one."),
        Wrong("a fraction", _never(lambda once, saved: once / saved), "your number of students is a fraction."),
        Wrong("floor", _never(lambda once, saved: math.floor(once / saved)), "you stop one student early: with your number the teacher is not cheaper yet."),
        Wrong("one too many", _never(lambda once, saved: math.ceil(once / saved) + 1), "you give one student too many: with one fewer the teacher is cheaper already (only at a tie is it one more)."),
        Wrong("free tuning", lambda once, each, alone: math.floor(once / alone) + 1, "you forget that each student is still fine-tuned, which takes each_s."),
        Wrong("a teacher each", lambda once, each, alone: 1 if once + each < alone else math.inf, "you pay for a teacher with every student; one teacher serves all."),
        Wrong("always", lambda once, each, alone: math.floor(once / (alone - each)) + 1 if alone != each else math.inf, "when fine-tuning takes longer than learning alone, no number of students is enough; give float('inf')."),
    ),
    hints=(
        "Each student saves alone_s - each_s. How many such savings are more than once_s?",
        "```text\nsaved = alone - each\nif saved <= 0: return infinity\nreturn (once / saved, rounded down) + 1\n```",
    ),
    solution=(
        "def students_to_pay(once_s, each_s, alone_s):\n"
        "    saved_s = alone_s - each_s\n"
        "    return once_s // saved_s + 1 if saved_s > 0 else float('inf')\n"
    ),
    differs="It gives a whole number as an int.",
)  # fmt: skip

EXERCISES = (KEEP_VERIFIED, IMITATION_LOSSES, STUDENTS_TO_PAY)
