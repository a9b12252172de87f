"""Where questions come from: the same ones for a seed and a step, in their shares, on their side of the split."""

import random
from collections import Counter

import pytest
from tiny_policy import Digit

from minimoe.rl.tasks import Question, Questions, Task
from minimoe.training.reasoning import Chain, Clock, is_held_out


@pytest.mark.parametrize("task", [Chain(3), Clock(4), Digit(2)])
def test_the_tasks_of_the_corpus_are_tasks_here(task):
    assert isinstance(task, Task)
    problem = task.draw(random.Random(1))
    assert task.is_correct(problem, task.think(problem))
    assert not isinstance(object(), Task)


def test_the_questions_of_a_step_follow_from_seed_and_step_alone():
    source = Questions(Chain(6), seed=3)
    later = source.draw(7, 9)
    for step in (1, 2, 3):
        source.draw(step, 5)
    assert source.draw(7, 9) == later == Questions(Chain(6), seed=3).draw(7, 9)
    assert len({question.problem for question in later}) == 9
    others = Questions(Chain(6), seed=4).draw(7, 9), source.draw(8, 9), Questions(Chain(6), 3, held_out=True).draw(7, 9)
    assert all(not {q.problem for q in other} & {q.problem for q in later} for other in others)


def test_every_question_carries_the_task_that_judges_it():
    questions = Questions({Chain(2): 1, Clock(3): 1}, seed=0).draw(1, 30)
    assert {question.task for question in questions} == {Chain(2), Clock(3)}
    for question in questions:
        assert question.task.is_correct(question.problem, question.task.think(question.problem))


def test_tasks_come_in_their_shares_whatever_these_add_up_to():
    counts = Counter(q.task for q in Questions({Chain(2): 6, Clock(3): 2, Digit(9): 0.5}, seed=0).draw(1, 1700))
    assert counts[Chain(2)] == pytest.approx(1200, abs=80)  # four standard deviations of 19
    assert counts[Clock(3)] == pytest.approx(400, abs=70) and counts[Digit(9)] == pytest.approx(100, abs=40)


@pytest.mark.parametrize("held_out", [False, True])
def test_no_question_is_from_the_other_side_of_the_split(held_out):
    questions = Questions(Chain(2), seed=5, held_out=held_out).draw(2, 80)
    assert {is_held_out(question.problem) for question in questions} == {held_out}


def test_a_question_has_the_language_of_its_task_or_none():
    class Bilingual(Digit):
        def language(self, problem):
            return "zh" if problem[-1] in "02468" else "en"

    assert Question(Bilingual(), "4").language == "zh" and Question(Bilingual(), "1 3").language == "en"
    assert Question(Digit(), "4").language is None


def test_two_sources_are_described_alike_only_if_they_give_the_same():
    described = {
        repr(source)
        for source in (
            Questions(Chain(2), 1),
            Questions(Chain(3), 1),
            Questions(Chain(2), 2),
            Questions(Chain(2), 1, held_out=True),
            Questions({Chain(2): 1, Chain(3): 2}, 1),
            Questions({Chain(2): 1, Chain(3): 3}, 1),
        )
    }
    assert len(described) == 6
    assert repr(Questions(Chain(2), 1)) == repr(Questions({Chain(2): 1.0}, 1))


class OneProblem(Digit):
    def draw(self, rng):
        return "3"


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ({}, "at least one task"),
        ({Chain(2): 0}, r"the share of Chain\(operations=2\) is 0"),
        ({Chain(2): 1, Clock(3): -1}, "is -1"),
        ({Chain(2): float("nan")}, "is nan"),
    ],
)
def test_a_mixture_that_cannot_be_drawn_from_is_named(tasks, words):
    with pytest.raises(ValueError, match=words):
        Questions(tasks)


def test_a_task_without_a_problem_on_the_asked_side_says_so():
    asked = not is_held_out("3")
    side = "held out" if asked else "not held out"
    with pytest.raises(ValueError, match=f"drew 1000 problems and none that is {side}"):
        Questions(OneProblem(), held_out=asked).draw(1, 1)
